"""The sandbox that tests and replays use: what it must survive."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest
from temporalio import workflow

from worker.build import workflow_runner
from workflows.secrets import SecretWorkflow


class Waste:
    """A cycle whose end imports, as that of a socket which nobody closed does, and makes more of its kind."""

    makes_more = True

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        sys.modules.pop("colorsys", None)
        import colorsys  # noqa: F401 - to import what is not loaded is the point

        if Waste.makes_more:
            Waste()


@pytest.fixture
def eager_collector() -> Iterator[None]:
    """Garbage at all times, and a collector that runs at nearly every allocation."""
    before = gc.get_threshold()
    Waste()
    gc.set_threshold(1)
    yield
    gc.set_threshold(*before)
    Waste.makes_more = False


@pytest.mark.usefixtures("eager_collector")
async def test_garbage_whose_finalizer_imports_breaks_no_import_of_a_workflow() -> None:
    workflow_runner(strict=True).prepare_workflow(workflow._Definition.must_from_class(SecretWorkflow))
    assert gc.isenabled()
