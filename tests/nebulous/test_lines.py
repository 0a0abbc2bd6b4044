"""Where the last lines begin, read from the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nebulous import lines
from nebulous.lines import LastLines, last_lines


async def found(text: bytes, count: int) -> LastLines:
    async def read(start: int, end: int) -> bytes:
        assert 0 <= start < end <= len(text)
        return text[start:end]

    return await last_lines(read, len(text), count)


@given(st.lists(st.sampled_from([b"\n", b"a", b"bc", b"\n\n", b"d\n"])).map(b"".join), st.integers(0, 9))
async def test_they_are_those_that_splitting_gives(text: bytes, count: int) -> None:
    whole = text.splitlines(keepends=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "BLOCK_BYTES", 3)
        where = await found(text, count)
    wanted = whole[max(0, len(whole) - count) :]
    assert (text[where.offset :], where.count) == (b"".join(wanted), len(wanted))


async def test_only_the_end_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 100)
    text = b"a line\n" * 1000
    first = len(text)

    async def read(start: int, end: int) -> bytes:
        nonlocal first
        first = min(first, start)
        return text[start:end]

    assert await last_lines(read, len(text), 20) == LastLines(980 * 7, 20)
    assert first == len(text) - 200
