"""What `ssh` has to know of containers: an entry for all of them, and names of those that run for editors' lists."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path

from nebulous import contexts
from nebulous.cli.lookup import Lookup
from nebulous.cli.names import Target
from nebulous.client import Json
from nebulous.models import kinds

ALIAS = "nebu"  # under which our host key is known, whichever container it is


def hosts(lookup: Lookup, names: list[str]) -> list[str]:
    """The host names of these containers, or of all that run.

    Raises:
        NotFound: One of them does not exist.
    """
    container = kinds.find("container")
    rows = [lookup.find(Target(container, name)) for name in names] or lookup.rows(container, status="running")
    return sorted(_host(row["metadata"], lookup.default_namespace) for row in rows)


def _host(metadata: Json, default: str) -> str:
    name, namespace = metadata["name"], metadata["namespace"]
    return f"{name}.nebu" if namespace == default else f"{name}.{namespace}.nebu"


def render(names: list[str], owner: str | None = None) -> str:
    """The text for ~/.ssh/config; makes the host key if there is none yet.

    ssh hands the command to a shell, and some versions of it check no host name: each word is quoted.
    """
    known = str(known_hosts()).replace("%", "%%")
    program = [found] if (found := shutil.which("nebu")) else [sys.executable, "-m", "nebulous"]
    words = [*program, "ssh", *(["--owner", owner] if owner else []), "--stdio"]
    command = " ".join([shlex.quote(word).replace("%", "%%") for word in words] + ["'%n'"])
    listed = [f"Host {name}" for name in names]
    return "\n".join(
        [
            *listed,
            "Host *.nebu",
            f"    ProxyCommand {command}",
            f"    HostKeyAlias {ALIAS}",
            f'    UserKnownHostsFile "{known}"',
            "    StrictHostKeyChecking yes",
            "    User root",
        ]
    )


def folder() -> Path:
    """Where key and known hosts are kept, beside the contexts."""
    found = contexts.config_path().parent / "ssh"
    found.mkdir(parents=True, exist_ok=True, mode=0o700)
    return found


def host_key() -> Path:
    """The key by which `nebu ssh --stdio` is known on this machine; made once."""
    path = folder() / "host_key"
    if not path.exists():
        import asyncssh

        draft = path.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())
        with suppress(FileExistsError):  # whoever comes second takes the first one's
            os.link(draft, path)
        draft.unlink()
    return path


def known_hosts() -> Path:
    """A file of known hosts with that key."""
    import asyncssh

    path = folder() / "known_hosts"
    public = asyncssh.read_private_key(str(host_key())).export_public_key().decode().strip()
    path.write_text(f"{ALIAS} {public}\n")
    return path
