"""The RunPod double is strict: what our description does not have is refused when sent, and found when answered."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from activities.platforms.runpod import RunpodPlatform
from nebulous.errors import Rejected
from tests.activities.platforms.runpod_bare import (  # noqa: F401 - some are fixtures
    double,
    platform,
    reopen,
)
from tests.doubles.runpod import _NAMES, KEY, RunpodDouble
from tests.doubles.runpod_contract import CALLS, wrong_reply, wrong_request

# ruff: noqa: F811 - fixtures are arguments

HEAD = {"authorization": f"Bearer {KEY}"}
POD = {"name": "n", "image": "busybox", "gpu": {"id": "NVIDIA A40", "count": 1}}


class TestRequests:
    @pytest.mark.parametrize(
        ("body", "named"),
        [
            ({**POD, "imageName": "busybox"}, "imageName"),  # of v1, as the next ones
            ({**POD, "interruptible": True}, "interruptible"),
            ({**POD, "gpuTypeIds": ["NVIDIA A40"]}, "gpuTypeIds"),
            ({**POD, "gpu": {"id": "NVIDIA A40", "count": 1, "colour": "red"}}, "gpu.colour"),
            ({**POD, "gpu": {"id": "NVIDIA A40", "count": "1"}}, "gpu.count"),
            ({**POD, "data_center_ids": ["US-KS-2"]}, "data_center_ids"),
            ({**POD, "env": {"A": 1}}, "env.A"),
            ({**POD, "ports": ["53/udp"]}, "ports.0"),
            ({**POD, "cloud": "ALL"}, "cloud"),
            ({"name": "n", "gpu": POD["gpu"]}, "image"),
        ],
    )
    async def test_a_pod_with_a_wrong_field_is_refused_and_the_field_named(
        self, platform: RunpodPlatform, double: RunpodDouble, body: dict[str, Any], named: str
    ):
        with pytest.raises(Rejected, match=f"[ :;]{named}: ") as refused:
            await platform._api.call("POST", "/v2/pods", "renting a pod", body=body)
        assert refused.value.message.count(named) == 1
        assert [called.status for called in double.made("POST /v2/pods")] == [422]
        assert double.pods == {}

    async def test_the_same_without_the_wrong_field_is_rented(self, platform: RunpodPlatform, double: RunpodDouble):
        made = await platform._api.call("POST", "/v2/pods", "renting a pod", body=POD)
        assert set(double.pods) == {made["id"]}

    @pytest.mark.parametrize(
        ("method", "template", "query", "body", "named"),
        [
            ("GET", "/v2/catalog/gpus", {"gpuCount": "1"}, None, "?gpuCount"),
            ("GET", "/v2/catalog/gpus", {"count": "many"}, None, "?count"),
            ("GET", "/v2/pods/{id}/logs", {"tail": "5001"}, None, "?tail"),
            ("GET", "/v2/pods", {}, {"name": "n"}, "a body"),
            ("PATCH", "/v2/pods/{id}", {}, {"env": {}, "name": "n"}, "name"),
            ("POST", "/v2/pods/{id}/action", {}, {"action": "resume"}, "action"),
            ("POST", "/v2/pods/{id}/action", {}, None, "body"),
            ("POST", "/v2/registries", {}, {"name": "n", "username": "u"}, "password"),
        ],
    )
    def test_so_is_any_other_wrong_request(
        self, method: str, template: str, query: dict[str, str], body: Any, named: str
    ):
        (fault,) = wrong_request(method, template, query, body)
        assert fault.startswith(named)


class TestReplies:
    def test_a_double_with_a_wrong_reply_fails_its_test(self):
        def misled() -> None:
            with RunpodDouble() as double:
                double.gpus[0]["availability"] = "SOME"
                assert httpx.get(f"{double.url}/v2/catalog/gpus", headers=HEAD).status_code == 200

        with pytest.raises(AssertionError, match=r"GET /v2/catalog/gpus 200: gpus\.0\.availability: "):
            misled()

    def test_so_does_one_with_a_wrong_line_in_a_log(self, double: RunpodDouble):
        pod = double.add(lines=["fine"])
        with httpx.stream("GET", f"{double.url}/v2/pods/{pod.id}/logs", headers=HEAD) as reply:
            lines = reply.iter_lines()
            assert any("fine" in line for line in lines)
            assert double.wrong == []
            double.within(pod.write, "late", "yesterday")
            assert any("late" in line for line in lines)
        (fault,) = double.wrong
        assert fault.startswith("ts: ")
        double.wrong.clear()

    @pytest.mark.parametrize(
        ("call", "status", "change", "named"),
        [
            ("GET /v2/pods/{id}", 200, {"desiredStatus": "RUNNING"}, "desiredStatus: "),
            ("GET /v2/pods/{id}", 200, {"status": "LEVITATING"}, "status: "),
            ("GET /v2/pods/{id}", 200, {"cost": "0.5"}, "cost: "),
            ("GET /v2/pods/{id}", 200, {"createdAt": "yesterday"}, "createdAt: "),
            ("GET /v2/pods/{id}", 200, {"env": None}, "env: "),
            ("GET /v2/pods/{id}", 201, {}, "201 is no answer"),
            ("POST /v2/pods", 200, {}, "200 is no answer"),
            ("DELETE /v2/pods/{id}", 204, {}, "a body"),
            ("GET /v2/templates", 200, {}, "GET /v2/templates is not described"),
        ],
    )
    def test_a_wrong_pod_is_found(
        self, double: RunpodDouble, call: str, status: int, change: dict[str, Any], named: str
    ):
        method, _, template = call.partition(" ")
        right = double.add().shown()
        assert wrong_reply("GET", "/v2/pods/{id}", 200, right) == []
        (fault,) = wrong_reply(method, template, status, {**right, **change})
        assert fault.startswith(named)

    @pytest.mark.parametrize(
        ("status", "change", "named"),
        [
            (404, {"status": 400}, "status: 400"),
            (404, {"detail": None}, "detail: "),
            (404, {"error": "gone"}, "error: "),
            (402, {"status": 402}, "402 is no answer"),
        ],
    )
    def test_a_wrong_refusal_is_found(self, status: int, change: dict[str, Any], named: str):
        right = {"title": "Not Found", "status": 404, "detail": "pod not found"}
        assert wrong_reply("GET", "/v2/pods/{id}", 404, right) == []
        (fault,) = wrong_reply("GET", "/v2/pods/{id}", status, {**right, **change})
        assert fault.startswith(named)

    def test_what_the_double_answers_is_what_is_described(self):
        assert set(_NAMES) == set(CALLS)
