"""`ssh_keys: [{copy_local: true}]`: the caller's own public keys, read here: the server has no home of theirs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from nebulous.cli.failures import UsageError
from nebulous.client import Json

MAKE_ONE = "make one with: ssh-keygen -t ed25519, or give public_key"


def with_local_keys(data: Json) -> Json:
    """The document with each `copy_local` replaced by the public keys in ~/.ssh.

    Raises:
        UsageError: There are none.
    """
    keys = data.get("ssh_keys")
    if not isinstance(keys, list) or not any(map(_is_local, cast("list[Any]", keys))):
        return data
    written: list[Json] = []
    for key in cast("list[Json]", keys):
        written += [{"public_key": each} for each in _local_keys()] if _is_local(key) else [key]
    return {**data, "ssh_keys": written}


def _is_local(key: Any) -> bool:  # noqa: ANN401 - whatever was written; the API says what is wrong with it
    if not isinstance(key, dict):
        return False
    known = cast(Json, key)
    return known.get("copy_local") is True and not known.get("public_key") and not known.get("public_key_secret")


def _local_keys() -> list[str]:
    folder = Path("~/.ssh").expanduser()
    try:
        files = sorted(folder.glob("*.pub"))
        found = [line.strip() for file in files for line in file.read_text().splitlines() if line.strip()]
    except OSError as error:
        raise UsageError(f"ssh_keys: copy_local: cannot read {str(folder)!r}: {error.strerror}", MAKE_ONE) from error
    if not found:
        raise UsageError(f"ssh_keys: copy_local: there is no public key in {str(folder)!r}", MAKE_ONE)
    return list(dict.fromkeys(found))
