"""What the page and programs fetch beside Gradio's own addresses.

Sound comes this way while it is made, because Gradio's streamed audio goes through ffmpeg into
segments that the browser collects before it plays: a second until a clip is heard, and seconds of
lead in a jam that nothing can take back. Here a piece is played the moment it comes. In a jam every
request for the next one says how far playing is, which is what making is paced by.
"""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from app.gate import address_of
from app.playback import stream, stream_facts
from app.service import ACTIVE, Job, QueueFullError, Service, ServiceClosedError
from app.service.jam import JamRequest, LiveJam
from app.service.metrics import together
from app.service.request import on_the_beat
from app.shelf import Shelf
from app.visits import Visits
from musicgen_rl.audio.encoding import FORMATS
from musicgen_rl.audio.io import read_tags
from musicgen_rl.audio.tags import package_version
from musicgen_rl.errors import ConfigError, InputError, MusicgenRLError
from musicgen_rl.pipeline.request import MAX_SEED

STATIC = Path(__file__).parent / "static"
SCRIPTS = frozenset(path.name for path in STATIC.glob("*.js"))
_LONGEST_BODY = 20_000
_WAIT_S = 1.0  # a request for sound waits so long for some
_LOOK_S = 0.02
_PRESS_S = 5.0  # a press of Generate that led to no job by then was refused

Handler = Callable[[Request], Awaitable[Response]]


def routes(services: dict[str, Service], shelf: Shelf, visits: Visits) -> list[Route]:
    """List the addresses.

    Args:
        services: by the name of their model, the first one is the default.
        shelf: the files that may be fetched.
        visits: of all open pages.
    """
    first = next(iter(services.values()))
    expecting: dict[str, object] = {}  # the last press of each page that waits for its job

    async def health(request: Request) -> Response:
        loads = [one.load for one in services.values()]
        return JSONResponse(
            {
                "status": "ok", "version": package_version(), "models": list(services),
                "waiting": sum(waiting for waiting, _ in loads),
                "running": sum(running for _, running in loads),
            }
        )  # fmt: skip

    async def metrics(request: Request) -> Response:
        text = together({name: one.rendered_metrics() for name, one in services.items()})
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def script(request: Request) -> Response:
        name = f"{request.path_params['name']}.js"
        if name not in SCRIPTS:
            raise _NotFoundError("There is no such script.")
        return FileResponse(
            STATIC / name, media_type="text/javascript", headers={"Cache-Control": "no-cache"}
        )

    async def clip(request: Request) -> Response:
        for service in services.values():
            if (job := service.find(request.path_params["id"])) is not None:
                return _sound(service, job)
        raise _NotFoundError("This clip is not being made any more.")

    async def next_clip(request: Request) -> Response:
        visit, own = _text(await _body(request), "visit") or "", object()
        expecting[visit] = own
        try:
            for _ in range(round(_PRESS_S / _LOOK_S)):
                if expecting.get(visit) is not own:
                    break  # pressed again
                run = visits.known(visit).shown
                if run is not None and run.job.state in ACTIVE and not run.job.awaited:
                    return _sound(run.service, run.job)
                await asyncio.sleep(_LOOK_S)
        finally:
            if expecting.get(visit) is own:
                del expecting[visit]
        return Response(status_code=204)

    async def file(request: Request) -> Response:
        path = shelf.find(request.path_params["name"])
        if path is None:
            return JSONResponse({"error": "This file is not here, or no longer."}, 404)
        return FileResponse(path, filename=path.name, headers=_PLAIN)

    async def start(request: Request) -> Response:
        body = await _body(request)
        service = services.get(str(body.get("model") or first.info.name))
        if service is None:
            raise ConfigError("this studio does not have that model")
        service.check_rate(address_of(request))
        tempo, steady = _number(body, "tempo"), body.get("steady") is True
        wanted = JamRequest(
            prompt=_text(body, "prompt") or "",
            diversity=_number(body, "diversity"),
            seed=_whole(body, "seed"),
            sampling=_sampling(body),
            tempo_bpm=tempo,
            steady=steady and tempo is None,
            key=_text(body, "key") or None,
            chords=on_the_beat(_text(body, "chords"), tempo, steady=steady),
        )
        visit = _text(body, "visit") or ""  # with which it ends
        jam = await asyncio.to_thread(service.live.open, wanted, visit)
        return JSONResponse(
            {
                "id": jam.id, "seed": jam.seed, "sample_rate": service.sample_rate,
                "channels": service.channels,
            }
        )  # fmt: skip

    async def following(request: Request) -> Response:
        jam, body = _jam(services, request), await _body(request)
        played_s = _number(body, "played_s") or 0.0
        data, moved = jam.hear(played_s)
        for _ in range(round(_WAIT_S / _LOOK_S)):
            if data or moved or jam.ended:
                break
            await asyncio.sleep(_LOOK_S)
            data, moved = jam.hear(played_s)
        facts = {
            "moved": [m.described() for m in moved], "ended": jam.ended, "error": jam.error,
        }  # fmt: skip
        return Response(
            data, media_type="application/octet-stream",
            headers={"X-Jam": json.dumps(facts), "Cache-Control": "no-store"},
        )  # fmt: skip

    async def move(request: Request) -> Response:
        jam, body = _jam(services, request), await _body(request)
        number = await asyncio.to_thread(
            jam.change,
            prompt=_text(body, "prompt"),
            diversity=_number(body, "diversity"),
            sampling=_sampling(body) or None,
        )
        return JSONResponse({"number": number})

    async def keep(request: Request) -> Response:
        jam, body = _jam(services, request), await _body(request)
        format = _text(body, "format") or "wav"
        if format not in FORMATS:
            raise ConfigError(f"unknown format {format!r}: use {', '.join(FORMATS)}")
        path = await asyncio.to_thread(jam.keep, format)
        tags = await asyncio.to_thread(read_tags, path)
        return JSONResponse(
            {
                "url": shelf.url(path), "name": path.name, "seconds": tags["duration_s"],
                "moves": len(tags["moves"]) - 1,
            }
        )  # fmt: skip

    async def stop(request: Request) -> Response:
        jam = _jam(services, request)
        await _body(request)
        await asyncio.to_thread(jam.stop)
        return JSONResponse({})

    async def beat(request: Request) -> Response:
        visits.beat(_text(await _body(request), "visit") or "")
        return JSONResponse({})

    async def leave(request: Request) -> Response:
        name = _text(await _body(request), "visit") or ""
        await asyncio.to_thread(visits.leave, name)
        return JSONResponse({})

    def post(path: str, handler: Handler) -> Route:
        return Route(f"/studio/{path}", _guarded(handler), methods=["POST"])

    return [
        Route("/health", health),
        Route("/metrics", _guarded(metrics)),
        Route("/studio/{name}.js", _guarded(script)),
        Route("/studio/stream/{id}", _guarded(clip)),
        post("stream", next_clip),
        Route("/studio/file/{name}", _guarded(file)),
        post("visit/beat", beat),
        post("visit/leave", leave),
        post("live/start", start),
        post("live/{id}/next", following),
        post("live/{id}/move", move),
        post("live/{id}/keep", keep),
        post("live/{id}/stop", stop),
    ]


_PLAIN = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Cache-Control": "private, max-age=3600",
}


class _NotFoundError(MusicgenRLError):
    """There is no such jam."""


def _sound(service: Service, job: Job) -> Response:
    """Answer with a clip's sound while it is made; the headers say what it is."""
    job.awaited = True
    return StreamingResponse(
        stream(service, job), media_type="application/octet-stream",
        headers={
            "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
            "X-Stream": json.dumps(stream_facts(service, job)),
        },
    )  # fmt: skip


def _guarded(handler: Handler) -> Handler:
    """Answer mistakes with a sentence."""

    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except _NotFoundError as error:
            return JSONResponse({"error": str(error)}, 404)
        except QueueFullError as error:
            headers = {"Retry-After": str(max(1, round(error.retry_s)))}
            return JSONResponse({"error": _sentence(error)}, 429, headers)
        except ServiceClosedError as error:
            return JSONResponse({"error": _sentence(error)}, 503)
        except MusicgenRLError as error:
            return JSONResponse({"error": _sentence(error)}, 400)

    return guarded


async def _body(request: Request) -> dict[str, Any]:
    """Read a small JSON object; a form of another site cannot send that type unasked."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise InputError("send JSON, with the header Content-Type: application/json")
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > _LONGEST_BODY:
            raise InputError(f"the request is longer than {_LONGEST_BODY} bytes")
    try:
        found = json.loads(data)
    except ValueError:
        raise InputError("the request is not JSON") from None
    except RecursionError:
        raise InputError("the request's JSON is nested too deep") from None
    if not isinstance(found, dict):
        raise InputError("the request is not a JSON object")
    return found


def _jam(services: dict[str, Service], request: Request) -> LiveJam:
    for service in services.values():
        if (jam := service.live.find(request.path_params["id"])) is not None:
            return jam
    raise _NotFoundError("This jam has ended: start another one.")


def _sampling(body: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: _number(body, name)
        for name in ("guidance_scale", "guidance_s", "temperature", "top_p")
    }
    found |= {"top_k": _whole(body, "top_k"), "negative_prompt": _text(body, "negative_prompt")}
    return {name: value for name, value in found.items() if value is not None}


def _number(body: dict[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} must be a number, got {value!r:.40}")
    try:
        number = float(value)
    except OverflowError:  # a whole number of more than 308 digits
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, got {value!r:.40}")
    return number


def _whole(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_SEED:
        return value
    raise InputError(f"{name} must be a whole number, got {value!r:.40}")


def _text(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None or isinstance(value, str):
        return value
    raise InputError(f"{name} must be text, got {value!r:.40}")


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
