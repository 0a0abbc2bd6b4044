"""Read replies with the published models: `[[model, reply], …]` on stdin; prints what cannot be read, as JSON."""

from __future__ import annotations

import json
import sys

import nebu
from pydantic import ValidationError


def complaint(model: str, reply: object) -> str | None:
    try:
        getattr(nebu, model).model_validate(reply)
    except ValidationError as error:
        return f"{model}: {error}"
    return None


print(json.dumps([said for model, reply in json.load(sys.stdin) if (said := complaint(model, reply))]))
