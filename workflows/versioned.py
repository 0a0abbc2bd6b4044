"""Servants of the install, as a versioned worker runs them: whatever build is current takes their next decision.

A container stays on the build that began it. These have no end, hold no state that matters between two decisions, and
must go on when the old build's last worker is gone. Temporal refuses the mark from a worker without versioning.
"""

from __future__ import annotations

from typing import Any

from temporalio import workflow
from temporalio.common import VersioningBehavior

from workflows.installs import InstallWorkflow
from workflows.platforms import PlatformWorkflow
from workflows.sweeps import PlatformSweepWorkflow


@workflow.defn(name="Install", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VersionedInstallWorkflow(InstallWorkflow):
    """The same, on the current build."""

    @workflow.run
    async def run(self, install: str) -> None:
        """Stay."""
        await super().run(install)


@workflow.defn(name="Platform", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VersionedPlatformWorkflow(PlatformWorkflow):
    """The same, on the current build."""

    @workflow.init
    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__(report)

    @workflow.run
    async def run(self, report: dict[str, Any]) -> None:
        """Publish each report."""
        await super().run(report)


@workflow.defn(name="PlatformSweep", versioning_behavior=VersioningBehavior.AUTO_UPGRADE)
class VersionedPlatformSweepWorkflow(PlatformSweepWorkflow):
    """The same, on the current build."""

    @workflow.run
    async def run(self, account: str) -> None:
        """Observe for ever."""
        await super().run(account)
