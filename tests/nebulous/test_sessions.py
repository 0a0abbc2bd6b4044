"""Finding the last lines of an output that comes in pieces."""

from __future__ import annotations

from collections.abc import AsyncIterator

from hypothesis import given
from hypothesis import strategies as st

from nebulous.sessions import last_lines


@given(st.lists(st.binary(max_size=6).map(lambda data: data.replace(b"a", b"\n"))), st.integers(0, 5))
async def test_the_last_lines_are_found_wherever_the_pieces_are_cut(pieces: list[bytes], count: int) -> None:
    async def source() -> AsyncIterator[bytes]:
        for piece in pieces:
            yield piece

    whole = b"".join(pieces)
    hello = await last_lines(source(), count)
    lines = whole.split(b"\n")
    lines = [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])
    wanted = lines[-count:] if count else []
    assert whole[hello.offset :] == b"".join(wanted)
    assert hello.lines == len(wanted)
