"""Secrets on their way into an instance: read from their workflows, opened here, never stored."""

from __future__ import annotations

from typing import Any

from temporalio.client import Client, WorkflowExecutionStatus, WorkflowHandle
from temporalio.service import RPCError, RPCStatusCode

from activities.platforms.base import Command
from nebulous import temporal
from nebulous.errors import Rejected, Unavailable
from nebulous.ids import Address
from nebulous.models.container_fields import SshKey, check_key
from nebulous.models.containers import Launch
from nebulous.seal import unseal

PUBLIC_KEY = "PUBLIC_KEY"  # where images that run an SSH server look for keys, RunPod's for one


class SecretReader:
    """Resolves the secrets that a launch names."""

    def __init__(self, client: Client, key: bytes) -> None:
        self._client = client
        self._key = key

    async def command(self, launch: Launch) -> Command:
        """The environment and registry login of a launch, in clear, for one call of a platform.

        Raises:
            Rejected: A secret is missing; the hint says how to make it.
            Unavailable: No worker answered for it.
        """
        spec = launch.container
        env: dict[str, str] = {}
        for variable in spec.env_vars or []:
            env[variable.key] = (
                await self.value(launch, variable.secret_name) if variable.secret_name else variable.value or ""
            )
        if PUBLIC_KEY not in env and (keys := await self._keys(launch, spec.ssh_keys or [])):
            env[PUBLIC_KEY] = "\n".join(keys)
        env |= launch.own_env  # what a container is told about itself is always true
        registry = spec.registry
        if registry is None:
            return Command(env=env)
        return Command(env, registry.username, await self.value(launch, registry.password_secret))

    async def _keys(self, launch: Launch, keys: list[SshKey]) -> list[str]:
        """The public keys, each once."""
        found: list[str] = []
        for key in keys:
            if key.public_key_secret:
                try:
                    found.append(check_key(await self.value(launch, key.public_key_secret)))
                except ValueError as error:
                    raise Rejected(f"secret {key.public_key_secret!r}: {error}", "create it with the key") from error
            elif key.public_key:
                found.append(key.public_key)
        return list(dict.fromkeys(found))

    async def value(self, launch: Launch, name: str) -> str:
        """One secret of the launch's namespace, in clear."""
        metadata = launch.metadata
        address = Address("secret", metadata.owner, metadata.namespace, name)
        handle = self._client.get_workflow_handle(str(address))
        try:
            if await self._alive(handle):
                sealed = await handle.query("sealed", result_type=str, rpc_timeout=temporal.RPC_TIMEOUT)
                return unseal(self._key, address, sealed)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise Unavailable(f"secret {name!r} could not be read: {error.message}") from error
        raise Rejected(
            f"secret {name!r} does not exist in namespace {metadata.namespace!r}",
            f"create it: nebu create secret {name} -n {metadata.namespace} --value …",
        )

    @staticmethod
    async def _alive(handle: WorkflowHandle[Any, Any]) -> bool:
        """False for a deleted one: Temporal answers queries of closed workflows too."""
        description = await handle.describe(rpc_timeout=temporal.RPC_TIMEOUT)
        row = await temporal.row(description)
        deleted = row is not None and row.metadata.deleted_at is not None
        return description.status is WorkflowExecutionStatus.RUNNING and not deleted
