"""Signing in and out: a browser shows a token once."""

from __future__ import annotations

import re
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from rlaif.service.layout import link, page
from rlaif.service.sessions import COOKIE, LONGEST_S, Sessions
from rlaif.service.state import service_of

_A_RUN = re.compile(r"/runs/[0-9a-z]+(/[0-9a-z]+)*")
"""The pages to which signing in leads: nothing that another site made up."""


async def login(request: Request) -> Response:
    """Show a token once, and be known from then on; then see the page that was asked for."""
    said, to = "", request.query_params.get("to", "")
    if request.method == "POST":
        service, sessions = service_of(request), sessions_of(request)
        given = parse_qs((await request.body()).decode("utf-8", "replace"))
        caller = service.tokens.caller(given.get("token", [""])[0].strip())
        if caller is not None:
            answer = RedirectResponse(to if _A_RUN.fullmatch(to) else "/", 303)
            secure = request.url.scheme == "https"
            answer.set_cookie(
                COOKIE,
                sessions.begin(caller),
                max_age=LONGEST_S,
                httponly=True,
                samesite="strict",
                secure=secure,
            )
            return answer
        said = "Nobody has that token."
    body = (
        f'<h1>Sign in</h1><form class="panel" method="post" action="{link("/login", to=to)}">'
        "<label>Token"
        '<input name="token" type="password" autocomplete="off" required autofocus></label>'
        f'<button class="main">Sign in</button></form><p class="message" role="alert">{said}</p>'
    )
    return page("Sign in", body, status=401 if said else 200)


async def logout(request: Request) -> Response:
    """Forget this browser."""
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(COOKIE)
    return answer


def sessions_of(request: Request) -> Sessions:
    """The signed-in browsers of the service that a request came to."""
    found: Sessions = request.app.state.sessions
    return found
