"""What strangers try: forged tokens, paths that climb, heads without end, clients that never finish, other sites."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jwt
import pytest

import api.bodies
import api.patience
from api import command
from nebulous import tokens
from tests.stand import Stand, served


@pytest.fixture
async def stand(desk: Any) -> AsyncIterator[Stand]:
    async with served(desk) as made:
        yield made


def _part(claims: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()


def _claims(desk: Any, **more: Any) -> dict[str, Any]:
    now = int(time.time())
    mine = {"org": desk.organization, "orgs": {desk.organization: "admin"}, "adm": True}
    return {"iss": tokens.ISSUER, "sub": "mallory", **mine, "iat": now, "exp": now + 3600, **more}


async def test_no_forged_token_is_taken(desk: Any) -> None:
    claims, key = _claims(desk), tokens.signing_key(desk.settings)
    good = jwt.encode(claims, key, algorithm="HS256")
    head, body, signature = good.split(".")
    other = _part(_claims(desk, sub="root"))
    forged = {
        "unsigned": f"{_part({'alg': 'none', 'typ': 'JWT'})}.{body}.",
        "unsigned, oddly spelled": f"{_part({'alg': 'nOnE'})}.{body}.",
        "unsigned, with a signature": f"{_part({'alg': 'none'})}.{body}.{signature}",
        "other claims": f"{head}.{other}.{signature}",
        "another algorithm of our key": jwt.encode(claims, key + key, algorithm="HS512"),
        "another key": jwt.encode(claims, "x" * 32, algorithm="HS256"),
        "an empty key": f"{head}.{body}.",
        "another issuer": jwt.encode({**claims, "iss": "somebody"}, key, algorithm="HS256"),
        "no issuer": jwt.encode({k: v for k, v in claims.items() if k != "iss"}, key, algorithm="HS256"),
        "no end": jwt.encode({k: v for k, v in claims.items() if k != "exp"}, key, algorithm="HS256"),
        "over": jwt.encode({**claims, "exp": 1}, key, algorithm="HS256"),
        "not yet": jwt.encode({**claims, "nbf": claims["iat"] + 3600}, key, algorithm="HS256"),
        "a key of the token's choice": jwt.encode(
            claims, "x" * 32, algorithm="HS256", headers={"jwk": {"kty": "oct", "k": "eHh4"}, "kid": "../../dev/null"}
        ),
        "twice": f"{good}.{good}",
        "long": f"{head}.{body}{'A' * 60_000}.{signature}",
    }
    assert (await desk.http.get("/v1/users/me", headers={"Authorization": f"Bearer {good}"})).status_code == 200
    for what, token in forged.items():
        reply = await desk.http.get("/v1/users/me", headers={"Authorization": f"Bearer {token}"})
        assert reply.status_code == 401, what
        assert "nebu login" in reply.json()["error"]["hint"], what


async def test_a_token_that_names_no_rights_has_none(desk: Any) -> None:
    key = tokens.signing_key(desk.settings)
    for odd in ({"adm": "true"}, {"adm": 1}, {"orgs": {desk.organization: "owner"}}, {"orgs": {}}):
        claims = _claims(desk, **{"adm": False, "orgs": {}, **odd})
        headers = {"Authorization": f"Bearer {jwt.encode(claims, key, algorithm='HS256')}"}
        assert (await desk.http.get("/v1/containers", headers=headers)).status_code in (403, 404), odd
        assert (await desk.http.get("/v1/doctor", headers=headers)).status_code == 403, odd


CLIMBING = (
    "..", "%2e%2e", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2f", "..%5c..", "a%2fb", "%00", "a%00b", "%0d%0aX:y",
    "-/..", "%c0%ae%c0%ae", "%ff", "~root", "$(id)", "%24%7bjndi%7d", "a" * 300, "🦊", "'or'1'='1",
    '"%20OR%20NebuOrg%20!="x',
)  # fmt: skip


@pytest.mark.parametrize("word", CLIMBING)
async def test_no_name_in_a_path_reaches_anything(stand: Stand, word: str) -> None:
    """Sent raw: a client of ours would tidy the path up before it leaves."""
    bearer = stand.desk.token()["Authorization"]
    for path in (f"/v1/containers/{word}", f"/v1/containers/{word}/x", f"/v1/containers/default/{word}",
                 f"/v1/containers/default/{word}/logs", f"/v1/secrets/default/{word}"):  # fmt: skip
        reply = await _raw(stand, f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n\r\n".encode())
        assert reply.split(b" ")[1] in (b"400", b"404", b"405", b"422"), (path, reply[:200])
        assert b"root:" not in reply
        assert b"Traceback" not in reply


@pytest.mark.parametrize("word", ['"', "\\", "x' OR '1'='1", 'x" OR NebuOrg != "x', "*", "%", "x) OR (1=1"])
async def test_no_filter_reaches_another_organization(desk: Any, word: str) -> None:
    assert (await desk.create("mine")).status_code == 200
    stranger = desk.token("admin", "strangers")
    for name in ("label", "namespace", "status", "queue", "name", "cursor", "owner"):
        reply = await desk.http.get("/v1/containers", params={name: word}, headers=stranger)
        assert reply.status_code in (200, 400, 404, 422), (name, reply.text)
        assert "mine" not in reply.text, name


async def test_a_head_without_end_is_refused_before_it_fills_the_memory(stand: Stand) -> None:
    reply = await _raw(stand, b"GET / HTTP/1.1\r\nHost: x\r\nX-Filler: " + b"a" * (command.LARGEST_HEADERS + 65536))
    assert reply.split(b" ")[1] in (b"400", b"431")


async def test_who_is_slow_to_ask_is_let_go_and_nobody_else_waits(stand: Stand, monkeypatch: Any) -> None:
    monkeypatch.setattr(api.patience, "HEAD_LIMIT_S", 0.5)
    lines = [await _open(stand) for _ in range(50)]
    for number, (_, writer) in enumerate(lines):
        if number % 2:
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n")  # and never the empty line
    assert (await stand.http.get("/v1/users/me")).status_code == 200
    for reader, writer in lines:
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_the_second_request_of_a_connection_has_to_come_in_time_too(stand: Stand, monkeypatch: Any) -> None:
    monkeypatch.setattr(api.patience, "HEAD_LIMIT_S", 0.5)
    reader, writer = await _open(stand)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
    writer.write(b"GET / HT")
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


async def test_an_answer_that_takes_longer_than_a_head_may_is_not_cut_off(stand: Stand, monkeypatch: Any) -> None:
    monkeypatch.setattr(api.patience, "HEAD_LIMIT_S", 0.3)
    async with stand.watch(kind="container") as watch:
        await watch.until("synced")
        await asyncio.sleep(0.9)
        await stand.create("late")
        assert (await watch.until("added"))[-1][1]["metadata"]["name"] == "late"
    await stand.close("late")


async def test_a_body_that_never_ends_is_400(stand: Stand, monkeypatch: Any) -> None:
    monkeypatch.setattr(api.bodies, "SLOWEST_BODY_S", 0.3)
    bearer = stand.desk.token()["Authorization"]
    head = f"POST /v1/containers HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nContent-Type: application/json\r\n"
    reply = await _raw(stand, f"{head}Content-Length: 100\r\n\r\n{{".encode())
    assert reply.startswith(b"HTTP/1.1 400")
    assert b"did not come within" in reply


async def test_another_site_gets_nothing_out_of_a_browser(desk: Any) -> None:
    origin = {"Origin": "https://evil.example"}
    for path in ("/", "/health", "/v1/containers", "/openapi.json"):
        reply = await desk.http.get(path, headers=origin)
        assert not [name for name in reply.headers if name.startswith("access-control-")], path
    preflight = {**origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    reply = await desk.http.options("/v1/containers", headers=preflight)
    assert reply.status_code == 405
    assert "access-control-allow-origin" not in reply.headers
    simple = {**origin, "Content-Type": "text/plain"}  # what a form can send without asking first
    assert (await desk.http.post("/v1/containers", content=b"{}", headers=simple)).status_code == 415
    del desk.http.headers["Authorization"]
    assert (await desk.http.post("/v1/containers", json={}, headers=origin)).status_code == 401


async def _open(stand: Stand) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = httpx.URL(stand.url)
    return await asyncio.open_connection(address.host, address.port)


async def _raw(stand: Stand, request: bytes) -> bytes:
    """The head and the beginning of the answer to these very bytes."""
    reader, writer = await _open(stand)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(4096), 20)
    writer.close()
    return answer
