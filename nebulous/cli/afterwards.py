"""What `create` and `run` do once a container is there: wait or follow, then, with --rm, delete with proof."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import typer

from nebulous.cli.failures import UsageError
from nebulous.cli.lookup import Lookup
from nebulous.cli.screen import note
from nebulous.client import Created, Json, Place
from nebulous.errors import NebulousError, NotFound
from nebulous.models.kinds import Kind


@dataclass(frozen=True)
class After:
    """What to do once it is created."""

    wait: bool = False
    until: str | None = None
    follow: bool = False
    remove: bool = False

    @property
    def anything(self) -> bool:
        """True when something follows the creation."""
        return self.wait or self.until is not None or self.follow or self.remove

    def check(self) -> None:
        """See whether the flags go together.

        Raises:
            UsageError: They do not; or there is no such status.
        """
        if self.until:
            from nebulous.cli.wait import check

            check(self.until)
        if self.remove and self.until:
            raise UsageError("--rm waits for the end, so --for makes no sense with it", "leave out one of them")
        if self.remove and not (self.wait or self.follow):
            raise UsageError("--rm goes with --wait or --follow", "to delete something now: nebu delete NAME")


def afterwards(lookup: Lookup, kind: Kind, made: Created, after: After) -> int:
    """Do it; return the exit code: the command's own with `follow`.

    Raises:
        NebulousError: With --rm, of a container that somebody else made.
    """
    row = made.resource
    place, life = lookup.place_of(kind, row), row["metadata"]["id"]
    if not after.remove:
        return _watch(lookup, place, row, after, None)
    if made.unchanged:
        raise NebulousError(
            f"{kind.id}/{place.name} was there already, so --rm leaves it alone",
            "give another --name, or leave out --rm to watch what is there",
        )
    farewell = f"stopping and deleting {place.name}, because of --rm; Ctrl-C again leaves that to the server"
    try:
        code = _watch(lookup, place, row, after, farewell)
    except typer.Exit as left:
        code = left.exit_code
    except BrokenPipeError:  # whoever read the output has left
        _remove(lookup, place, life)
        raise
    except NebulousError:
        note(f"{place.name} was not deleted: nebu delete {place.name}{lookup.options(place.namespace or '')}")
        raise
    _remove(lookup, place, life)
    return code


def _watch(lookup: Lookup, place: Place, row: Json, after: After, farewell: str | None) -> int:
    life = row["metadata"]["id"]
    if after.follow:
        from nebulous.cli.logs import follow_log

        return follow_log(lookup, place, life, {}, farewell, whole=True)
    if after.wait or after.until:
        from nebulous.cli.wait import FINISHED, check, wait

        usual = "running" if row.get("restart") == "Always" and not after.remove else FINISHED
        return wait(lookup, place, life, check(after.until or usual), farewell=farewell)
    return 0


def _remove(lookup: Lookup, place: Place, life: str) -> None:
    from nebulous.cli.progress import called, detachable, until_gone

    with detachable(f"the deletion goes on; look with: nebu get {place.plural}") as progress:
        with suppress(NotFound):
            lookup.api.delete(place)
        until_gone(lookup.api, place, life, progress)
    note(f"{called(place)} deleted")
