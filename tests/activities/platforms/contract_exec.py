"""The part of the contract that is for platforms with Feature.EXEC. `contract.py` mixes it in."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from activities.platforms.base import NO_PROGRAM, NOT_EXECUTABLE, STDERR, STDOUT, Executes, Size
from nebulous.errors import Conflict, NotFound
from nebulous.models.platforms import Feature

SAID = b"\xff\x00 bytes, not text \r\n" * 3


async def outcome(execution: Any) -> tuple[bytes, bytes, int]:
    """All it writes, by channel, and its exit code."""
    written = {STDOUT: b"", STDERR: b""}
    async for channel, data in execution.output():
        written[channel] += data
    return written[STDOUT], written[STDERR], await execution.exit_code()


async def seen(pieces: Any, wanted: bytes) -> bytes:
    """Read until this was written."""
    text = b""
    async with asyncio.timeout(20):
        while wanted not in text:
            text += (await anext(pieces))[1]
    return text


class ExecContract:
    """Mixed into PlatformContract."""

    def tells_size(self, rows: int, cols: int) -> list[str]:
        """Prints this size once it has it: an Engine gives a terminal its size only after the command has begun."""
        script = f'until [ "$(stty size 2>/dev/null)" = "{rows} {cols}" ]; do sleep 0.02; done; stty size'
        return ["sh", "-c", script]

    @pytest.fixture
    async def inside(self: Any, platform: Any) -> Any:
        """Runs further commands beside one that stays: `inside(argv, size)` is the block's context manager."""
        if Feature.EXEC not in platform.features:
            assert not isinstance(platform, Executes)
            pytest.skip("it runs no further commands")
        assert isinstance(platform, Executes)
        instance = await self.run(platform, self.stays())
        return lambda argv, size=None: platform.execute(instance, argv, size)

    async def test_a_further_command_says_what_it_says_and_has_its_exit_code(self: Any, inside: Any):
        async with asyncio.timeout(self.patience_s):
            async with inside(["echo", "hello", "world"]) as execution:
                assert await outcome(execution) == (b"hello world\n", b"", 0)
            async with inside(["false"]) as execution:
                assert await outcome(execution) == (b"", b"", 1)

    async def test_it_reads_its_input_to_the_end(self: Any, inside: Any):
        async with asyncio.timeout(self.patience_s), inside(["cat"]) as execution:
            for _ in range(3):
                await execution.write(SAID)
            await execution.end_input()
            assert await outcome(execution) == (3 * SAID, b"", 0)

    async def test_many_at_once_do_not_mix(self: Any, inside: Any):
        async def one(number: int) -> tuple[bytes, bytes, int]:
            async with inside(["cat"]) as execution:
                await execution.write(b"%d\n" % number)
                await execution.end_input()
                return await outcome(execution)

        async with asyncio.timeout(60):
            ended = await asyncio.gather(*map(one, range(20)))
        assert ended == [(b"%d\n" % number, b"", 0) for number in range(20)]

    async def test_a_terminal_echoes_and_knows_its_size(self: Any, inside: Any):
        async with asyncio.timeout(self.patience_s):
            async with inside(self.tells_size(33, 77), Size(33, 77)) as execution:
                ended = await outcome(execution)
                assert ended == (b"33 77\r\n", b"", 0), ended
            async with inside(["cat"], Size()) as execution:
                pieces = execution.output()
                await execution.write(b"typed\r")
                await seen(pieces, b"typed\r\n")
                await execution.write(b"\x04")
                async for _ in pieces:
                    pass
                assert await execution.exit_code() == 0

    async def test_ctrl_c_on_a_terminal_reaches_the_command(self: Any, inside: Any):
        async with asyncio.timeout(self.patience_s), inside(["sleep", "300"], Size()) as execution:
            await execution.write(b"\x03")
            _, _, code = await outcome(execution)
            assert code == 130

    async def test_input_that_nobody_wants_is_dropped(self: Any, inside: Any):
        async with asyncio.timeout(self.patience_s), inside(["true"]) as execution:
            assert (await outcome(execution))[2] == 0
            for _ in range(40):
                await execution.write(b"x" * 10_000)
            await execution.end_input()

    async def test_beside_a_command_that_does_not_run_there_is_none(self: Any, platform: Any):
        if Feature.EXEC not in platform.features:
            pytest.skip("it runs no further commands")
        launch = self.exits(0)
        rented = await self.rent(platform, launch)
        with pytest.raises(Conflict):
            await self._execute(platform, rented)
        await self.start(platform, rented, launch)
        ended = await self.over(platform, launch.key)
        with pytest.raises(Conflict):
            await self._execute(platform, ended)
        await self.gone(platform, launch.key)
        with pytest.raises(NotFound):
            await self._execute(platform, ended)

    @staticmethod
    async def _execute(platform: Any, instance: Any) -> None:
        async with platform.execute(instance, ["true"]):
            pass


class RealExecContract:
    """For platforms that execute, beyond what a pretended command can show."""

    @pytest.fixture
    def beside(self: Any, platform: Any) -> Any:
        """Runs further commands beside one with an environment."""

        async def started(**spec: Any) -> Any:
            launch = self.launch(["sleep", "300"], **spec)
            instance = await self.run(platform, launch)
            return lambda argv, size=None: platform.execute(instance, argv, size)

        return started

    async def test_it_has_the_environment_and_the_folder_of_the_containers_own_command(self: Any, beside: Any):
        inside = await beside(env_vars=[{"key": "GREETING", "value": "a b"}])
        async with inside(["sh", "-c", 'echo "$GREETING $NEBU_ATTEMPT"; pwd; echo wrong >&2; exit 7']) as execution:
            out, err, code = await outcome(execution)
        lines = out.decode().splitlines()
        assert (lines[0], err, code) == ("a b 1", b"wrong\n", 7)
        async with inside(["pwd"]) as execution:
            assert (await outcome(execution))[0].decode().strip() == lines[1]

    @pytest.mark.parametrize(("argv", "code"), [(["no-such-program"], NO_PROGRAM), (["/tmp"], NOT_EXECUTABLE)])
    async def test_what_cannot_be_executed_says_so_on_stderr(self: Any, beside: Any, argv: list[str], code: int):
        async with (await beside())(argv) as execution:
            out, err, ended = await outcome(execution)
        assert (out, ended) == (b"", code), err
        assert argv[0].encode() in err

    async def test_a_terminal_that_changes_its_size_tells_the_command(self: Any, beside: Any):
        # Its first size may come late: it is no change that ends it.
        script = "trap 'stty size | grep 111 && exit 3' WINCH; echo ready; while :; do sleep 0.05; done"
        async with asyncio.timeout(self.patience_s), (await beside())(["sh", "-c", script], Size()) as execution:
            pieces = execution.output()
            await seen(pieces, b"ready")
            await execution.resize(Size(44, 111))
            assert b"44 111" in await seen(pieces, b"111")

    async def test_leaving_ends_the_command_and_what_it_started(self: Any, beside: Any):
        inside = await beside()
        mark = str(random.randint(10**8, 10**9))
        script = f"sleep {mark} & trap '' HUP; echo ready; wait; sleep {mark}"
        async with inside(["sh", "-c", script]) as execution:
            await seen(execution.output(), b"ready")
        pattern = f"{mark[:-1]}[{mark[-1]}]"  # does not match itself
        look = f"for p in /proc/[0-9]*/cmdline; do cat $p 2>/dev/null; echo; done | grep -c '{pattern}'"
        async with inside(["sh", "-c", look]) as execution:
            assert (await outcome(execution))[0] == b"0\n"

    async def test_more_than_any_buffer_goes_through_both_ways_at_once(self: Any, beside: Any):
        async with asyncio.timeout(60), (await beside())(["cat"]) as execution:
            sent = 40 * (b"0123456789abcdef" * 4096)

            async def feed() -> None:
                for at in range(0, len(sent), 50_000):
                    await execution.write(sent[at : at + 50_000])
                await execution.end_input()

            feeding = asyncio.create_task(feed())
            assert (await outcome(execution))[0] == sent
            await feeding
