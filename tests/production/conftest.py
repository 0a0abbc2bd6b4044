"""The topology of docker-compose.yml for the tests beside this; CONTRIBUTING.md says what it needs."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.production.topology import Topology, topology, why_not


@pytest.fixture(scope="session")
def production() -> Iterator[Topology]:
    """Temporal on PostgreSQL, Valkey, worker and API, as the compose file has them."""
    if reason := why_not():
        if os.environ.get("NEBU_TEST_REQUIRE_PRODUCTION") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with topology() as running:
        yield running
