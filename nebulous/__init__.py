"""Nebulous: runs AI containers on whatever accelerator is free, on any cloud.

`nebulous.Client` and `nebulous.AsyncClient` speak to a server; docs/sdk.md shows how.
"""

TYPE_CHECKING = False  # type checkers take it for true; importing `typing` for it would double the time of this import
if TYPE_CHECKING:
    from nebulous.client import AsyncClient, Client

__version__ = "0.1.0"

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:  # on first use: whoever wants the version should not wait for an HTTP client
    if name not in ("AsyncClient", "Client"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nebulous import client

    return getattr(client, name)
