"""What RunPod refuses, in our words; its limits; whose key it is."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from activities.platforms import runpod_pod
from activities.platforms.base import SEND_BY, Command
from activities.platforms.runpod import RunpodPlatform
from activities.platforms.runpod_keys import PodKeys
from activities.platforms.runpod_pod import Pod
from nebulous.accounts import RunpodAccount
from nebulous.errors import (
    AuthFailed,
    Conflict,
    NebulousError,
    NotFound,
    OutOfCapacity,
    QuotaExceeded,
    RateLimited,
    Rejected,
    Unavailable,
)
from nebulous.models.platforms import InstanceState
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
from tests.doubles.runpod import KEY, NO_ROOM, USER, RunpodDouble

# ruff: noqa: F811 - fixtures are arguments


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "detail", "kind"),
        [
            (400, NO_ROOM, OutOfCapacity),
            (400, "This machine does not have the resources to deploy your pod.", OutOfCapacity),
            (400, "words that nobody has seen before", OutOfCapacity),
            (400, "mounts.persistent and mounts.network are mutually exclusive", Rejected),
            (401, "invalid API key", AuthFailed),
            (402, "insufficient balance", QuotaExceeded),
            (403, "your account cannot access this pool", QuotaExceeded),
            (404, "template not found", NotFound),
            (409, "conflict", Conflict),
            (422, "Request validation failed.", Rejected),
            (429, "rate limit exceeded", RateLimited),
            (500, "oops", Unavailable),
            (502, "bad gateway", Unavailable),
            (503, "try later", Unavailable),
        ],
    )
    async def test_each_refusal_of_a_pod_says_what_to_do_next(
        self, platform: RunpodPlatform, double: RunpodDouble, status: int, detail: str, kind: type[NebulousError]
    ):
        double.fail("POST /v2/pods", status, detail, headers={"retry-after": "7"})
        with pytest.raises(kind) as refused:
            await platform.create(launch(), A40, Command({}))
        assert type(refused.value) is kind
        assert detail in refused.value.message or status == 429
        if isinstance(refused.value, RateLimited):
            assert refused.value.retry_after == 7
        if status == 403:
            assert isinstance(refused.value, QuotaExceeded)
            assert refused.value.scope == "NVIDIA A40"
        assert double.pods == {}

    @pytest.mark.parametrize(("status", "detail"), [(400, NO_ROOM), (401, "no"), (403, "no"), (422, "no")])
    async def test_a_refused_pod_leaves_no_login(
        self, platform: RunpodPlatform, double: RunpodDouble, status: int, detail: str
    ):
        double.fail("POST /v2/pods", status, detail)
        with pytest.raises(NebulousError):
            await platform.create(launch(), A40, LOGIN)
        assert len(double.registry_bodies) == 1
        assert double.registries == {}

    async def test_a_login_that_cannot_be_removed_hides_no_refusal(
        self, platform: RunpodPlatform, double: RunpodDouble
    ):
        double.fail("POST /v2/pods", 400, NO_ROOM)
        double.fail("DELETE /v2/registries/.*", 500, "oops")
        with pytest.raises(OutOfCapacity):
            await platform.create(launch(), A40, LOGIN)

    async def test_twenty_sold_out_offers_are_one_list_and_twenty_calls(
        self, platform: RunpodPlatform, double: RunpodDouble
    ):
        platform._list._apart_s = 60.0
        double.fail("POST /v2/pods", 400, NO_ROOM, times=20)
        for _ in range(20):
            with pytest.raises(OutOfCapacity):
                await platform.create(launch(), A40, Command({}))
        assert len(double.made("GET /v2/pods")) == 1
        assert len(double.made("POST /v2/pods")) == 20

    async def test_a_worker_that_slept_until_too_late_rents_nothing(
        self, platform: RunpodPlatform, double: RunpodDouble
    ):
        SEND_BY.set(time.time())
        with pytest.raises(Unavailable, match="too late to send"):
            await platform.create(launch(), A40, LOGIN)
        assert len(double.registry_bodies) == 1, "all that comes before was done"
        assert double.made("POST /v2/pods") == []

    async def test_a_pod_that_was_stopped_before_its_first_start_is_gone(
        self, platform: RunpodPlatform, double: RunpodDouble
    ):
        what = launch()
        (rented,) = await platform.create(what, A40, Command({}))
        double.of(what.key)[0].status = "EXITED"
        with pytest.raises(NotFound, match="was stopped by RunPod or its owner"):
            await platform.start(rented, what, Command({}))

    @pytest.mark.parametrize("status", [401, 403, 429, 500, 0])
    async def test_what_cannot_be_listed_is_not_absent(
        self, platform: RunpodPlatform, double: RunpodDouble, status: int
    ):
        await platform.identity()
        double.fail("GET /v2/pods", status, "no", times=2, headers={"retry-after": "60"})
        with pytest.raises((AuthFailed, Unavailable)):
            await platform.find("nebu-nothing")
        with pytest.raises((AuthFailed, Unavailable)):
            await platform.owned()

    async def test_a_list_of_another_shape_is_not_absence(self, platform: RunpodPlatform, double: RunpodDouble):
        double.fail("GET /v2/pods", 200, "a new world")
        with pytest.raises(Unavailable, match="no pods in it"):
            await platform.find("nebu-nothing")

    async def test_a_word_that_was_never_seen_is_unknown(self, platform: RunpodPlatform, double: RunpodDouble):
        what = launch()
        await platform.create(what, A40, Command({}))
        (pod,) = double.of(what.key)
        shown = pod.shown()
        assert Pod.of({**shown, "status": "LEVITATING"}).state is InstanceState.UNKNOWN
        assert Pod.of({"id": "x"}).state is InstanceState.UNKNOWN

    @pytest.mark.parametrize(("keep", "seconds"), [(None, 24 * 3600), ("24h", 24 * 3600 + 600)])
    def test_a_pod_whose_command_ended_waits_a_day_for_contact_or_as_long_as_it_is_kept(
        self, keep: str | None, seconds: int
    ):
        what = launch(**({"keep_on_failure": keep} if keep else {}))
        env = runpod_pod.variables(what, Command({}), PodKeys(SECRET_KEY, what.key), "http://x", "r1")
        assert env["NEBULOUS_LINGER"] == str(seconds)

    async def test_no_key_says_where_to_put_one(self, platform: RunpodPlatform, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.delenv("RUNPOD_API_KEY")
        with pytest.raises(AuthFailed, match="no key") as refused:
            await platform.identity()
        assert "RUNPOD_API_KEY" in (refused.value.hint or "")

    async def test_the_key_may_be_in_a_file_that_is_replaced(
        self, double: RunpodDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.delenv("RUNPOD_API_KEY")
        file = tmp_path / "key"
        file.write_text("rpa_OLD\n")
        platform = RunpodPlatform("x", INSTALL, RunpodAccount(api_key_file=file), SECRET_KEY, tmp_path)
        with pytest.raises(AuthFailed, match="does not accept"):
            await platform.owned()
        file.write_text(f"{KEY}\n")
        assert await platform.owned() == []
        assert await platform.identity() == USER
        await platform.close()

    @pytest.mark.parametrize(
        ("spec", "words"),
        [
            ({"command": None}, "a command has to be given"),
            ({"env_vars": [{"key": f"V{i}", "value": "x"} for i in range(40)]}, "40 variables are too many"),
            ({"ports": [{"port": 53, "protocol": "udp", "public": True}]}, "no UDP"),
        ],
    )
    async def test_what_runpod_cannot_do_is_refused_before_anything_is_rented(
        self, platform: RunpodPlatform, double: RunpodDouble, spec: dict[str, Any], words: str
    ):
        what = launch(**spec)
        env = {each["key"]: each["value"] for each in spec.get("env_vars", [])}
        with pytest.raises(Rejected, match=words) as refused:
            await platform.create(what, A40, Command(env, "ada", "s3cret"))
        assert refused.value.hint
        assert double.made("POST /v2/.*") == []


class TestPace:
    async def test_a_thousand_pods_are_watched_with_one_list_and_a_pod_that_goes_is_seen_in_the_next(
        self, double: RunpodDouble, platform: RunpodPlatform
    ):
        tags = {"NEBULOUS_INSTALL": INSTALL, "NEBULOUS_RUN": "r1"}
        keys = [f"nebu-{number:04d}" for number in range(1000)]
        pods = [double.add(name=key, env={**tags, "NEBULOUS_KEY": key}, lines=["hi"]) for key in keys]
        listed = await platform.owned()
        assert {each.key for each in listed} == set(keys)
        assert {each.state for each in listed} == {InstanceState.RUNNING}
        assert len(double.made("GET /v2/pods")) == 1
        lists = [platform.owned() for _ in range(20)]
        await asyncio.gather(*lists)
        assert len(double.made("GET /v2/pods")) <= 3
        pods[7].status = "EXITED"
        (seen,) = [each for each in await platform.owned() if each.key == keys[7]]
        assert seen.state is InstanceState.PREEMPTED
        assert "RunPod stopped" in seen.message

        async def in_sight() -> bool:
            return len(double.made("GET /v2/pods/.*/logs")) == 1000

        await until(in_sight, 60)
        told = platform.watch()
        pushed = asyncio.ensure_future(anext(told))
        await asyncio.sleep(0)
        double.say(pods[500], "nebulous-exit: r1 5 2026-11-24T12:00:00Z")
        async with asyncio.timeout(10):
            ended = await pushed
        assert (ended.key, ended.exit and ended.exit.code) == (keys[500], 5)
        assert len(double.made("GET /v2/pods")) <= 4
        await told.aclose()

    async def test_finds_at_once_share_a_list(self, double: RunpodDouble, platform: RunpodPlatform):
        found = await asyncio.gather(*(platform.find(f"nebu-{number}") for number in range(200)))
        assert found == [[]] * 200
        assert len(double.made("GET /v2/pods")) <= 2

    async def test_what_is_left_of_the_limit_is_for_giving_back(self, double: RunpodDouble, platform: RunpodPlatform):
        what = launch()
        await platform.create(what, A40, Command({}))
        (pod,) = double.of(what.key)
        double.limits = '"minute";r=2;t=40, "hour";r=2000;t=1800'
        await platform.identity()
        with suppress(RateLimited):
            await platform.find(what.key)  # learns of it
        calls = len(double.calls)
        with pytest.raises(RateLimited) as refused:
            await platform.find(what.key)
        assert 30 < (refused.value.retry_after or 0) <= 40
        assert len(double.calls) == calls
        await platform._terminate(Pod.of(pod.shown()))
        assert double.pods == {}

    async def test_a_429_stops_every_call_for_as_long_as_it_says(self, double: RunpodDouble, platform: RunpodPlatform):
        await platform.identity()
        double.fail("GET /v2/pods", 429, "rate limit exceeded", headers={"retry-after": "1"})
        with pytest.raises(RateLimited):
            await platform.find("nebu-x")
        began = time.monotonic()
        assert await platform.find("nebu-x") == []
        assert time.monotonic() - began > 0.8


class TestAccount:
    async def test_the_package_says_whose_key_it_is(
        self, double: RunpodDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("RUNPOD_API_BASE_URL", double.url)
        monkeypatch.delenv("NEBU_RUNPOD_API")
        platform = RunpodPlatform("x", INSTALL, RunpodAccount(), SECRET_KEY, tmp_path)
        assert await platform.identity() == USER
        (asked,) = double.made("POST /graphql")
        assert "pubKey" in str(asked.body)  # the package's question, not ours
        await platform.close()

    async def test_a_graphql_that_is_away_gives_no_other_name(self, double: RunpodDouble, platform: RunpodPlatform):
        double.graphql = False
        with pytest.raises(Unavailable, match="does not say whose key this is"):
            await platform.identity()
        double.graphql = True
        assert await platform.identity() == USER

    async def test_missing_permissions_are_named_and_nothing_is_rented(
        self, double: RunpodDouble, platform: RunpodPlatform
    ):
        assert await platform.missing_permissions() == []
        assert [check.ok for check in await platform.diagnose()] == [True]
        double.forbidden = {"POST /v2/pods", "GET /v2/registries"}
        assert await platform.missing_permissions() == ["registries: read and write", "pods: write"]
        (check,) = await platform.diagnose()
        assert not check.ok
        assert "pods: write" in check.text
        double.keys.clear()
        with pytest.raises(AuthFailed):
            await platform.missing_permissions()
        assert double.pods == {}
