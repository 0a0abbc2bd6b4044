"""The flags that describe a container, and the document that they make."""

from __future__ import annotations

import functools
import inspect
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_type_hints

import typer

from nebulous.cli.failures import UsageError
from nebulous.client import Json

_PLACE = r"(?:[A-Za-z][\w+.-]*://)?[^:]+"  # a path, or an address such as s3://bucket/folder
_VOLUME = re.compile(rf"^(?P<source>{_PLACE}):(?P<dest>{_PLACE})(?::(?P<options>.+))?$")
_PORT = re.compile(r"^(?P<port>\d+)(?:/(?P<protocol>\w+))?(?P<public>:public)?$")
_SWITCHES = ("continuous", "delete", "resync")
_DRIVERS = {name: f"RCLONE_{name.upper()}" for name in ("sync", "copy", "bisync", "mount")}
_VALUES = ("interval", "bandwidth", "secret")

R = TypeVar("R")


def _option(*names: str, help: str, metavar: str | None = None) -> Any:  # noqa: A002, ANN401 - typer's own words
    return typer.Option(*names, help=help, metavar=metavar, show_default=False)


@dataclass(frozen=True)
class ContainerFlags:
    """What the flags of `nebu create container` say; None is what was not said."""

    image: Annotated[str | None, _option("--image", help="Container image.")] = None
    cmd: Annotated[str | None, _option("--cmd", help="Shell command to run.")] = None
    platform: Annotated[
        str | None,
        _option("--platform", help="runpod, ec2, gce, docker, local or sim, or an account such as docker:gpu-box."),
    ] = None
    accelerators: Annotated[
        list[str] | None, _option("--accelerators", metavar="N:NAME", help="Such as 4:A100; repeat by preference.")
    ] = None
    env: Annotated[list[str] | None, _option("--env", "-e", metavar="K=V", help="Variable; K takes your own.")] = None
    env_file: Annotated[list[Path] | None, _option("--env-file", help="File of K=V lines.")] = None
    labels: Annotated[list[str] | None, _option("--label", "-l", metavar="K=V", help="Label to find it by.")] = None
    volumes: Annotated[
        list[str] | None,
        _option("--volume", "-v", metavar="SRC:DST[:OPTS]", help="Data to sync, such as s3://b/x:/data:continuous."),
    ] = None
    ports: Annotated[
        list[str] | None, _option("--port", "-p", metavar="PORT", help="Such as 8080, 53/udp, 80/http:public.")
    ] = None
    queue: Annotated[str | None, _option("--queue", help="FIFO queue to wait in.")] = None
    restart: Annotated[str | None, _option("--restart", help="Never, OnFailure or Always.")] = None
    timeout: Annotated[str | None, _option("--timeout", help="Longest run, such as 1h30m.")] = None
    idle_timeout: Annotated[
        str | None, _option("--idle-timeout", help="Longest idleness of its accelerators, with nobody attached.")
    ] = None
    min_cpu: Annotated[float | None, _option("--min-cpu", help="Cores.")] = None
    min_memory: Annotated[float | None, _option("--min-memory", help="GiB.")] = None
    max_cpu: Annotated[float | None, _option("--max-cpu", help="Cores.")] = None
    max_memory: Annotated[float | None, _option("--max-memory", help="GiB.")] = None
    spot: Annotated[bool | None, _option("--spot/--on-demand", help="Cheaper machines that may be taken back.")] = None
    regions: Annotated[list[str] | None, _option("--region", help="Only there; repeat.")] = None
    max_price: Annotated[float | None, _option("--max-price", help="USD per hour.")] = None
    meter_cost: Annotated[float | None, _option("--meter-cost", help="Bill this much per unit.")] = None
    meter_cost_plus: Annotated[float | None, _option("--meter-cost-plus", help="Bill cost plus this percentage.")] = (
        None
    )
    meter_metric: Annotated[str | None, _option("--meter-metric", help="Default: runtime.")] = None
    meter_currency: Annotated[str | None, _option("--meter-currency", help="Default: USD.")] = None
    meter_unit: Annotated[str | None, _option("--meter-unit", help="second (default), minute or hour.")] = None

    def given(self) -> bool:
        """True when any flag was given."""
        return any(getattr(self, each.name) is not None for each in fields(self))

    def document(self) -> tuple[Json, dict[str, str]]:
        """The fields of a Container that these flags set, and which flag set each.

        Raises:
            UsageError: A value that the flag cannot read.
        """
        found: Json = {}
        flags: dict[str, str] = {}
        for field, flag, value in self._settings():
            if value not in (None, [], {}):
                found[field] = value
                flags[field] = flag
        return found, flags

    def _settings(self) -> Iterable[tuple[str, str, Any]]:
        """Field, flag and value, one after the other."""
        yield "image", "--image", self.image
        yield "command", "--cmd", self.cmd
        yield "platform", "--platform", self.platform
        yield "accelerators", "--accelerators", self.accelerators
        yield "env_vars", "--env", [*_env_files(self.env_file or []), *(_variable(text) for text in self.env or [])]
        yield "volumes", "--volume", [volume(text) for text in self.volumes or []]
        yield "ports", "--port", [port(text) for text in self.ports or []]
        yield "queue", "--queue", self.queue
        yield "restart", "--restart", self.restart
        yield "timeout", "--timeout", self.timeout
        yield "idle_timeout", "--idle-timeout", self.idle_timeout
        sizes = {name: getattr(self, name) for name in ("min_cpu", "min_memory", "max_cpu", "max_memory")}
        yield "resources", "--min/max-cpu/memory", {name: size for name, size in sizes.items() if size is not None}
        yield "spot", "--spot", self.spot
        yield "regions", "--region", self.regions
        yield "max_usd_per_hour", "--max-price", self.max_price
        yield "meters", "--meter-…", self._meters()

    def _meters(self) -> list[Json]:
        meter = {"cost": self.meter_cost, "costp": self.meter_cost_plus}
        prices = {name: price for name, price in meter.items() if price is not None}
        about = (self.meter_metric, self.meter_unit, self.meter_currency)
        if not prices:
            if any(about):
                raise UsageError("a meter needs a price", "give --meter-cost or --meter-cost-plus")
            return []
        metric, unit, currency = (given or usual for given, usual in zip(about, _USUAL_METER, strict=True))
        return [{"metric": metric, "unit": unit, "currency": currency, **prices}]


_USUAL_METER = ("runtime", "second", "USD")


def spread(function: Callable[..., R]) -> Callable[..., R]:
    """Give a command one option for every field of ContainerFlags, in place of its parameter `flags`."""
    hints = get_type_hints(ContainerFlags, include_extras=True)
    own = [each for each in inspect.signature(function, eval_str=True).parameters.values() if each.name != "flags"]
    options = [
        inspect.Parameter(each.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hints[each.name])
        for each in fields(ContainerFlags)
    ]

    @functools.wraps(function)
    def command(**given: Any) -> R:  # noqa: ANN401 - each option has its own type
        flags = ContainerFlags(**{name: given.pop(name) for name in hints})
        return function(flags=flags, **given)

    keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
    signature = inspect.Signature([*keyword, *options])
    command.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    command.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue] - what `inspect` looks for
    return command


def pairs(texts: Iterable[str], flag: str) -> dict[str, str]:
    """`K=V` texts as a dict.

    Raises:
        UsageError: One is no pair, or a key has two values.
    """
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag} {text!r} is not KEY=VALUE")
        if found.get(key, value) != value:
            raise UsageError(f"{flag} {key} is given twice: {found[key]!r} and {value!r}", "give one of them")
        found[key] = value
    return found


def volume(text: str) -> Json:
    """`SRC:DST[:OPTS]` as a volume; options are separated by commas.

    Raises:
        UsageError: It is none, or has an option that there is not.
    """
    match = _VOLUME.match(text)
    if not match:
        raise UsageError(f"--volume {text!r} is not SRC:DST", "write for example s3://bucket/data:/data:continuous")
    made: Json = {"source": match["source"], "dest": match["dest"], "driver": "RCLONE_SYNC"}
    for word in (match["options"] or "").split(",") if match["options"] else []:
        name, equals, value = word.partition("=")
        if name in _SWITCHES and not equals:
            made[name] = True
        elif name in _DRIVERS and not equals:
            made["driver"] = _DRIVERS[name]
        elif name in _VALUES and value:
            made[name] = value
        else:
            raise UsageError(f"--volume {text!r}: unknown option {word!r}", _advice(name))
    return made


def port(text: str) -> Json:
    """`8080`, `53/udp` or `80/http:public` as a port.

    Raises:
        UsageError: It is none.
    """
    match = _PORT.match(text)
    if not match:
        raise UsageError(f"--port {text!r} is no port", "write for example 8080, 53/udp or 80/http:public")
    return {"port": int(match["port"]), "protocol": match["protocol"] or "tcp", "public": bool(match["public"])}


def _advice(name: str) -> str:
    known = [*_SWITCHES, *_DRIVERS, *(f"{value}=…" for value in _VALUES)]
    guess = get_close_matches(name, known, n=1)
    return f"did you mean {guess[0]!r}?" if guess else f"options are {', '.join(known)}"


def _variable(text: str) -> Json:
    key, equals, value = text.partition("=")
    if not equals:
        if key not in os.environ:
            raise UsageError(f"--env {key!r}: you have no such variable to pass on", "write --env KEY=VALUE")
        value = os.environ[key]
    return {"key": key, "value": value}


def _env_files(files: Iterable[Path]) -> Iterable[Json]:
    from nebulous.cli.files import read_text

    for file in files:
        for number, line in enumerate(read_text(file).splitlines(), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            key, equals, value = line.strip().removeprefix("export ").partition("=")
            if not equals:
                raise UsageError(f"{file}:{number}: {line.strip()!r} is not KEY=VALUE")
            yield {"key": key.strip(), "value": value}
