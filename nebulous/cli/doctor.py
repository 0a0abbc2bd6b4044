"""`nebu doctor`: what is configured, what is reachable, and what to do about the rest."""

from __future__ import annotations

import base64
import json
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, distributions

from nebulous import __version__, contexts, durations
from nebulous.cli import failures
from nebulous.cli.lookup import Lookup, connect
from nebulous.cli.screen import emit
from nebulous.client import Json
from nebulous.errors import Forbidden, NebulousError, NotFound

#: Other projects whose distributions install the import package `nebulous` or the command `nebu`.
FOREIGN = frozenset({"nebulous", "nebulous-sh", "nebu"})

GOOD, WARNING, BAD = "ok", "note", "BAD"


@dataclass(frozen=True)
class Finding:
    """One thing looked at, how it is, and what to do if it is not well."""

    state: str
    subject: str
    text: str
    advice: str | None = None


def command() -> int:
    """Look at everything; exit code 1 when something is broken."""
    broken = 0
    for finding in findings():
        emit(f"{finding.state:<5} {finding.subject + ':':<20} {finding.text}")
        if finding.advice:
            emit(f"{'':<27}-> {finding.advice}")
        broken += finding.state == BAD
    return failures.FAILED if broken else 0


def findings() -> Iterator[Finding]:
    """Look at one thing after the other, from near to far; what depends on a broken thing is left out."""
    yield from packages()
    try:
        known = contexts.load()
    except NebulousError as error:
        yield Finding(BAD, "config", error.message, error.hint)
        return
    yield from config(known)
    lookup = connect()
    try:
        health: Json = lookup.api.read("/health")
    except NebulousError as error:
        yield Finding(BAD, "server", error.message, error.hint)
        return
    yield from server(health, lookup.api.server)
    try:
        me: Json = lookup.api.read("/v1/users/me")
    except NebulousError as error:
        yield Finding(BAD, "token", error.message, error.hint or "log in with `nebu login`")
        return
    yield token(me, lookup.context.token)
    try:
        yield from platforms(lookup)
        diagnosis = told_admins(lookup)
        yield from accounts(diagnosis)
        yield from archive(diagnosis)
        yield from left_behind(diagnosis)
    except NebulousError as error:
        yield Finding(BAD, "server", error.message, error.hint)


def packages() -> Iterator[Finding]:
    """Another project's package or command of the same name would hide ours, or be hidden."""
    named = {str(each.metadata["Name"]).lower(): each for each in distributions()}
    found = {name: named[name].version for name in FOREIGN & named.keys() if _hides_us(named[name])}
    for name in sorted(found):
        yield Finding(
            BAD,
            "packages",
            f"{name} {found[name]} is installed beside us: another project, which uses our import name or command",
            f"pip uninstall {name}, then reinstall ours; or give each its own environment",
        )


def _hides_us(other: Distribution) -> bool:
    """True for what brings our import package or our command; nebu 0.1.0, the original's client, brings neither."""
    commands = [each.name for each in other.entry_points if each.group == "console_scripts"]
    return other.files is None or "nebu" in commands or any(file.parts[0] == "nebulous" for file in other.files)


def config(known: contexts.Contexts) -> Iterator[Finding]:
    """The file of contexts."""
    if not known.path.exists():
        yield Finding(WARNING, "config", f"{known.path} does not exist", "`nebu serve` or `nebu login` makes it")
        return
    mode = stat.S_IMODE(known.path.stat().st_mode)
    if mode & 0o077:
        yield Finding(BAD, "config", f"{known.path} can be read by others (mode {mode:o})", f"chmod 600 {known.path}")
    else:
        yield Finding(GOOD, "config", f"{known.path}, context {known.active().name!r}")


def server(health: Json, address: str) -> Iterator[Finding]:
    """The API, and what it stands on."""
    version = str(health.get("version"))
    yield Finding(GOOD, "server", f"{address}, version {version}")
    if version != __version__:
        yield Finding(WARNING, "version", f"the client is {__version__}", "bring both to the same version")
    for part in ("temporal", "redis"):
        if health.get(part) not in (None, "ok"):
            yield Finding(BAD, part, str(health[part]), "restart the server, and look at its logs")


def token(me: Json, secret: str | None) -> Finding:
    """Who we are, and until when."""
    until = expiry(secret or "")
    who = f"{me.get('handle')} of {me.get('organization')}"
    if until is None:
        return Finding(GOOD, "token", who)
    left = until - time.time()
    state = WARNING if left < 86_400 else GOOD
    return Finding(
        state, "token", f"{who}, for another {durations.render(left)}", "nebu login" if state == WARNING else None
    )


def expiry(secret: str) -> float | None:
    """When a token ends, as it says itself (unix seconds); None when it does not say. Its signature is the server's."""
    try:
        payload = secret.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])
    except (IndexError, ValueError, KeyError, TypeError):
        return None


def platforms(lookup: Lookup) -> Iterator[Finding]:
    """Where containers could run; one that is not configured is no fault."""
    rows: list[Json] = lookup.api.read("/v1/platforms")["platforms"]
    if not any(row["usable"] for row in rows):
        yield Finding(BAD, "platforms", "none can be used, so nothing can run", "see below; or start `nebu worker`")
    for row in rows:
        name = f"{row['platform']}{' (simulated)' if row.get('simulated') else ''}"
        if row.get("alarm"):
            yield Finding(BAD, name, str(row["alarm"]))
        elif row["usable"]:
            yield Finding(GOOD, name, str(row.get("detail") or row.get("account") or ""))
        else:
            state = WARNING  # no machine has them all; that none can be used is said above
            yield Finding(state, name, str(row.get("reason") or "not usable"), row.get("hint"))


def told_admins(lookup: Lookup) -> Json | None:
    """What only the server's admin is told; None for anybody else."""
    try:
        return lookup.api.read("/v1/doctor")
    except (Forbidden, NotFound):
        return None


def accounts(diagnosis: Json | None) -> Iterator[Finding]:
    """What may be done in the accounts of clouds: permissions, quotas, images."""
    looked: list[Json] = (diagnosis or {}).get("accounts") or []
    for each in looked:
        name = str(each["account"])
        if each.get("problem"):
            yield Finding(BAD, name, str(each["problem"]), each.get("hint"))
        checks: list[Json] = each["checks"]
        for check in checks:
            state = GOOD if check["ok"] else BAD
            yield Finding(state, name, f"{check['subject']}: {check['text']}", check.get("advice") or None)


def archive(diagnosis: Json | None) -> Iterator[Finding]:
    """Where logs of finished containers are."""
    engine: Json = (diagnosis or {}).get("engine") or {}
    about: Json | None = engine.get("archive")
    if about and about["status"] == "ok":
        yield Finding(GOOD, "archive", str(about["place"]))
    elif about:
        yield Finding(BAD, "archive", str(about["status"]), about.get("hint"))


def left_behind(diagnosis: Json | None) -> Iterator[Finding]:
    """What is rented and belongs to nobody here."""
    if diagnosis is None:
        return
    orphans: list[Json] = diagnosis.get("orphans") or []
    if not orphans:
        yield Finding(GOOD, "orphans", "none: everything rented belongs to something")
    for each in orphans:
        if each.get("foreign"):
            advice = "another install rented it: never touched from here"
        else:
            advice = "the sweep destroys it once it was seen twice"
        yield Finding(WARNING, "orphan", f"{each.get('orphan')} on {each.get('account')}", advice)
