"""The one contract test: every platform passes it. See `activities/platforms/base.py`.

A platform's test module subclasses `PlatformContract`, so that pytest collects it there and nowhere else:

    class TestDockerContract(PlatformContract):
        spec = {"image": "busybox"}                      # what every launch here has

        @pytest.fixture
        async def platform(self, engine): ...            # yield one, close it after

        @pytest.fixture
        def reopen(self, engine):                        # () -> another Platform of the same account
            return lambda: DockerPlatform(...)

The builders of `Renting` (`exits`, `stays`, `says_and_exits`, …) are shell commands here; a platform that only
pretends overrides them.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cached_property
from typing import Any, ClassVar

import pytest

from activities.platforms.base import Ask, Command, Measures, Platform, Watches
from nebulous import ids
from nebulous.errors import Conflict, NotFound, NotReady, OutOfCapacity, Rejected
from nebulous.models.containers import Launch
from nebulous.models.platforms import Feature, Instance, InstanceState, Offer, Usage
from nebulous.models.resources import Metadata
from tests.activities.platforms.contract_exec import ExecContract
from tests.activities.platforms.contract_files import FilesContract

INSTALL = "testinstall2"
OVER = frozenset({InstanceState.EXITED, InstanceState.PREEMPTED})

Reopen = Callable[[], Platform]


async def until(check: Callable[[], Awaitable[Any]], patience_s: float = 20.0) -> Any:
    """Wait for the effect: what `check` returns as soon as it is true."""
    limit = time.monotonic() + patience_s
    while not (seen := await check()):
        assert time.monotonic() < limit, f"did not happen within {patience_s:g} s: {check}"
        await asyncio.sleep(0.02)
    return seen


async def text_of(platform: Platform, instance: Instance, **options: Any) -> str:
    return b"".join([chunk async for chunk in platform.logs(instance, **options)]).decode()


class Renting:
    """What a test of a platform says and waits for; a platform's own tests use it without the contract's."""

    #: Fields of the spec that every launch on this platform has.
    spec: ClassVar[dict[str, Any]] = {}
    #: False where commands are only pretended: their environment and programs cannot be looked at.
    runs_commands = True
    patience_s = 20.0

    @cached_property
    def progress(self) -> list[str]:
        """What `start` said."""
        return []

    # --- what the tests are told in ---------------------------------------------------------------

    def launch(
        self,
        command: str | list[str] | None,
        *,
        key: str | None = None,
        labels: dict[str, str] | None = None,
        **spec: Any,
    ) -> Launch:
        """A launch of a command, under a fresh life and key."""
        life = ids.new_id()
        return Launch(
            metadata=Metadata(name=f"c-{life}", namespace="default", owner="local", id=life, labels=labels),
            spec={**self.spec, "command": command, **spec},
            key=key or f"nebu-{ids.new_id()}",
            install=INSTALL,
            workflow=f"container/local/default/c-{life}",
            platform="",
        )

    def command(self, launch: Launch) -> Command:
        """What the worker would resolve for the launch."""
        variables = launch.container.env_vars or []
        return Command(env={**launch.own_env, **{each.key: each.value or "" for each in variables}})

    async def offer(self, platform: Platform) -> Offer:
        return (await platform.offers(Ask()))[0]

    async def rent(self, platform: Platform, launch: Launch) -> Instance:
        """Rent, and give back when the test ends."""
        self.rented.append(launch.key)
        command = self.command(launch)
        await platform.prepare(launch, command, lambda _: None)
        (instance,) = await platform.create(launch, await self.offer(platform), command)
        return instance

    async def start(self, platform: Platform, instance: Instance, launch: Launch) -> Instance:
        """Start as the worker does: again, as long as the instance is on its way."""

        async def started() -> Instance | None:
            try:
                return await platform.start(instance, launch, self.command(launch), self.progress.append)
            except NotReady:
                return None

        return await until(started, self.patience_s)

    async def run(self, platform: Platform, launch: Launch) -> Instance:
        return await self.start(platform, await self.rent(platform, launch), launch)

    async def found(self, platform: Platform, key: str) -> Instance:
        (instance,) = await platform.find(key)
        return instance

    async def over(self, platform: Platform, key: str, run: str | None = None) -> Instance:
        """Wait until the command has ended (the given run of it, or the latest)."""

        async def ended() -> Instance | None:
            instance = await self.found(platform, key)
            return instance if instance.state in OVER and run in (None, instance.run) else None

        return await until(ended, self.patience_s)

    async def gone(self, platform: Platform, key: str) -> None:
        """Delete until the platform proves absence, as the release does."""

        async def absent() -> bool:
            await platform.delete(key)
            return not await platform.find(key)

        await until(absent, self.patience_s)

    @pytest.fixture(autouse=True)
    async def _give_back(self, platform: Platform):
        self.rented: list[str] = []
        yield
        for key in self.rented:
            await self.gone(platform, key)

    # --- commands; a platform that pretends overrides these ----------------------------------------

    #: Seconds between SIGTERM and SIGKILL in these tests; `stays` needs none of it.
    grace_s = 5.0

    def exits(self, code: int) -> Launch:
        return self.launch(f"exit {code}")

    def stays(self) -> Launch:
        return self.launch("exec sleep 300")

    def says_and_exits(self, text: str, code: int) -> Launch:
        return self.launch(f"printf '%s\\n' '{text}'; exit {code}")

    def says_and_stays(self, text: str) -> Launch:
        """`trap`: as process 1 of a container a shell would ignore SIGTERM."""
        return self.launch(f"trap 'exit 9' TERM; printf '%s\\n' '{text}'; while :; do sleep 0.05; done")

    async def said(self, platform: Platform, instance: Instance, text: str) -> None:
        async def written() -> bool:
            return text in await text_of(platform, instance)

        await until(written, self.patience_s)

    async def ready(self, platform: Platform, key: str) -> None:
        async def ready() -> bool:
            return (await self.found(platform, key)).state == InstanceState.READY

        await until(ready, self.patience_s)


class PlatformContract(ExecContract, FilesContract, Renting):
    """What every platform promises; further commands and files where it has the feature."""

    # --- account and offers -----------------------------------------------------------------------

    async def test_the_account_has_a_name_and_the_same_identity_for_every_client(
        self, platform: Platform, reopen: Reopen
    ):
        other = reopen()
        assert platform.account.startswith(f"{platform.type}:")
        assert other.account == platform.account
        assert await platform.identity() == await other.identity() != ""
        await other.close()

    async def test_offers_are_of_this_account_and_the_known_prices_come_first_and_rise(self, platform: Platform):
        offers = await platform.offers(Ask())
        assert offers
        assert {(offer.platform, offer.account) for offer in offers} == {(platform.type, platform.account)}
        assert {offer.simulated for offer in offers} == {platform.simulated}
        prices = [offer.usd_per_hour for offer in offers]
        known = [price for price in prices if price is not None]
        assert prices == sorted(known) + [None] * (len(prices) - len(known))

    async def test_a_price_limit_leaves_out_what_is_dearer_and_what_is_unknown(self, platform: Platform):
        try:
            offers = await platform.offers(Ask(max_usd_per_hour=0.05))
        except OutOfCapacity as refused:
            assert re.search(r"the cheapest is \$|at a known price", refused.message)  # noqa: PT017 - either will do
        else:
            assert all(offer.usd_per_hour is not None and offer.usd_per_hour <= 0.05 for offer in offers)

    @pytest.mark.parametrize("wanted", ["4096:H100", "1:NOSUCHCHIP"])
    async def test_accelerators_that_it_never_has_are_rejected_with_advice(self, platform: Platform, wanted: str):
        with pytest.raises(Rejected) as refused:
            await platform.offers(Ask(accelerators=[wanted]))
        assert wanted.partition(":")[2] in refused.value.message
        assert refused.value.hint

    # --- renting ----------------------------------------------------------------------------------

    async def test_what_is_rented_carries_our_tags_and_the_account(self, platform: Platform):
        launch = self.stays()
        rented = await self.rent(platform, launch)
        for instance in (rented, await self.found(platform, launch.key)):
            assert instance.key == launch.key
            assert instance.workflow == launch.workflow
            assert instance.life == launch.metadata.id
            assert instance.install == launch.install
            assert instance.account == platform.account
            assert instance.identity == await platform.identity()
            assert instance.id
            assert instance.run is None
            assert instance.exit is None
            assert instance.state in (InstanceState.BOOTING, InstanceState.READY)

    async def test_the_same_key_rents_once(self, platform: Platform, reopen: Reopen):
        launch = self.stays()
        first = await self.rent(platform, launch)
        other = reopen()
        again = await self.rent(other, launch)
        assert again.id == first.id
        assert [each.id for each in await platform.find(launch.key)] == [first.id]
        await other.close()

    async def test_the_same_key_at_the_same_time_rents_once(self, platform: Platform):
        launch = self.stays()
        rented = await asyncio.gather(*(self.rent(platform, launch) for _ in range(5)))
        assert len({instance.id for instance in rented}) == 1
        assert len(await platform.find(launch.key)) == 1

    async def test_a_key_that_rented_nothing_finds_nothing_and_deletes_well(self, platform: Platform):
        key = f"nebu-{ids.new_id()}"
        assert await platform.find(key) == []
        await platform.delete(key)
        await platform.delete(key)

    async def test_owned_lists_what_every_client_rented(self, platform: Platform, reopen: Reopen):
        other = reopen()
        mine, theirs = self.stays(), self.stays()
        await self.rent(platform, mine)
        await self.rent(other, theirs)
        listed = {instance.key: instance for instance in await platform.owned()}
        for launch in (mine, theirs):
            assert listed[launch.key].life == launch.metadata.id
            assert listed[launch.key].install == launch.install
            assert listed[launch.key].workflow == launch.workflow
        await other.close()

    # --- running ----------------------------------------------------------------------------------

    async def test_a_started_command_runs_and_has_a_run(self, platform: Platform):
        launch = self.stays()
        started = await self.run(platform, launch)
        assert started.run
        assert started.state == InstanceState.RUNNING
        seen = await self.found(platform, launch.key)
        assert (seen.state, seen.run) == (InstanceState.RUNNING, started.run)

    @pytest.mark.parametrize("code", [0, 3])
    async def test_the_exit_code_is_seen_by_every_client(self, platform: Platform, reopen: Reopen, code: int):
        launch = self.exits(code)
        started = await self.run(platform, launch)
        ended = await self.over(platform, launch.key)
        assert ended.state == InstanceState.EXITED
        assert ended.run == started.run
        assert ended.exit
        assert (ended.exit.code, ended.exit.oom) == (code, False)
        assert datetime.fromisoformat(ended.exit.at).tzinfo is not None
        other = reopen()
        assert (await self.found(other, launch.key)).exit == ended.exit
        (listed,) = [each for each in await other.owned() if each.key == launch.key]
        assert (listed.state, listed.run, listed.exit) == (ended.state, ended.run, ended.exit)
        await other.close()

    async def test_starting_again_with_what_was_known_before_starts_nothing_twice(self, platform: Platform):
        launch = self.says_and_stays("once")
        rented = await self.rent(platform, launch)
        first = await self.start(platform, rented, launch)
        again = await self.start(platform, rented, launch)
        assert again.run == first.run
        await self.said(platform, first, "once")
        await platform.stop(first, self.grace_s)
        assert (await text_of(platform, first)).count("once") == 1

    async def test_starting_at_the_same_time_starts_once(self, platform: Platform):
        launch = self.says_and_stays("once")
        rented = await self.rent(platform, launch)
        await self.ready(platform, launch.key)
        started = await asyncio.gather(*(self.start(platform, rented, launch) for _ in range(4)))
        assert len({instance.run for instance in started}) == 1
        await self.said(platform, rented, "once")
        await platform.stop(started[0], self.grace_s)
        assert (await text_of(platform, rented)).count("once") == 1

    async def test_a_start_whose_answer_was_lost_tells_of_the_exit_too(self, platform: Platform):
        launch = self.exits(3)
        rented = await self.rent(platform, launch)
        first = await self.start(platform, rented, launch)
        await self.over(platform, launch.key)
        again = await self.start(platform, rented, launch)
        assert again.run == first.run
        assert again.exit is not None
        assert again.exit.code == 3

    async def test_after_an_exit_it_starts_again_as_another_run_in_the_same_instance(self, platform: Platform):
        launch = self.says_and_exits("hello", 3)
        first = await self.run(platform, launch)
        ended = await self.over(platform, launch.key)
        second = await self.start(platform, ended, launch)
        assert second.run not in (None, first.run)
        assert second.id == first.id
        again = await self.over(platform, launch.key, second.run)
        assert again.exit
        assert again.exit.code == 3
        assert (await text_of(platform, again)).count("hello") == 2

    async def test_a_program_that_does_not_exist_is_rejected_with_advice(self, platform: Platform):
        if not self.runs_commands:
            pytest.skip("it only pretends to run commands")
        launch = self.launch(["no-such-program-here"])
        rented = await self.rent(platform, launch)
        for _ in range(2):
            with pytest.raises(Rejected) as refused:
                await self.start(platform, rented, launch)
            assert "no-such-program-here" in refused.value.message
            assert refused.value.hint

    async def test_the_command_gets_its_environment(self, platform: Platform):
        if not self.runs_commands:
            pytest.skip("it only pretends to run commands")
        launch = self.launch(
            'echo "$GREETING, $NEBU_NAME $NEBU_ATTEMPT"', env_vars=[{"key": "GREETING", "value": 'a "b" $c\nd'}]
        )
        await self.run(platform, launch)
        ended = await self.over(platform, launch.key)
        assert await text_of(platform, ended) == f'a "b" $c\nd, {launch.metadata.name} 1\n'

    # --- stopping ---------------------------------------------------------------------------------

    async def test_stop_ends_the_command_and_is_idempotent(self, platform: Platform):
        launch = self.stays()
        started = await self.run(platform, launch)
        stopped = await platform.stop(started, self.grace_s)
        assert stopped.state == InstanceState.EXITED
        assert stopped.run == started.run
        assert stopped.exit is not None
        assert stopped.exit.code != 0
        again = await platform.stop(started, self.grace_s)
        assert again.exit == stopped.exit
        assert (await self.found(platform, launch.key)).exit == stopped.exit

    async def test_stop_after_the_exit_keeps_the_exit_code(self, platform: Platform):
        launch = self.exits(3)
        started = await self.run(platform, launch)
        await self.over(platform, launch.key)
        stopped = await platform.stop(started, self.grace_s)
        assert stopped.exit
        assert stopped.exit.code == 3

    async def test_a_stopped_command_can_be_started_again(self, platform: Platform):
        launch = self.stays()
        started = await self.run(platform, launch)
        stopped = await platform.stop(started, self.grace_s)
        second = await self.start(platform, stopped, launch)
        assert second.run != started.run
        assert (second.state, second.exit) == (InstanceState.RUNNING, None)

    async def test_stop_before_the_first_start_is_no_error(self, platform: Platform):
        launch = self.stays()
        rented = await self.rent(platform, launch)
        stopped = await platform.stop(rented, self.grace_s)
        assert stopped.id == rented.id
        assert stopped.state != InstanceState.RUNNING

    async def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(self, platform: Platform):
        if not self.runs_commands:
            pytest.skip("it only pretends to run commands")
        launch = self.launch("trap '' TERM; echo ready; while :; do sleep 0.1; done")
        started = await self.run(platform, launch)
        await self.said(platform, started, "ready")
        stopped = await platform.stop(started, 1.0)
        assert stopped.exit
        assert stopped.exit.code == 137

    # --- giving back ------------------------------------------------------------------------------

    async def test_delete_ends_a_running_command_and_is_proven(self, platform: Platform, reopen: Reopen):
        launch = self.stays()
        await self.run(platform, launch)
        await self.gone(platform, launch.key)
        other = reopen()
        assert await other.find(launch.key) == []
        assert launch.key not in {instance.key for instance in await other.owned()}
        await other.close()

    async def test_delete_takes_only_its_own_key(self, platform: Platform):
        mine, other = self.stays(), self.stays()
        await self.run(platform, mine)
        kept = await self.run(platform, other)
        await self.gone(platform, mine.key)
        assert (await self.found(platform, other.key)).id == kept.id
        assert (await self.found(platform, other.key)).state == InstanceState.RUNNING

    async def test_the_gone_is_not_found(self, platform: Platform):
        launch = self.stays()
        started = await self.run(platform, launch)
        await self.gone(platform, launch.key)
        with pytest.raises(NotFound):
            await platform.start(started, launch, self.command(launch))
        with pytest.raises(NotFound):
            await platform.stop(started, self.grace_s)
        with pytest.raises(NotFound):
            await text_of(platform, started)

    async def test_a_deleted_key_can_rent_again(self, platform: Platform):
        launch = self.stays()
        first = await self.run(platform, launch)
        await self.gone(platform, launch.key)
        again = await self.rent(platform, launch)
        assert again.run is None
        second = await self.start(platform, again, launch)
        assert second.state == InstanceState.RUNNING
        assert second.life == first.life

    # --- logs -------------------------------------------------------------------------------------

    async def test_logs_hold_what_the_command_wrote_and_read_the_same_again(self, platform: Platform, reopen: Reopen):
        launch = self.says_and_exits("hello\nworld", 0)
        await self.run(platform, launch)
        ended = await self.over(platform, launch.key)
        text = await text_of(platform, ended)
        assert "hello\nworld\n" in text
        other = reopen()
        assert await text_of(other, ended) == text
        assert await text_of(other, ended, follow=True) == text
        await other.close()

    async def test_tail_gives_the_last_lines(self, platform: Platform):
        launch = self.says_and_exits("one\ntwo\nthree", 0)
        await self.run(platform, launch)
        ended = await self.over(platform, launch.key)
        lines = (await text_of(platform, ended)).splitlines(keepends=True)
        assert await text_of(platform, ended, tail=2) == "".join(lines[-2:])
        assert await text_of(platform, ended, tail=0) == ""
        assert await text_of(platform, ended, tail=1000) == "".join(lines)

    async def test_following_gives_lines_as_they_come_and_ends_with_the_command(self, platform: Platform):
        launch = self.says_and_stays("first words")
        started = await self.run(platform, launch)
        follower = platform.logs(started, follow=True)
        text = b""
        async with asyncio.timeout(self.patience_s):
            while b"first words\n" not in text:
                text += await anext(follower)
            await platform.stop(started, self.grace_s)
            async for chunk in follower:
                text += chunk
        assert text.decode() == await text_of(platform, started)

    # --- use --------------------------------------------------------------------------------------

    async def test_a_running_command_is_measured(self, platform: Platform, reopen: Reopen):
        if Feature.STATS not in platform.features:
            assert not isinstance(platform, Measures)
            pytest.skip("it does not tell what a command uses")
        assert isinstance(platform, Measures)
        launch = self.says_and_stays("here")
        started = await self.run(platform, launch)
        await self.said(platform, started, "here")

        async def busy() -> Usage | None:
            used = await platform.usage(started)
            return used if used.cpu_percent and used.memory_bytes else None

        used = await until(busy, self.patience_s)
        assert 0 < used.memory_bytes <= (used.memory_limit_bytes or used.memory_bytes)
        assert used.cpu_percent <= 100 * (os.cpu_count() or 1) * 1.5
        assert datetime.fromisoformat(used.at)
        assert used.simulated == platform.simulated
        other = reopen()
        assert isinstance(other, Measures)
        assert (await other.usage(started)).memory_bytes > 0
        await other.close()

    async def test_what_does_not_run_is_not_measured(self, platform: Platform):
        if not isinstance(platform, Measures):
            pytest.skip("it does not tell what a command uses")
        launch = self.exits(3)
        rented = await self.rent(platform, launch)
        with pytest.raises(Conflict, match="no command runs"):
            await platform.usage(rented)
        await self.start(platform, rented, launch)
        ended = await self.over(platform, launch.key)
        with pytest.raises(Conflict, match="no command runs"):
            await platform.usage(ended)
        await self.gone(platform, launch.key)
        with pytest.raises(NotFound):
            await platform.usage(ended)

    # --- pushing ----------------------------------------------------------------------------------

    async def test_a_watch_tells_of_an_exit(self, platform: Platform):
        if Feature.WATCH not in platform.features:
            assert not isinstance(platform, Watches)
            pytest.skip("it pushes nothing; the sweep lists")
        assert isinstance(platform, Watches)
        launch = self.exits(3)
        watch = platform.watch()
        rented = await self.rent(platform, launch)
        seen = asyncio.create_task(self._exit_pushed(watch, launch.key))
        started = await self.start(platform, rented, launch)
        async with asyncio.timeout(self.patience_s):
            pushed = await seen
        assert pushed.run == started.run
        assert pushed.exit
        assert pushed.exit.code == 3

    @staticmethod
    async def _exit_pushed(watch: Any, key: str) -> Instance:
        async for instance in watch:
            if instance.key == key and instance.exit:
                return instance
        raise AssertionError("the watch ended before the exit")
