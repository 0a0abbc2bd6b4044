"""The way in and the way out: what is imported, what is said, which code a script gets."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
from importlib.metadata import version

import pytest

from nebulous.cli import doctor
from nebulous.cli import server as server_commands
from nebulous.cli.main import SERVER, VERBS
from nebulous.client import Api, InvalidRequest, Place
from nebulous.errors import Conflict, NotFound, Rejected, Unavailable

HEAVY = (
    "pydantic",
    "yaml",
    "rich",
    "pygments",
    "temporalio",
    "fastapi",
    "redis",
    "aiodocker",
    "cryptography",
    "asyncio",
)
RECORD = "import sys, atexit; atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr)); "


def imported(words, env_server=None):
    """The modules that `nebu WORDS…` has imported when it ends."""
    import os

    env = {**os.environ, **({"NEBU_SERVER": env_server, "NEBU_API_KEY": "t"} if env_server else {})}
    code = f"{RECORD}sys.argv = ['nebu', *{list(words)!r}]; from nebulous.cli.main import main; main()"
    ended = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    return ended, set(ended.stderr.splitlines()[-1].split())


def test_help_imports_no_verb_and_nothing_heavy():
    ended, modules = imported(["--help"])
    assert ended.returncode == 0
    assert not modules & {*HEAVY, "httpx", "nebulous.client", "nebulous.cli.get"}


def test_get_imports_nothing_heavy(server, double):
    server.on("GET", "/v1/containers", {"containers": [double.container()], "cursor": None})
    ended, modules = imported(["get", "containers"], server.url)
    assert ended.returncode == 0, ended.stderr
    assert "httpx" in modules
    assert not modules & {*HEAVY, "nebulous.cli.create"}


def test_help_lists_every_verb(nebu):
    text = nebu("--help").out
    for verbs in VERBS.values():
        for verb in verbs:
            assert f"\n  {verb} " in text


@pytest.mark.parametrize("verb", [verb for verbs in VERBS.values() for verb in verbs if verb not in SERVER])
def test_every_verb_explains_itself(nebu, verb):
    ended = nebu(verb, "--help")
    assert ended.code == 0
    assert f"Usage: nebu {verb}" in ended.out


def test_the_servers_commands_are_found_by_entry_point():
    assert {point.value for point in server_commands.points("worker")} == {"worker.command:command"}


def test_an_unknown_verb_names_the_nearest(nebu):
    ended = nebu("delte", "foo")
    assert ended.code == 2
    assert "there is no command 'delte': did you mean 'delete'?" in ended.err


def test_the_version_is_printed(nebu, server):
    assert nebu("--version").out.startswith("nebu 0.")
    server.on("GET", "/", {"name": "nebulous", "version": "9.9.9"})
    assert f"server  9.9.9 at {server.url}" in nebu("version").out


def test_a_server_out_of_reach_is_code_5_and_says_what_to_do(nebu, monkeypatch):
    monkeypatch.setenv("NEBU_SERVER", "http://127.0.0.1:9")
    ended = nebu("get", "containers")
    assert ended.code == 5
    assert ended.err == (
        "error: the server http://127.0.0.1:9 does not answer: Connection refused\n"
        "hint:  start one with `nebu serve`, or name another with `nebu login --url URL`\n"
    )


def test_an_expired_token_is_code_4_and_says_nebu_login(nebu, server, double):
    server.on(
        "GET",
        "/v1/containers",
        double.refusal(401, "Unauthenticated", "the token has expired", "log in again: nebu login"),
    )
    ended = nebu("get", "containers")
    assert (ended.code, ended.err) == (4, "error: the token has expired\nhint:  log in again: nebu login\n")


@pytest.mark.parametrize(
    ("status", "type_", "code"),
    [
        (403, "Forbidden", 4),
        (404, "NotFound", 3),
        (409, "Conflict", 1),
        (422, "Rejected", 2),
        (503, "Unavailable", 5),
        (400, "BadRequest", 2),
        (413, "TooLarge", 2),
        (415, "UnsupportedMediaType", 2),
    ],
)
def test_what_the_api_refuses_has_its_code(nebu, server, double, status, type_, code):
    server.on("GET", "/v1/containers", double.refusal(status, type_, "because"))
    ended = nebu("get", "containers")
    assert (ended.code, ended.err) == (code, "error: because\n")
    debugged = nebu("--debug", "get", "containers")  # shows where it came from, and ends no other way
    assert (debugged.code, "Traceback" in debugged.err) == (code, True)
    assert debugged.err.endswith("error: because\n")


def test_something_else_on_that_port_is_recognised(nebu, server, double):
    server.on("GET", "/v1/containers", double.Reply(200, b"<html>", [("Content-Type", "text/html")]))
    ended = nebu("get", "containers")
    assert ended.code == 5
    assert "is a Nebulous API there?" in ended.err
    server.on("GET", "/v1/containers", double.Reply(301, b"", [("Location", "https://elsewhere")]))
    assert "a redirect to https://elsewhere" in nebu("get", "containers").err


def test_a_defect_shows_no_traceback_unless_asked(nebu, server):
    server.on("GET", "/v1/containers", {"unexpected": []})
    ended = nebu("get", "containers")
    assert ended.code == 1
    assert "Traceback" not in ended.err
    assert "--debug" in ended.err
    debugged = nebu("get", "containers", "--debug")
    assert debugged.code == 1
    assert "Traceback" in debugged.err
    assert "KeyError" in debugged.err


def test_a_reader_that_leaves_is_no_error(program, server, double):
    rows = [double.container(f"c{number:050}") for number in range(3000)]
    server.on("GET", "/v1/containers", {"containers": rows, "cursor": None})
    running = program("get", "containers", "-o", "name")
    running.stdout.readline()
    running.stdout.close()
    assert running.wait(20) == 141
    assert running.stderr.read() == b""
    running.stderr.close()


def test_ctrl_c_detaches_and_says_how_to_come_back(program, server, double):
    server.on("GET", "/v1/containers/default/foo", double.container("foo", status="pending"))
    running = program("wait", "foo")
    assert running.stderr.readline() == b"container/foo pending\n"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert b"detached; foo goes on; come back with: nebu wait foo" in err
    assert b"Traceback" not in err


def test_ctrl_c_leaves_a_followed_log(program, server, double):
    server.on("GET", "/v1/containers/default/foo", double.container("foo"))
    server.on("GET", "/v1/containers/default/foo/logs", double.events((2, "log", {"text": "a\n"}), cut=True))
    server.on("GET", "/v1/containers/idfooxxxxxxx/logs", double.events("ping", cut=True))
    running = program("logs", "-f", "foo")
    assert running.stdout.readline() == b"a\n"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert running.returncode == 130
    assert b"detached; come back with: nebu logs -f foo --tail 20" in err


def test_the_schema_of_a_kind(nebu):
    assert "image" in json.loads(nebu("schema", "container").out)["properties"]
    assert nebu("schema", "contaner").code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_shells_script(program, shell):
    out, err = program("completion", shell).communicate(timeout=20)
    assert b"_NEBU_COMPLETE" in out
    assert err == b""


def test_a_shell_we_do_not_know_is_usage(nebu, monkeypatch):
    monkeypatch.setenv("SHELL", "/bin/rc")
    assert nebu("completion").code == 2


def test_problems_come_with_their_paths(server, double):
    problems = [{"path": ["env_vars", 0], "message": "bad"}]
    server.on("POST", "/v1/containers", double.refusal(422, "Rejected", "bad", problems=problems))
    with Api(server.url) as api, pytest.raises(InvalidRequest) as failure:
        api.create("containers", {})
    assert failure.value.problems == [(["env_vars", 0], "bad")]


@pytest.mark.parametrize(("status", "kind"), [(404, NotFound), (409, Conflict), (422, Rejected), (500, Unavailable)])
def test_the_status_decides_where_the_type_is_unknown(server, double, status, kind):
    server.on("GET", "/v1/containers/default/x", double.refusal(status, "SomethingNew", "words"))
    with Api(server.url) as api, pytest.raises(kind, match="words"):
        api.get(Place("containers", "x", "default"))


def test_a_server_that_asks_for_a_long_pause_is_not_waited_for(server, double):
    reply = double.refusal(503, "Unavailable", "upgrading")
    reply.headers = [("Retry-After", "600"), ("Content-Type", "application/json")]
    server.on("GET", "/v1/platforms", reply)
    with Api(server.url) as api, pytest.raises(Unavailable) as failure:
        api.read("/v1/platforms")
    assert failure.value.retry_after == 600
    assert len(server.asked) == 1


def healthy(server):
    server.on("GET", "/health", {"status": "ok", "version": "0.1.0", "temporal": "ok", "redis": "ok"})
    server.on("GET", "/v1/users/me", {"handle": "admin", "organization": "local"})
    row = {"account": "local:1", "simulated": False, "detail": "this host", "alarm": None, "hint": None, "reason": None}
    server.on("GET", "/v1/platforms", {"platforms": [{"platform": "local", "usable": True, **row}]})
    kept = {"place": "/data/archive", "status": "ok", "hint": None}
    allowed = {"subject": "permissions", "ok": True, "text": "all that are needed", "advice": ""}
    account = {"account": "ec2:prod", "checks": [allowed], "problem": None, "hint": None}
    server.on("GET", "/v1/doctor", {"orphans": [], "engine": {"archive": kept}, "accounts": [account]})


def test_doctor_finds_nothing_wrong(nebu, server, monkeypatch):
    monkeypatch.setattr(doctor, "FOREIGN", frozenset())
    healthy(server)
    ended = nebu("doctor")
    assert ended.code == 0, ended.out
    said = " ".join(ended.out.split())  # how wide the columns are is not what this is about
    allowed = "ok ec2:prod: permissions: all that are needed"
    for fine in ("ok token: admin of local", "ok local: this host", "ok archive: /data/archive", allowed):
        assert fine in said


def test_doctor_says_what_is_broken_and_what_to_do(nebu, server, double, own_home):
    healthy(server)
    own_home.parent.mkdir(parents=True)
    own_home.write_text("contexts: {}\n")
    own_home.chmod(0o644)
    server.on("GET", "/health", {"version": "0.0.9", "temporal": "ok", "redis": "does not answer: refused"})
    row = {
        "account": "docker:1",
        "simulated": False,
        "detail": "",
        "alarm": None,
        "hint": "start it",
        "reason": "no answer",
    }
    server.on("GET", "/v1/platforms", {"platforms": [{"platform": "docker", "usable": False, **row}]})
    lost = {"place": "s3://logs", "status": "there is no bucket 'logs'", "hint": "make it"}
    orphan = {"account": "docker:1", "orphan": "c0ffee", "foreign": True}
    missing = {"subject": "permissions", "ok": False, "text": "no ec2:RunInstances", "advice": "allow it"}
    accounts = [
        {"account": "ec2:prod", "checks": [missing], "problem": None, "hint": None},
        {"account": "gce:lab", "checks": [], "problem": "the key is revoked", "hint": "make another"},
    ]
    server.on("GET", "/v1/doctor", {"orphans": [orphan], "engine": {"archive": lost}, "accounts": accounts})
    ended = nebu("doctor")
    assert ended.code == 1
    for said in (
        f"chmod 600 {own_home}",
        "the client is 0.1.0",
        "BAD redis: does not answer: refused",
        "BAD platforms: none can be used",
        "-> start it",
        "BAD ec2:prod: permissions: no ec2:RunInstances",
        "-> allow it",
        "BAD gce:lab: the key is revoked",
        "-> make another",
        "BAD archive: there is no bucket 'logs'",
        "-> make it",
        "c0ffee on docker:1",
        "another install rented it",
    ):
        assert said in " ".join(ended.out.split())


def test_doctor_without_a_server_stops_there(nebu, monkeypatch):
    monkeypatch.setenv("NEBU_SERVER", "http://127.0.0.1:9")
    ended = nebu("doctor")
    assert ended.code == 1
    assert "nebu serve" in ended.out


def test_doctor_finds_a_foreign_distribution(tmp_path, monkeypatch):
    info = tmp_path / "nebulous_sh-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nebulous-sh\nVersion: 1.2\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = [finding for finding in doctor.packages() if "nebulous-sh 1.2" in finding.text]
    assert found
    assert "pip uninstall nebulous-sh" in (found[0].advice or "")


def test_doctor_does_not_mind_the_published_client():
    assert version("nebu") == "0.1.0"
    assert not [finding for finding in doctor.packages() if finding.text.startswith("nebu 0.1.0")]


def test_a_token_says_until_when_it_is_good():
    claims = base64.urlsafe_b64encode(json.dumps({"exp": 1_900_000_000}).encode()).decode().rstrip("=")
    assert doctor.expiry(f"x.{claims}.y") == 1_900_000_000
    assert doctor.expiry("no token at all") is None
    soon = base64.urlsafe_b64encode(json.dumps({"exp": int(time.time()) + 3600}).encode()).decode()
    assert doctor.token({"handle": "a", "organization": "b"}, f"x.{soon}.y").state == doctor.WARNING
