"""Secrets on their way into an instance."""

from __future__ import annotations

from typing import Any

import pytest

from activities.secrets import SecretReader
from nebulous import ids
from nebulous.errors import Rejected
from nebulous.models.containers import Launch
from nebulous.models.resources import Metadata
from nebulous.seal import seal, secret_key
from tests.nebula import Nebula, Resource

ADA, BOB = f"ssh-ed25519 AAAA{'a' * 40} ada@laptop", f"ssh-ed25519 AAAA{'b' * 40} bob"


async def stored(nebula: Nebula, value: str) -> str:
    """A secret of this value; its name."""
    address = ids.Address("secret", "local", "default", ids.two_words())
    handle = await nebula.client.start_workflow(
        "Secret",
        {"spec": {"sealed": seal(secret_key(nebula.settings), address, value), "digest": "d"}},
        id=str(address),
        task_queue=ids.TASK_QUEUE,
    )
    await Resource(nebula.client, handle).row()
    return address.name


async def environment(nebula: Nebula, **spec: Any) -> dict[str, str]:
    metadata = Metadata(name="x", namespace="default", owner="local", id="x")
    launch = Launch(metadata=metadata, spec={"image": "x", **spec}, key="k", install="i", workflow="w")
    return (await SecretReader(nebula.client, secret_key(nebula.settings)).command(launch)).env


async def test_public_keys_reach_the_container_one_a_line_and_each_once(nebula: Nebula) -> None:
    name = await stored(nebula, f"{BOB}\n")
    keys = [{"public_key": ADA}, {"public_key_secret": name}, {"public_key": ADA}, {"copy_local": True}]
    assert (await environment(nebula, ssh_keys=keys))["PUBLIC_KEY"] == f"{ADA}\n{BOB}"
    assert "PUBLIC_KEY" not in await environment(nebula, ssh_keys=[{"copy_local": True}])


async def test_a_public_key_that_the_user_sets_wins(nebula: Nebula) -> None:
    own = [{"key": "PUBLIC_KEY", "value": "mine"}]
    assert (await environment(nebula, ssh_keys=[{"public_key": ADA}], env_vars=own))["PUBLIC_KEY"] == "mine"


async def test_a_secret_that_holds_no_public_key_is_refused_without_showing_it(nebula: Nebula) -> None:
    name = await stored(nebula, "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2")
    with pytest.raises(Rejected, match=f"secret '{name}': this is a private key") as refused:
        await environment(nebula, ssh_keys=[{"public_key_secret": name}])
    assert "hunter2" not in str(refused.value)


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
