"""Short words for the tests of this host as a platform."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import psutil

from activities.platforms.local import LocalPlatform
from nebulous.models.containers import Launch
from nebulous.models.platforms import Instance
from tests.activities.platforms.contract import PlatformContract, text_of, until


class Words(PlatformContract):
    rented: list[str] = []


WORDS = Words()


async def run(local: LocalPlatform, command: str | list[str], **spec: Any) -> tuple[Launch, Instance]:
    launch = WORDS.launch(command, **spec)
    return launch, await WORDS.run(local, launch)


async def said(local: LocalPlatform, instance: Instance, *words: str) -> str:
    async def written() -> str:
        text = await text_of(local, instance)
        return text if all(word in text for word in words) else ""

    return await until(written)


def folder_of(tmp_path: Path, launch: Launch) -> Path:
    return tmp_path / "local" / launch.key


def record(tmp_path: Path, launch: Launch, name: str) -> dict[str, Any]:
    return json.loads((folder_of(tmp_path, launch) / "runs" / "1" / name).read_text())


def rewrite(tmp_path: Path, launch: Launch, name: str, **changes: Any) -> None:
    path = folder_of(tmp_path, launch) / "runs" / "1" / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def lives(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


async def dead(*pids: int) -> None:
    async def all_dead() -> bool:
        return not any(lives(pid) for pid in pids)

    await until(all_dead)
