"""The topology of docker-compose.yml for the tests beside this; CONTRIBUTING.md says what it needs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NoReturn

import pytest

from tests.production.topology import Topology, topology, why_not


def without(reason: str) -> NoReturn:
    """Skip a test, or fail it where all of them are asked for."""
    if os.environ.get("NEBU_TEST_REQUIRE_PRODUCTION") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def production() -> Iterator[Topology]:
    """Temporal on PostgreSQL, Valkey, worker and API, as the compose file has them."""
    if reason := why_not():
        without(reason)
    with topology() as running:
        yield running
