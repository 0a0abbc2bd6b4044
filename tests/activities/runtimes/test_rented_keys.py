"""Who a rented machine is: what is asked of its cloud, and how often."""

from __future__ import annotations

from pathlib import Path

import pytest

from activities.runtimes import machine_keys
from activities.runtimes.tunnel import RentedKeys
from nebulous.errors import AuthFailed, NebulousError, NotReady, RateLimited


@pytest.mark.parametrize("refusal", [AuthFailed("not authorized", "allow ec2:GetConsoleOutput"), RateLimited("slow")])
async def test_a_console_that_refuses_is_not_asked_again_at_once(tmp_path: Path, refusal: NebulousError):
    asked: list[int] = []

    async def announced() -> list[str]:
        asked.append(1)
        raise refusal

    keys = RentedKeys("box", machine_keys.private(bytes(32), "k"), tmp_path / "known_hosts", announced)
    for _ in range(3):
        with pytest.raises(NebulousError) as told:
            await keys.options()
        assert refusal.message in told.value.message
        assert isinstance(told.value, NotReady if isinstance(refusal, AuthFailed) else RateLimited)
        assert not isinstance(refusal, AuthFailed) or "allow ec2:GetConsoleOutput" in told.value.message
    assert len(asked) == 1
    assert not keys.refused, "nobody showed a wrong key"
