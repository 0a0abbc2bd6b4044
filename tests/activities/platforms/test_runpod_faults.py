"""Calls of RunPod that die, lists that lag: nothing is rented twice for long, and nothing stays."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from activities.platforms import runpod
from activities.platforms.base import Command
from activities.platforms.runpod import RunpodPlatform
from activities.platforms.runpod_pod import Pod
from nebulous.errors import (
    AuthFailed,
    NebulousError,
    NotReady,
    Unavailable,
)
from nebulous.models.containers import Launch
from tests.activities.platforms.contract import INSTALL, until
from tests.activities.platforms.runpod_bare import (  # noqa: F401 - some are fixtures
    A40,
    LOGIN,
    SECRET_KEY,
    double,
    launch,
    platform,
    reopen,
)
from tests.doubles.runpod import KEY, USER, RunpodDouble

# ruff: noqa: F811 - fixtures are arguments


class TestLostCalls:
    """The worker, or its line, dies at each call in turn; another one repeats what was asked for."""

    @pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
    async def test_a_create_that_dies_anywhere_rents_one_pod(
        self, double: RunpodDouble, reopen: Callable[[], RunpodPlatform], after: bool
    ):
        died, point = True, 0
        while died:
            point += 1
            what = launch()
            double.die(point, after)
            died = await self.dies(reopen().create(what, A40, LOGIN))
            double.heal()
            (instance,) = await reopen().create(what, A40, LOGIN)
            found = double.of(what.key)
            assert [pod.id for pod in found] == [instance.id], f"call {point}"
            assert [each["id"] for each in double.registries.values()] == [found[0].body["registry"]], f"call {point}"
            await self.given_back(double, reopen(), what.key)
        assert point >= 7  # identity, list, logins, login, rent, list, and one that came through

    @pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
    async def test_a_delete_that_dies_anywhere_leaves_nothing(
        self, double: RunpodDouble, reopen: Callable[[], RunpodPlatform], after: bool
    ):
        died, point = True, 0
        while died:
            point += 1
            what = launch()
            await reopen().create(what, A40, LOGIN)
            double.die(point, after)
            died = await self.dies(self.release(reopen(), what.key))
            double.heal()
            await self.given_back(double, reopen(), what.key)
        assert point >= 6  # list, delete, logins, login, list, identity

    @pytest.mark.parametrize("status", [0, 500, 504])
    async def test_an_answer_that_is_lost_while_lists_lag_makes_a_second_one_that_dies_soon(
        self, double: RunpodDouble, reopen: Callable[[], RunpodPlatform], status: int
    ):
        what = launch()
        double.lag_s = 600
        double.fail("POST /v2/pods", status, "lost", after=True)
        with pytest.raises(Unavailable):
            await reopen().create(what, A40, Command({}))
        (second,) = await reopen().create(what, A40, Command({}))
        assert len(double.of(what.key)) == 2
        double.lag_s = 0
        watching = reopen()

        async def one() -> bool:
            await watching.owned()
            return len(double.of(what.key)) == 1

        began = time.monotonic()
        await until(one)
        assert time.monotonic() - began < 60
        (kept,) = await watching.find(what.key)
        assert [kept.id] == [pod.id for pod in double.of(what.key)]
        assert kept.id <= second.id
        await self.given_back(double, watching, what.key)

    async def test_two_workers_that_rent_at_once_keep_one(
        self, double: RunpodDouble, reopen: Callable[[], RunpodPlatform]
    ):
        for _ in range(5):
            what = launch()
            rented = await asyncio.gather(
                *(reopen().create(what, A40, Command({})) for _ in range(4)), return_exceptions=True
            )
            assert [each for each in rented if isinstance(each, list)]
            (kept,) = await reopen().find(what.key)
            assert [pod.id for pod in double.of(what.key)] == [kept.id]

    async def test_of_two_the_one_that_was_started_stays(self, double: RunpodDouble, platform: RunpodPlatform):
        what = launch()
        tags = (await self.created(platform, double, what)).body["env"]
        started = double.add(name=what.key, env={**tags, "NEBULOUS_RUN": "r1"}, lines=["nebulous-start: r1 no -"])
        (kept,) = await platform.find(what.key)
        assert kept.id == started.id
        assert double.of(what.key) == [started]

    async def test_what_was_just_rented_is_found_although_lists_lag(
        self, double: RunpodDouble, platform: RunpodPlatform
    ):
        double.lag_s = 30
        what = launch()
        (rented,) = await platform.create(what, A40, Command({}))
        assert [each.id for each in await platform.find(what.key)] == [rented.id]
        await platform.delete(what.key)
        assert await platform.find(what.key) == []
        assert double.pods == {}

    async def test_a_key_that_is_revoked_in_the_middle_loses_nothing(
        self, double: RunpodDouble, platform: RunpodPlatform, reopen: Callable[[], RunpodPlatform]
    ):
        what = launch()
        (rented,) = await platform.create(what, A40, LOGIN)
        double.keys.clear()
        for ask in (platform.find(what.key), platform.delete(what.key), platform.owned()):
            with pytest.raises(AuthFailed):
                await ask
        assert len(double.of(what.key)) == 1
        double.keys[KEY] = USER
        assert [each.id for each in await platform.find(what.key)] == [rented.id]
        await self.given_back(double, platform, what.key)

    @pytest.mark.parametrize("status", [401, 403, 404])
    async def test_a_list_that_is_refused_after_the_pod_was_rented_leaves_it_open(
        self, double: RunpodDouble, platform: RunpodPlatform, monkeypatch: pytest.MonkeyPatch, status: int
    ):
        rent = platform._renting.rent

        async def rent_then_refuse(*arguments: Any) -> Pod:
            pod = await rent(*arguments)
            double.fail("GET /v2/pods", status, "not any more")
            return pod

        monkeypatch.setattr(platform._renting, "rent", rent_then_refuse)
        what = launch()
        with pytest.raises(Unavailable, match=r"may have been rented: .*not any more"):
            await platform.create(what, A40, Command({}))
        (pod,) = double.of(what.key)
        assert [each.id for each in await platform.create(what, A40, Command({}))] == [pod.id]

    async def test_a_duplicate_that_may_not_be_terminated_hides_no_pod(
        self, double: RunpodDouble, platform: RunpodPlatform
    ):
        what = launch()
        first = await self.created(platform, double, what)
        double.add(name=what.key, env=first.body["env"])
        double.forbidden = {"DELETE /v2/pods/{id}"}
        assert [each.id for each in await platform.find(what.key)] == [first.id]

    async def test_a_pod_whose_log_does_not_answer_is_not_restarted(
        self, double: RunpodDouble, platform: RunpodPlatform, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(runpod, "NUDGE_S", 0.2)
        monkeypatch.setattr(runpod, "BEGIN_S", 0.2)
        what = launch()
        pod = await self.created(platform, double, what)
        (rented,) = await platform.find(what.key)
        tags = pod.body["env"]
        double.within(pod.body.update, {"env": {**tags, "NEBULOUS_RUN": "r1"}})
        double.within(pod.write, "nebulous-start: r1 no -")
        double.fail("GET /v2/pods/.*/logs", 503, "try later", times=1000)
        with pytest.raises(NotReady, match="does not answer"):
            await platform.start(rented, what, Command({}))
        assert double.made("POST .*/action") == []
        double.heal()
        monkeypatch.setattr(runpod, "NUDGE_S", 15.0)
        assert (await platform.start(rented, what, Command({}))).run == "r1"

    async def test_a_key_of_another_user_proves_no_absence(self, double: RunpodDouble, platform: RunpodPlatform):
        what = launch()
        (rented,) = await platform.create(what, A40, Command({}))
        other = rented.model_copy(update={"id": "podofanother", "identity": "user_other"})
        with pytest.raises(AuthFailed, match="user_other"):
            await platform.stop(other, 1)

    async def test_pods_and_logins_of_others_are_left_alone(self, double: RunpodDouble, platform: RunpodPlatform):
        what = launch()
        theirs = double.add(name=what.key)
        foreign = double.add(name="x", env={"NEBULOUS_INSTALL": "other", "NEBULOUS_KEY": "nebu-theirs"})
        double.registries["mine"] = {"id": "mine", "name": "dockerhub"}
        (rented,) = await platform.create(what, A40, LOGIN)
        assert rented.id != theirs.id
        assert {each.install for each in await platform.owned()} == {INSTALL, "other"}
        await platform.delete(what.key)
        assert set(double.pods) == {theirs.id, foreign.id}
        assert set(double.registries) == {"mine"}

    async def test_the_login_of_a_registry_is_in_no_pod(self, double: RunpodDouble, platform: RunpodPlatform):
        what = launch()
        pod = await self.created(platform, double, what, LOGIN)
        assert [(each["username"], each["password"]) for each in double.registry_bodies] == [("ada", "s3cret")]
        assert "s3cret" not in str(pod.body)
        assert double.registries[pod.body["registry"]]["name"] == what.key

    async def created(
        self, platform: RunpodPlatform, double: RunpodDouble, what: Launch, command: Command | None = None
    ) -> Any:
        await platform.create(what, A40, command or Command({}))
        (pod,) = double.of(what.key)
        return pod

    async def dies(self, work: Awaitable[Any]) -> bool:
        try:
            await work
        except NebulousError:
            return True
        return False

    async def release(self, platform: RunpodPlatform, key: str) -> None:
        await platform.delete(key)
        if await platform.find(key):
            raise Unavailable("still there")

    async def given_back(self, double: RunpodDouble, platform: RunpodPlatform, key: str) -> None:
        async def gone() -> bool:
            with suppress(Unavailable):
                await self.release(platform, key)
                return True
            return False

        await until(gone)
        assert double.of(key) == []
        assert double.registries == {}
