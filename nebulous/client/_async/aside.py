"""Work that blocks, done beside the event loop; where nothing is awaited it is simply done."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def aside(work: Callable[[], T]) -> T:
    """Do it in a thread of its own: in a pool, what takes long would keep waiting what could end it."""
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = context.run(work)
        except StopIteration as error:  # which no future takes
            stopped = RuntimeError("StopIteration was raised by what was called")
            stopped.__cause__ = error
            settle = _unless_cancelled(done, lambda: done.set_exception(stopped))
        except BaseException as error:  # for whoever awaits it
            settle = _unless_cancelled(done, lambda error=error: done.set_exception(error))
        else:
            settle = _unless_cancelled(done, lambda: done.set_result(result))
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=run, daemon=True).start()
    return await done


def _unless_cancelled(done: asyncio.Future[T], settle: Callable[[], None]) -> Callable[[], None]:
    return lambda: None if done.done() else settle()
