"""Which server the client talks to, and as whom: `~/.nebu/config.yaml`, mode 0600.

`NEBU_CONFIG` names another file; `NEBU_SERVER` and `NEBU_API_KEY` win over any file. This module is on the
path of every command, so it imports no library: the file is written in a plain subset of YAML that a few
lines read, and the YAML library is loaded only for a file that a person has rearranged.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from nebulous.errors import NotFound, Rejected

DEFAULT_SERVER = "http://127.0.0.1:3000"  # where `nebu serve` listens unless told otherwise
DEFAULT_NAMESPACE = "default"
ENVIRONMENT = "environment"  # name of the context that NEBU_SERVER and NEBU_API_KEY describe

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_LINE = re.compile(r"^( *)([A-Za-z0-9_.-]+):(?: (.+))?$")


@dataclass(frozen=True)
class Context:
    """A server, and who we are there."""

    name: str
    server: str = DEFAULT_SERVER
    token: str | None = None
    organization: str | None = None  # None: the token's own
    namespace: str | None = None  # None: `default`


@dataclass
class Contexts:
    """All contexts of the file, and which of them is in use."""

    path: Path
    current: str | None = None
    known: dict[str, Context] = field(default_factory=dict[str, Context])

    def active(self) -> Context:
        """The context in force: environment first, then the file, then a local server without a token.

        A token of the file is sent only to the server that it was saved with.
        """
        chosen = self.known.get(self.current or "") or Context(name="none")
        server, token = os.environ.get("NEBU_SERVER"), os.environ.get("NEBU_API_KEY")
        if server and server_url(server) != chosen.server:
            same = (known for known in self.known.values() if known.server == server_url(server))
            chosen = next(same, Context(name=ENVIRONMENT, server=server_url(server)))
        return replace(chosen, token=token.strip()) if token else chosen

    def chosen(self, name: str | None, server: str | None, token: str | None) -> Context:
        """The context in force, unless a program says otherwise; what it says wins over environment and file.

        A token of the environment goes to the server of the environment, where it names one, and to no other.

        Raises:
            NotFound: No context has this name.
        """
        context = self.active() if name is None else self.named(name)
        if server and server_url(server) != context.server:
            same = (known for known in self.known.values() if known.server == server_url(server))
            context = next(same, Context(name="given", server=server_url(server)))
            if not os.environ.get("NEBU_SERVER") and name is None:
                context = replace(context, token=os.environ.get("NEBU_API_KEY", "").strip() or context.token)
        return replace(context, token=token.strip()) if token else context

    def named(self, name: str) -> Context:
        """The context of this name.

        Raises:
            NotFound: There is none.
        """
        if name not in self.known:
            names = ", ".join(sorted(self.known)) or "none yet: log in with `nebu login`"
            raise NotFound(f"no context {name!r} in {self.path}", f"known contexts: {names}")
        return self.known[name]

    def use(self, name: str) -> Context:
        """Make a context the current one, in memory; `save` keeps it.

        Raises:
            NotFound: No context has this name.
        """
        context = self.named(name)
        self.current = name
        return context

    def save(self) -> None:
        """Write the file in one step, readable by its owner alone."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self._text())
        draft.replace(self.path)

    def _text(self) -> str:
        lines = ["# Written by nebu; NEBU_SERVER and NEBU_API_KEY win over it."]
        lines += [f"current: {json.dumps(self.current)}", "contexts:" if self.known else "contexts: {}"]
        for name, context in self.known.items():
            lines.append(f"  {name}:")
            values = asdict(context)
            lines += [f"    {key}: {json.dumps(values[key])}" for key in values if key != "name" and values[key]]
        return "\n".join(lines) + "\n"


def config_path() -> Path:
    """The file of contexts: `NEBU_CONFIG`, else `~/.nebu/config.yaml`."""
    return Path(os.environ.get("NEBU_CONFIG") or "~/.nebu/config.yaml").expanduser()


def load() -> Contexts:
    """Read the contexts; a file that does not exist holds none.

    Raises:
        Rejected: The file cannot be read, or does not look as it should; the message names it.
    """
    path = config_path()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Contexts(path)
    except (OSError, UnicodeDecodeError) as error:
        raise Rejected(f"cannot read {path}: {error}", "mend the file, or name another in NEBU_CONFIG") from error
    data = _parse(text, path)
    contexts: object = data.get("contexts") or {}
    if not isinstance(contexts, dict):
        raise _malformed(path, "`contexts` should map names to {server, token}")
    known = {str(name): _context(str(name), value, path) for name, value in cast("dict[Any, Any]", contexts).items()}
    current = data.get("current")
    return Contexts(path, str(current) if current is not None else None, known)


def save_context(
    name: str,
    server: str,
    token: str | None,
    organization: str | None = None,
    namespace: str | None = None,
) -> Context:
    """Add or replace a context and make it the current one.

    Raises:
        Rejected: The name or the server's address is none, or the present file is malformed.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise Rejected(f"{name!r} cannot name a context", "use letters, digits, '-', '_' and '.'")
    contexts = load()
    contexts.known[name] = Context(name, server_url(server), token, organization, namespace)
    contexts.current = name
    contexts.save()
    return contexts.known[name]


def server_url(text: str) -> str:
    """The address in full: `localhost:3000` becomes `http://localhost:3000`, other hosts get https.

    Raises:
        Rejected: It is no address of a server.
    """
    url = text.strip()
    if "://" not in url:
        host = urlsplit(f"//{url}").hostname
        url = f"{'http' if host in _LOOPBACK else 'https'}://{url}"
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:  # the port is no number
        usable = False
    if not usable or any(character.isspace() for character in url):
        raise Rejected(f"{text!r} is not the address of a server", "write it like http://127.0.0.1:3000")
    return url.rstrip("/")


def is_loopback(server: str) -> bool:
    """True when the server runs on this machine."""
    return urlsplit(server).hostname in _LOOPBACK


def _context(name: str, value: object, path: Path) -> Context:
    if not isinstance(value, dict):
        raise _malformed(path, f"context {name!r} should be {{server, token}}, not {value!r}")
    fields = cast("dict[str, Any]", value)

    def text(key: str) -> str | None:
        return str(fields[key]) if fields.get(key) else None

    server = server_url(text("server") or DEFAULT_SERVER)
    return Context(name, server, text("token"), text("organization"), text("namespace"))


def _parse(text: str, path: Path) -> dict[str, Any]:
    plain = _plain(text)
    if plain is not None:
        return plain
    import yaml

    try:
        data: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise _malformed(path, str(error)) from error
    if not isinstance(data, dict):
        raise _malformed(path, "it should hold `current` and `contexts`")
    return cast("dict[str, Any]", data)


def _plain(text: str) -> dict[str, Any] | None:
    """Read what `_text` wrote; None for anything else."""
    root: dict[str, Any] = {}
    open_maps = [root]
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        depth = len(match[1]) // 2 if match else 0
        if match is None or len(match[1]) % 2 or depth >= len(open_maps):
            return None
        del open_maps[depth + 1 :]
        try:
            value: Any = json.loads(match[3]) if match[3] else {}
        except ValueError:
            return None
        if match[2] in open_maps[depth]:
            return None
        open_maps[depth][match[2]] = value
        if not match[3]:
            open_maps.append(value)
    return root


def _malformed(path: Path, why: str) -> Rejected:
    return Rejected(f"{path} is malformed: {why}", "mend it, or delete it and run `nebu login` (or `nebu serve`)")
