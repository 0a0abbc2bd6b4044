"""`nebu create`: the document that flags and files make, and what is said when it is refused."""

from __future__ import annotations

import pytest

from nebulous import contexts
from nebulous.cli import flags
from nebulous.cli.failures import UsageError

BASIC = """\
kind: Container
metadata:
  name: pytorch-test
  namespace: foo
  labels: {team: x}
image: pytorch/pytorch:latest
command: nvidia-smi
platform: runpod
env_vars:
  - key: HELLO
    value: world
accelerators:
  - "4:A100"
"""


@pytest.fixture
def accepting(server, double):
    """A server that makes whatever it is asked to make."""

    def created(asked):
        metadata = asked.body.get("metadata") or {}
        name = (metadata.get("name") or "calm-otter").rpartition("/")[2]
        return double.Reply(200, double.container(name, metadata.get("namespace") or "default", "defined"))

    server.on("POST", "/v1/containers", created)
    server.on("POST", "/v1/secrets", created)
    return server


def test_the_flags_of_the_readme(nebu, accepting):
    ended = nebu(
        *("create", "container", "--name", "Agentsea/foo", "--image", "tensorflow/tensorflow:latest"),
        *("--cmd", "echo hello", "--platform", "ec2", "--accelerators", "1:L40s"),
    )
    assert (ended.code, ended.out) == (0, "container/foo created\n")
    [asked] = accepting.requests("POST")
    assert asked.body == {
        "kind": "Container",
        "metadata": {"name": "Agentsea/foo"},
        "image": "tensorflow/tensorflow:latest",
        "command": "echo hello",
        "platform": "ec2",
        "accelerators": ["1:L40s"],
    }
    assert len(asked.headers["idempotency-key"]) == 36


def test_every_flag_has_its_field(nebu, accepting, tmp_path, monkeypatch):
    (tmp_path / "env").write_text("# comment\n\nFROM_FILE=a=b\nexport E=f\n")
    monkeypatch.setenv("MINE", "handed on")
    ended = nebu(
        *("create", "co", "foo", "-n", "team", "--env-file", str(tmp_path / "env"), "--env", "A=1", "-e", "MINE"),
        *("--label", "team=x", "--volume", "s3://b/x:/data:continuous,copy,interval=1m", "--port", "80/http:public"),
        *("--port", "53/udp", "--queue", "q", "--restart", "OnFailure", "--timeout", "1h", "--min-cpu", "2"),
        *("--max-memory", "16", "--spot", "--region", "us-east-1", "--region", "eu-1", "--max-price", "2.5"),
        *("--accelerators", "1:H100", "--accelerators", "2:A100", "--meter-cost", "0.1"),
    )
    assert ended.code == 0, ended.err
    assert accepting.requests("POST")[0].body == {
        "kind": "Container",
        "metadata": {"name": "foo", "namespace": "team", "labels": {"team": "x"}},
        "accelerators": ["1:H100", "2:A100"],
        "env_vars": [
            {"key": "FROM_FILE", "value": "a=b"},
            {"key": "E", "value": "f"},
            {"key": "A", "value": "1"},
            {"key": "MINE", "value": "handed on"},
        ],
        "volumes": [
            {"source": "s3://b/x", "dest": "/data", "driver": "RCLONE_COPY", "continuous": True, "interval": "1m"}
        ],
        "ports": [
            {"port": 80, "protocol": "http", "public": True},
            {"port": 53, "protocol": "udp", "public": False},
        ],
        "queue": "q",
        "restart": "OnFailure",
        "timeout": "1h",
        "resources": {"min_cpu": 2.0, "max_memory": 16.0},
        "spot": True,
        "regions": ["us-east-1", "eu-1"],
        "max_usd_per_hour": 2.5,
        "meters": [{"metric": "runtime", "unit": "second", "currency": "USD", "cost": 0.1}],
    }


@pytest.mark.parametrize(
    ("text", "source", "dest"),
    [
        ("s3://b/x:/data", "s3://b/x", "/data"),
        ("/data:s3://b/out", "/data", "s3://b/out"),
        ("gs://a/b:s3://c/d:copy", "gs://a/b", "s3://c/d"),
        ("./here:/there", "./here", "/there"),
    ],
)
def test_a_volume_may_be_an_address_on_either_side(text, source, dest):
    made = flags.volume(text)
    assert (made["source"], made["dest"]) == (source, dest)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--volume", "nowhere"], "--volume 'nowhere' is not SRC:DST"),
        (["--volume", "a:/b:continous"], "did you mean 'continuous'?"),
        (["--port", "http"], "--port 'http' is no port"),
        (["--label", "team"], "--label 'team' is not KEY=VALUE"),
        (["--env", "NO_SUCH_VARIABLE_HERE"], "you have no such variable"),
        (["--env-file", "/does/not/exist"], "cannot read '/does/not/exist'"),
        (["--meter-unit", "hour"], "a meter needs a price"),
        (["--min-cpu", "many"], "--min-cpu"),
        (["--value", "x"], "--value belongs to a secret"),
        (["-f", "/does/not/exist"], "cannot read '/does/not/exist'"),
        (["--for", "runing"], "did you mean 'running'?"),
        (["--imagee", "x"], "--imagee"),
    ],
)
def test_a_bad_flag_is_usage_and_creates_nothing(nebu, accepting, words, said):
    ended = nebu("create", "container", *words)
    assert ended.code == 2
    assert said in ended.err
    assert not accepting.requests("POST")


def test_the_command_line_must_say_what(nebu):
    ended = nebu("create", "--image", "x")
    assert ended.code == 2
    assert "which resource?" in ended.err
    assert nebu("create", "contaner").code == 2


def test_a_file_from_the_readme(nebu, accepting, tmp_path):
    (tmp_path / "basic.yaml").write_text(BASIC)
    ended = nebu("create", "container", "-f", str(tmp_path / "basic.yaml"))
    assert (ended.code, ended.out) == (0, "container/pytorch-test created\n")
    body = accepting.requests("POST")[0].body
    assert body["accelerators"] == ["4:A100"]
    assert body["metadata"]["namespace"] == "foo"


def test_flags_override_a_single_document(nebu, accepting):
    ended = nebu(
        *(
            "create",
            "-f",
            "-",
            "--platform",
            "ec2",
            "--env",
            "HELLO=you",
            "--env",
            "X=1",
            "--label",
            "a=b",
            "-n",
            "bar",
        ),
        stdin=BASIC,
    )
    assert ended.code == 0, ended.err
    body = accepting.requests("POST")[0].body
    assert body["platform"] == "ec2"
    assert body["image"] == "pytorch/pytorch:latest"
    assert body["env_vars"] == [{"key": "HELLO", "value": "you"}, {"key": "X", "value": "1"}]
    assert body["metadata"] == {"name": "pytorch-test", "namespace": "bar", "labels": {"team": "x", "a": "b"}}


def test_flags_cannot_change_several_documents(nebu, accepting):
    ended = nebu("create", "-f", "-", "--platform", "ec2", stdin=f"{BASIC}---\nkind: Container\nimage: x\n")
    assert ended.code == 2
    assert "stdin has 2 documents" in ended.err
    assert not accepting.requests("POST")


def test_another_kind_on_the_command_line_is_an_error(nebu, accepting):
    ended = nebu("create", "secret", "x", "-f", "-", "--image", "x", stdin=BASIC)
    assert ended.code == 2
    assert not accepting.requests("POST")


def test_malformed_yaml_has_line_and_column(nebu, accepting, tmp_path):
    (tmp_path / "bad.yaml").write_text("kind: Container\nimage: [x\ncommand: y\n")
    ended = nebu("create", "-f", str(tmp_path / "bad.yaml"))
    assert ended.code == 2
    assert f"{tmp_path}/bad.yaml:3:" in ended.err
    assert "Traceback" not in ended.err


def test_a_duplicate_in_one_file_creates_nothing(nebu, accepting):
    ended = nebu("create", "-f", "-", stdin=f"{BASIC}---\n{BASIC}")
    assert ended.code == 2
    assert "stdin:" in ended.err
    assert "given twice" in ended.err
    assert not accepting.requests("POST")


def test_problems_stand_where_they_were_written(nebu, server, double, tmp_path):
    problems = [
        {"path": ["env_vars", 0, "value"], "message": "should be a string"},
        {"path": ["accelerators", 0], "message": "runpod has no 4:A100"},
        {"path": ["platform"], "message": "'ec3' is not allowed"},
    ]
    server.on("POST", "/v1/containers", double.refusal(422, "Rejected", "all of it", "look it up", problems=problems))
    file = tmp_path / "basic.yaml"
    file.write_text(BASIC)
    ended = nebu("create", "-f", str(file), "--platform", "ec3")
    assert ended.code == 2
    assert ended.err == (
        f"error: {file}:11:5: env_vars[0].value: should be a string\n"
        f"error: {file}:13:5: accelerators[0]: runpod has no 4:A100\n"
        "error: --platform: platform: 'ec3' is not allowed\n"
        "hint:  look it up\n"
    )


@pytest.mark.parametrize(("bad", "code"), [("abc", 2), ("b", 1)])
def test_of_several_documents_the_code_says_whether_anything_was_done(nebu, server, double, bad, code):
    def answer(asked):
        name = asked.body["metadata"]["name"]
        return double.refusal(422, "Rejected", "no") if name in bad else double.Reply(200, double.container(name))

    server.on("POST", "/v1/containers", answer)
    text = "---\n".join(f"kind: Container\nmetadata: {{name: {name}}}\nimage: x\n" for name in "abc")
    assert nebu("create", "-f", "-", stdin=text).code == code


def test_of_several_documents_each_says_what_became_of_it(nebu, server, double):
    def answer(asked):
        name = asked.body["metadata"]["name"]
        if name == "b":
            return double.refusal(409, "Conflict", "container/b lives with another spec", "delete it first")
        header = [("X-Nebu-Outcome", "unchanged")] if name == "c" else []
        return double.Reply(200, double.container(name), header)

    server.on("POST", "/v1/containers", answer)
    text = "---\n".join(f"kind: Container\nmetadata: {{name: {name}}}\nimage: x\n" for name in "abc")
    ended = nebu("create", "-f", "-", stdin=text)
    assert ended.code == 1
    assert ended.out == "container/a created\ncontainer/c unchanged\n"
    assert ended.err == (
        "error: container/b lives with another spec\nhint:  delete it first\ncontainer/b not created\n"
    )


def test_when_the_server_goes_away_the_rest_is_named(nebu, server, double):
    server.on("POST", "/v1/containers", double.container("a"), double.hang_up())
    text = "---\n".join(f"kind: Container\nmetadata: {{name: {name}}}\nimage: x\n" for name in "abc")
    ended = nebu("create", "-f", "-", stdin=text)
    assert ended.code == 5
    assert "container/b not created\ncontainer/c not created\n" in ended.err


def test_a_notice_of_the_server_is_passed_on(nebu, server, double):
    notices = [("X-Nebu-Notice", "made organization acme"), ("X-Nebu-Notice", "local ignores image")]
    server.on("POST", "/v1/containers", double.Reply(200, double.container("foo"), notices))
    ended = nebu("create", "container", "--image", "x")
    assert ended.out == "container/foo created\n"
    assert ended.err == "note: made organization acme\nnote: local ignores image\n"


def test_waiting_shows_each_change_once_and_ends_well(nebu, server, double):
    server.on("POST", "/v1/containers", double.container("foo", status="defined"))
    server.on(
        "GET",
        "/v1/containers/default/foo",
        double.container("foo", status="pending", reason="NoCapacity", message="sold out"),
        double.container("foo", status="pending", reason="NoCapacity", message="sold out"),
        double.container("foo", status="running"),
        double.container("foo", status="completed", exit_code=0),
    )
    ended = nebu("create", "container", "--cmd", "true", "--wait")
    assert ended.code == 0
    assert ended.err.splitlines() == [
        "container/foo pending (NoCapacity): sold out",
        "container/foo running",
        "container/foo completed",
    ]


def test_waiting_for_one_that_fails_is_code_1(nebu, server, double):
    server.on("POST", "/v1/containers", double.container("foo", namespace="team", status="defined"))
    server.on(
        "GET",
        "/v1/containers/team/foo",
        double.container("foo", namespace="team", status="failed", reason="Exited", exit_code=3),
    )
    ended = nebu("create", "container", "--cmd", "exit 3", "-n", "team", "--wait")
    assert ended.code == 1
    assert "see why: nebu describe foo -n team, nebu logs foo -n team" in ended.err


def test_one_that_restarts_always_is_waited_for_until_it_runs(nebu, server, double):
    spec = {"restart": "Always"}
    server.on("POST", "/v1/containers", double.container("foo", status="defined", spec=spec))
    server.on("GET", "/v1/containers/default/foo", double.container("foo", status="running", spec=spec))
    assert nebu("create", "container", "--cmd", "serve", "--restart", "Always", "--wait").code == 0


def test_following_ends_with_the_commands_own_code(nebu, server, double):
    server.on("POST", "/v1/containers", double.container("foo", status="defined"))
    end = {"status": "failed", "reason": "Exited", "exit_code": 7}
    server.on("GET", "/v1/containers/default/foo/logs", double.events((3, "log", {"text": "hi\n"}), (None, "end", end)))
    ended = nebu("create", "container", "--cmd", "x", "--follow")
    assert ended.code == 7
    assert ended.out == "container/foo created\nhi\n"


@pytest.mark.parametrize(
    ("words", "stdin", "value"),
    [
        (["--value", "x"], "", "x"),
        (["--value", "-"], "from stdin\n", "from stdin"),
        (["-f", "-"], "two\nlines\n", "two\nlines"),
    ],
)
def test_a_secret_comes_from_a_flag_or_stdin(nebu, accepting, words, stdin, value):
    ended = nebu("create", "secret", "token", *words, stdin=stdin)
    assert (ended.code, ended.out) == (0, "secret/token created\n")
    assert accepting.requests("POST", "/v1/secrets")[0].body["value"] == value


def test_a_secret_from_a_file(nebu, accepting, tmp_path):
    (tmp_path / "key.pem").write_text("-----BEGIN\n")
    assert nebu("create", "secret", "key", "-f", str(tmp_path / "key.pem")).code == 0
    assert accepting.requests("POST", "/v1/secrets")[0].body["value"] == "-----BEGIN"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["create", "secret", "x"], "a secret needs a value"),
        (["create", "secret", "--value", "x"], "which secret?"),
        (["create", "secret", "x", "--value", "y", "--image", "z"], "mean nothing to a secret"),
    ],
)
def test_a_secret_without_all_it_needs_is_usage(nebu, words, said):
    ended = nebu(*words)
    assert ended.code == 2
    assert said in ended.err


def test_a_port_out_of_form_is_refused():
    with pytest.raises(UsageError, match="is no port"):
        flags.port("80:80")


@pytest.mark.parametrize(
    ("words", "text", "namespace"),
    [
        (("create", "-f", "-"), "kind: Container\nmetadata: {name: foo}\nimage: x\n", "team"),
        (("create", "-f", "-"), "kind: Container\nmetadata: {name: foo, namespace: prod}\nimage: x\n", "prod"),
        (("create", "-f", "-", "-n", "mine"), "kind: Container\nmetadata: {name: foo}\nimage: x\n", "mine"),
        (("create", "-f", "-", "--dry-run"), "kind: Container\nimage: x\n", "team"),
        (("create", "secret", "token", "--value", "x"), "", "team"),
        (("run", "-d", "--", "true"), "", "team"),
    ],
)
def test_where_nothing_says_a_namespace_the_contexts_counts(nebu, server, double, words, text, namespace):
    contexts.save_context("here", server.url, "a-token", namespace="team")
    row = double.container("foo", namespace)
    answer = {"outcome": "new", "resource": row} if "--dry-run" in words else row
    server.on("POST", "/v1/containers", answer)
    server.on("POST", "/v1/secrets", row)
    ended = nebu(*words, stdin=text)
    assert ended.code == 0, ended.err
    assert server.requests("POST")[0].body["metadata"]["namespace"] == namespace


def test_without_a_context_the_server_says_which_namespace_is_the_default(nebu, server, double):
    server.on("POST", "/v1/containers", double.container("foo"))
    nebu("create", "container", "--cmd", "x")
    assert server.requests("POST")[0].body["metadata"] == {}


@pytest.mark.parametrize("verb", ["diff", "apply"])
def test_what_is_compared_is_in_the_contexts_namespace_too(nebu, server, verb):
    contexts.save_context("here", server.url, "a-token", namespace="team")
    nebu(verb, "-f", "-", stdin="kind: Container\nmetadata: {name: foo}\nimage: x\n")
    assert server.asked[0].path == "/v1/containers/team/foo"
