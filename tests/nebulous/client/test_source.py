"""One source for both clients, arguments that follow the models, and an import that costs nothing."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

import nebulous
from nebulous.client import Client, build
from nebulous.client.events import Event, EventParser
from nebulous.models.asked import ContainerFields
from nebulous.models.base import model_in
from nebulous.models.containers import ContainerSpec, Status
from nebulous.models.resources import MetadataRequest
from nebulous.waiting import FINISHED, Until


def test_the_blocking_client_is_what_the_asynchronous_one_makes_it():
    there = {file.name: file.read_text() for file in build.TARGET.glob("*.py") if file.name not in build.BY_HAND}
    wanted = build.made()
    assert there == wanted, "run `make client`"
    assert "await" not in "".join(wanted.values())


def test_both_clients_have_the_same_methods():
    def methods(kind: Any) -> set[str]:
        return {name for name, _ in inspect.getmembers(kind, inspect.isfunction) if not name.startswith("_")}

    pairs = [(nebulous.AsyncClient, nebulous.Client)]
    from nebulous.client._async.containers import AsyncContainers
    from nebulous.client._sync.containers import Containers

    for asynchronous, blocking in [*pairs, (AsyncContainers, Containers)]:
        assert {name.removeprefix("a") if name == "aclose" else name for name in methods(asynchronous)} == methods(
            blocking
        )


def test_the_arguments_of_create_are_the_fields_of_the_model():
    fields = get_type_hints(ContainerFields)
    models = {**MetadataRequest.model_fields, **ContainerSpec.model_fields}
    assert set(fields) == set(models) - {"kind", "metadata"}
    for name, hint in fields.items():
        annotation = models[name].annotation
        assert model_in(hint) is model_in(annotation), name
        assert _scalars(annotation) <= _scalars(hint), name
        assert type(None) in get_args(hint), name


def _scalars(annotation: Any) -> set[Any]:
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    if annotation in (str, int, float, bool):
        return {annotation}
    return set().union(*(_scalars(inner) for inner in get_args(annotation))) if get_origin(annotation) else set()


def test_every_status_can_be_waited_for():
    assert set(get_args(Until)) == {FINISHED, *Status}


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        ("import nebulous; nebulous.__version__", {"httpx", "pydantic", "asyncio", "nebulous.client"}),
        (
            "from nebulous.client import Api, Json, Place, Created, Unreachable, InvalidRequest",
            {"pydantic", "asyncio", "nebulous.client.replies"},
        ),
    ],
)
def test_what_the_command_line_imports_stays_light(code: str, absent: set[str]):
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert not set(shown.stdout.split()) & absent


def test_what_is_not_there_is_said_as_usual():
    assert Client is nebulous.Client
    with pytest.raises(AttributeError, match="module 'nebulous' has no attribute 'Klient'"):
        nebulous.Klient  # noqa: B018
    with pytest.raises(AttributeError, match=r"module 'nebulous.client' has no attribute 'Klient'"):
        nebulous.client.Klient  # noqa: B018


def test_events_come_whole_whatever_the_pieces():
    text = b"id: 4\nevent: log\ndata: a\xe2\x80\xa8b\x0b\ndata: c\r\n\n: ping\n\nid: 5\n: ping\n\ndata: cut"
    wanted = [Event("log", "a\u2028b\x0b\nc", "4"), Event(comment="ping"), Event(comment="ping"), Event(id="5")]
    for size in (1, 2, 7, len(text)):
        parser = EventParser()
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert [event for piece in pieces for event in parser.feed(piece)] == wanted
