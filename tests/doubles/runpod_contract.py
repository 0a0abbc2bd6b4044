"""RunPod's REST v2 as far as we speak it: what a call takes and what it answers, to check both sides by.

This is our own description, of 2026-11-24: written from our notes on clouds and on test beds (of 2026-11-23) and from
what `activities/platforms/runpod*.py` sends and reads. It is neither RunPod's document nor a part of it, and nobody has
held it to the real API (docs/critiques.md). It has the calls that we make, and of these the fields that we use: whoever
sends another field first finds out that it exists, and then writes it here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel


class Part(BaseModel):
    """Some JSON: no fields but these, and numbers are no strings."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


Word = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
Usd = Annotated[float, Field(ge=0)]
Port = Annotated[str, Field(pattern=r"^[1-9]\d{0,4}/(http|tcp)$")]
Cloud = Literal["SECURE", "COMMUNITY"]
Stock = Literal["NONE", "LOW", "MEDIUM", "HIGH"]
Action = Literal["start", "stop", "restart", "terminate"]


# --- what is sent -----------------------------------------------------------------------------------


class Gpu(Part):
    id: Word  # one type: v2 takes no list of them
    count: Count


class Cpu(Part):
    id: Word
    vcpu_count: Count


class NewPod(Part):
    """Of `gpu` and `cpu` there has to be exactly one: a rule, so 400, which the double looks after."""

    name: Word
    image: Word
    args: str = ""
    env: dict[str, str] = {}
    ports: list[Port] = []
    disk: Count = 20
    cloud: Cloud = "SECURE"
    data_center_ids: list[Word] = []
    registry: Word | None = None
    gpu: Gpu | None = None
    cpu: Cpu | None = None


class PodChange(Part):
    env: dict[str, str]


class PodAction(Part):
    action: Action


class NewLogin(Part):
    name: Word
    username: str
    password: str


class NoQuery(Part):
    pass


class LogQuery(Part):
    source: Literal["container", "system"] | None = None
    tail: Annotated[int, Field(ge=1, le=5000)] | None = None
    since: AwareDatetime | None = None


class CpuQuery(Part):
    include: Literal["AVAILABILITY"] | None = None
    product: Literal["POD"] | None = None


class GpuQuery(CpuQuery):
    cloud: Cloud | None = None
    count: Count | None = None


# --- what is answered -------------------------------------------------------------------------------


class OpenPort(Part):
    private: Count
    public: Count
    type: Literal["http", "tcp"]
    ip: Word


class Runtime(Part):
    uptime: Annotated[int, Field(ge=0)]  # whole seconds
    ports: list[OpenPort]


class Direct(Part):
    host: Word
    port: Count


class Ssh(Part):
    proxy: Any  # we never look at it
    direct: Direct | None


class Pod(Part):
    id: Word
    name: Word
    status: Literal["PROVISIONING", "STARTING", "RUNNING", "EXITED", "ERROR", "TERMINATED"]
    actions: list[Action]
    image: Word
    args: str
    env: dict[str, str]
    disk: Count
    ports: list[Port]
    cloud: Cloud
    data_center_id: Word | None
    registry: Word | None
    cost: Usd
    runtime: Runtime | None  # unless it runs
    ssh: Ssh
    created_at: AwareDatetime
    started_at: AwareDatetime | None
    gpu: Gpu | None = None
    cpu: Cpu | None = None


class Pods(Part):
    pods: list[Pod]


class LogLine(Part):
    """The data of one event; the answer is a stream of these."""

    source: Literal["container", "system"]
    line: str
    ts: AwareDatetime


class Login(Part):
    """What it was made of cannot be read back."""

    id: Word
    name: Word


class Logins(Part):
    registries: list[Login]


class Place(Part):
    id: Word
    name: Word
    availability: Stock


class GpuPrice(Part):
    secure: Usd
    community: Usd


class GpuMost(Part):
    secure: int
    community: int


class GpuRow(Part):
    id: Word
    name: Word
    memory: Count
    price: GpuPrice
    max_count: GpuMost
    availability: Stock
    data_centers: list[Place]


class Gpus(Part):
    gpus: list[GpuRow]


class CpuPrice(Part):
    secure_per_vcpu: Usd


class CpuRange(Part):
    min: Count
    max: Count


class CpuRow(Part):
    id: Word
    name: Word
    vcpu: CpuRange
    ram_gb_per_vcpu: Annotated[float, Field(gt=0)]
    price: CpuPrice
    availability: Stock
    data_centers: list[Place]


class Cpus(Part):
    cpus: list[CpuRow]


class Problem(Part):
    """Any refusal (RFC 9457)."""

    title: Word
    status: int
    detail: Word
    errors: list[str] = []


# --- the calls --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """What one call takes, what it answers by status (None: without a body), and how else it may be refused."""

    answers: dict[int, type[Part] | None]
    body: type[Part] | None = None
    query: type[Part] = NoQuery
    refusals: frozenset[int] = field(default_factory=frozenset[int])


ANY_CALL = frozenset({401, 403, 422, 429})  # and 5xx
CALLS = {
    ("GET", "/v2/pods"): Call({200: Pods}),
    ("POST", "/v2/pods"): Call({201: Pod}, NewPod, refusals=frozenset({400, 402})),
    ("GET", "/v2/pods/{id}"): Call({200: Pod}, refusals=frozenset({404})),
    ("PATCH", "/v2/pods/{id}"): Call({200: Pod}, PodChange, refusals=frozenset({400, 404, 409})),
    ("DELETE", "/v2/pods/{id}"): Call({204: None}, refusals=frozenset({404, 409})),
    ("POST", "/v2/pods/{id}/action"): Call({200: Pod, 204: None}, PodAction, refusals=frozenset({400, 404, 409})),
    ("GET", "/v2/pods/{id}/logs"): Call({200: LogLine}, query=LogQuery, refusals=frozenset({404})),
    ("GET", "/v2/registries"): Call({200: Logins}),
    ("POST", "/v2/registries"): Call({201: Login}, NewLogin, refusals=frozenset({400})),
    ("DELETE", "/v2/registries/{id}"): Call({204: None}, refusals=frozenset({400, 404})),  # 400: is not there, too
    ("GET", "/v2/catalog/gpus"): Call({200: Gpus}, query=GpuQuery),
    ("GET", "/v2/catalog/cpus"): Call({200: Cpus}, query=CpuQuery),
}


def wrong_request(method: str, template: str, query: dict[str, str], body: Any) -> list[str]:
    """What RunPod would answer 422 for; nothing of a call that is not described, which is 405."""
    call = CALLS.get((method, template))
    if call is None:
        return []
    return [f"?{fault}" for fault in _faults(call.query, query, strict=False)] + _wrong_body(call.body, body)


def wrong_reply(method: str, template: str, status: int, body: Any) -> list[str]:
    """What in a reply of the double RunPod would not say; of a stream, in one event."""
    call = CALLS.get((method, template))
    if call is None:
        return [f"{method} {template} is not described"]
    if status in call.answers:
        return _wrong_body(call.answers[status], body)
    if status not in ANY_CALL | call.refusals and status < 500:
        return [f"{status} is no answer to {method} {template}"]
    faults = _wrong_body(Problem, body)
    return faults or ([] if body["status"] == status else [f"status: {body['status']} in an answer that is {status}"])


def _wrong_body(part: type[Part] | None, body: Any) -> list[str]:
    if part is None:
        return [] if body is None else ["a body where there is none"]
    return _faults(part, body, strict=True)


def _faults(part: type[Part], value: Any, strict: bool) -> list[str]:
    try:
        part.model_validate_json(json.dumps(value), strict=strict)
    except ValidationError as error:
        return [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in error.errors()]
    return []
