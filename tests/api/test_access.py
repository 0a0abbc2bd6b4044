"""Who may do what: every route is walked as no one, as a stranger, as a viewer; organizations; tokens."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute

from api.app import create_app
from api.auth import authenticate, operator, reader
from api.codec_login import reader_of_payloads
from nebulous.settings import Settings
from tests.doubles.asgi_socket import Knock, knock

OPEN = {"/", "/health", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/codec/login", "/codec/logout"}
WRITES = {"POST", "PUT", "PATCH", "DELETE"}
BODY = {
    "containers": {"image": "alpine", "platform": "docker", "metadata": {"name": "foo"}},
    "secrets": {"value": "v", "metadata": {"name": "foo"}},
}


def _routes(app: Any) -> Iterator[tuple[str, str]]:
    """Every (method, path) that the application answers."""
    for path, operations in app.openapi()["paths"].items():
        for method in operations:
            yield method.upper(), path


def _filled(path: str, life: str) -> str:
    return path.format(namespace="default", name="foo", id=life)


async def _walk(
    desk: Any, headers: dict[str, str], query: str = "", bodies: bool = True
) -> list[tuple[str, httpx.Response]]:
    life = (await desk.create()).json()["metadata"]["id"]
    answers: list[tuple[str, httpx.Response]] = []
    for method, path in _routes(desk.app):
        if path in OPEN:
            continue
        kind = path.split("/")[2] if path.startswith("/v1/") else ""
        whole = method == "PUT" or (method == "POST" and path.count("/") == 2)
        body = BODY.get(kind) if bodies and whole else None
        url = _filled(path, life) + query
        answers.append((f"{method} {path}", await desk.http.request(method, url, json=body, headers=headers)))
    return answers


def _sockets(app: Any) -> list[str]:
    """The path of every websocket."""
    routers = (route.original_router for route in app.routes if hasattr(route, "original_router"))
    return [route.path for router in routers for route in router.routes if isinstance(route, APIWebSocketRoute)]


async def _walk_sockets(desk: Any, headers: dict[str, str], query: str = "") -> list[tuple[str, Knock]]:
    life = (await desk.create()).json()["metadata"]["id"]
    paths = _sockets(desk.app)
    assert {path.rpartition("/")[2] for path in paths} == {"exec"}
    assert len(paths) == 2
    query = f"command=true{query}"
    return [(path, await knock(desk.app, _filled(path, life), query, headers)) for path in paths]


def test_the_walk_sees_every_route_that_needs_a_token(settings: Settings) -> None:
    app = create_app(settings)
    documented = {path for _, path in _routes(app)}
    guarded = {route.path for route in app.routes if isinstance(route, APIRoute) and _needs_token(route.dependant)}
    served = {getattr(route, "path", "") for route in app.routes}
    assert len(documented - OPEN) >= 15
    assert not guarded or guarded == documented - OPEN
    assert {path for path in served if path.startswith("/v1")} <= documented


def _needs_token(dependant: Any) -> bool:
    return dependant.call in {authenticate, reader, operator, reader_of_payloads} or any(
        map(_needs_token, dependant.dependencies)
    )


@pytest.fixture(autouse=True)
def watches_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch says what there is and ends, so that it can be walked over like any other route."""
    monkeypatch.setattr("api.watch.LONGEST_S", 0.0)


@pytest.mark.parametrize(
    "authorization", ["", "Bearer ", "Bearer nonsense", "Basic YTpi", "Bearer a.b.c", "Bearer " + "x" * 5000]
)
async def test_without_a_valid_token_every_route_is_401_and_says_nebu_login(desk: Any, authorization: str) -> None:
    for route, reply in await _walk(desk, {"Authorization": authorization}):
        assert reply.status_code == 401, route
        assert "nebu login" in reply.json()["error"]["hint"], route
        assert reply.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer nonsense", "Basic YTpi"])
async def test_without_a_valid_token_every_websocket_closes_with_4401_and_says_nebu_login(
    desk: Any, authorization: str
) -> None:
    for path, came in await _walk_sockets(desk, {"Authorization": authorization}):
        assert came.code == 4401, path
        assert came.reason == came.frames[0]["error"]["message"]
        assert "nebu login" in came.frames[0]["error"]["hint"]


async def test_a_stranger_a_viewer_and_a_wrong_question_are_told_so_on_every_websocket(desk: Any) -> None:
    for path, came in await _walk_sockets(desk, desk.token("admin", "strangers"), f"&owner={desk.organization}"):
        assert (came.code, came.frames[0]["error"]["type"]) == (4404, "NotFound"), path
    for path, came in await _walk_sockets(desk, desk.token("admin", "strangers-2")):
        assert came.code == 4404, path
        assert desk.organization not in str(came)
    for path, came in await _walk_sockets(desk, desk.token("viewer")):
        assert (came.code, came.frames[0]["error"]["type"]) == (4403, "Forbidden"), path
    for path, came in await _walk_sockets(desk, desk.token(), "&rows=none"):
        assert (came.code, came.frames[0]["error"]["type"]) == (4422, "Rejected"), path
        assert "rows" in came.reason


async def test_an_expired_or_forged_token_is_401(desk: Any) -> None:
    expired = desk.token(ttl=timedelta(minutes=-5))
    reply = await desk.http.get("/v1/users/me", headers=expired)
    assert (reply.status_code, reply.json()["error"]["message"]) == (401, "the token has expired")
    forged = {"Authorization": desk.token()["Authorization"][:-4] + "AAAA"}
    assert (await desk.http.get("/v1/users/me", headers=forged)).status_code == 401


async def test_a_stranger_finds_nothing_of_ours_on_any_route(desk: Any) -> None:
    stranger = desk.token("admin", "strangers")
    for route, reply in await _walk(desk, stranger, f"?owner={desk.organization}"):
        if route.split()[1] in {"/v1/users/me", "/v1/doctor", "/codec/decode", "/codec/encode"}:
            continue
        assert reply.status_code == 404, (route, reply.text)
        assert "create it" in reply.json()["error"]["hint"]


@pytest.fixture
def nobody_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """No platform has a worker here, and a route that asks one need not wait for it."""
    monkeypatch.setattr("nebulous.sessions.TAKEN_WITHIN_S", 0.2)


@pytest.mark.usefixtures("nobody_serves")
async def test_a_stranger_in_their_own_organization_sees_none_of_ours(desk: Any) -> None:
    for route, reply in await _walk(desk, desk.token("admin", "strangers-2"), bodies=False):
        assert desk.organization not in reply.text, route
        if route.startswith("PUT") and not route.endswith("/files"):  # it would create, in their own
            assert reply.status_code == 415, (route, reply.text)
        elif "{" in route:
            assert reply.status_code == 404, (route, reply.text)


@pytest.mark.usefixtures("nobody_serves")
async def test_a_viewer_reads_and_changes_nothing(desk: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("api.store.ANSWER_TIMEOUT", timedelta(milliseconds=300))
    for route, reply in await _walk(desk, desk.token("viewer")):
        if route.split()[0] in WRITES:
            expected = 404 if "secrets" in route and "{" in route and not route.startswith("PUT") else 403
            assert reply.status_code == expected, (route, reply.text)
        elif route.endswith("/files"):  # what runs may have written secrets there
            assert reply.status_code == 403, (route, reply.text)
        else:
            idle = {409} if route.endswith("/stats") else set()  # nothing runs that could be measured
            assert reply.status_code in {200, 404, 503} | idle or "doctor" in route, (route, reply.text)
    assert (await desk.http.get("/v1/containers/default/foo")).json()["status"]["status"] == "defined"


async def test_a_member_of_two_organizations_creates_in_either_and_nowhere_else(desk: Any) -> None:
    second = f"{desk.organization}-b"
    member = desk.token("viewer", roles={second: "member"})
    there = await desk.create(f"{second}/foo", headers=member)
    assert (there.status_code, there.json()["metadata"]["owner"]) == (200, second)
    assert (await desk.create("bar", headers=member)).status_code == 403
    assert (await desk.create("elsewhere/bar", headers=member)).status_code == 404
    body = {"image": "alpine", "platform": "docker", "metadata": {"name": f"{second}/x"}}
    clash = await desk.http.post(f"/v1/containers?owner={desk.organization}", json=body)
    assert clash.status_code == 422


async def test_the_local_admins_first_use_makes_an_organization_and_says_so_once(desk: Any, until: Any) -> None:
    admin = desk.token("admin", "local", admin=True)
    new = f"Agentsea-{desk.organization}"
    first = await desk.create(f"{new}/foo", headers=admin)
    assert first.status_code == 200, first.text
    assert first.json()["metadata"]["owner"] == new
    assert new in first.headers["X-Nebu-Notice"]
    assert "X-Nebu-Notice" not in (await desk.create(f"{new}/bar", headers=admin)).headers

    async def listed() -> int:
        return len((await desk.http.get(f"/v1/containers?owner={new}", headers=admin)).json()["containers"])

    await until(listed, 2)


async def test_beyond_loopback_the_admin_is_a_stranger_elsewhere(
    settings: Settings, client: Any, redis: Any, desk: Any
) -> None:
    app = create_app(settings.model_copy(update={"host": "0.0.0.0"}), client, redis)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http,
    ):
        admin = desk.token("admin", "local", admin=True)
        body = {"image": "alpine", "platform": "docker", "metadata": {"name": "Agentsea/foo"}}
        reply = await http.post("/v1/containers", json=body, headers=admin)
        assert reply.status_code == 404
        assert "nebu create organization Agentsea" in reply.json()["error"]["hint"]
        assert (await http.get("/v1/containers?owner=Agentsea", headers=admin)).status_code == 404


async def test_organizations_compare_without_case_and_keep_their_spelling(desk: Any) -> None:
    shouted = desk.organization.upper()
    made = await desk.create(f"{shouted}/foo")
    assert made.json()["metadata"]["owner"] == shouted
    assert (await desk.http.get("/v1/containers/default/foo")).status_code == 200
    assert (await desk.http.get(f"/v1/containers/default/foo?owner={shouted}")).status_code == 200


async def test_doctor_is_for_admins_of_the_server(desk: Any) -> None:
    assert (await desk.http.get("/v1/doctor")).status_code == 403
    report = (await desk.http.get("/v1/doctor", headers=desk.token("admin", admin=True))).json()
    assert report["install"] == "testinstall"
    assert {each["platform"] for each in report["platforms"]} == {"docker", "sim", "ec2"}
    assert report["engine"]["temporal"] == report["engine"]["redis"] == "ok"
    kept = str(desk.settings.data / "archive")
    why = f"no worker has written to the archive {kept} yet"
    hint = "give API and workers the same NEBU_ARCHIVE"
    assert report["engine"]["archive"] == {"place": kept, "status": why, "hint": hint}


async def test_users_me_has_the_shape_that_the_published_clients_read(desk: Any) -> None:
    me = (await desk.http.get("/v1/users/me")).json()
    assert me["email"] == "admin@example.com"
    assert me["organizations"] == {desk.organization: {"org_name": desk.organization, "org_role": "admin"}}
