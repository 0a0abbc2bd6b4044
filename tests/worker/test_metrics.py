"""What Prometheus would scrape of a real `nebu serve`, and that the alerts are about what is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from nebulous import metrics
from nebulous.metrics import METRICS
from nebulous.reference import measured
from tests.served import Server, until
from worker.ports import claim_port

DOCS = Path("docs")
CONTAINER = """\
kind: Container
metadata: {name: %s, labels: {sim.nebulous/boot: 0s, sim.nebulous/run_for: 0.5s}}
image: busybox
command: "true"
platform: %s
"""


def scrape(address: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Samples by metric name: labels and value."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for line in httpx.get(f"http://{address}/metrics").text.splitlines():
        if match := re.fullmatch(r"(\w+)(?:\{(.*)\})? (\S+)", line):
            labels = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""))
            found.setdefault(match[1], []).append((labels, float(match[3])))
    return found


def value(samples: list[tuple[dict[str, str], float]], **labels: str) -> float:
    """The sum of the samples with these labels."""
    return sum(number for found, number in samples if labels.items() <= found.items())


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: Any) -> Iterator[dict[str, dict[str, Any]]]:
    """Both pages, after a container came to its end on a simulated cloud, and another could not be placed."""
    folder = tmp_path_factory.mktemp("metrics")
    api, worker = (f"127.0.0.1:{claim_port(0, name)}" for name in ("api", "worker"))
    server = Server(folder, {"NEBU_API_METRICS": api, "NEBU_WORKER_METRICS": worker})
    try:
        server.up()
        for name, platform in (("good", "sim"), ("bad", "nowhere")):
            file = folder / f"{name}.yaml"
            file.write_text(CONTAINER % (name, platform))
            server.nebu("create", "container", "-f", str(file))
        server.until_status("good", "completed")
        server.nebu("get", "containers")
        until(lambda: value(scrape(api).get("nebulous_containers", []), status="completed"), "the census has seen it")
        until(lambda: "nebulous_orphans" in scrape(worker), "a sweep compared everything")
        yield {"api": scrape(api), "worker": scrape(worker)}
    finally:
        server.close()


def test_each_process_shows_its_own_metrics(scraped: Any) -> None:
    rare = {metrics.DESTROYED.name}
    for metric in METRICS:
        name = metric.exported + ("_count" if metric.kind == "histogram" else "")
        if metric.name in rare:
            continue
        assert name in scraped[metric.process], name
        for labels, _ in scraped[metric.process][name]:
            assert set(metric.labels) <= labels.keys()  # the SDK adds where a workflow runs


def test_a_life_is_counted_once_by_each_status_it_came_to(scraped: Any) -> None:
    worker = scraped["worker"]
    reached = worker["nebulous_transitions_total"]
    assert value(reached, kind="container", status="completed", platform="sim") == 1
    assert value(reached, kind="container", status="running", platform="sim") == 1
    assert value(worker["nebulous_phase_seconds_count"], kind="container", status="creating", platform="sim") == 1


def test_calls_of_a_cloud_are_counted_by_outcome(scraped: Any) -> None:
    calls = scraped["worker"]["nebulous_cloud_calls_total"]
    assert value(calls, platform="sim", call="create", outcome="ok") == 1
    assert value(calls, platform="sim", call="owned", outcome="ok") > 0
    assert value(scraped["worker"]["nebulous_cloud_seconds_count"], platform="sim", call="create") == 1


def test_requests_are_told_by_route_and_code_never_by_name(scraped: Any) -> None:
    requests = scraped["api"]["nebulous_http_seconds_count"]
    assert value(requests, method="POST", route="/v1/containers", code="200") == 1
    assert value(requests, method="POST", route="/v1/containers", code="422") == 1
    assert value(requests, method="GET", route="/v1/containers", code="200") >= 1
    assert not any("good" in labels["route"] for labels, _ in requests)


def test_alerts_are_about_metrics_that_exist(scraped: Any) -> None:
    rules = [rule for group in yaml.safe_load((DOCS / "alerts.yaml").read_text())["groups"] for rule in group["rules"]]
    there = {name for page in scraped.values() for name in page} | {metric.exported for metric in METRICS}
    assert len(rules) >= 8
    for rule in rules:
        used = set(re.findall(r"\b(?:nebulous|temporal)_\w+", rule["expr"]))
        assert used, rule["alert"]
        assert used <= there, rule["alert"]
        assert rule["annotations"]["action"]


def test_alerts_use_labels_that_the_metrics_have() -> None:
    labels = {metric.exported: {*metric.labels, "le"} for metric in METRICS}
    for name, inside in re.findall(r"(nebulous_\w+)\{([^}]*)\}", (DOCS / "alerts.yaml").read_text()):
        metric = re.sub(r"_(bucket|count|sum)$", "", name)
        assert set(re.findall(r"(\w+)=~?\"", inside)) <= labels[metric], name


def test_an_address_that_is_taken_is_said_with_its_setting(tmp_path: Path) -> None:
    port = claim_port(0, "metrics")
    with httpx.Client():  # nothing listens: the port is free until the first runtime takes it
        first = metrics.runtime(f"127.0.0.1:{port}", "NEBU_API_METRICS")
        assert first
        with pytest.raises(Exception, match=r"metrics cannot be served at .*already in use") as caught:
            metrics.runtime(f"127.0.0.1:{port}", "NEBU_API_METRICS")
    assert "NEBU_API_METRICS" in str(caught.value.hint)


def test_the_page_in_docs_is_what_the_code_says() -> None:
    assert (DOCS / "metrics.md").read_text() == measured()
