"""Request bodies: JSON objects of a bounded size, strictly read, so that nothing odd gets any further."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator
from typing import Any, cast

from fastapi import Request

from api.problems import BadRequest, TooLarge, UnsupportedMediaType

LARGEST_BODY = 128 * 1024  # bytes as sent: indented and escaped, a spec of 32 kB fits
LARGEST_SPEC = 32 * 1024  # bytes of compact JSON
DEEPEST = 32
SLOWEST_BODY_S = 30.0  # 128 kB over a bad line
_LARGEST_INTEGER = 2**63  # what other languages that read our histories can hold


async def read_object(request: Request, *also: str) -> dict[str, Any]:
    """Read the body as one JSON object; never more of it than the limit, also when its length is not announced.

    `also` names media types that are accepted beside application/json.

    Raises:
        UnsupportedMediaType, TooLarge, BadRequest: Before anything of it is used.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", *also):
        raise UnsupportedMediaType(f"Content-Type {kind!r} is not read here", "send application/json")
    parsed = _parse(await _read(request))
    if not isinstance(parsed, dict):
        raise BadRequest(f"the body is {_kind(parsed)}, it should be an object")
    document = cast("dict[str, Any]", parsed)
    for problem in _oddities(document):
        raise BadRequest(problem)
    return document


async def read_form(request: Request) -> bytes:
    """Read the body of a form that a browser sent, as it came.

    Raises:
        UnsupportedMediaType, TooLarge, BadRequest: As for objects.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        raise UnsupportedMediaType(f"Content-Type {kind!r} is not read here", "send the form")
    return await _read(request)


def check_size(spec: dict[str, Any]) -> None:
    """Refuse a spec of more than 32 kB.

    Raises:
        TooLarge: It has more.
    """
    size = len(json.dumps(spec, separators=(",", ":"), ensure_ascii=False).encode())
    if size > LARGEST_SPEC:
        raise TooLarge(
            f"the spec has {size} bytes; at most {LARGEST_SPEC} are allowed",
            "put large values into a volume, a secret or the image",
        )


async def _read(request: Request) -> bytes:
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced[:20]) > LARGEST_BODY:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(SLOWEST_BODY_S):
            async for piece in request.stream():
                body += piece
                if len(body) > LARGEST_BODY:
                    raise _too_large()
    except TimeoutError as error:
        raise BadRequest(f"the body did not come within {SLOWEST_BODY_S:g} s", "send it again") from error
    return bytes(body)


def _too_large() -> TooLarge:
    return TooLarge(f"the body has more than {LARGEST_BODY} bytes", f"a spec is at most {LARGEST_SPEC} bytes")


def _parse(body: bytes) -> object:
    try:
        return json.loads(
            body.decode(),
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_small,
            object_pairs_hook=_no_duplicates,
        )
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: byte {error.start} cannot be read") from error
    except json.JSONDecodeError as error:
        raise BadRequest(f"the body is not JSON: line {error.lineno} column {error.colno}: {error.msg}") from error
    except RecursionError as error:
        raise BadRequest(f"the body is nested deeper than {DEEPEST} levels") from error


def _no_constant(word: str) -> float:
    raise BadRequest(f"the body is not JSON: {word} is no number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise BadRequest(f"{text[:40]} is too large a number")
    return number


def _small(text: str) -> int:
    if len(text) > 20 or abs(number := int(text)) >= _LARGEST_INTEGER:
        raise BadRequest(f"{text[:40]} is too large a number")
    return number


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise BadRequest(f"key {key!r} is given twice")
        found[key] = value
    return found


def _oddities(document: dict[str, Any]) -> Iterator[str]:
    """What JSON allows and no string of ours can carry: NUL, halves of a surrogate pair, endless depth."""
    waiting: list[tuple[object, int]] = [(document, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > DEEPEST:
            yield f"the body is nested deeper than {DEEPEST} levels"
        if isinstance(value, str):
            if "\0" in value:
                yield f"{value[:40]!r} contains a NUL character"
            if any("\ud800" <= char <= "\udfff" for char in value):
                yield f"{value[:40]!r} contains half of a surrogate pair"
        elif isinstance(value, dict):
            pairs = cast("dict[str, object]", value)
            waiting += [(part, depth + 1) for pair in pairs.items() for part in pair]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in cast("list[object]", value)]


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return "a list" if isinstance(value, list) else "a string" if isinstance(value, str) else "a number or boolean"
