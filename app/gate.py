"""The gate before every address, Gradio's own included: who may ask, from where, by which name."""

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

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
    """

    def __init__(self, app: ASGIApp, *, local_only: bool, is_local: Callable[[str], bool]) -> None:
        self._app, self._local_only, self._is_local = app, local_only, is_local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and (refused := self._refusal(Request(scope))) is not None:
            status, sentence = refused
            await JSONResponse({"error": sentence}, status)(scope, receive, send)
            return
        await self._app(scope, receive, send)

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
