"""How a browser proves to the codec endpoint that the server's admin sits before it: by a cookie, for /codec alone.

The Temporal UI sends no token of ours, only cookies when it is told to include credentials. So the admin shows the
token once, at `/codec/login`, and the browser gets a cookie that no script reads (HttpOnly), that it sends for no other
site (SameSite), and that opens nothing but payloads (its token has an audience of its own).
"""

from __future__ import annotations

from datetime import timedelta
from html import escape
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Depends, Request
from fastapi.responses import HTMLResponse

from api.auth import operator
from api.bodies import read_form
from api.services import Uses
from nebulous import tokens
from nebulous.errors import Forbidden, NebulousError, NotFound, Unauthenticated
from nebulous.settings import Settings
from nebulous.tokens import Caller

COOKIE = "nebu_codec"
PATH = "/codec"
LASTS = timedelta(hours=12)
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # not less: with `no-referrer` a browser sends forms with `Origin: null`
    "X-Content-Type-Options": "nosniff",
}
_FORM = """<form method="post" action="/codec/login">
<label>Token of the server's admin <input type="password" name="token" autocomplete="off" autofocus></label>
<button>Log in</button></form>
<form method="post" action="/codec/logout"><button>Log out</button></form>"""


def reader_of_payloads(request: Request, uses: Uses) -> Caller:
    """The admin of this server: by the cookie, on pages of the UI alone, else by a token as everywhere."""
    cookie, ui = request.cookies.get(COOKIE), _ui(uses.settings)
    if cookie and ui and request.headers.get("origin") == ui:
        try:
            caller = tokens.read(uses.signing_key, cookie, tokens.CODEC)
        except Unauthenticated as error:
            raise Unauthenticated(
                "the login for this UI has ended", "log in again, at /codec/login of the API"
            ) from error
        if caller.admin:
            return caller
    return operator(request, uses)


PayloadReader = Annotated[Caller, Depends(reader_of_payloads)]


def router() -> APIRouter:
    """GET and POST /codec/login, POST /codec/logout."""
    routes = APIRouter(prefix=PATH, tags=["server"])

    @routes.get("/login", name="page to log in for the Temporal UI", response_class=HTMLResponse)
    async def page(uses: Uses) -> HTMLResponse:
        """A form for the token; the Temporal UI in the same browser then shows payloads in clear."""
        return _page(f"<p>For the Temporal UI at {escape(_needed(uses.settings))}.</p>{_FORM}")

    @routes.post("/login", name="log in for the Temporal UI", response_class=HTMLResponse)
    async def login(uses: Uses, request: Request) -> HTMLResponse:
        """Take the form, and give a cookie that opens payloads for twelve hours."""
        ui = _needed(uses.settings)
        token = parse_qs((await read_form(request)).decode("utf-8", "replace")).get("token", [""])[0].strip()
        try:
            caller = tokens.read(uses.signing_key, token)
            if not caller.admin:
                raise Forbidden("this is for admins of the server", "nebu token create --admin, where the API runs")
        except NebulousError as error:
            refused = 403 if isinstance(error, Forbidden) else 401
            return _page(f"<p>{escape(error.message)}: {escape(error.hint or '')}</p>{_FORM}", refused)
        reply = _page(f'<p>Done, for 12 hours: <a href="{escape(ui)}">{escape(ui)}</a> shows payloads now.</p>{_FORM}')
        _set(reply, tokens.mint(uses.signing_key, caller, LASTS, tokens.CODEC), LASTS, ui)
        return reply

    @routes.post("/logout", name="log out of it", response_class=HTMLResponse)
    async def logout(uses: Uses) -> HTMLResponse:
        """Take the cookie back."""
        reply = _page(f"<p>Logged out.</p>{_FORM}")
        _set(reply, "", timedelta(0), _needed(uses.settings))
        return reply

    return routes


def _ui(settings: Settings) -> str:
    return (settings.ui_origin or "").rstrip("/")


def _needed(settings: Settings) -> str:
    """The UI's origin.

    Raises:
        NotFound: No UI may ask here.
    """
    if ui := _ui(settings):
        return ui
    raise NotFound(
        "no Temporal UI may use this codec", "set NEBU_UI_ORIGIN to the address that the browser shows for it"
    )


def _page(body: str, status: int = 200) -> HTMLResponse:
    text = f"<!doctype html><html lang=en><meta charset=utf-8><title>Nebulous: payloads in clear</title>{body}</html>"
    return HTMLResponse(text, status, HEADERS)


def _set(reply: HTMLResponse, value: str, lasts: timedelta, ui: str) -> None:
    """A UI on https needs a codec on https, else browsers refuse it; on plain http a secure cookie would be lost."""
    secure = ui.startswith("https:")
    reply.set_cookie(
        COOKIE, value, int(lasts.total_seconds()), path=PATH, secure=secure, httponly=True, samesite="strict"
    )
