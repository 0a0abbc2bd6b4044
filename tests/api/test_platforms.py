"""Platforms and accelerators: what is there, what is not, and what to do."""

from __future__ import annotations

from typing import Any


async def test_every_known_platform_is_listed_with_why_it_cannot_be_used(desk: Any) -> None:
    rows = {row["platform"]: row for row in (await desk.http.get("/v1/platforms")).json()["platforms"]}
    assert list(rows) == ["runpod", "ec2", "gce", "docker", "local", "sim"]
    assert {name for name, row in rows.items() if row["usable"]} == {"ec2", "docker", "sim"}
    assert {name for name, row in rows.items() if row["simulated"]} == {"ec2", "sim"}
    assert "nebu serve --simulate runpod" in rows["runpod"]["hint"]
    assert "NEBU_LOCAL_ENABLED" in rows["local"]["hint"]


async def test_accelerators_are_listed_for_all_clouds_or_one(desk: Any) -> None:
    every = (await desk.http.get("/v1/accelerators")).json()["accelerators"]
    gce = (await desk.http.get("/v1/accelerators?platform=gce")).json()["accelerators"]
    assert {row["name"] for row in every} > {row["name"] for row in gce} > {"L4"}
    refused = await desk.http.get("/v1/accelerators?platform=gcee")
    assert refused.status_code == 422
    assert "did you mean 'gce'" in refused.json()["error"]["hint"]
