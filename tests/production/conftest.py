"""The topology of docker-compose.yml for the tests beside this; CONTRIBUTING.md says what it needs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.production.topology import Topology, topology, why_not


@pytest.fixture(scope="session")
def production() -> Iterator[Topology]:
    """Temporal on PostgreSQL, Valkey, worker and API, as the compose file has them."""
    if reason := why_not():
        pytest.skip(reason)
    with topology() as running:
        yield running
