"""Rented machines: every promise of the contract, on real machines behind a cloud in memory."""

from __future__ import annotations

import pytest

from tests.activities.platforms.contract import PlatformContract
from tests.activities.platforms.contract_exec import RealExecContract
from tests.activities.platforms.machine_builders import OnMachines

pytestmark = pytest.mark.docker


class TestMachinesContract(OnMachines, RealExecContract, PlatformContract):
    """Boot script, SSH, Docker, command: nothing is pretended but the cloud."""
