"""Specs of containers as people may write them, for property tests."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_KEYS = st.sampled_from(["A", "B", "C"])
_SPANS = st.sampled_from(["30m", "1h", "2h"])
_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "command": st.sampled_from(["true", "sleep 1"]) | st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=2),
    "env_vars": st.lists(
        st.builds(lambda key, value: {"key": key, "value": value}, _KEYS, st.sampled_from(["1", "2", ""])),
        min_size=1,
        max_size=3,
        unique_by=lambda each: each["key"],
    ),
    "resources": st.sampled_from([{"min_cpu": 1}, {"min_cpu": 2, "max_memory": 4}, {"max_memory": 4}]),
    "accelerators": st.sampled_from([["1:A100"], ["1:A100", "1:L4"]]),
    "restart": st.sampled_from(["Never", "OnFailure", "Always"]),
    "max_retries": st.integers(0, 3),
    "timeout": _SPANS,
    "stop_grace": _SPANS,
    "provision_timeout": _SPANS,
    "ttl_after_finished": _SPANS,
    "max_usd_per_hour": st.sampled_from([1.5, 20.0]),
    "priority": st.integers(-1, 1),
    "notify": st.just("http://127.0.0.1:9/hook"),
    "health_check": st.sampled_from([{"path": "/", "port": 80}, {"command": "true"}]),
}


def specs(**fixed: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A valid spec with some of the fields."""
    images = st.sampled_from(["busybox", "alpine"])
    return st.fixed_dictionaries({"image": images}, optional=_FIELDS).map(lambda spec: {**spec, **fixed})


def labels() -> st.SearchStrategy[dict[str, str]]:
    """Some labels."""
    return st.dictionaries(_KEYS, st.sampled_from(["1", "2"]), max_size=2)
