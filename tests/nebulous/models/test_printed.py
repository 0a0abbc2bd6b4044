"""What `nebu get` prints is a file: read back it asks for what is there, and for nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.containers import present
from nebulous.cli.screen import structured
from nebulous.errors import Rejected
from nebulous.models import printed
from nebulous.models.base import check
from nebulous.models.changes import Wanted, between
from nebulous.models.containers import ContainerSpec
from nebulous.models.documents import Document, read
from nebulous.models.resources import Metadata, MetadataRequest, Row
from tests.specs import labels, specs

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
WENT = st.sampled_from(["", "docker", "sim"])  # where it went, whatever was asked
#: What a dumper of YAML 1.1 may write plainly, and a reader of 1.2 takes for something else.
WORDS = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=6) | st.sampled_from(
    ["1e5", "0o17", "on", "null", "~", "1:30", "007", "2026-11-24", "=", "<<", "1_000", "-.5", "true", ".5e3"]
)


def row_of(spec: dict[str, Any], given_labels: dict[str, str] | None, platform: str) -> Row:
    """A container of this spec as the API has it."""
    stored = check(ContainerSpec, spec).model_dump(mode="json", exclude={"metadata"})
    where = {"name": "foo", "namespace": "team", "owner": "local", "id": "life1", "resource_version": "7"}
    made = {"labels": given_labels, "created_at": 1, "updated_at": 2, "request": "0123", "created_by": "ada"}
    status = {"status": "running", "platform": platform, "instance_id": "i1", "conditions": []}
    return Row(metadata=Metadata.model_validate({**where, **made}), spec=stored, status=status)


def read_back(row: Row, output: str, listed: bool) -> Document:
    shown = present(row, "admin")
    (document,) = read(structured({"containers": [shown]} if listed else shown, output), "f.yaml")
    return document


def asks_for_the_same(row: Row, document: Document) -> bool:
    asked: ContainerSpec = check(ContainerSpec, document.data)  # type: ignore[assignment]
    assert asked.metadata
    assert asked.metadata.resource_version == "life1.7"
    assert (asked.metadata.name, asked.metadata.namespace) == ("foo", "team")
    before = Wanted(row.spec, row.metadata.labels, row.metadata.owner_ref)
    after = Wanted(asked.model_dump(mode="json"), asked.metadata.labels, asked.metadata.owner_ref)
    assert between(ContainerSpec, before, after) == []
    return True


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs(), labels() | st.none(), WENT, WORDS, st.sampled_from(["yaml", "json"]), st.booleans())
def test_a_round_trip_without_an_edit_is_no_change(
    spec: dict[str, Any], given_labels: dict[str, str] | None, went: str, word: str, output: str, listed: bool
) -> None:
    odd = {"args": [word]} if "command" not in spec else {"queue": word}
    for platform in ({}, {"platform": "docker"}, {"platform": "sim:host"}):
        row = row_of({**spec, **platform, **odd}, given_labels, went)
        assert asks_for_the_same(row, read_back(row, output, listed))


@pytest.mark.parametrize("output", ["yaml", "json"])
@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.name)
def test_a_round_trip_of_every_example_is_no_change(file: Path, output: str) -> None:
    containers = [each for each in read(file.read_text(), file.name) if each.kind.name == "Container"]
    assert containers
    for document in containers:
        wanted = (document.data.get("metadata") or {}).get("labels")
        row = row_of({name: value for name, value in document.data.items() if name != "metadata"}, wanted, "docker")
        row.metadata.labels = check(MetadataRequest, {"labels": wanted}).labels  # type: ignore[attr-defined]
        assert asks_for_the_same(row, read_back(row, output, listed=False))


def test_an_edit_is_the_only_change() -> None:
    row = row_of({"image": "busybox", "command": ["sleep", "60"]}, {"team": "x"}, "docker")
    text = structured(present(row, "admin"), "yaml")
    (document,) = read(text.replace("\ntimeout: null", "\ntimeout: 1h"), "f.yaml")
    asked = check(ContainerSpec, document.data)
    changes = between(ContainerSpec, Wanted(row.spec, row.metadata.labels), Wanted(asked.model_dump(), {"team": "x"}))
    assert [(change.field, change.after) for change in changes] == [("timeout", "1h")]
    (moved,) = read(text.replace("\nplatform: docker", "\nplatform: sim"), "f.yaml")
    assert moved.data["platform"] == "sim"


def test_an_edit_of_one_of_two_spellings_is_asked_about_at_its_line() -> None:
    row = row_of({"image": "busybox", "command": ["sleep", "60"]}, None, "docker")
    text = structured(present(row, "admin"), "yaml").replace("command: sleep 60", "command: sleep 90")
    line = text.splitlines().index("command: sleep 90") + 1
    with pytest.raises(Rejected) as refused:
        read(text, "f.yaml")
    assert refused.value.message.startswith(f"f.yaml:{line}:1: command and argv say different things: leave out argv")
    (edited,) = read(text.replace("argv:\n- sleep\n- '60'\n", ""), "f.yaml")
    assert edited.data["command"] == "sleep 90"
    (listed,) = read(text.replace("command: sleep 90\n", ""), "f.yaml")
    assert listed.data["command"] == ["sleep", "60"]


def test_problems_in_a_printed_list_stand_where_they_were_written() -> None:
    row = row_of({"image": "busybox"}, None, "docker")
    shown = [{**present(row, "admin"), "metadata": {"name": name}} for name in ("a", "b")]
    text = structured({"containers": shown, "cursor": None}, "yaml")
    documents = read(text, "f.yaml")
    assert [document.data["metadata"]["name"] for document in documents] == ["a", "b"]
    line = text.splitlines().index("    name: b") + 1
    assert documents[1].where(["metadata", "name"]) == f"f.yaml:{line}:5"
    with pytest.raises(Rejected, match=r"f\.yaml:1:1: kind is missing"):
        read("containers: []\nimage: x\n", "f.yaml")
    with pytest.raises(Rejected, match=r"f\.yaml:1:1: containers should be a list"):
        read("containers: x\n", "f.yaml")
    with pytest.raises(Rejected, match=r"f\.yaml:1:14: an entry must be"):
        read("containers: [x]\n", "f.yaml")


def test_what_only_the_server_sets_is_what_no_file_may_say() -> None:
    known = set(MetadataRequest.model_fields) | set(MetadataRequest.aliases)
    assert set(Metadata.model_fields) - known == {*printed.GIVEN, "request"}
    unknown = check_problem({"kind": "Container", "image": "x", "statuss": {}})
    assert "statuss" in unknown


def check_problem(data: dict[str, Any]) -> str:
    with pytest.raises(Rejected) as refused:
        check(ContainerSpec, printed.written(data))
    return refused.value.message
