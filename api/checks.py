"""What can be told before a container is created: catalog, platforms, secrets, fields that nothing acts on yet."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

from activities.platforms import shelf
from activities.platforms.base import Ask
from api.platforms import CONFIGURE, KNOWN
from api.store import Store
from nebulous import catalog, ids
from nebulous.addresses import plainly_private
from nebulous.errors import Conflict
from nebulous.ids import Address
from nebulous.models.base import InvalidDocument, Problem, nearest
from nebulous.models.containers import ContainerSpec
from nebulous.models.platforms import Feature, PlatformReport
from nebulous.settings import CLOUDS

LOOKUPS_AT_ONCE = 16
SEPARATORS_CHECKED = 4  # 80 other spellings


def _given(value: object) -> bool:
    return bool(value)


#: Fields that only simulated platforms take in this release: no real one acts on them, and ignoring is worse than
#: saying so. A field leaves this table with the issue that makes it work.
NOT_YET: dict[str, Callable[[Any], bool]] = {
    "volumes": _given,
    "queue": _given,
    "priority": _given,
    "meters": _given,
}

#: Platforms that tell of an accelerator only while something computes on it: nothing seen is not the same as idle.
UNMEASURED = frozenset({"local"})

#: Fields that a platform can do nothing with, beyond the table above.
NOT_THERE: dict[str, tuple[str, ...]] = {
    "docker": ("disk", "spot"),
    "local": ("resources", "shm_size", "registry", "disk", "spot"),
}


def targets(platform: str | None, reports: Sequence[PlatformReport]) -> list[PlatformReport]:
    """The accounts that a named platform means; none when nothing is named."""
    return [report for report in reports if report.configured and platform in (report.platform, report.account)]


def check_platform(spec: ContainerSpec, reports: Sequence[PlatformReport]) -> None:
    """Refuse a platform that is unknown or not configured, and accelerators that it can never have.

    Raises:
        Rejected: With the variable to set, or who has the accelerator.
    """
    name, meant = spec.platform, targets(spec.platform, reports)
    kind = ids.platform_type(name or "")
    if name is not None and kind not in KNOWN and not meant:
        guess = nearest(name, KNOWN)
        advice = f"did you mean {guess!r}?" if guess else f"choose one of {', '.join(KNOWN)}"
        raise InvalidDocument([Problem(("platform",), f"unknown platform {name!r}; {advice}")])
    simulated = any(report.simulated for report in meant)
    if kind in CLOUDS and not simulated:
        _check_shelf(kind, spec)
    else:
        catalog.check_on(None, spec.accelerators or [])
    if name is not None and not meant:
        problem = Problem(("platform",), f"{name!r} is not configured on this server")
        raise InvalidDocument([problem], CONFIGURE[kind])
    if spec.idle_timeout:
        _check_idle(spec, kind, meant)


def _check_idle(spec: ContainerSpec, kind: str, meant: Sequence[PlatformReport]) -> None:
    """Refuse to end by idleness what nobody can see idle.

    Raises:
        Rejected: It has no accelerators, or the platform does not measure them.
    """
    if not spec.accelerators:
        problem = "only the use of accelerators is measured, and it asks for none"
        raise InvalidDocument([Problem(("idle_timeout",), problem)], "leave it out; `timeout` ends it in any case")
    if kind in UNMEASURED or (meant and not any(Feature.STATS in report.features for report in meant)):
        problem = f"{kind} does not measure how busy accelerators are"
        raise InvalidDocument([Problem(("idle_timeout",), problem)], "leave it out; `timeout` ends it in any case")


def _check_shelf(cloud: str, spec: ContainerSpec) -> None:
    """Refuse what no shape of a cloud can be; regions are left to the cloud itself, which may have new ones.

    Raises:
        Rejected: No such accelerator in that number, not in that market, or not of that size.
    """
    size = spec.resources
    ask = Ask(
        accelerators=spec.accelerators or [],
        spot=bool(spec.spot),
        min_cpu=size and size.min_cpu,
        min_memory=size and size.min_memory,
    )
    shelf.wanted(cloud, ask, [])


def check_fields(spec: ContainerSpec, reports: Sequence[PlatformReport]) -> None:
    """Refuse fields that the platform would ignore.

    Raises:
        Rejected: It names them all.
    """
    meant = targets(spec.platform, reports)
    if meant and all(report.simulated for report in meant):
        return
    where = f"on {spec.platform} in this release" if spec.platform else "on real platforms in this release"
    refused = [name for name, asked in NOT_YET.items() if asked(getattr(spec, name))]
    refused += [name for name in NOT_THERE.get(ids.platform_type(spec.platform or ""), ()) if getattr(spec, name)]
    problems = [Problem((name,), f"`{name}` is not available {where}") for name in refused]
    if problems:
        raise InvalidDocument(problems, "leave it out, or try it with a simulated platform: `platform: sim`")


def check_notify(spec: ContainerSpec, private: bool) -> None:
    """Refuse an address that must not be told; what a name stands for is judged when it is told.

    Raises:
        Rejected: It is not public, and only public ones may be told.
    """
    host = urlsplit(spec.notify or "").hostname
    if host and not private and plainly_private(host):
        problem = Problem(("notify",), f"{host!r} is not public, and this server tells only public addresses")
        raise InvalidDocument([problem], "an operator allows it with NEBU_NOTIFY_PRIVATE=true")


def check_names(spec: ContainerSpec) -> None:
    """Refuse what could not be the name of a queue or a secret.

    Raises:
        Rejected: With what a name looks like.
    """
    problems: list[Problem] = []
    for path, name in [*_secrets(spec), *([(("queue",), spec.queue)] if spec.queue else [])]:
        try:
            ids.check_name(name, str(path[-1]))
        except ValueError as error:
            problems.append(Problem(path, str(error)))
    if problems:
        raise InvalidDocument(problems)


async def check_secrets(
    spec: ContainerSpec, address: Address, store: Store, assumed: frozenset[str] = frozenset()
) -> None:
    """Refuse references to secrets that are neither in the container's namespace nor assumed to be (workflow ids).

    Raises:
        Rejected: It names all that are missing, and says how to create one.
    """
    references = _secrets(spec)
    turn = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def exists(name: str) -> bool:
        async with turn:
            secret = Address("secret", address.organization, address.namespace, name)
            if str(secret) in assumed:
                return True
            found = await store.look(secret)
            return found is not None and found.open

    names = sorted({name for _, name in references})
    there = dict(zip(names, await asyncio.gather(*map(exists, names)), strict=True))
    missing = [(path, name) for path, name in references if not there[name]]
    if missing:
        where = f"in namespace {address.namespace!r}"
        raise InvalidDocument(
            [Problem(path, f"there is no secret {name!r} {where}") for path, name in missing],
            f"create it: nebu create secret {missing[0][1]} -n {address.namespace} --value …",
        )


async def check_clash(address: Address, store: Store) -> None:
    """Refuse a name that DNS could not tell from a living neighbour's: `.` and `_` become `-` there.

    Raises:
        Conflict: It names the neighbour.
    """
    spellings = _spellings(address.name.lower())
    for row in await store.lists.named(address.kind, address, spellings) if spellings else ():
        raise Conflict(
            f"name {address.name!r} is the same as that of {row.metadata.name!r} in DNS and on clouds",
            "`.` and `_` become `-` there: choose a name that differs in more",
        )


def _spellings(name: str) -> list[str]:
    """Other names with the same DNS label; none for names with so many separators that nobody writes two."""
    parts = re.split(r"([._-])", name)
    separators = parts[1::2]
    if not separators or len(separators) > SEPARATORS_CHECKED:
        return []
    every = itertools.product("-._", repeat=len(separators))
    words = parts[::2]
    names = ("".join(map("".join, zip(words, (*choice, ""), strict=True))) for choice in every)
    return [other for other in names if other != name]


def _secrets(spec: ContainerSpec) -> list[tuple[tuple[str | int, ...], str]]:
    """Every secret that a spec names, and where it does."""
    found: list[tuple[tuple[str | int, ...], str | None]] = [
        (("env_vars", position, "secret_name"), variable.secret_name)
        for position, variable in enumerate(spec.env_vars or [])
    ]
    found += [(("volumes", position, "secret"), each.secret) for position, each in enumerate(spec.volumes or [])]
    found += [
        (("ssh_keys", position, "public_key_secret"), each.public_key_secret)
        for position, each in enumerate(spec.ssh_keys or [])
    ]
    if spec.registry:
        found.append((("registry", "password_secret"), spec.registry.password_secret))
    return [(path, name) for path, name in found if name]
