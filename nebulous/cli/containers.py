"""How containers look: the words of a status, a row of `get`, the footer, the page of `describe`."""

from __future__ import annotations

import json
import shlex
from typing import Any

from nebulous.cli.tables import NOTHING, age, dollars, moment
from nebulous.client import Json

COLUMNS = ("NAME", "STATUS", "PLATFORM", "ACCELERATOR", "AGE", "$/H")
WIDE = ("ID", "OWNER", "INSTANCE", "REGION", "PORTS", "RESTARTS", "EXIT")

FINAL = frozenset({"completed", "failed", "stopped", "invalid"})
GOOD = frozenset({"completed", "stopped"})
STATUSES = (
    *("defined", "queued", "pending", "creating", "created", "running", "restarting", "paused", "stopping"),
    *("completed", "failed", "stopped", "invalid"),
)

_PLAIN = frozenset({"running", "completed"})  # their reason tells nothing new
_SHOWN_ELSEWHERE = frozenset({"kind", "metadata", "status", "env", "env_vars", "argv", "platform", "accelerators"})


def status_text(row: Json) -> str:
    """The status with its reason: `failed (Exited 3)`, `pending (NoCapacity)`, `running`."""
    status = row["status"]
    word, reason = str(status["status"]), str(status.get("reason") or "")
    if word == "running" and row.get("health_check") and not status.get("ready"):
        return "running (not ready)"
    if not reason or word in _PLAIN or reason.lower() == word:
        return word
    code = status.get("exit_code")
    return f"{word} ({reason} {code})" if reason == "Exited" and code is not None else f"{word} ({reason})"


def cells(row: Json, now: float, wide: bool) -> list[str]:
    """One row of the table, from the reply alone."""
    metadata, status = row["metadata"], row["status"]
    shown = [
        metadata["name"],
        status_text(row),
        _platform(row),
        status.get("accelerator") or ", ".join(row.get("accelerators") or []) or NOTHING,
        age(metadata.get("created_at"), now),
        dollars(status.get("cost_per_hr")),
    ]
    if not wide:
        return shown
    code = status.get("exit_code")
    more = [
        metadata["id"],
        owner_text(metadata),
        status.get("instance_id") or NOTHING,
        status.get("region") or NOTHING,
        ports_text(status, row.get("ports")) or NOTHING,
        str(status.get("restarts", 0)),
        NOTHING if code is None else str(code),
    ]
    return shown + more


def ports_text(status: Json, asked: list[Json] | None) -> str:
    """`203.0.113.7:8080/tcp, 9000/tcp`: where it is reached from outside, and what is open inside its namespace."""
    opened: list[Json] = status.get("public_ports") or []
    outside = [f"{port.get('public_ip') or ''}:{port['port']}/{port.get('protocol') or 'tcp'}" for port in opened]
    known = {port["port"] for port in opened}
    inside = [f"{port['port']}/{port.get('protocol') or 'tcp'}" for port in asked or [] if port["port"] not in known]
    return ", ".join(outside + inside)


def owner_text(metadata: Json) -> str:
    """What a resource belongs to: another resource as `cluster/name`, else its organization."""
    parts = str(metadata.get("owner_ref") or "").split("/")
    return f"{parts[0]}/{parts[-1]}" if len(parts) == 4 else str(metadata["owner"])


def footer(rows: list[Json]) -> str:
    """`2 running, $1.20/h + $0.40/h simulated`: what is rented counts until it is proven gone."""
    running = real = simulated = unknown = 0
    for row in rows:
        status: Any = row.get("status") or {}
        running += status.get("status") == "running"
        cost = status.get("cost_per_hr")
        unknown += cost is None and bool(status.get("instance_id")) and status.get("status") not in FINAL
        if status.get("simulated"):
            simulated += cost or 0
        else:
            real += cost or 0
    text = f"{running} running, ${real:.2f}/h"
    text += f" + ${simulated:.2f}/h simulated" if simulated else ""
    return text + (f", {unknown} at an unknown price" if unknown else "")


def facts(row: Json, now: float) -> list[tuple[str, str]]:
    """What `describe` says of a container, above its tables; empty facts are left out by the caller."""
    status = row["status"]
    variables: list[Json] = row.get("env_vars") or row.get("env") or []
    return [
        ("Status", status_text(row)),
        ("Message", status.get("message") or ""),
        *_where(row),
        ("Asked for", ", ".join(row.get("accelerators") or [])),
        ("Got", status.get("accelerator") or ""),
        ("Price", _price(status)),
        ("Address", status.get("ip") or ""),
        ("Open ports", ports_text(status, row.get("ports"))),
        ("Image digest", status.get("image_digest") or ""),
        ("Started", _since(status.get("started_at"))),
        ("Finished", _since(status.get("finished_at"))),
        ("Next try", _since(status.get("next_try_at"))),
        ("Exit code", "" if status.get("exit_code") is None else str(status["exit_code"])),
        ("Counts", _counts(status)),
        *_asked(row),
        *(("Environment", _variable(variable)) for variable in variables),
    ]


def _where(row: Json) -> list[tuple[str, str]]:
    status = row["status"]
    place = " ".join(part for part in (status.get("region"), status.get("instance_type")) if part)
    return [
        ("Platform", " ".join(part for part in (_platform(row), place) if part != NOTHING and part)),
        ("Account", status.get("account") or ""),
        ("Instance", status.get("instance_id") or ""),
    ]


def _counts(status: Json) -> str:
    names = ("attempt", "restarts", "recoveries")
    return ", ".join(f"{name} {status[name]}" for name in names if status.get(name))


def _asked(row: Json) -> list[tuple[str, str]]:
    """The rest of the spec, field by field, as it was sent."""
    fields = [(name, value) for name, value in row.items() if name not in _SHOWN_ELSEWHERE]
    return [
        (name.replace("_", " ").capitalize(), _value(value)) for name, value in fields if value not in (None, "", [])
    ]


def _value(value: Any) -> str:  # noqa: ANN401 - any field of a spec
    if isinstance(value, (dict, list)):
        return json.dumps(_present(value), ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _present(value: Any) -> Any:  # noqa: ANN401 - as above
    if isinstance(value, dict):
        return {name: _present(part) for name, part in value.items() if part is not None}  # pyright: ignore[reportUnknownVariableType]
    return [_present(part) for part in value] if isinstance(value, list) else value  # pyright: ignore[reportUnknownVariableType]


def _variable(variable: Json) -> str:
    if variable.get("secret_name"):
        return f"{variable['key']} from secret {variable['secret_name']}"
    return f"{variable['key']}={shlex.quote(str(variable.get('value')))}"


def _platform(row: Json) -> str:
    status = row["status"]
    name = status.get("platform") or row.get("platform") or NOTHING
    return f"{name} (simulated)" if status.get("simulated") and name != "sim" else name


def _price(status: Json) -> str:
    cost = status.get("cost_per_hr")
    if cost is None:
        return ""
    source = f", from {status['price_source']}" if status.get("price_source") else ""
    return f"${dollars(cost)}/h{' simulated' if status.get('simulated') else ''}{source}"


def _since(at: str | None) -> str:
    return moment(at) if at else ""
