"""Counts the calls of a platform, by outcome: what an operator sees of a cloud that refuses or is slow."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable
from typing import Any

from temporalio.common import MetricMeter

from activities.platforms.base import Platform
from nebulous import metrics

CALLS = ("identity", "offers", "prepare", "create", "start", "stop", "find", "delete", "owned")

Call = Callable[..., Awaitable[Any]]


def metered(platform: Platform, meter: MetricMeter) -> Platform:
    """The same platform, with its calls counted and timed from now on."""
    for name in CALLS:
        setattr(platform, name, _counted(getattr(platform, name), platform, name, meter))
    return platform


def _counted(call: Call, platform: Platform, name: str, meter: MetricMeter) -> Call:
    where = {"platform": platform.type, "account": platform.account, "call": name}

    @functools.wraps(call)
    async def counted(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - whatever the call takes and gives
        began, outcome = time.monotonic(), "ok"
        try:
            return await call(*args, **kwargs)
        except Exception as error:
            outcome = type(error).__name__
            raise
        finally:
            metrics.count(meter, metrics.CLOUD_CALLS, **where, outcome=outcome)
            metrics.measure(meter, metrics.CLOUD_SECONDS, time.monotonic() - began, **where)

    return counted
