"""What Prometheus may scrape of the API and of the worker process, all through the exporter of the Temporal SDK.

Off unless NEBU_API_METRICS or NEBU_WORKER_METRICS name an address. The SDK's own metrics (`temporal_…`: how long
tasks wait, activities take and requests fail) come along. `METRICS` is all that is ours; docs/metrics.md is made of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from temporalio.client import Client
from temporalio.common import MetricMeter
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig

from nebulous.errors import Rejected


@dataclass(frozen=True)
class Metric:
    """One metric, as Prometheus sees it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    process: Literal["api", "worker"]
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()  # upper bounds, of a histogram

    @property
    def exported(self) -> str:
        """Its name in a scrape; a histogram's has `_bucket`, `_sum` and `_count` behind it."""
        return f"{self.name}_total" if self.kind == "counter" else self.name


_FAST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_SLOW = (0.05, 0.25, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0, 43200.0, 259200.0)

REQUESTS = Metric(
    "nebulous_http_seconds",
    "histogram",
    "api",
    ("method", "route", "code"),
    "seconds from a request to the head of its answer; the list is route /v1/containers",
    _FAST,
)
CONTAINERS = Metric(
    "nebulous_containers", "gauge", "api", ("status",), "containers by status, of all organizations, every 15 s"
)
TRANSITIONS = Metric(
    "nebulous_transitions",
    "counter",
    "worker",
    ("kind", "status", "reason", "platform"),
    "times that a resource came to a status, and why",
)
PHASES = Metric(
    "nebulous_phase_seconds",
    "histogram",
    "worker",
    ("kind", "status", "platform"),
    "seconds that a resource spent in a status that it left",
    _SLOW,
)
CLOUD_CALLS = Metric(
    "nebulous_cloud_calls",
    "counter",
    "worker",
    ("platform", "account", "call", "outcome"),
    "calls of a platform; outcome is ok, or the class of the error (OutOfCapacity, Unavailable, …)",
)
CLOUD_SECONDS = Metric(
    "nebulous_cloud_seconds", "histogram", "worker", ("platform", "account", "call"), "seconds that they took", _FAST
)
SWEEPS = Metric(
    "nebulous_sweeps",
    "counter",
    "worker",
    ("account", "outcome"),
    "rounds of a sweep: listed, compared, or the class of the error that ended one",
)
INSTANCES = Metric("nebulous_instances", "gauge", "worker", ("account",), "instances of ours that the platform lists")
ORPHANS = Metric(
    "nebulous_orphans", "gauge", "worker", ("account",), "instances of ours that no open resource is known to own"
)
DESTROYED = Metric("nebulous_orphans_destroyed", "counter", "worker", ("account",), "orphans that a sweep ended")
ALARMS = Metric(
    "nebulous_orphan_alarm",
    "gauge",
    "worker",
    ("account",),
    "1 while so many instances look like orphans that nothing is destroyed",
)

METRICS = (
    REQUESTS,
    CONTAINERS,
    TRANSITIONS,
    PHASES,
    CLOUD_CALLS,
    CLOUD_SECONDS,
    SWEEPS,
    INSTANCES,
    ORPHANS,
    DESTROYED,
    ALARMS,
)


def runtime(address: str | None, setting: str) -> Runtime | None:
    """An SDK runtime that answers scrapes at host:port for as long as the process lives; None without an address.

    Raises:
        Rejected: It cannot listen there; the message names the setting.
    """
    if not address:
        return None
    buckets = {metric.name: list(metric.buckets) for metric in METRICS if metric.buckets}
    exporter = PrometheusConfig(
        bind_address=address,
        counters_total_suffix=True,
        durations_as_seconds=True,
        histogram_bucket_overrides=buckets,
    )
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=exporter, attach_service_name=False))
    except (ValueError, RuntimeError) as error:
        raise Rejected(
            f"metrics cannot be served at {address!r}: {error}", f"set {setting} to HOST:PORT with a port that is free"
        ) from error


def meter(client: Client) -> MetricMeter:
    """The meter of the runtime that a client was connected with; without metrics it counts nothing."""
    return (client.service_client.config.runtime or Runtime.default()).metric_meter


def count(meter: MetricMeter, metric: Metric, **labels: str) -> None:
    """Count one up."""
    meter.create_counter(metric.name, metric.meaning).add(1, _checked(metric, labels))


def measure(meter: MetricMeter, metric: Metric, value: float, **labels: str) -> None:
    """Say how much there is of it now, or, of a histogram, how long one took in seconds."""
    if metric.kind == "histogram":
        meter.create_histogram_float(metric.name, metric.meaning).record(value, _checked(metric, labels))
    else:
        meter.create_gauge_float(metric.name, metric.meaning).set(value, _checked(metric, labels))


def _checked(metric: Metric, labels: dict[str, str]) -> dict[str, str | int | float | bool]:
    assert labels.keys() == set(metric.labels), f"{metric.name} has labels {metric.labels}, not {tuple(labels)}"
    return {**labels}
