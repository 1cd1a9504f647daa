"""The study over HTTP: blinding happens here, the browser is told nothing it could tell on.

Every route is relative, so the application can be mounted under any path beside another one.
"""

import base64
import json
import re
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from app.listening import pages, session
from app.listening.session import Context
from app.passwords import Account, checker
from musicgen_rl.errors import InputError, MusicgenRLError

STATIC = Path(__file__).with_name("static")
_LARGEST_BODY = 256_000
_HEADERS = {
    # Nothing from elsewhere, nothing kept, and no address of a page told to anybody.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self'; media-src 'self' blob:; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:[0-9]{1,5})?")
_REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def create_app(
    context: Context,
    *,
    owners: Sequence[Account] = (),
    report: Callable[[], str] | None = None,
    address: str | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        context: plan, store and clips.
        owners: who may open the owner's page; nobody can if it is empty.
        report: makes the report's HTML, for the owner after the stop.
        address: what invitations begin with, as `links.base_address` gives it; without it, how the
            owner's page was called, a proxy's X-Forwarded-Proto and -Host heeded.

    Returns:
        An application without documentation pages, to serve or to mount.
    """
    app = FastAPI(title="Listening", docs_url=None, redoc_url=None, openapi_url=None)
    study, store = context.plan.study, context.store

    @app.middleware("http")
    async def _headers(request: Request, proceed: Any) -> Response:
        response: Response = await proceed(request)
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    def said(request: Request, text: str, status: int) -> Response:
        """Answer with a sentence, as a page to people and as JSON to the page's script."""
        if "text/html" not in request.headers.get("accept", ""):
            return JSONResponse({"error": text}, status)
        path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
        deep = path.count("/") - 1
        return HTMLResponse(pages.sentence(study, text, "../" * deep), status)

    @app.exception_handler(MusicgenRLError)
    async def _refuse(request: Request, error: MusicgenRLError) -> Response:
        status = 400 if isinstance(error, InputError) else 503
        return said(request, str(error), status)

    @app.exception_handler(RequestValidationError)
    async def _misread(request: Request, error: RequestValidationError) -> Response:
        return await _refuse(request, InputError("there is no such page: please check the link"))

    @app.exception_handler(HTTPException)
    async def _missing(request: Request, error: HTTPException) -> Response:
        words = {404: "there is no such page: please check the link",
                 405: "this page cannot be used that way"}  # fmt: skip
        text = words.get(error.status_code, "this page cannot be had")
        return said(request, text, error.status_code)

    @app.get("/")
    def _start() -> Response:
        return HTMLResponse(pages.start(study))

    @app.get("/i/{token}")
    def _invitation(token: str) -> Response:
        store.require_invitation(token)
        minutes = pages.minutes(context.plan)
        return HTMLResponse(
            pages.consent(study, secrets.token_urlsafe(18), minutes, store.simulated)
        )

    @app.post("/i/{token}")
    async def _agree(token: str, request: Request) -> Response:
        form = await _form(request)
        nonce = form.get("nonce", "")
        if not 16 <= len(nonce) <= 100 or form.get("agree") != "yes":
            raise InputError("please tick that you agree, or close this page")
        key = await run_in_threadpool(store.agree, token, nonce)
        return RedirectResponse(f"../r/{key}", 303)

    @app.get("/r/{key}")
    def _session(key: str) -> Response:
        store.rater(key)
        return HTMLResponse(pages.shell(study, store.simulated))

    @app.get("/r/{key}/state")
    def _state(key: str) -> dict[str, Any]:
        return session.state(context, store.rater(key))

    @app.get("/r/{key}/trial/{position}")
    def _trial(key: str, position: int) -> dict[str, Any]:
        rater = store.rater(key)
        shown = session.show_trial(context, rater, position)
        return session.state(context, rater) | {"stage": "trial", "trial": shown}

    @app.get("/r/{key}/sound/{name}")
    def _sound(key: str, name: str) -> Response:
        rater = store.rater(key)
        return Response(session.sound(context, rater, name), media_type="audio/wav")

    @app.get("/r/{key}/headphones/{number}")
    def _headphone_sound(key: str, number: int) -> Response:
        if not 0 <= number < session.HEADPHONE_ROUNDS:
            raise InputError("there is no such sound")
        return Response(
            session.headphone_sound(context, store.rater(key), number), media_type="audio/wav"
        )

    @app.post("/r/{key}/headphones")
    async def _headphones(key: str, request: Request) -> dict[str, Any]:
        body = await _json(request)

        def work() -> dict[str, Any]:
            session.check_headphones(store, store.rater(key), body)
            return session.state(context, store.rater(key))

        return await run_in_threadpool(work)

    @app.post("/r/{key}/answers")
    async def _answer(key: str, request: Request) -> dict[str, Any]:
        body = await _json(request)

        def work() -> dict[str, Any]:
            rater = store.rater(key)
            stored = session.answer(context, rater, body)
            # Only after this line is the answer acknowledged: it is on the disk.
            return {"stored": True, "revision": stored.revision} | session.state(context, rater)

        return await run_in_threadpool(work)

    _add_owner(app, context, owners, report, address)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def _add_owner(
    app: FastAPI,
    context: Context,
    owners: Sequence[Account],
    report: Callable[[], str] | None,
    address: str | None,
) -> None:
    """Add the owner's page: progress, invitations, the end; what people answered only after it."""
    store = context.store
    allowed = checker(owners)
    slots = len(context.plan.assignment.sessions)

    def known(request: Request) -> bool:
        scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
        try:
            text = base64.b64decode(encoded, validate=True).decode()
        except (ValueError, UnicodeDecodeError):
            return False
        user, _, password = text.partition(":")
        return scheme.lower() == "basic" and allowed(user, password)

    def denied() -> Response:
        return Response(
            "The owner's page needs a password.", 401, {"WWW-Authenticate": 'Basic realm="study"'}
        )

    def page(message: str = "", links: Sequence[str] = ()) -> Response:
        return HTMLResponse(
            pages.owner(context.plan, store, store.mac("owner"), message, list(links))
        )

    @app.get("/owner")
    def _owner(request: Request) -> Response:
        return page() if known(request) else denied()

    @app.post("/owner")
    async def _do(request: Request) -> Response:
        form = await _form(request)

        def work() -> Response:
            if not known(request):
                return denied()
            # A foreign page could send this form with the password the browser remembers.
            if not secrets.compare_digest(
                form.get("form", "").encode(), store.mac("owner").encode()
            ):
                raise InputError("this form is not from the owner's page: reload it")
            return _act(form, request, page)

        return await run_in_threadpool(work)

    def _act(form: dict[str, str], request: Request, page: Any) -> Response:
        if form.get("do") == "invite":
            asked = form.get("count", "")
            count = int(asked) if asked.isdecimal() and len(asked) <= 4 else 0
            if not 1 <= count <= 1000:
                raise InputError("the number of invitations must be from 1 to 1000")
            tokens = store.invite(store.next_slots(count, slots))
            base = address or _called(request)
            return page("New invitations, shown once:", [f"{base}/i/{t}" for t in tokens])  # type: ignore[no-any-return]
        if form.get("do") == "stop":
            store.stop()
            return page("The study has ended.")  # type: ignore[no-any-return]
        if form.get("do") == "unblind":
            store.log("unblinded before the stop", "owner's page")
            return RedirectResponse("owner/report", 303)
        raise InputError("the owner's page knows no such action")

    @app.get("/owner/report")
    def _report(request: Request) -> Response:
        if not known(request):
            return denied()
        early = any(entry["what"] == "unblinded before the stop" for entry in store.events())
        if report is None or (store.stopped_at is None and not early):
            raise InputError("the study is still blind: end it first, or unblind it on purpose")
        return HTMLResponse(report(), headers={"Content-Security-Policy": _REPORT_POLICY})


def _called(request: Request) -> str:
    """Tell how the owner's browser reached the study, for links that only the owner is shown.

    A proxy that ends TLS says so in two headers. Whoever forges them has the owner's password
    already and changes nothing but the page this one request gets; what is no host name counts
    for nothing.
    """
    url = request.url
    scheme = request.headers.get("x-forwarded-proto", "").split(",")[0].strip().lower()
    host = request.headers.get("x-forwarded-host", "").split(",")[0].strip()
    url = url.replace(scheme=scheme) if scheme in ("http", "https") else url
    url = url.replace(netloc=host) if _HOST.fullmatch(host) else url
    return str(url).split("?")[0].removesuffix("/owner")


async def _body(request: Request) -> bytes:
    data, size = b"", 0
    async for part in request.stream():
        size += len(part)
        # A little too much is read to its end and dropped, so that the sender gets the sentence.
        if size <= _LARGEST_BODY:
            data += part
        elif size > 16 * _LARGEST_BODY:
            break
    if size > _LARGEST_BODY:
        raise InputError("what was sent is too long")
    return data


async def _json(request: Request) -> dict[str, Any]:
    sent = await _body(request)
    try:
        content = json.loads(sent)
    except (ValueError, RecursionError):
        raise InputError("what was sent is not JSON") from None
    if not isinstance(content, dict):
        raise InputError("what was sent is not a JSON object")
    return content


async def _form(request: Request) -> dict[str, str]:
    from urllib.parse import parse_qsl

    try:
        text = (await _body(request)).decode()
    except UnicodeDecodeError:
        raise InputError("what was sent is not a form") from None
    return dict(parse_qsl(text))
