"""The server's commands, found by entry point: `nebulous` knows their names and never imports upward."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import nebulous
from nebulous.errors import NotFound

GROUP = "nebulous.commands"


def command(name: str) -> Callable[..., Any]:
    """The function behind `nebu serve`, `nebu api` or `nebu worker`.

    Raises:
        NotFound: The package is neither installed nor run from a checkout.
    """
    from nebulous.layout import use_server_packages

    use_server_packages()
    for point in points(name):
        return point.load()
    raise NotFound(
        f"`nebu {name}` is not installed", "install the whole package: pip install . in a checkout of Nebulous"
    )


def points(name: str) -> list[EntryPoint]:
    """The entry points of that name: as installed, else as a checkout declares them."""
    return list(entry_points(group=GROUP, name=name)) or _of_checkout(name)


def _of_checkout(name: str) -> list[EntryPoint]:
    import tomllib

    project = Path(nebulous.__file__).parents[1] / "pyproject.toml"
    if not project.is_file():
        return []
    declared = tomllib.loads(project.read_text())["project"]["entry-points"][GROUP]
    return [EntryPoint(name, declared[name], GROUP)] if name in declared else []
