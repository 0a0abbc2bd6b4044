"""What changes in Temporal, for whoever watches: one poll of visibility for all watchers of this server.

Visibility is behind by some milliseconds, and a change may become visible after a later one. So each look reads a
margin of time again, and what was seen before is dropped unread. Nothing is polled while nobody watches.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from temporalio.client import Client, WorkflowExecution, WorkflowExecutionStatus

from api.lists import read_row
from api.problems import translated
from nebulous import temporal
from nebulous.errors import NebulousError
from nebulous.ids import Address
from nebulous.models.resources import Row

log = logging.getLogger(__name__)

PAUSE_S = 1.0  # between two looks while nothing happens
QUICK_PAUSE_S = 0.4  # while something does: changes come in groups
QUICK_FOR_S = 5.0
#: A change carries the time at which its workflow task began, which may take 10 s; visibility adds milliseconds.
MARGIN = timedelta(seconds=15)
#: How far this machine's clock may be ahead of Temporal's, until the first change tells Temporal's time.
CLOCKS_DIFFER = timedelta(seconds=60)
WAITING_AT_MOST = 1000  # changes that a watcher has not taken yet
ENDINGS_KEPT = 1000
PAGE = 1000  # Temporal's largest

_OPEN = WorkflowExecutionStatus.RUNNING
_GOES_ON = WorkflowExecutionStatus.CONTINUED_AS_NEW  # closed, and the next run has the name


@dataclass(frozen=True)
class Sight:
    """One run of a resource's workflow, as visibility showed it at one moment."""

    address: Address
    row: Row
    began: datetime  # of the run: of two runs under one name the later one counts
    at: datetime  # of the change
    run: str
    open: bool
    over: bool  # closed, and not to go on

    @property
    def life(self) -> str:
        """The id of the life that was seen."""
        return self.row.metadata.id

    @property
    def version(self) -> int:
        """Grows with every change of a life."""
        return version_of(self.row)


def version_of(row: Row) -> int:
    """A row's resource_version as the number that it is."""
    text = row.metadata.resource_version
    return int(text) if text.isdecimal() else 0


@dataclass(eq=False)
class Watcher:
    """Somebody who is told of changes; whoever does not take them in time is let go of."""

    kind: str
    organization: str
    dropped: bool = False
    ended: bool = False  # the server stops
    read_to: datetime | None = None  # everything until then has been told
    _waiting: list[Sight] = field(default_factory=list[Sight])
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, sights: Iterable[Sight], read_to: datetime) -> None:
        """Put what concerns this watcher where it is taken from."""
        self.read_to = read_to
        mine = [each for each in sights if self._concerns(each)]
        if len(self._waiting) + len(mine) > WAITING_AT_MOST:
            self.dropped = True
            self._waiting.clear()
        elif not self.dropped:
            self._waiting += mine
        if mine:
            self._news.set()

    def end(self) -> None:
        """Let it know that there will be nothing more."""
        self.ended = True
        self._news.set()

    async def take(self, limit_s: float) -> tuple[list[Sight], datetime | None]:
        """What has come, oldest first, and until when that is all; waits for it, but no longer than the limit."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._news.wait()
        self._news.clear()
        taken, self._waiting = self._waiting, []
        return taken, self.read_to

    def _concerns(self, sight: Sight) -> bool:
        where = sight.address
        return where.kind == self.kind and where.organization.lower() == self.organization.lower()


class Changes:
    """The one poll of a server, and those whom it feeds."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._watchers: set[Watcher] = set()
        self._polling: asyncio.Task[None] | None = None
        self._seen: dict[str, tuple[datetime, WorkflowExecutionStatus | None]] = {}  # run -> its latest change
        self._endings: dict[str, Row] = {}  # life -> its last row, when a later life has the name
        self._ahead = time.time() - time.monotonic() - CLOCKS_DIFFER.total_seconds()
        self._read_to: datetime | None = None
        self._quick_until = 0.0
        self._poke = asyncio.Event()

    def __len__(self) -> int:
        return len(self._watchers)

    @contextlib.asynccontextmanager
    async def watcher(self, kind: str, organization: str) -> AsyncGenerator[Watcher]:
        """Be told of every change from now on, until the block ends; the first one starts the poll."""
        made = Watcher(kind, organization)
        self._watchers.add(made)
        self._poke.set()
        if self._polling is None or self._polling.done():
            self._read_to = None
            self._seen.clear()
            self._polling = asyncio.create_task(self._poll())
        try:
            yield made
        finally:
            self._watchers.discard(made)
            if not self._watchers:
                self._polling.cancel()
                self._polling = None

    def close(self) -> None:
        """Tell every watcher that the server stops."""
        for watcher in self._watchers:
            watcher.end()

    def wrote(self) -> None:
        """Somebody changes something through this server: look sooner."""
        self._quick_until = time.monotonic() + QUICK_FOR_S
        self._poke.set()

    def ending(self, life: str) -> Row | None:
        """The last row of a life that another one has followed, if it was seen."""
        return self._endings.get(life)

    def now(self) -> datetime:
        """The time by Temporal's clock, or somewhat earlier."""
        return datetime.fromtimestamp(time.monotonic() + self._ahead, UTC)

    async def look(self, query: str) -> list[Sight]:
        """Everything that a query finds, in the order of its changes.

        Raises:
            Unavailable: Temporal does not answer.
        """
        return await _sights(await self._executions(query))

    async def _poll(self) -> None:
        while True:
            try:
                await self._poll_once()
            except NebulousError as error:
                log.info("cannot look for changes: %s", error)
            except Exception:
                log.exception("looking for changes failed; trying again")
            await self._rest()

    async def _rest(self) -> None:
        """Pause; a new watcher or a write makes it short, and nothing makes it none."""
        quick = time.monotonic() < self._quick_until
        await asyncio.sleep(QUICK_PAUSE_S)
        if not quick:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PAUSE_S - QUICK_PAUSE_S):
                    await self._poke.wait()
        self._poke.clear()

    async def _poll_once(self) -> None:
        began = self.now()
        since = (self._read_to or began) - MARGIN
        query = temporal.changed_query(sorted({watcher.kind for watcher in self._watchers}), since)
        found = {each.run_id: each for each in await self._executions(query)}
        seen = {run: (_changed_at(each), each.status) for run, each in found.items()}
        sights = await _sights(each for run, each in found.items() if self._seen.get(run) != seen[run])
        for sight in sights:
            self._remember(sight)
        self._seen, self._read_to = seen, began
        for watcher in self._watchers:
            watcher.tell(sights, began)

    def _remember(self, sight: Sight) -> None:
        now = time.monotonic()
        self._ahead = max(self._ahead, sight.at.timestamp() - now)
        self._quick_until = now + QUICK_FOR_S
        if not sight.open:
            self._endings[sight.life] = sight.row
            while len(self._endings) > ENDINGS_KEPT:
                del self._endings[next(iter(self._endings))]

    async def _executions(self, query: str) -> list[WorkflowExecution]:
        pages = self._client.list_workflows(query, page_size=PAGE, rpc_timeout=temporal.RPC_TIMEOUT)
        with translated("what changed"):
            return [execution async for execution in pages]


async def _sights(executions: Iterable[WorkflowExecution]) -> list[Sight]:
    """As they came about; without what is no resource, or has no memo yet and so no life."""
    sights = [await _sight(execution) for execution in executions]
    return sorted((each for each in sights if each and each.life), key=lambda sight: (sight.began, sight.at))


async def _sight(execution: WorkflowExecution) -> Sight | None:
    """None for a workflow that was started under another kind of id."""
    try:
        address = Address.parse(execution.id)
    except ValueError:
        return None
    return Sight(
        address=address,
        row=await read_row(execution, address),
        began=execution.start_time,
        at=_changed_at(execution),
        run=execution.run_id,
        open=execution.status is _OPEN,
        over=execution.status not in (_OPEN, _GOES_ON),
    )


def _changed_at(execution: WorkflowExecution) -> datetime:
    """The latest of its start, its last change and its close."""
    times = (execution.start_time, execution.typed_search_attributes.get(temporal.CHANGED_AT), execution.close_time)
    return max(each for each in times if each)
