"""Temporal, as every part of Nebulous meets it: the client, the search attributes, the memo, the queries.

A resource's workflow answers to these names, and programs in any language may use them:
signals `stop start restart delete {"id": …}` and `observe {…}`, update `create {"spec", "metadata"}`, query
`history`. Its argument is plain JSON, `{"spec": {…}}`, with all else defaulted. Programs in Python have
`start_container` and `get_container` here, which are those of `starters.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn, cast

from pydantic import ValidationError
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.failure.v1 import Failure
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsRequest
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionDescription
from temporalio.common import SearchAttributeKey, SearchAttributePair, SearchAttributeUpdate, TypedSearchAttributes
from temporalio.converter import DataConverter
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import FailureError
from temporalio.service import RPCError, RPCStatusCode

from nebulous import codec
from nebulous.errors import NotReady, Rejected
from nebulous.ids import Address
from nebulous.models.resources import Row
from nebulous.settings import Settings

if TYPE_CHECKING:
    from nebulous.starters import ContainerHandle as ContainerHandle
    from nebulous.starters import get_container as get_container
    from nebulous.starters import start_container as start_container

log = logging.getLogger(__name__)

RPC_TIMEOUT = timedelta(seconds=10)
#: Those whose heartbeats `describe` shows: of what they wait for, and how far it is.
SHOWN_ACTIVITIES = frozenset({"prepare", "start"})
KNOWN_WITHIN_S, KNOWN_AGAIN_S = 90.0, 0.1  # a Temporal of several machines tells all of them within a minute

KIND = SearchAttributeKey.for_keyword("NebuKind")
ORG = SearchAttributeKey.for_keyword("NebuOrg")
NAMESPACE = SearchAttributeKey.for_keyword("NebuNamespace")
NAME = SearchAttributeKey.for_keyword("NebuName")
ID = SearchAttributeKey.for_keyword("NebuId")
STATUS = SearchAttributeKey.for_keyword("NebuStatus")
PLATFORM = SearchAttributeKey.for_keyword("NebuPlatform")  # the account, for example docker:1a2b3c4d
QUEUE = SearchAttributeKey.for_keyword("NebuQueue")
OWNER_REF = SearchAttributeKey.for_keyword("NebuOwnerRef")
LABELS = SearchAttributeKey.for_keyword_list("NebuLabels")
CHANGED_AT = SearchAttributeKey.for_datetime("NebuChangedAt")

_TYPES = {
    **dict.fromkeys(
        (KIND, ORG, NAMESPACE, NAME, ID, STATUS, PLATFORM, QUEUE, OWNER_REF),
        IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    ),
    LABELS: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
    CHANGED_AT: IndexedValueType.INDEXED_VALUE_TYPE_DATETIME,
}

_REFUSALS = (RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNIMPLEMENTED, RPCStatusCode.INVALID_ARGUMENT)
_NO_ROOM = (
    "make the eleven of docs/temporal-ui.md with the tools of your Temporal, or give Nebulous a namespace of its own "
    "(NEBU_TEMPORAL_NAMESPACE): PostgreSQL has room for ten Keywords in each, and nine are ours"
)

KEYWORDS_AT_MOST = 2048  # bytes in one value of a search attribute


def __getattr__(name: str) -> object:  # on first use: the starters import this module
    if name not in ("ContainerHandle", "get_container", "start_container"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from nebulous import starters

    return getattr(starters, name)


async def connect(
    address: str | None = None,
    namespace: str | None = None,
    *,
    settings: Settings | None = None,
    lazy: bool = False,
    **options: Any,  # noqa: ANN401
) -> Client:
    """Connect as every part of Nebulous does: its data converter, and TLS or API key from `temporalio.envconfig`.

    Payloads are encrypted when the settings have a key for it, those of programs that only use this module too.

    Args:
        address: host:port; default `TEMPORAL_ADDRESS` or the profile in `temporal.toml`, else localhost:7233.
        namespace: Temporal namespace; default likewise.
        settings: Where the keys of payloads are; default: the environment and `nebulous.yaml`.
        lazy: Connect on first use, so that a server can start before Temporal does.
        options: Handed to `Client.connect`.
    """
    config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    if address:
        config["target_host"] = address
    if namespace:
        config["namespace"] = namespace
    config.setdefault("target_host", "localhost:7233")
    converter = codec.data_converter(settings or Settings())
    return await Client.connect(**{**config, **options}, data_converter=converter, lazy=lazy)


def refusal(error: BaseException) -> tuple[str, str] | None:
    """Why Temporal will never let us in as we are, and what to do; None when it may, later.

    The SDK says all of it with a RuntimeError, in words.
    """
    words = str(error)
    if "InvalidCertificate" in words:
        why = words.partition("InvalidCertificate(")[2].partition(")")[0]
        return f"the server's certificate is not trusted ({why})", (
            "name the authority that signed it: TEMPORAL_TLS_SERVER_CA_CERT_PATH; and check the host's name"
        )
    if any(word in words for word in ("Unauthenticated", "PermissionDenied", "does not have permission")):
        return "the server refuses the API key", "check TEMPORAL_API_KEY, and that it is for NEBU_TEMPORAL_NAMESPACE"
    return None


def leave(code: int) -> NoReturn:
    """End a process that used Temporal, without the interpreter's own end: the SDK's threads outlive it, and crash.

    Seen in 8 of 60 short runs on a busy machine: SIGABRT or SIGSEGV after all the work was done (sdk-python#300).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


async def register_search_attributes(client: Client) -> None:
    """Make the search attributes known to the namespace; repeating it changes nothing. Returns once they may be used.

    Raises:
        Rejected: One is missing, and Temporal has no room for it, or lets only its own tools make it (Temporal Cloud).
    """
    wanted = {key.name: kind for key, kind in _TYPES.items()}
    refused: RPCError | None = None
    try:
        await client.operator_service.add_search_attributes(
            AddSearchAttributesRequest(namespace=client.namespace, search_attributes=wanted), timeout=RPC_TIMEOUT
        )
    except RPCError as error:
        if error.status not in _REFUSALS:
            raise
        refused = error  # which does not matter where they are known already
    await _until_known(client, refused)


async def _until_known(client: Client, refused: RPCError | None) -> None:
    """Wait: Temporal answers before all its parts know. On PostgreSQL a query was refused a second later."""
    end = time.monotonic() + KNOWN_WITHIN_S
    query = " AND ".join(f"{key.name} IS NOT NULL" for key in _TYPES)
    while True:
        try:
            await client.count_workflows(query, rpc_timeout=RPC_TIMEOUT)
            return
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            if refused or time.monotonic() > end:
                why = (refused or error).message
                raise Rejected(f"Temporal does not know our search attributes: {why}", _NO_ROOM) from (refused or error)
        await asyncio.sleep(KNOWN_AGAIN_S)


def search_attributes(
    address: Address, life: str, status: str, labels: Mapping[str, str] | None, **more: str
) -> TypedSearchAttributes:
    """What a resource is found by; `more` takes platform, queue and owner_ref, where "" means none."""
    pairs: list[SearchAttributePair[Any]] = [
        SearchAttributePair(KIND, address.kind),
        SearchAttributePair(ORG, address.organization.lower()),
        SearchAttributePair(NAMESPACE, address.namespace.lower()),
        SearchAttributePair(NAME, address.name.lower()),
        SearchAttributePair(ID, life),
        SearchAttributePair(STATUS, status),
    ]
    if labels:
        pairs.append(SearchAttributePair(LABELS, [f"{key}={value}" for key, value in sorted(labels.items())]))
    optional = {"platform": PLATFORM, "queue": QUEUE, "owner_ref": OWNER_REF}
    pairs += [SearchAttributePair(key, more[name]) for name, key in optional.items() if more.get(name)]
    return TypedSearchAttributes(pairs)


def changes(known: TypedSearchAttributes, wanted: TypedSearchAttributes) -> list[SearchAttributeUpdate[Any]]:
    """The updates that lead from what a workflow is found by to what it should be found by."""
    updates: list[SearchAttributeUpdate[Any]] = []
    for pair in cast(list[SearchAttributePair[Any]], wanted.search_attributes):
        if known.get(pair.key) != pair.value:
            updates.append(pair.key.value_set(pair.value))
    optional: tuple[SearchAttributeKey[Any], ...] = (PLATFORM, QUEUE, OWNER_REF, LABELS)
    return updates + [key.value_unset() for key in optional if key not in wanted and known.get(key)]


async def row(execution: WorkflowExecution | WorkflowExecutionDescription) -> Row | None:
    """The resource that a workflow's memo shows; None when it is no resource of ours, or cannot be read."""
    return _row(execution.id, await execution.memo())


def _row(workflow_id: str, memo: Mapping[str, Any]) -> Row | None:
    if "metadata" not in memo or "status" not in memo:
        return None
    try:
        return Row.model_validate(memo)
    except ValidationError as error:  # one bad row must not hide the others
        log.warning("the memo of %s cannot be read: %s", workflow_id, error)
        return None


@dataclass(frozen=True)
class Listed:
    """One line of a list, as visibility has it."""

    id: str  # of the workflow
    row: Row | None  # None: no resource of ours, or nothing that can be read


async def page(client: Client, query: str, size: int, token: bytes | None) -> tuple[list[Listed], bytes]:
    """One page of what a visibility query finds, and the token of the next, or b"".

    The SDK's own listing reads every search attribute into objects that lists do not need; it took a third of the time.
    """
    request = ListWorkflowExecutionsRequest(
        namespace=client.namespace, query=query, page_size=size, next_page_token=token or b""
    )
    found = await client.workflow_service.list_workflow_executions(request, retry=True, timeout=RPC_TIMEOUT)
    listed = [Listed(info.execution.workflow_id, await _listed(client, info)) for info in found.executions]
    return listed, found.next_page_token


async def _listed(client: Client, info: WorkflowExecutionInfo) -> Row | None:
    fields = dict(info.memo.fields)
    try:
        values: list[Any] = await client.data_converter.decode(list(fields.values()))
        return _row(info.execution.workflow_id, dict(zip(fields, values, strict=True)))
    except (ValueError, TypeError) as error:
        log.warning("the memo of %s cannot be read: %s", info.execution.workflow_id, error)
        return None


async def progress(execution: WorkflowExecutionDescription) -> str:
    """How far an image, or a machine on its way, is, or why it is tried again; "" when none is."""
    for pending in execution.raw_description.pending_activities:
        if pending.activity_type.name not in SHOWN_ACTIVITIES:
            continue
        failure = pending.last_failure if pending.HasField("last_failure") else None
        if failure and not (_on_its_way(failure) and pending.HasField("heartbeat_details")):
            again = "" if _on_its_way(failure) else "trying again: "
            return f"{again}{await _said(execution.data_converter, failure)}"
        if pending.HasField("heartbeat_details"):
            payloads = list(pending.heartbeat_details.payloads)
            said: list[Any] = await execution.data_converter.decode(payloads)
            if said and isinstance(said[0], str) and said[0]:
                return said[0]
    return ""


def _on_its_way(failure: Failure) -> bool:
    """True when a try ended only because each has an end; what it was waiting for is in its heartbeats."""
    return failure.application_failure_info.type == NotReady.__name__


async def _said(converter: DataConverter, failure: Failure) -> str:
    """The message of a failure, which may be encrypted."""
    readable = Failure()
    readable.CopyFrom(failure)  # decoding changes it
    error = await converter.decode_failure(readable)
    return error.message if isinstance(error, FailureError) else str(error)


def quote(value: str) -> str:
    """A string literal for a visibility query, safe against any content."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def open_query(kind: str, organization: str | None = None, *clauses: str) -> str:
    """The visibility query for open resources of one kind, within one organization unless None.

    The clauses are ANDed and parenthesised, so that none can escape the organization.
    """
    parts = [f"{KIND.name} = {quote(kind)}", "ExecutionStatus = 'Running'"]
    if organization is not None:
        parts.append(f"{ORG.name} = {quote(organization.lower())}")
    return " AND ".join([*parts, *(f"({clause})" for clause in clauses if clause)])


def changed_query(kinds: Sequence[str], since: datetime, organization: str | None = None, *clauses: str) -> str:
    """The visibility query for what began, changed or closed since a moment, open or not.

    Args:
        kinds: Of which kinds; at least one.
        since: By Temporal's clock.
        organization: None is every organization.
        clauses: ANDed and parenthesised, so that none can escape the organization.
    """
    moment = quote(since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))
    parts = [
        f"{KIND.name} IN ({', '.join(map(quote, kinds))})",
        f"({CHANGED_AT.name} >= {moment} OR StartTime >= {moment} OR CloseTime >= {moment})",
    ]
    if organization is not None:
        parts.append(f"{ORG.name} = {quote(organization.lower())}")
    return " AND ".join([*parts, *(f"({clause})" for clause in clauses if clause)])


def is_not_found(error: RPCError) -> bool:
    """True when Temporal knows no such workflow, or only a closed one."""
    return error.status is RPCStatusCode.NOT_FOUND
