"""What fits a terminal of 80 columns: nothing is cut off, nothing wraps by itself; a pipe is never narrowed."""

from __future__ import annotations

import re

import pytest

from nebulous.cli.tables import Columns, facts

COLUMNS = 80
GIB = 1 << 30
LONG = "runpod US-KS-2 NVIDIA A100 80GB PCIe: " + "this offer is sold out, and another one may not be " * 4
FOO = "/v1/containers/default/foo"


@pytest.fixture
def shown(terminal):
    """The lines that a command prints on a terminal of 80 columns, none of which is longer."""

    def run(*words: str) -> list[str]:
        with terminal(*words, columns=COLUMNS) as screen:
            assert screen.ended() == 0, screen.seen
            lines = screen.seen.replace("\r\n", "\n").splitlines()
        assert [line for line in lines if len(line) > COLUMNS] == []
        return lines

    return run


def squeezed(lines: list[str]) -> str:
    """What is said, however it is broken."""
    return re.sub(r"\s+", " ", " ".join(lines))


@pytest.fixture
def foo(server, double):
    more = {"region": "us-east-1", "instance_id": "i-0123456789abcdef0", "message": LONG, "simulated": True}
    row = double.container("foo", status="pending", reason="OutOfCapacity", labels={"team": "x" * 60}, **more)
    server.on("GET", "/v1/containers", {"containers": [row, double.container("bar", "team")], "cursor": None})
    server.on("GET", FOO, row)
    event = {"at": "2027-01-15T08:00:00Z", "type": "Warning", "reason": "OutOfCapacity", "message": LONG}
    attempt = {
        "number": 1,
        "place": "runpod US-KS-2 NVIDIA A100 80GB PCIe",
        "usd_per_hour": 1.6,
        "started_at": "2027-01-15T07:58:31Z",
        "ended_at": "2027-01-15T07:58:36Z",
        "outcome": "OutOfCapacity",
        "message": LONG,
    }
    server.on("GET", f"{FOO}/events", {"events": [event], "attempts": [attempt]})
    return server


@pytest.mark.parametrize("verb", ["describe", "events"])
def test_messages_go_on_below_themselves(shown, foo, verb):
    lines = shown(verb, "foo")
    told = [line.split("OutOfCapacity", 1)[1] for line in lines if "Warning  OutOfCapacity" in line]
    begins = len(lines[-1]) - len(lines[-1].lstrip())
    assert told[0].strip().startswith("runpod US-KS-2")
    assert begins > 40, "the last line of the message stands in its column"
    assert squeezed(lines).endswith("another one may not be")


def test_describe_breaks_long_values_and_keeps_all_of_them(shown, foo):
    lines = shown("describe", "foo")
    assert "Message:" in "".join(lines)
    assert LONG.strip() in squeezed(lines)
    assert "  #  PLACE" in "\n".join(lines)


def test_wide_rows_become_blocks(shown, foo):
    lines = shown("get", "containers", "-o", "wide")
    assert "NAME       foo" in lines
    assert "STATUS     pending (OutOfCapacity)" in lines
    assert "INSTANCE   i-0123456789abcdef0" in lines
    assert lines[-1].startswith("1 running")


def test_a_list_stays_a_table(shown, foo):
    lines = shown("get", "containers")
    assert lines[0].startswith("NAMESPACE  NAME  STATUS")
    assert any(line.startswith("default    foo   pending") for line in lines)


def test_what_is_piped_is_never_narrowed(nebu, foo):
    (header, row, *_) = nebu("get", "containers", "-o", "wide").out.splitlines()
    assert len(header) > COLUMNS
    assert "i-0123456789abcdef0" in row


def test_four_gpus_stand_below_each_other(shown, server, double):
    each = {"name": "A100-80GB-PCIE", "percent": 99.0, "memory_bytes": 71 * GIB, "memory_limit_bytes": 80 * GIB}
    usage = {
        "at": "2026-11-24T03:00:00Z",
        "cpu_percent": 187.4,
        "memory_bytes": 3 * GIB,
        "memory_limit_bytes": 16 * GIB,
        "accelerators": [{"index": index, **each} for index in range(4)],
        "simulated": True,
    }
    rows = [double.container("train-llama"), double.container("bar", "team")]
    server.on("GET", "/v1/containers", {"containers": rows, "cursor": None})
    server.on("GET", "/v1/containers/default/train-llama/stats", usage)
    server.on("GET", "/v1/containers/team/bar/stats", {**usage, "accelerators": []})
    lines = shown("top")
    column = lines[0].index("ACCELERATORS")
    begun = [line[column:] for line in lines if re.match(r"\d A100", line[column:])]
    assert [line[0] for line in begun] == ["0", "1", "2", "3"]
    assert squeezed([line[column:] for line in lines[1:]]).count("71.0/80.0 GiB") == 4


def test_offers_keep_price_and_reasons_readable(shown, server):
    offer = {
        "platform": "runpod",
        "account": "runpod:simulated-s49y88s3",
        "region": "CA-MTL-3",
        "instance_type": "NVIDIA A100 80GB PCIe",
        "accelerator": "4:A100-80GB-PCIE",
        "usd_per_hour": 6.4,
        "price_source": "simulated",
        "price_age_s": 3,
        "simulated": True,
        "place": "runpod CA-MTL-3 NVIDIA A100 80GB PCIe",
    }
    out = [
        {"platform": "docker", "reason": "no GPU here", "hint": "start it (sudo systemctl start docker), or " * 3},
        {"platform": "ec2", "reason": "simulated, so used only when named", "hint": "name it: platform ec2"},
        {"platform": "gce", "reason": "simulated, so used only when named", "hint": "name it: platform gce"},
    ]
    server.on("GET", "/v1/offers", {"offers": [offer], "why": "named", "out": out, "problem": None, "rejected": False})
    lines = shown("get", "offers")
    assert any(" 6.40 " in line and "CA-MTL-3" in line for line in lines)
    assert "ec2     simulated, so used only when named" in lines
    assert "ec2, gce  name it: platform NAME" in lines


def test_a_word_that_could_be_copied_is_not_broken_and_a_sentence_is(monkeypatch):
    monkeypatch.setattr("nebulous.cli.screen.width", lambda: 44)
    table = Columns(["NAME", "MESSAGE"])
    table.fit(["train-llama-4f2", "one two three four five six"])
    assert table.row(["train-llama-4f2", "one two three four five six"]) == (
        "train-llama-4f2  one two three four five six"
    )
    monkeypatch.setattr("nebulous.cli.screen.width", lambda: 41)
    table = Columns(["NAME", "MESSAGE"])
    assert table.row(["train-llama-4f2", "one two three four five six"]) == (
        "train-llama-4f2  one two three four five\n                 six"
    )
    monkeypatch.setattr("nebulous.cli.screen.width", lambda: 30)
    stacked = Columns(["NAME", "MESSAGE"]).row(["train-llama-4f2", "one two three four five six"])
    assert stacked == "NAME     train-llama-4f2\nMESSAGE  one two three four\n         five six"


def test_a_fact_cannot_move_the_cursor():
    assert facts([("Message:", "a\x1b[2Jb\nc")]) == "Message:  a [2Jb\n          c"
