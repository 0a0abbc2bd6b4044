"""Containers: what is checked before one is created, and how its row is shown."""

from __future__ import annotations

import re
from typing import Annotated, Any, cast

from pydantic import TypeAdapter, ValidationError

from api import checks, offers
from api.resources import Asked, Prepared, Surface
from nebulous.models import kinds
from nebulous.models.containers import ContainerSpec, ContainerStatus, Status, shown_command
from nebulous.models.resources import Row
from nebulous.tokens import Role

KIND = kinds.find("container")
FIELDS = tuple(name for name in ContainerSpec.model_fields if name not in ("kind", "metadata"))
MASK = "***"
LONGEST_SUMMARY = 180  # Temporal's UI shows 200 bytes

_SECRET_KEY = re.compile(r"(api_?key|secret|token|passw(or)?d|credential|private_key)", re.IGNORECASE)
_SECRET_VALUE = re.compile(
    r"^(AKIA[0-9A-Z]{12}|sk-|ghp_|github_pat_|glpat-|hf_|xox[abp]-|rpa_|-----BEGIN [A-Z ]*PRIVATE KEY)"
)
_SHORTEST_SECRET = 8


async def prepare(asked: Asked) -> Prepared:
    """Check what spec, catalog, platforms and secrets can tell; nothing is created unless all is well.

    Raises:
        Rejected: With what to change. Unavailable: Temporal does not answer.
    """
    spec: ContainerSpec = asked.spec
    checks.check_names(spec)
    settings = asked.uses.settings
    checks.check_notify(spec, settings.loopback if settings.notify_private is None else settings.notify_private)
    reports = await asked.uses.reports.all()
    checks.check_platform(spec, reports)
    checks.check_fields(spec, reports)
    await checks.check_secrets(spec, asked.address, asked.uses.store, asked.assumed)
    await checks.check_clash(asked.address, asked.uses.store)
    stored = spec.model_dump(mode="json", exclude={"metadata"})
    summary = f"{spec.image or 'command'} {shown_command(spec.command) or ''}".strip()
    return Prepared(stored, stored, summary[:LONGEST_SUMMARY], spec.queue or "", _notices(spec))


async def foresee(asked: Asked) -> dict[str, Any]:
    """Where it would go, at what price, and why not elsewhere."""
    spec: ContainerSpec = asked.spec
    labels = spec.metadata.labels if spec.metadata else None
    return (await offers.foresee(asked.uses, spec, labels)).shown()


def _notices(spec: ContainerSpec) -> list[str]:
    said = [
        f"env_vars {each.key!r} looks like a credential in clear; safer: `nebu create secret` and secret_name"
        for each in spec.env_vars or []
        if each.value and _looks_secret(each.key, each.value)
    ]
    if spec.platform == "local" and spec.image:
        said.append("platform 'local' runs the command on the host and ignores `image`")
    if spec.platform == "local" and any(port.public for port in spec.ports or []):
        said.append("platform 'local' opens no port: who reaches the command depends on the address that it listens on")
    if any(key.copy_local and not key.public_key for key in spec.ssh_keys or []):
        said.append("ssh_keys copy_local: only `nebu create` can copy your keys; nothing was copied")
    return said


def _looks_secret(key: str, value: str) -> bool:
    named = bool(_SECRET_KEY.search(key)) and len(value) >= _SHORTEST_SECRET
    return named or bool(_SECRET_VALUE.match(value))


def present(row: Row, role: Role) -> dict[str, Any]:
    """The reply: every field as it was sent, nulls kept, and what the published clients read beside it."""
    status = {**_FRESH, **row.status}
    spec = row.spec if _ours(row) else _readable(row.spec)
    command = spec.get("command")
    shown: dict[str, Any] = {name: spec.get(name) for name in FIELDS}
    env = _env(spec.get("env_vars"), role)
    return {
        "kind": KIND.name,
        "metadata": metadata(row),
        **shown,
        "env_vars": env,
        "env": env,
        "image": spec.get("image") or "",
        "platform": status["platform"] or spec.get("platform") or "",
        "command": shown_command(command),
        "argv": command if isinstance(command, list) else None,
        "restart": spec.get("restart") or "Never",
        "status": {
            **status,
            "platform_asked": spec.get("platform"),  # `platform` beside it, and above, is where it went
            "rentals": [{"key": key, **rental} for key, rental in row.rentals.items()],
            "public_ip": None,
            "tailnet_url": None,
        },
    }


def _ours(row: Row) -> bool:
    """True for a spec that this API wrote, whole and checked; a program that speaks Temporal may write anything."""
    return row.status.get("status") != Status.INVALID and row.spec.keys() >= _ALL_FIELDS


def _readable(spec: dict[str, Any]) -> dict[str, Any]:
    """Every field in the shape that clients know, and null where it is in none: one bad row breaks their whole list."""
    spelled = {ContainerSpec.aliases.get(name, name): value for name, value in spec.items() if value is not None}
    return {name: _readable_field(name, spelled.get(name)) for name in FIELDS}


def _readable_field(name: str, value: object) -> object:
    if value is None or name in _NEVER_SET:
        return None
    try:
        return _ADAPTERS[name].dump_python(_ADAPTERS[name].validate_python(value), mode="json")
    except ValidationError:
        return None


def metadata(row: Row) -> dict[str, Any]:
    """`metadata` of a reply, with both words for the organization."""
    return {**row.metadata.model_dump(mode="json", exclude={"request"}), "owner_id": row.metadata.owner}


def _env(variables: object, role: Role) -> object:
    """Environment variables; values are masked for viewers."""
    if role != "viewer" or not isinstance(variables, list):
        return variables
    shown: list[dict[str, Any]] = [dict(each) for each in cast("list[dict[str, Any]]", variables)]
    for variable in shown:
        if variable.get("value") is not None:
            variable["value"] = MASK
    return shown


_FRESH = ContainerStatus().model_dump(mode="json")
_ALL_FIELDS = frozenset(FIELDS)
_NEVER_SET = frozenset({"proxy_port", "authz"})
_ADAPTERS: dict[str, TypeAdapter[Any]] = {
    name: TypeAdapter(cast(Any, Annotated).__class_getitem__((field.annotation, field)))
    for name, field in ContainerSpec.model_fields.items()
    if name in _ALL_FIELDS
}

SURFACE = Surface(
    kind=KIND,
    prepare=prepare,
    present=present,
    foresee=foresee,
    first_status=_FRESH,
    statuses=tuple(Status),
    # in these the workflow waits, so a deletion that it has seen is in the memo already
    steady=frozenset({Status.PENDING, Status.QUEUED, Status.RUNNING}),
)
