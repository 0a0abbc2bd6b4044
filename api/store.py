"""Resources as Temporal holds them: start, create under a name that exists, read, list, signal.

The API decides nothing: what a second POST means is answered by the resource's own workflow (SEMANTICS.md, rule
9 of the engine). Only what cannot be wrong is answered without asking it, which also works with no worker alive.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError

from api.keys import Reused
from api.lists import Lists, read_row
from api.problems import NO_WORKER, translated
from nebulous import ids, temporal
from nebulous.errors import Conflict, NotFound, Unavailable
from nebulous.ids import Address
from nebulous.models import kinds
from nebulous.models.changes import Wanted, unlike
from nebulous.models.containers import FINAL
from nebulous.models.resources import Metadata, Row

log = logging.getLogger(__name__)

ANSWER_TIMEOUT = timedelta(seconds=5)  # for what a worker has to answer
NEXT_LIFE_S = 5.0  # a new life begins in milliseconds once the old one is over
POLL_S = 0.05
TRIES = 3
LIST_AT_MOST = 1000  # Temporal's largest page
LIST_TTL_S = 0.5
LISTS_KEPT = 256
SIGNATURE_BYTES = 12
VISIBILITY_LAG_S = 0.2  # a list read this soon after a write may miss it (measured: 2-50 ms)


@dataclass(frozen=True)
class New:
    """A resource to be."""

    address: Address
    workflow: str  # type: Container, Secret, …
    metadata: Metadata
    spec: dict[str, Any]
    shown_spec: dict[str, Any]  # as the memo has it
    status: dict[str, Any]
    steady: frozenset[str]  # statuses in which a deletion would show at once
    summary: str
    queue: str = ""
    key: str = ""  # Idempotency-Key of the request

    @property
    def row(self) -> Row:
        """How it looks at its start."""
        return Row(metadata=self.metadata, spec=self.shown_spec, status=self.status)


@dataclass(frozen=True)
class Created:
    """What creating came to: `new` begins, `same` was there just so, `next` begins once the name is free."""

    row: Row
    outcome: Literal["new", "same", "next"]


@dataclass(frozen=True)
class Found:
    """A workflow as `describe()` gives it."""

    row: Row
    open: bool
    fresh: bool  # just started, nothing was sent to it since
    idle: bool  # nothing was sent to it that it has not looked at yet

    def settled(self, steady: frozenset[str]) -> bool:
        """True when nothing can be under way that the row does not show yet, a deletion above all."""
        waits = self.fresh or (self.idle and self.row.status.get("status") in steady)
        return waits and self.row.metadata.deleted_at is None


@dataclass
class Store:
    """All that the API says to Temporal."""

    client: Client
    lists: Lists
    _install: str | None = None

    async def install(self) -> str:
        """The id of this install, which a worker makes once.

        Raises:
            Unavailable: No worker has ever run here.
        """
        if self._install is None:
            try:
                with translated("the install"):
                    description = await self._describe(ids.INSTALL_WORKFLOW)
                    self._install = str(await description.memo_value("install"))
            except (NotFound, KeyError) as error:
                raise Unavailable("no worker has run here yet", NO_WORKER) from error
        return self._install

    # --- reading --------------------------------------------------------------------------------------

    async def look(self, address: Address) -> Found | None:
        """What is known under an address, also when it is closed; None when nothing ever was."""
        try:
            with translated(named(address)):
                description = await self._describe(str(address))
        except NotFound:
            return None
        row = await read_row(description, address)
        if said := await temporal.progress(description):
            row.status["message"] = said  # of a transfer; it is in no memo, for it changes each second
        return Found(
            row=row,
            open=description.status is WorkflowExecutionStatus.RUNNING,
            fresh=description.history_length <= FRESH_EVENTS,
            idle=not description.raw_description.HasField("pending_workflow_task"),
        )

    async def get(self, address: Address) -> Row:
        """The resource at an address.

        Raises:
            NotFound: There is none (any more).
        """
        found = await self.look(address)
        if found is None or not found.open:
            raise NotFound(
                f"{named(address)} does not exist",
                f"see what does: nebu get {address.kind}s -n {address.namespace}",
            )
        return found.row

    async def find(self, kind: str, life: str, organizations: Sequence[str] | None) -> Row:
        """The resource with this id; visibility may be some milliseconds behind.

        Raises:
            NotFound: None of these organizations has it.
        """
        row = await self.lists.find(kind, life, organizations)
        current = await self.get(Address(kind, row.metadata.owner, row.metadata.namespace, row.metadata.name))
        if current.metadata.id != life:
            raise NotFound(f"{kind} {life!r} is over; its name has another by now")
        return current

    async def history(self, address: Address) -> dict[str, Any]:
        """Events, and the attempts table, from the workflow itself.

        Raises:
            Unavailable: No worker answers.
        """
        with translated(named(address)):
            return await self.client.get_workflow_handle(str(address)).query(
                "history", result_type=dict[str, Any], rpc_timeout=ANSWER_TIMEOUT
            )

    async def sealed(self, address: Address) -> str:
        """The encrypted value of a secret.

        Raises:
            Unavailable: No worker answers.
        """
        with translated(named(address)):
            return await self.client.get_workflow_handle(str(address)).query(
                "sealed", result_type=str, rpc_timeout=ANSWER_TIMEOUT
            )

    async def _describe(self, workflow_id: str) -> WorkflowExecutionDescription:
        return await self.client.get_workflow_handle(workflow_id).describe(rpc_timeout=temporal.RPC_TIMEOUT)

    # --- writing --------------------------------------------------------------------------------------

    async def signal(self, address: Address, word: str, life: str, version: str = "") -> None:
        """Tell a resource what is wanted; durable, also with no worker alive. `version` is what the teller has seen.

        Raises:
            NotFound: It is gone.
        """
        request = {"id": life, "version": version} if version else {"id": life}
        with translated(named(address)):
            await self.client.get_workflow_handle(str(address)).signal(word, request, rpc_timeout=temporal.RPC_TIMEOUT)
        self.lists.wrote(address.organization)

    async def create(self, new: New, resource_version: str | None = None) -> Created:
        """Create it, or meet what is there.

        Raises:
            Conflict: Another spec lives under the name. Unavailable: Temporal or the worker does not answer.
        """
        for _ in range(TRIES):
            found = await self.look(new.address)
            if found and found.row.metadata.id == new.metadata.id:
                return Created(made_by(new, found.row), "new")  # what it made, whatever became of it
            if found and found.open:
                check_version(found.row, resource_version)
                met = await self._meet(found, new)
                if met:
                    return met
            elif await self.start(new):
                return Created(new.row, "new")
        raise Conflict(f"{named(new.address)} is being changed by others all the time", "try again")

    async def foresee(self, new: New, resource_version: str | None = None) -> Literal["new", "same", "next"]:
        """What `create` would come to; nothing is started or asked, so it is also said with no worker alive.

        Raises:
            Conflict: As `create` would.
        """
        found = await self.look(new.address)
        if found is None or not found.open:
            return "new"
        row = found.row
        check_version(row, resource_version)
        status = str(row.status.get("status"))
        if row.metadata.deleted_at is not None or status in FINAL:
            return "next" if row.metadata.deleted_at is not None or row.rentals else "new"
        other = unlike(kinds.find(new.address.kind).model, wanted(row), wanted(new.row))
        if not other:
            return "same"
        raise _taken(new, f"it exists with {other} and is {status}")

    async def start(self, new: New) -> bool:
        """Begin the first life under a name; False when somebody else just did."""
        try:
            with translated(named(new.address)):
                await self.client.start_workflow(
                    new.workflow,
                    {
                        "spec": new.spec,
                        "metadata": new.metadata.model_dump(),
                        "install": await self.install(),
                    },
                    id=str(new.address),
                    task_queue=ids.TASK_QUEUE,
                    id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                    memo=new.row.model_dump(mode="json"),
                    search_attributes=temporal.search_attributes(
                        new.address,
                        new.metadata.id,
                        str(new.status["status"]),
                        new.metadata.labels,
                        queue=new.queue,
                        owner_ref=(new.metadata.owner_ref or "").lower(),
                    ),
                    static_summary=new.summary,
                    rpc_timeout=temporal.RPC_TIMEOUT,
                )
        except WorkflowAlreadyStartedError:
            return False
        self.lists.wrote(new.address.organization)
        return True

    async def _meet(self, found: Found, new: New) -> Created | None:
        """What creating means while something has the name; None when that closed meanwhile."""
        row = found.row
        kept = {each: value for each in ("labels", "owner_ref") if (value := getattr(new.metadata, each))}
        unchanged = row.spec == new.shown_spec and kept.items() <= row.metadata.model_dump().items()
        if unchanged and found.settled(new.steady):
            return Created(row, "same")
        decision = await self._ask(new)
        if decision is None:
            return None
        self.lists.wrote(new.address.organization)
        outcome, life = decision.get("outcome"), str(decision.get("id"))
        if outcome == "reused":
            raise Reused(new.key, named(new.address))
        if outcome == "past":
            raise Conflict(f"{named(new.address)}: {decision.get('message')}", "send the request under a new key")
        if outcome == "conflict":
            raise _taken(new, str(decision.get("message") or "it exists with another spec"))
        if outcome == "next":
            return Created(announced(new, life), "next")
        begun = await self.await_life(new.address, life)
        if begun is None:
            return Created(announced(new, life), "next")
        return Created(begun, "same" if outcome == "same" else "new")

    async def _ask(self, new: New) -> dict[str, Any] | None:
        request = {"spec": new.spec, "metadata": new.metadata.model_dump()}
        try:
            with translated(named(new.address)):
                return await self.update(new.address, "create", request)
        except NotFound:
            return None
        except Unavailable as error:
            if closed_meanwhile(error.__cause__):
                return None
            raise

    async def update(self, address: Address, name: str, request: dict[str, Any]) -> dict[str, Any]:
        """What a workflow answers to an update; it raises what Temporal's client does."""
        return await self.client.get_workflow_handle(str(address)).execute_update(
            name, request, result_type=dict[str, Any], rpc_timeout=ANSWER_TIMEOUT
        )

    async def await_life(self, address: Address, life: str) -> Row | None:
        """The row of a life that is, or is about to be; None when it does not come in time."""
        deadline = time.monotonic() + NEXT_LIFE_S
        while time.monotonic() < deadline:
            found = await self.look(address)
            if found and found.row.metadata.id == life:
                return found.row
            await asyncio.sleep(POLL_S)
        return None


READ_AGAIN = "read it again, then decide"
FRESH_EVENTS = 2  # started, first task scheduled: nothing else has been sent


def named(address: Address) -> str:
    """How messages call a resource: `container 'foo' in namespace 'default' of 'local'`."""
    return f"{address.kind} {address.name!r} in namespace {address.namespace!r} of {address.organization!r}"


def _taken(new: New, why: str) -> Conflict:
    return Conflict(
        f"{named(new.address)}: {why}",
        f"change it with `nebu apply`, delete it first (nebu delete {new.address.kind} {new.metadata.name}), "
        "or choose another name",
    )


def made_by(new: New, row: Row) -> Row:
    """What the very same request made before.

    Raises:
        Reused: It was another request, under the same key.
    """
    if row.metadata.request not in ("", new.metadata.request):
        raise Reused(new.key, named(new.address))
    return row


def check_version(row: Row, expected: str | None) -> None:
    """Refuse a write whose writer has not seen the latest change.

    Raises:
        Conflict: It says what the version is now.
    """
    if expected is not None and row.metadata.outdates(expected):
        raise Conflict(row.metadata.outdated(expected), READ_AGAIN)


def wanted(row: Row) -> Wanted:
    """A resource as it is compared."""
    return Wanted(row.spec, row.metadata.labels, row.metadata.owner_ref)


def announced(new: New, life: str) -> Row:
    """The row of a life that begins once the one before is proven gone."""
    metadata = new.metadata.model_copy(update={"id": life})
    message = "begins once what had this name before is proven gone"
    status = {**new.status, "reason": "NameInUse", "message": message}
    return Row(metadata=metadata, spec=new.shown_spec, status=status)


def closed_meanwhile(error: BaseException | None) -> bool:
    """True for the ways in which an update says that its workflow ended before it could answer."""
    if isinstance(error, RPCError):
        return False
    cause = getattr(error, "cause", None)
    return getattr(cause, "type", "") == "AcceptedUpdateCompletedWorkflow"
