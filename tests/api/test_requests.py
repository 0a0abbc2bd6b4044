"""Requests that are malformed in any way: the right status, our error shape, never a 500."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from api.app import create_app
from nebulous.models.containers import ContainerSpec

JSON = {"Content-Type": "application/json"}


async def _post(
    desk: Any, content: Any, headers: dict[str, str] = JSON, path: str = "/v1/containers"
) -> httpx.Response:
    return await desk.http.post(path, content=content, headers=headers)


def _assert_ours(reply: httpx.Response, status: int) -> dict[str, Any]:
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert set(error) >= {"type", "message", "hint"}
    return error


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "line 1"),
        (b"{", "line 1 column 2"),
        (b"[]", "a list"),
        (b"null", "null"),
        (b"7", "a number"),
        (b'"x"', "a string"),
        (b"\xff\xfe", "UTF-8"),
        (b'{"a": NaN}', "NaN"),
        (b'{"max_usd_per_hour": 1e999}', "too large"),
        (b'{"max_retries": 99999999999999999999}', "too large"),
        (b'{"image": "a", "image": "b"}', "twice"),
        (b'{"image": "\\ud800"}', "surrogate"),
        (b'{"image": "\\u0000"}', "NUL"),
        (b'{"\\u0000": 1}', "NUL"),
        (b'{"authz":' + b'{"a":' * 40 + b"1" + b"}" * 41, "nested"),
        (b"[" * 100_000, "nested"),
    ],
)
async def test_a_body_that_cannot_be_read_is_400(desk: Any, body: bytes, word: str) -> None:
    assert word in _assert_ours(await _post(desk, body), 400)["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-yaml", "", "application/jsonx", "multipart/form-data"])
async def test_another_content_type_is_415(desk: Any, kind: str) -> None:
    error = _assert_ours(await _post(desk, b"{}", {"Content-Type": kind}), 415)
    assert "application/json" in error["hint"]


async def test_a_content_type_with_a_charset_is_fine(desk: Any) -> None:
    _assert_ours(await _post(desk, b"{}", {"Content-Type": "Application/JSON; charset=utf-8"}), 422)


async def test_a_spec_of_more_than_32_kb_is_413(desk: Any) -> None:
    value = "x" * 33_000
    error = _assert_ours(await desk.create(env_vars=[{"key": "A", "value": value}]), 413)
    assert "32768" in error["message"]
    assert (await desk.create(env_vars=[{"key": "A", "value": value[:31_000]}])).status_code == 200


async def test_ten_megabytes_are_413_and_not_read_to_their_end(desk: Any) -> None:
    _assert_ours(await _post(desk, b"x" * 10_000_000), 413)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 10_000
            yield b" " * 10_000

    _assert_ours(await _post(desk, endless()), 413)
    assert sent < 1_000_000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/containers/", 404),
        ("GET", "/v1/containers/a/b/c/d", 404),
        ("GET", "/v2/containers", 404),
        ("PUT", "/v1/containers", 405),
        ("PATCH", "/v1/containers", 405),
        ("DELETE", "/v1/containers", 405),
        ("POST", "/v1/platforms", 405),
        ("TRACE", "/", 405),
        ("GET", "/v1/containers/%2e%2e/%2e%2e/etc", 404),
    ],
)
async def test_unknown_routes_and_methods_answer_in_our_shape(desk: Any, method: str, path: str, status: int) -> None:
    _assert_ours(await desk.http.request(method, path), status)


async def test_many_problems_are_said_without_taking_long_or_filling_the_reply(desk: Any) -> None:
    document = {f"key{number}": number for number in range(8000)}
    reply = await desk.http.post("/v1/containers", json=document)
    assert len(_assert_ours(reply, 422)["problems"]) <= 21
    assert len(reply.content) < 50_000
    assert reply.elapsed.total_seconds() < 2


_words = st.text(max_size=20) | st.sampled_from(
    ["1:A100", "10s", "docker", "sim", "a/b", "-", "9" * 400 + "d", "\n", "foo\n"]
)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=8,
)
_fields = st.sampled_from([*ContainerSpec.model_fields, "env"])
_documents = st.dictionaries(_fields, _values, max_size=6)


@limits(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=_documents, name=_words, sound=st.booleans())
async def test_no_document_gives_a_500(desk: Any, document: dict[str, Any], name: str, sound: bool) -> None:
    if sound:  # past the obvious refusals
        document = {"image": "alpine", "platform": "sim", **document, "metadata": {"name": name}}
    body = json.dumps(document).encode()
    reply = await _post(desk, body)
    assert reply.status_code in {200, 202, 400, 404, 409, 413, 422}, (body, reply.text)


@limits(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=200))
async def test_no_bytes_give_a_500(desk: Any, body: bytes) -> None:
    assert (await _post(desk, body)).status_code in {400, 422}


@limits(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.lists(st.text(min_size=1, max_size=8), max_size=4),
    query=st.dictionaries(
        st.sampled_from(
            ["owner", "limit", "cursor", "label", "status", "namespace", "tail", "offset", "follow", "wait", "name"]
        ),
        st.text(max_size=12),
        max_size=3,
    ),
)
async def test_no_path_or_query_gives_a_500(desk: Any, path: list[str], query: dict[str, str]) -> None:
    query.pop("follow", None) if query.get("follow") in {"1", "true"} else None
    from urllib.parse import quote

    url = "/v1/containers/" + "/".join(quote(part, safe="") for part in path)
    reply = await desk.http.get(url, params=query)
    assert reply.status_code in {200, 400, 404, 405, 422}, (url, query, reply.text)


async def test_odd_headers_do_no_harm(desk: Any) -> None:
    for headers in ({"Idempotency-Key": "x" * 5000}, {"Last-Event-ID": "-1"}, {"Content-Length": "abc"}):
        reply = await desk.create(headers=headers) if "Content" not in str(headers) else await _post(desk, b"{}", JSON)
        assert reply.status_code < 500


async def test_openapi_names_every_schema_that_it_refers_to(desk: Any) -> None:
    document = (await desk.http.get("/openapi.json", headers={"Authorization": ""})).json()
    text = json.dumps(document)
    names = set(document["components"]["schemas"])
    referred = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert referred <= names
    assert {"ContainerSpec", "SecretSpec"} <= names


async def test_the_open_routes_need_no_token(desk: Any) -> None:
    for path in ("/", "/health", "/docs", "/openapi.json"):
        assert (await desk.http.get(path, headers={"Authorization": ""})).status_code == 200, path


async def test_without_temporal_it_says_503_and_what_to_start(desk: Any, settings: Any) -> None:
    app = create_app(
        settings.model_copy(update={"temporal_address": "127.0.0.1:1", "redis_url": "redis://127.0.0.1:1"})
    )
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://api", headers=desk.token()) as http,
    ):
        health = await http.get("/health")
        assert health.status_code == 503
        assert health.json()["status"] == "unavailable"
        for path in ("/v1/containers", "/v1/containers/default/foo", "/v1/platforms"):
            error = _assert_ours(await http.get(path), 503)
            assert "nebu serve" in error["hint"]
