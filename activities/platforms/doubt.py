"""Once a request that rents was accepted, no error may say that nothing was rented."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from nebulous.errors import NebulousError, Unavailable


@contextmanager
def maybe_rented(name: str) -> Generator[None]:
    """Around what is asked after a request that rents: how that fails says nothing of what it rented.

    Raises:
        Unavailable: Whatever failed.
    """
    try:
        yield
    except Unavailable:
        raise
    except NebulousError as error:
        raise Unavailable(f"{name} may have been rented: {error.message}", error.hint) from error
