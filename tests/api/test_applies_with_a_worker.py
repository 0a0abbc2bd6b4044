"""PUT and PATCH with a real worker and a simulated cloud: changes in place, new lives, races, and kill -9."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.api.worlds import World, world  # noqa: F401 - a fixture
from tests.nebula import eventually, sim_labels

FOO = "/v1/containers/default/foo"
