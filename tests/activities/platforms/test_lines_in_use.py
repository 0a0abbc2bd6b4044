"""A line that somebody uses outlives a list that does not know of its machine yet."""

from __future__ import annotations

from typing import Any, cast

from activities.platforms.machine_lines import Lines


class Held:
    """As much of a line as it takes to keep it."""

    def __init__(self, users: int) -> None:
        self.users = users
        self.closed = False

    async def close(self) -> None:
        self.closed = True


async def test_only_lines_that_nobody_uses_go_with_a_list():
    lines = Lines(cast(Any, None), cast(Any, None))
    used, idle = Held(1), Held(0)
    cast(Any, lines)._lines = {"used": used, "idle": idle}
    lines.only([])
    assert lines.of("used") is cast(Any, used)
    assert lines.of("idle") is None
    used.users = 0
    lines.only([])
    assert lines.of("used") is None
    await lines.close()
    assert (used.closed, idle.closed) == (True, True)
