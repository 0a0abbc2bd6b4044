"""`nebu get` and `nebu describe`: tables as people see them, and what scripts read."""

from __future__ import annotations

import json

import pytest
import yaml

from nebulous.cli import containers, describe, views
from nebulous.models import kinds

CONTAINER = kinds.find("container")
NOW = 1_800_000_000


@pytest.fixture
def rows(double):
    return [
        double.container("web", cost_per_hr=0.0, platform="docker", instance_id="c0ffee"),
        double.container(
            "train",
            platform="runpod",
            simulated=True,
            accelerator="4:A100-80GB-SXM",
            cost_per_hr=6.56,
            region="eu-1",
            instance_id="sim-1",
        ),
        double.container("bad", status="failed", reason="Exited", exit_code=3, restarts=2, cost_per_hr=1.2),
        double.container(
            "later",
            status="pending",
            reason="NoCapacity",
            platform="",
            spec={"platform": "ec2", "accelerators": ["1:H100"]},
        ),
    ]


def test_the_table_shows_what_a_person_asks(rows):
    assert views.listing(CONTAINER, rows, now=NOW) == (
        "NAME   STATUS                PLATFORM            ACCELERATOR      AGE    $/H\n"
        "web    running               docker              -                1m30s  0.00\n"
        "train  running               runpod (simulated)  4:A100-80GB-SXM  1m30s  6.56\n"
        "bad    failed (Exited 3)     local               -                1m30s  1.20\n"
        "later  pending (NoCapacity)  ec2                 1:H100           1m30s  -\n"
        "\n"
        "2 running, $1.20/h + $6.56/h simulated"
    )


def test_the_wide_table_adds_where_and_how_often(rows):
    text = views.listing(CONTAINER, rows[1:3], wide=True, now=NOW)
    narrow = views.listing(CONTAINER, rows[1:3], now=NOW).splitlines()[:3]
    before = ["NAMESPACE  ", "default    ", "default    "]
    after = [
        "   ID            OWNER  INSTANCE  REGION  PORTS  RESTARTS  EXIT",
        "  idtrainxxxxx  local  sim-1     eu-1    -      0         -",
        "  idbadxxxxxxx  local  -         -       -      2         3",
    ]
    assert [line[len(start) :] for line, start in zip(text.splitlines(), before, strict=False)] == [
        f"{line}{end}" for line, end in zip(narrow, after, strict=True)
    ]


def test_the_namespace_is_a_column_only_when_there_are_several(double):
    rows = [double.container("a"), double.container("b", namespace="team")]
    assert views.listing(CONTAINER, rows, now=NOW).startswith("NAMESPACE  NAME")
    assert views.listing(CONTAINER, rows[:1], now=NOW).startswith("NAME ")


def test_one_bad_row_hides_no_other(double):
    rows = [double.container("a"), {"metadata": {"name": "broken", "namespace": "default"}}, double.container("b")]
    lines = views.listing(CONTAINER, rows, now=NOW).splitlines()
    assert lines[1].startswith("a ")
    assert lines[2].startswith("broken  unreadable: KeyError 'status'")
    assert lines[3].startswith("b ")


def test_a_cell_cannot_send_the_terminal_commands(double):
    text = views.listing(CONTAINER, [double.container("a", status="failed", reason="\x1b[31mred\nline")], now=NOW)
    assert "\x1b" not in text
    assert len(text.splitlines()) == 4


def test_a_container_that_belongs_to_another_resource_says_so(double):
    row = double.container("n0", owner_ref="cluster/local/default/big")
    assert containers.owner_text(row["metadata"]) == "cluster/big"


def test_get_lists_all_namespaces_and_filters_where_asked(nebu, server, double):
    server.on("GET", "/v1/containers", {"containers": [double.container()], "cursor": None})
    assert nebu("get", "containers").code == 0
    assert nebu("get", "co", "-n", "team", "-l", "a=b", "-l", "c=d", "--status", "running", "--owner", "acme").code == 0
    first, second = server.requests("GET", "/v1/containers")
    assert first.query == {}
    assert second.query == {
        "namespace": ["team"],
        "label": ["a=b", "c=d"],
        "status": ["running"],
        "owner": ["acme"],
    }
    assert first.headers["authorization"] == "Bearer a-token"


def test_get_reads_every_page(nebu, server, double):
    server.on(
        "GET",
        "/v1/containers",
        {"containers": [double.container("a")], "cursor": "next"},
        {"containers": [double.container("b")], "cursor": None},
    )
    assert nebu("get", "containers", "-o", "name").out == "container/a\ncontainer/b\n"
    assert server.asked[1].query == {"cursor": ["next"]}


def test_get_one_from_the_readme(nebu, server, double):
    server.on("GET", "/v1/containers/default/foo", double.container("foo"))
    ended = nebu("get", "containers", "foo")
    assert ended.code == 0
    assert "foo   running  local" in ended.out


@pytest.mark.parametrize("output", ["json", "yaml"])
def test_structured_output_is_what_the_api_said(nebu, server, double, output):
    row = double.container("foo")
    server.on("GET", "/v1/containers/default/foo", row)
    server.on("GET", "/v1/containers", {"containers": [row], "cursor": None})
    read = {"json": json.loads, "yaml": yaml.safe_load}[output]
    assert read(nebu("get", "containers", "foo", "-o", output).out) == row
    assert read(nebu("get", "containers", "-o", output).out) == {"containers": [row]}


def test_nothing_there_is_said_on_stderr(nebu, server):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    ended = nebu("get", "containers")
    assert (ended.code, ended.out, ended.err) == (0, "", "no containers\n")


def test_a_name_is_found_where_it_is_unique(nebu, server, double):
    row = double.container("foo", namespace="team")
    server.on("GET", "/v1/containers", {"containers": [row], "cursor": None})
    ended = nebu("get", "containers", "FOO", "-o", "json")
    assert ended.code == 0
    assert json.loads(ended.out)["metadata"]["namespace"] == "team"


def test_a_name_in_several_namespaces_must_say_which(nebu, server, double):
    rows = [double.container("foo", namespace=space) for space in ("b", "a")]
    server.on("GET", "/v1/containers", {"containers": rows, "cursor": None})
    ended = nebu("get", "containers", "foo")
    assert ended.code == 2
    assert "container/foo is in a, b" in ended.err
    assert "-n NAMESPACE" in ended.err


def test_a_name_that_is_nowhere_is_code_3(nebu, server):
    server.on("GET", "/v1/containers", {"containers": [], "cursor": None})
    ended = nebu("get", "containers", "nope")
    assert ended.code == 3
    assert ended.err == "error: container/nope does not exist\nhint:  `nebu get containers` lists what there is\n"


def test_an_organization_goes_with_the_name(nebu, server, double):
    server.on("GET", "/v1/containers/default/foo", double.container("foo"))
    assert nebu("get", "containers", "Agentsea/foo").code == 0
    assert server.asked[0].query == {"owner": ["Agentsea"]}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("contaners", "did you mean Container?"),
        ("processors", "not in this release"),
        ("foo", "nebu get containers foo"),
    ],
)
def test_an_unknown_kind_names_the_nearest(nebu, word, said):
    ended = nebu("get", word)
    assert ended.code == 2
    assert said in ended.err


def test_the_address_of_a_container(nebu, server, double):
    server.on("GET", "/v1/containers/default/foo", double.container("foo", ip="10.1.2.3"))
    assert nebu("get", "containers", "foo", "--ip").out == "10.1.2.3\n"


@pytest.mark.parametrize("status", ["creating", "pending"])
def test_the_address_of_a_machine_that_is_lost_is_not_told(nebu, server, double, status):
    server.on("GET", "/v1/containers/default/foo", double.container("foo", status=status, ip="10.1.2.3"))
    ended = nebu("get", "containers", "foo", "--ip")
    assert (ended.code, ended.out) == (1, "")
    assert f"has no address: it is {status}" in ended.err


@pytest.mark.parametrize(
    ("status", "said"),
    [("running", "has no address of its own: local gives none"), ("failed", "has no address: it is failed")],
)
def test_no_address_says_why(nebu, server, double, status, said):
    server.on("GET", "/v1/containers/default/foo", double.container("foo", status=status))
    ended = nebu("get", "containers", "foo", "--ip")
    assert ended.code == 1
    assert said in ended.err.replace("\nhint:  ", ": ")


def test_accelerators_of_a_platform(nebu, server):
    row = {
        "name": "L40S",
        "memory_gib": 48.0,
        "vendor": "nvidia",
        "platforms": {"ec2": [1, 4, 8], "runpod": [1, 2, 3]},
        "aliases": [],
    }
    server.on("GET", "/v1/accelerators", {"accelerators": [row]})
    ended = nebu("get", "accelerators", "--platform", "ec2")
    assert server.asked[0].query == {"platform": ["ec2"]}
    assert ended.out == (
        "NAME  MEMORY  VENDOR  PLATFORMS              ALSO CALLED\nL40S  48 GiB  nvidia  ec2 1,4,8; runpod 1-3  -\n"
    )


def test_platforms_say_why_one_cannot_be_used(nebu, server):
    common = {"regions": [], "alarm": None, "features": []}
    rows = [
        {
            "platform": "ec2",
            "account": "sim:1",
            "usable": True,
            "reason": None,
            "hint": None,
            "simulated": True,
            "detail": "",
            **common,
        },
        {
            "platform": "docker",
            "account": None,
            "usable": False,
            "reason": "no worker serves it",
            "hint": "start one",
            "simulated": False,
            "detail": "",
            **common,
        },
    ]
    server.on("GET", "/v1/platforms", {"platforms": rows})
    assert nebu("get", "platforms").out == (
        "PLATFORM         USABLE  ACCOUNT  DETAIL\n"
        "ec2 (simulated)  yes     sim:1    -\n"
        "docker           no      -        no worker serves it; start one\n"
    )


def test_describe_shows_everything_on_one_page(double):
    row = double.container(
        "train",
        status="failed",
        reason="Exited",
        message="exit code 3",
        exit_code=3,
        platform="ec2",
        region="us-east-1",
        instance_type="g6e.xlarge",
        cost_per_hr=1.861,
        price_source="catalog",
        started_at="2027-01-15T07:59:00+00:00",
        restarts=2,
        conditions=[{"type": "Released", "status": "False", "reason": "Deleting", "message": "waits for proof"}],
        labels={"team": "x"},
        spec={
            "image": "busybox",
            "env_vars": [
                {"key": "A", "value": "1 2", "secret_name": None},
                {"key": "B", "value": None, "secret_name": "tok"},
            ],
        },
    )
    history = {
        "events": [{"at": "2027-01-15T07:58:30Z", "type": "Normal", "reason": "Accepted", "message": "spec is valid"}],
        "attempts": [
            {
                "number": 1,
                "platform": "ec2",
                "place": "ec2 us-east-1a g6e.xlarge",
                "usd_per_hour": 1.861,
                "started_at": "2027-01-15T07:58:31Z",
                "ended_at": "2027-01-15T07:58:36Z",
                "outcome": "OutOfCapacity",
                "message": "InsufficientInstanceCapacity",
            }
        ],
    }
    assert describe.page(CONTAINER, row, history, NOW) == (
        "Name:          train\n"
        "Namespace:     default\n"
        "Organization:  local\n"
        "Id:            idtrainxxxxx\n"
        "Labels:        team=x\n"
        "Created:       2027-01-15 07:58:30, 1m30s ago by admin\n"
        "Status:        failed (Exited 3)\n"
        "Message:       exit code 3\n"
        "Platform:      ec2 us-east-1 g6e.xlarge\n"
        "Account:       local:1a2b3c4d\n"
        "Price:         $1.86/h, from catalog\n"
        "Started:       2027-01-15 07:59:00\n"
        "Exit code:     3\n"
        "Counts:        attempt 1, restarts 2\n"
        "Image:         busybox\n"
        "Command:       echo hello\n"
        "Restart:       Never\n"
        "Environment:   A='1 2'\n"
        "               B from secret tok\n"
        "\n"
        "Conditions:\n"
        "  TYPE      STATUS  REASON    MESSAGE\n"
        "  Released  False   Deleting  waits for proof\n"
        "\n"
        "Attempts:\n"
        "  #  PLACE                      $/H   AGE    TOOK  OUTCOME        MESSAGE\n"
        "  1  ec2 us-east-1a g6e.xlarge  1.86  1m29s  5s    OutOfCapacity  InsufficientInstanceCapacity\n"
        "\n"
        "Events:\n"
        "  TIME                 TYPE    REASON    MESSAGE\n"
        "  2027-01-15 07:58:30  Normal  Accepted  spec is valid"
    )


def test_events_are_listed_oldest_first(nebu, server, double):
    server.on("GET", "/v1/containers/default/foo", double.container("foo"))
    server.on(
        "GET",
        "/v1/containers/default/foo/events",
        {
            "events": [{"at": "2027-01-15T08:00:00Z", "type": "Normal", "reason": "Accepted", "message": "fine"}],
            "attempts": [],
        },
    )
    ended = nebu("events", "foo")
    assert ended.out.splitlines()[1] == "2027-01-15 08:00:00  Normal  Accepted  fine"


def test_a_secret_is_described_without_its_value(nebu, server):
    row = {
        "kind": "Secret",
        "metadata": {"name": "tok", "namespace": "default", "owner": "local", "id": "s" * 12, "created_at": NOW},
        "status": {"status": "ready", "reason": "", "message": ""},
    }
    server.on("GET", "/v1/secrets/default/tok", row)
    server.on("GET", "/v1/secrets/default/tok/events", {"events": [], "attempts": []})
    ended = nebu("describe", "secret", "tok")
    assert ended.code == 0
    assert "Status:        ready" in ended.out
