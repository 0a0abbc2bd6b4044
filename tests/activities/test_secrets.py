"""Secrets on their way into an instance."""

from __future__ import annotations

import pytest

from activities.secrets import SecretReader
from nebulous import ids
from nebulous.errors import Rejected
from nebulous.models.containers import Launch
from nebulous.models.resources import Metadata
from nebulous.seal import seal, secret_key
from tests.nebula import Nebula, Resource


async def test_a_deleted_secret_is_not_handed_out_although_its_history_is_kept(nebula: Nebula) -> None:
    key = secret_key(nebula.settings)
    address = ids.Address("secret", "local", "default", ids.two_words())
    handle = await nebula.client.start_workflow(
        "Secret",
        {"spec": {"sealed": seal(key, address, "hunter2"), "digest": "d"}},
        id=str(address),
        task_queue=ids.TASK_QUEUE,
    )
    secret = Resource(nebula.client, handle)
    await secret.row()
    metadata = Metadata(name="x", namespace="default", owner="local", id="x")
    spec = {"image": "x", "env_vars": [{"key": "TOKEN", "secret_name": address.name}]}
    launch = Launch(metadata=metadata, spec=spec, key="k", install="i", workflow="w")
    reader = SecretReader(nebula.client, key)
    assert (await reader.command(launch)).env["TOKEN"] == "hunter2"
    await secret.signal("delete")
    await secret.gone()
    with pytest.raises(Rejected, match="does not exist") as refused:
        await reader.command(launch)
    assert "nebu create secret" in (refused.value.hint or "")
