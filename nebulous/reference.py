"""Reference pages made of the models and settings: `python -m nebulous.reference docs` writes them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nebulous import durations
from nebulous.client import reference as methods
from nebulous.models.base import IDENTITY, Duration, Spec, model_in
from nebulous.models.changes import in_place
from nebulous.models.containers import (
    DEFAULT_MAX_RETRIES,
    DEFAULT_PROVISION_TIMEOUT,
    DEFAULT_STOP_GRACE,
    DEFAULT_TTL,
    ContainerSpec,
)
from nebulous.models.kinds import KINDS
from nebulous.models.schema import models
from nebulous.settings import Settings, SimOffer

EVERYWHERE = "everywhere"
#: Real platforms refuse these (api/checks.py), because ignoring them would be worse.
SIMULATED = "simulated platforms only, without effect there"

#: Defaults of a container's fields that stay null, so that replies echo what was sent.
EFFECTIVE: dict[str, str] = {
    "stop_grace": f"`{durations.render(DEFAULT_STOP_GRACE)}`",
    "provision_timeout": f"`{durations.render(DEFAULT_PROVISION_TIMEOUT)}`",
    "ttl_after_finished": f"`{durations.render(DEFAULT_TTL)}`",
    "max_retries": f"`{DEFAULT_MAX_RETRIES}`; no limit with `restart: Always`",
}

#: Which platforms act on a container's field in this release; all others act everywhere.
ACTS: dict[str, str] = {
    **dict.fromkeys(
        (
            "volumes", "queue", "priority", "meters",
        ),
        SIMULATED,
    ),
    "disk": "ec2, gce, runpod; docker and local refuse",
    "image": "docker and clouds; `local` ignores it",
    "args": "docker, ec2, gce; `local` has no image to give them to, and refuses",
    "resources": "docker and clouds; `local` limits nothing",
    "ports": "open inside a namespace; `public: true`: docker, and `local` opens nothing and says so",
    "spot": "ec2, gce; others refuse",
    "regions": "clouds; docker and local have none, and refuse",
    "shm_size": "docker, ec2, gce",
    "registry": "docker and clouds",
    "proxy_port": "never: only null is accepted",
    "authz": "never: only null is accepted",
}  # fmt: skip

FIELDS_HEAD = """\
# Fields

Generated from the models by `python -m nebulous.reference docs`; do not edit. The same as JSON schema, for editors:
`nebu schema container`.

A field that is not in these tables is an error, and the message names the nearest one. A field that is left out
keeps its default. *Acts* says which platforms do something with it **in this release**; a field that no real platform
acts on is refused by all of them. *Changes in place* says what `nebu apply` changes while the resource lives; any
other field needs a new life, which `nebu apply --replace` begins. What stands inside of a field changes as it does.

Durations are written `30s`, `5m`, `1h30m`, `7d`. Labels, and everything called `value`, are text as it stands in the
file: `007` stays `007`, `yes` stays `yes`. `$VAR` is not expanded in files; it is by the shell that runs a command.
"""

SETTINGS_HEAD = """\
# Settings

Generated from `nebulous/settings.py` by `python -m nebulous.reference docs`; do not edit.

Each setting is an environment variable, or a key of `nebulous.yaml` in the folder where the server starts (the name
without `NEBU_`, lower case). The variable wins. Lists and objects are JSON in a variable. What is secret may stand in a
file instead: `NEBU_SIGNING_KEY_FILE`, `NEBU_SECRET_KEY_FILE`, `NEBU_ENCRYPTION_KEY_FILE` and `NEBU_REDIS_URL_FILE` each
name one.
"""

METRICS_HEAD = """\
# Metrics

Generated from `nebulous/metrics.py` by `python -m nebulous.reference docs`; do not edit.

`NEBU_API_METRICS=127.0.0.1:9464` makes the API answer Prometheus there, at `/metrics`; `NEBU_WORKER_METRICS` does so
for the worker process, and both work with `nebu serve`. No token is asked for, so let only Prometheus reach them: names
of containers are in none of them, platform accounts are. Without an address nothing is counted, and nothing is slower.

[alerts.yaml](alerts.yaml) has rules that say what deserves a person, and what that person does. The worker's page also
has the Temporal SDK's own metrics, `temporal_…`: how long decisions and activities wait for a worker and take
(`temporal_workflow_task_schedule_to_start_latency`, `temporal_activity_execution_latency` by `activity_type`), and
requests to Temporal that failed. A sum over several processes is a sum, except of gauges: take the maximum of those.
"""


def fields() -> str:
    """The page of all fields of all kinds; what kinds share is told once."""
    parts, told = [FIELDS_HEAD], set[type[Spec]]()
    for kind in KINDS:
        for model in models(kind.model):
            if model not in told:
                told.add(model)
                parts.append(_section(kind.name if model is kind.model else model.__name__, model))
    return "\n".join(parts)


def _section(title: str, model: type[BaseModel]) -> str:
    acts = title == "Container"
    more = [*(["changes in place"] if _changeable(model) else []), *(["acts"] if acts else [])]
    head = ["field", "type", "default", "meaning", *more]
    rows = [_row(*head), "|" + "---|" * len(head)]
    for name, field in model.model_fields.items():
        said = {"changes in place": _in_place(model, name), "acts": ACTS.get(name, EVERYWHERE)}
        last = [said[each] for each in more]
        rows.append(_row(_spelling(model, name), _words(field), _usual(model, name), _meaning(field), *last))
    return "\n".join([f"## {title}", "", _first_line(model), "", *rows, ""])


def _usual(model: type[BaseModel], name: str) -> str:
    """What a field is when nobody says what, which for some is decided only where it is used."""
    if model is ContainerSpec and name in EFFECTIVE:
        return EFFECTIVE[name]
    return _default(model.model_fields[name])


def _changeable(model: type[BaseModel]) -> bool:
    return any(_in_place(model, name) == "yes" for name in model.model_fields)


def _in_place(model: type[BaseModel], name: str) -> str:
    """Whether the field changes in place; of `metadata` its own table says which part does."""
    if name in IDENTITY:
        return "labels do" if name == "metadata" else "no"
    return "yes" if issubclass(model, Spec) and in_place(model, name) else "no"


def _spelling(model: type[BaseModel], name: str) -> str:
    aliases = model.aliases if issubclass(model, Spec) else {}
    return " or ".join(f"`{word}`" for word in (name, *(alias for alias, of in aliases.items() if of == name)))


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def settings() -> str:
    """The page of all settings."""
    rows = ["| variable | type | default | meaning |", "|---|---|---|---|", *_settings(Settings, "NEBU_")]
    return "\n".join([SETTINGS_HEAD, *rows, "", _section("SimOffer", SimOffer)])


def measured() -> str:
    """The page of all metrics."""
    from nebulous.metrics import METRICS

    rows = ["| metric | kind | of | labels | meaning |", "|---|---|---|---|---|"]
    for metric in METRICS:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        rows.append(_row(f"`{metric.exported}`", metric.kind, metric.process, labels, metric.meaning))
    return "\n".join([METRICS_HEAD, *rows, ""])


def _settings(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        variable, inner = f"{prefix}{name.upper()}", field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _settings(inner, f"{variable}__")
        else:
            yield _row(f"`{variable}`", _words(field), _default(field), _meaning(field))


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _meaning(field: FieldInfo) -> str:
    return field.description or ""


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True, validated_data={})
    return "" if default in (None, "") else f"`{str(default).lower() if isinstance(default, bool) else default}`"


#: Types in the words that messages use.
_PLAIN = {str: "text", int: "whole number", float: "number", bool: "true or false", Path: "path", Any: "anything"}


def _words(field: FieldInfo) -> str:
    return "duration" if _is_duration(field) else _type(field.annotation)


def _is_duration(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    written = cast("dict[str, object]", extra) if isinstance(extra, dict) else {}
    return Duration in get_args(field.annotation) or written.get("format") == "duration"


def _type(annotation: Any) -> str:  # noqa: ANN401 - a type expression
    origin, inner = get_origin(annotation), [each for each in get_args(annotation) if each is not type(None)]
    if origin is Annotated:
        return _type(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(_type(each) for each in inner)
    if origin is Literal:
        return " ".join(f"`{word}`" for word in inner)
    if origin is list:
        return f"list of {_type(inner[0])}"
    if origin is dict:
        return "`key: value` lines"
    found = model_in(annotation)
    if found:
        return f"[{found.__name__}](#{found.__name__.lower()})" if issubclass(found, Spec) else found.__name__
    return _PLAIN.get(annotation, str(annotation))


def main(arguments: list[str]) -> int:
    """Write all pages into the folder named on the command line."""
    if len(arguments) != 1:
        print("usage: python -m nebulous.reference FOLDER", file=sys.stderr)  # noqa: T201 - a command
        return 2
    for name, text in pages().items():
        (Path(arguments[0]) / name).write_text(text, encoding="utf-8")
    return 0


def pages() -> dict[str, str]:
    """The generated pages by file name."""
    from nebulous.cli import manual

    written = {"fields.md": fields(), "settings.md": settings()}
    written["metrics.md"] = measured()
    return {"cli.md": manual.page(), "sdk-methods.md": methods.page(), **written}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
