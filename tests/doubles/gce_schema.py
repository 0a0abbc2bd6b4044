"""Google's own description of Compute Engine: which methods there are, and what requests and replies look like."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from googleapiclient import discovery_cache
from jsonschema import Draft7Validator

DOCUMENT = Path(discovery_cache.__file__).parent / "documents" / "compute.v1.json"
BASE = "/compute/v1/"


@dataclass(frozen=True)
class Method:
    name: str  # instances.insert
    verb: str
    path: re.Pattern[str]
    parameters: frozenset[str]
    request: str | None
    response: str


@cache
def _document() -> dict[str, Any]:
    return json.loads(DOCUMENT.read_text())


@cache
def methods() -> list[Method]:
    found: list[Method] = []
    common = frozenset(_document()["parameters"])
    for resource, body in _document()["resources"].items():
        for name, method in body.get("methods", {}).items():
            pattern = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", method["path"])
            parameters = frozenset(method.get("parameters", {})) | common
            request = method.get("request", {}).get("$ref")
            response = method.get("response", {}).get("$ref", "")
            found.append(
                Method(f"{resource}.{name}", method["httpMethod"], re.compile(pattern), parameters, request, response)
            )
    return found


def resolve(verb: str, path: str) -> tuple[Method, dict[str, str]] | None:
    """The method of a request, and what its path says."""
    for method in methods():
        if method.verb == verb and (match := method.path.fullmatch(path)):
            return method, match.groupdict()
    return None


def faults(schema: str, value: Any) -> list[str]:
    """What is wrong with a value, by Google's schema; nothing may be in it that the schema does not know."""
    return [f"{schema}{error.json_path[1:]}: {error.message[:200]}" for error in _validator(schema).iter_errors(value)]


@cache
def _validator(schema: str) -> Draft7Validator:
    return Draft7Validator({"$ref": f"#/schemas/{schema}", "schemas": _closure(schema)})


def _closure(schema: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    waiting = [schema]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = _strict(_document()["schemas"][name], waiting)
    return found


def _strict(node: Any, waiting: list[str]) -> Any:
    if isinstance(node, list):
        return [_strict(each, waiting) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        waiting.append(node["$ref"])
        return {"$ref": f"#/schemas/{node['$ref']}"}
    kept = {key: value for key, value in node.items() if key in ("type", "enum", "pattern", "items")}
    kept = {key: _strict(value, waiting) if key == "items" else value for key, value in kept.items()}
    if kept.get("type") == "any":
        del kept["type"]
    if "properties" in node:
        kept["properties"] = {key: _strict(value, waiting) for key, value in node["properties"].items()}
        kept["additionalProperties"] = False
    elif "additionalProperties" in node:
        kept["additionalProperties"] = _strict(node["additionalProperties"], waiting)
    return kept
