"""The gate before every address, Gradio's own included: who may ask, from where, by which name."""

import math
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from app.service.pace import in_words
from app.service.rate import RateLimit

LOGINS_PER_MINUTE = 10
"""So often may one address try a password."""
# What a browser needs to show the page on which one logs in; nothing in it is a visitor's.
_OPEN = frozenset(
    {
        "/", "/login", "/login/", "/logout", "/health", "/favicon.ico", "/manifest.json",
        "/robots.txt", "/theme.css", "/gradio_api/theme.css", "/gradio_api/startup-events",
    }
)  # fmt: skip
# Gradio's, of no use to this page: what is sent there stays on the disk, or is given to ffmpeg.
_CLOSED = frozenset({"/gradio_api/process_recording", "/gradio_api/deep_link"})
_OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/")


class Gate:
    """Lets a request on to the app, or answers it with a sentence.

    Gradio guards most of its own addresses, each by itself; some it leaves open behind a password
    (`/cancel`, `/heartbeat`, the list of MCP tools), and of other sites' requests it only keeps the
    answer back.

    Args:
        app: what comes after.
        local_only: whether a name other than this computer's own is refused. A page of another site
            that has its own name resolve to this computer would else be taken for the studio.
        is_local: tells whether a name is this computer's own.
        logins_per_minute: passwords that one address may try.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        local_only: bool,
        is_local: Callable[[str], bool],
        logins_per_minute: int = LOGINS_PER_MINUTE,
    ) -> None:
        self._app, self._local_only, self._is_local = app, local_only, is_local
        self._logins = RateLimit(logins_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            request = Request(scope)
            if (refused := self._refusal(request)) is not None:
                status, sentence = refused
                await JSONResponse({"error": sentence}, status)(scope, receive, send)
                return
            if wait := self._login_wait_s(request):
                answer = JSONResponse(
                    {"error": f"Too many passwords were tried: try again in {in_words(wait)}."},
                    429,
                    {"Retry-After": str(math.ceil(wait))},
                )
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _login_wait_s(self, request: Request) -> float:
        """Count a try of a password; seconds until the next may be, where there were too many."""
        if request.method != "POST" or request.scope["path"].rstrip("/") != "/login":
            return 0.0
        return self._logins.wait_s(address_of(request))

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        host = request.headers.get("host", "")
        if self._local_only and not self._is_local(_name_of(host)):
            return 421, "This studio is open under this computer's own address only."
        # A browser lets no other site set the second header.
        hosts = {host, request.headers.get("x-forwarded-host", host)}
        origin = request.headers.get("origin")
        if origin and urlsplit(origin).netloc not in hosts:
            return 403, "Another site may not use this studio."
        if not _may_enter(request):
            return 401, "Log in on the page first."
        if request.url.path.rstrip("/") in _CLOSED:
            return 404, "There is nothing here."
        return None


def address_of(request: Any) -> str:
    """Tell where a request comes from.

    Behind a proxy on this computer that is whom `X-Forwarded-For` names last: the server believes
    the header from 127.0.0.1 alone, so nobody else can choose an address with it.
    """
    client = getattr(request, "client", None)
    return str(client.host) if client is not None else ""


def root_of(request: Any) -> str:
    """Tell the address of the page by which a request came, as its sender knows it.

    Args:
        request: Starlette's, or Gradio's around it.

    Returns:
        The address, with a slash at its end.
    """
    headers = request.headers
    scheme = headers.get("x-forwarded-proto", request.url.scheme).partition(",")[0].strip()
    host = headers.get("x-forwarded-host") or headers.get("host", "")
    return f"{scheme}://{host.partition(',')[0].strip()}/"


def _name_of(host: str) -> str:
    """Take the port off a Host header."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _may_enter(request: Request) -> bool:
    """Ask Gradio's own list of who is logged in."""
    gradio = request.app
    if getattr(gradio, "auth", None) is None:
        return True
    path = request.url.path
    if path in _OPEN or path.startswith(_OPEN_FOLDERS):
        return True
    names = (f"access-token-{gradio.cookie_id}", f"access-token-unsecure-{gradio.cookie_id}")
    return any(gradio.tokens.get(request.cookies.get(name)) is not None for name in names)
