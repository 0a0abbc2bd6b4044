"""What people call accelerators: `L40s`, `A100`, `a100-80gb`, `NVIDIA GeForce RTX 4090`, `A100_SXM`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from nebulous.errors import Rejected

VENDOR_WORDS = frozenset({"NVIDIA", "TESLA", "GEFORCE", "AMD", "INSTINCT"})
MEMORY = re.compile(r"(?<=[\s_-])(\d+)\s?GI?B(?=$|[\s_-])", re.IGNORECASE)
MEMORY_TOLERANCE = 0.07  # vendors mix GB and GiB, and some subtract what error correction takes
FORMS = ("SXM", "PCIE", "NVL")


class Names:
    """Every spelling of every accelerator, and which members a family has."""

    def __init__(
        self,
        accelerators: dict[str, dict[str, Any]],
        families: dict[str, list[str]],
        preference: dict[str, dict[str, list[str]]],
    ) -> None:
        self._memory = {name: float(row["memory_gib"]) for name, row in accelerators.items()}
        self._families = {folded(name): members for name, members in families.items()}
        self._preference = {folded(name): places for name, places in preference.items()}
        self._aliases = {name: list(row.get("aliases", [])) for name, row in accelerators.items()}
        self._spellings = {
            folded(spelling): name for name, aliases in self._aliases.items() for spelling in (name, *aliases)
        }
        self._ids = {folded(spelling): name for name, row in accelerators.items() for spelling in _ids(row)}
        self._shown = {folded(name): name for name in (*families, *accelerators)}

    @property
    def spoken(self) -> list[str]:
        """Every family and every member, as they are written."""
        return sorted(self._shown.values())

    def also(self, name: str) -> list[str]:
        """List other names of a member: its aliases, and its family if that has more members."""
        family = [self._shown[key] for key, members in self._families.items() if name in members]
        return [*self._aliases[name], *(other for other in family if other != name)]

    def lookup(self, name: str, platform: str | None = None) -> list[str]:
        """List the members that a name means, most wanted first.

        Raises:
            Rejected: None; the hint names the nearest.
        """
        wanted, known = folded(name), self._meant(name)
        if not known:
            raise Rejected(f"unknown accelerator {name!r}", self._advice(wanted))
        members = known if self._exactly(wanted) else self._with_memory(name, known)
        if not members:
            sizes = (f"{member} ({self._memory[member]:g} GiB)" for member in known)
            raise Rejected(f"unknown accelerator {name!r}: none has that memory", f"known are {_either(sizes)}")
        return self._preferred(wanted, members, platform)

    def _meant(self, name: str) -> list[str]:
        """What the name means; without its memory, if it has one and means nothing with it."""
        bare = folded(MEMORY.sub("", name))
        wanted = folded(name)
        return self._exactly(wanted) or self._exactly(bare) or self._with_form(bare) or self._by_id(wanted)

    def _exactly(self, wanted: str) -> list[str]:
        if wanted in self._families:
            return self._families[wanted]
        return [self._spellings[wanted]] if wanted in self._spellings else []

    def _with_form(self, wanted: str) -> list[str]:
        """`A100_SXM`: the members of the family in that form."""
        for form in FORMS:
            family = self._families.get(wanted.removesuffix(form), []) if wanted.endswith(form) else []
            if family:
                return [member for member in family if form in folded(member)]
        return []

    def _by_id(self, wanted: str) -> list[str]:
        return [self._ids[wanted]] if wanted in self._ids else []

    def _with_memory(self, name: str, members: list[str]) -> list[str]:
        """`A100-80GB`: those of the members that have it."""
        match = MEMORY.search(name)
        if not match:
            return members
        gb = float(match[1])
        return [member for member in members if abs(self._memory[member] - gb) <= MEMORY_TOLERANCE * gb]

    def _preferred(self, wanted: str, members: list[str], platform: str | None) -> list[str]:
        """Members in the order usual on that platform, the others behind them."""
        order: list[str] = []
        for family, places in self._preference.items():
            if wanted.startswith(family):
                order = places.get(platform or "", [])
        return sorted(members, key=lambda member: order.index(member) if member in order else len(order))

    def _advice(self, wanted: str) -> str:
        near = get_close_matches(wanted, self._shown, n=3, cutoff=0.6)
        if near:
            return f"did you mean {_either(self._shown[spelling] for spelling in near)}?"
        return "list them with: nebu get accelerators"


def folded(name: str) -> str:
    """Fold a spelling: upper case, without vendor words, spaces, `-` and `_`."""
    words = re.split(r"[\s_-]+", name.strip().upper())
    return "".join(word for word in words if word not in VENDOR_WORDS)


def _either(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def _ids(row: dict[str, Any]) -> Iterable[str]:
    for given in row.get("ids", {}).values():
        yield from [given] if isinstance(given, str) else given
