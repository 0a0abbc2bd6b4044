"""What follows an outcome: keeping a failed machine for a while, the logs, and whom it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio import workflow

from activities.containers import ArchiveRequest, ContainerActivities
from activities.failures import Failure
from activities.notices import NoticeActivities, NoticeRequest
from activities.pace import Pace
from nebulous.ids import TASK_QUEUE, platform_queue
from nebulous.models.platforms import Feature
from workflows.entity_state import moment
from workflows.placement import ContainerPlacement

ARCHIVE_BUDGET = timedelta(minutes=10)
#: A name is not held longer than this for a receiver that does not answer.
LAST_NOTICE = timedelta(seconds=10)


class ContainerOutcome(ContainerPlacement):
    """What a container does beside and behind its outcome."""

    async def keeping(self) -> str:
        """Keep the machine of a failed command, its logs safe, until the time is over or somebody wants it gone."""
        state = self.state
        await self.archive()
        until = state.keep_until
        due = moment(until)
        summary = "the failed machine is kept until then"
        await self.wait(lambda: self._let_go() or state.keep_until != until, due, summary=summary)
        if not self._let_go() and (state.keep_until != until or (due and workflow.now() < due)):
            return "keeping"
        state.keep_until = None
        state.condition("Released", "False", "Releasing", "the instance is being given back")
        return "releasing"

    def _let_go(self) -> bool:
        """True when nobody may keep it any longer: stop takes `keep_until` away, the others speak for themselves."""
        state = self.state
        return state.keep_until is None or state.deleting or state.start_asked or bool(state.next)

    async def close(self) -> str:
        """Give what is still to be told a last moment, then the name; unless somebody wants it to stay after all."""
        state = self.state
        if state.notices:
            until = workflow.now() + LAST_NOTICE
            told = await self.wait(lambda: not state.notices, until, summary="for the last notices")
            if not told and workflow.now() < until:
                return "close"  # to continue as new, and tell them there
        following = await super().close()
        due = moment(state.expires_at)
        stays = state.start_asked or (due is not None and workflow.now() < due)
        return "finished" if stays and not (state.deleting or state.next) else following

    def tell_of_ports(self) -> None:
        """Where the command listens on the host itself, nobody opens or closes its ports."""
        state = self.state
        if Feature.NO_IMAGE in self.offer().features and any(port.public for port in state.container.ports or []):
            words = "nothing is opened for it: who reaches the command depends on where it listens and on the firewall"
            state.condition("PortsPublic", "Unknown", "HostNetwork", words)

    @asynccontextmanager
    async def telling(self) -> AsyncGenerator[None]:
        """Send notices beside the block: neither outcome nor release waits for a receiver."""
        sender = asyncio.create_task(self._tell())
        try:
            yield
        finally:
            sender.cancel()

    async def _tell(self) -> None:
        state = self.state
        while True:
            await workflow.wait_condition(lambda: bool(state.notices))
            notice = state.notices[0]
            told = await self.act(
                NoticeActivities.notify,
                NoticeRequest(url=str(state.spec.get("notify") or ""), key=notice.key, body=notice.body),
                Pace.telling(),
                summary="tell the address in notify",
                queue=TASK_QUEUE,
            )
            state.notices = [other for other in state.notices if other.key != notice.key]
            if isinstance(told, Failure):
                self.record("NotifyFailed", f"{notice.body['event']}: {told}", warning=True)

    async def archive(self) -> None:
        """Keep the logs before the instance goes; failing to is said, and never holds a machine for ever."""
        state = self.state
        if state.instance is None or state.archived or Feature.LOGS not in self.offer().features:
            return
        kept = await self.act(
            ContainerActivities.archive_logs,
            ArchiveRequest(metadata=state.metadata, instance=state.instance, attempt=state.status.attempt),
            Pace.ending(ARCHIVE_BUDGET),
            summary="archive logs",
            queue=platform_queue(state.instance.account),
        )
        state.archived = True
        if isinstance(kept, Failure):
            state.condition("LogsArchived", "False", kept.type, str(kept))
            self.record("LogsNotArchived", str(kept), warning=True)
