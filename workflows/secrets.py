"""A secret: an encrypted value under a name, until it is deleted. The smallest kind there is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from temporalio import workflow

from nebulous.models.secrets import SecretSpec, StoredSecret
from workflows.entity import Step
from workflows.entity_state import EntityState
from workflows.wishes import Resource


class SecretState(EntityState):
    """Nothing beyond what every resource has; `spec` holds the sealed value."""

    phase: str = "kept"
    problem: str = ""


@workflow.defn(name="Secret")
class SecretWorkflow(Resource[SecretState]):
    """Keeps one sealed value; only its digest, never the value, is in the memo."""

    model = SecretSpec

    @workflow.init
    def __init__(self, state: dict[str, Any]) -> None:
        problem = self.load(state, SecretState, StoredSecret)
        self.state.problem = problem or self.state.problem

    @workflow.run
    async def run(self, state: dict[str, Any]) -> None:
        """Live until deleted."""
        await self.live()

    def steps(self) -> Mapping[str, Step]:
        """The phase table."""
        return {"kept": self.kept, "close": self.close}

    async def kept(self) -> str:
        """Wait for deletion."""
        gone = await self.wait(lambda: self.state.deleting)
        return "close" if gone else "kept"

    def status(self) -> dict[str, Any]:
        """Ready, or on its way out."""
        if self.state.problem:
            return {"status": "invalid", "reason": "InvalidSpec", "message": self.state.problem}
        return {"status": "deleting" if self.state.deleting else "ready", "reason": "", "message": ""}

    def shown_spec(self, spec: dict[str, Any]) -> dict[str, Any]:
        """The spec without the value."""
        return {key: value for key, value in spec.items() if key != "sealed"}

    def details(self) -> str:
        """What a person reads in the Temporal UI."""
        return f"## {self.status()['status']}\n{self.state.problem or 'The value is encrypted; `nebu` can read it.'}"

    @workflow.query(name="sealed", description="The value, encrypted.")
    def sealed(self) -> str:
        """The sealed value, for whoever holds the key."""
        return str(self.state.spec.get("sealed", ""))
