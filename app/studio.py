"""The studio: the page on which music is asked for and heard.

Wired here; how it looks is decided in `layout`, `words`, `status` and `cards`, and all work is the
service's.
"""

import asyncio
import html
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import ffmpeg_installed

from app.cards import draw
from app.layout import Controls, Results, header, place_controls, place_results
from app.playback import Playback
from app.service import ACTIVE, Job, JobRequest, Service, State
from app.status import describe, line
from musicgen_rl.errors import MusicgenRLError

CSS = Path(__file__).parent / "static" / "studio.css"
_LOOK_S = 0.1  # between two looks at a job
_SAY_S = 0.5  # between two sentences about it: each costs the server some milliseconds
_HELD_SHARE = 0.2  # sound held back longer than this is explained


def build(service: Service, *, streaming: bool | None = None) -> gr.Blocks:
    """Lay out the page of a service.

    Args:
        service: what makes the music.
        streaming: play while it is made; where None, if ffmpeg is there, which that needs.

    Returns:
        The page, its queue set up; theme and css go to `launch`.
    """
    streams = ffmpeg_installed() if streaming is None else streaming
    with gr.Blocks(
        title="musicgen-rl studio",
        analytics_enabled=False,
        delete_cache=(600, round(service.limits.keep_s)),
    ) as page:
        gr.HTML(header(service), elem_classes="header")
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=5, min_width=320, elem_classes="controls"):
                controls, go, stop, status = place_controls(service, streams)
            with gr.Column(scale=7, min_width=320, elem_classes="results"):
                results = place_results(service, go, stop, status, streams)
        Studio(service, controls, results, streams).wire(page)
    page.queue(default_concurrency_limit=None, max_size=None)
    return page


class Studio:
    """What happens on the page.

    A run is four events: one admits the job; one clears the cards of the last run while another
    follows the job; one shows the clips. Not one alone, because Gradio works through all outputs of
    an event at every update: with the cards among them that took 90 ms, without 5.

    Args:
        service: what makes the music.
        controls: what is set on the page.
        results: what is shown on it.
        streams: whether sound is played while it is made.
    """

    def __init__(
        self, service: Service, controls: Controls, results: Results, streams: bool
    ) -> None:
        self.service, self.controls, self.results = service, controls, results
        self.streams = streams
        self._jobs: dict[str, Job] = {}  # of each open page, its last one

    def wire(self, page: gr.Blocks) -> None:
        """Tie events to what they do."""
        controls, results = self.controls, self.results
        cards = [component for card in results.cards for component in card.components]
        head = [results.go, results.stop, results.status, results.live_box]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        begun = gr.on(
            [results.go.click, controls.prompt.submit],
            self.begin,
            inputs=controls.inputs,
            outputs=[*head, results.empty, controls.seed],
            **quiet,
        )
        begun.success(self.clear, outputs=cards, **quiet)
        followed = begun.success(self.follow, outputs=[results.status, results.live], **quiet)
        followed.success(self.show, outputs=[*head[:2], *cards], **quiet)
        results.stop.click(self.stop, queue=False, **quiet)
        # A seed that was typed is meant to stay.
        controls.seed.input(None, outputs=controls.locked, js="() => true", **quiet)
        page.unload(self.leave)

    def begin(
        self,
        prompt: str,
        duration: float,
        variations: int,
        seed: int | None,
        locked: bool,
        format: str,
        guidance: float,
        negative: str,
        temperature: float,
        top_k: int | None,
        request: gr.Request,
    ) -> dict[Any, Any]:
        """Admit a job.

        Raises:
            gr.Error: it cannot be done; says why, in a sentence.
        """
        results, client = self.results, _client(request)
        wanted = JobRequest(
            prompt=prompt or "",
            duration_s=duration,
            variations=variations,
            seed=seed if locked else None,
            format=format,
            sampling={
                "guidance_scale": guidance,
                "negative_prompt": negative or None,
                "temperature": temperature,
                "top_k": top_k,
            },
        )
        if self.service.jobs_of(client):
            raise _refusal("your last clips are still being made: stop them, or wait a little")
        try:
            job = self.service.submit(wanted, client)
        except MusicgenRLError as error:
            raise _refusal(str(error)) from None
        if (last := self._jobs.get(client)) is not None:
            self.service.release(last)
        self._jobs[client] = job
        return {
            results.go: gr.update(interactive=False),
            results.stop: gr.update(interactive=True),
            results.status: line("Waiting to start."),
            results.live_box: gr.update(visible=self.streams),
            results.empty: gr.update(visible=False),
            self.controls.seed: job.seed,
        }

    def clear(self) -> dict[Any, Any]:
        """Take away the clips of the last run."""
        cleared: dict[Any, Any] = {}
        for card in self.results.cards:
            cleared |= card.hidden()
        return cleared

    async def follow(self, request: gr.Request) -> AsyncIterator[dict[Any, Any]]:
        """Say how the job stands, and play it, until it has ended."""
        job = self._jobs.get(_client(request))
        if job is None:
            return
        results, said, said_at = self.results, "", 0.0
        clips = job.request.generation.clips_per_prompt
        playback = Playback(job.request.generation.duration_s, self.service.sample_rate)
        try:
            while True:
                update, now = self.service.poll(job), time.monotonic()
                ended = update.state not in ACTIVE
                out: dict[Any, Any] = {}
                if self.streams and update.state is not State.WAITING:
                    sound = playback.push(update.parts, now, last=ended)
                    if sound is not None:
                        out[results.live] = sound
                held = self.streams and not playback.started and update.fraction > _HELD_SHARE
                text = describe(update, clips=clips, playing_later=held, kept=job.has_files)
                if text != said and (ended or out or now - said_at > _SAY_S):
                    out[results.status] = said = text
                    said_at = now
                if out:
                    yield out
                if ended:
                    return
                await asyncio.sleep(_LOOK_S)
        finally:
            if job.state in ACTIVE:  # the page was closed
                self.service.release(job)

    async def show(self, request: gr.Request) -> dict[Any, Any]:
        """Show the clips; the page gets its own copies of their files."""
        results = self.results
        out: dict[Any, Any] = {}
        job = self._jobs.get(_client(request))
        if job is not None:
            for card, path in zip(results.cards, job.files, strict=False):
                out |= card.showing(path, await asyncio.to_thread(draw, path))
        return out | {
            results.go: gr.update(interactive=True),
            results.stop: gr.update(interactive=False),
        }

    def stop(self, request: gr.Request) -> None:
        """Stop this visitor's jobs, and nobody else's."""
        for job in self.service.jobs_of(_client(request)):
            self.service.stop(job)

    def leave(self, request: gr.Request) -> None:
        """Free the jobs and files of a visitor whose page was closed."""
        client = _client(request)
        last = self._jobs.pop(client, None)
        for job in {*self.service.jobs_of(client), *([last] if last else [])}:
            self.service.release(job)


def _refusal(text: str) -> gr.Error:
    # Gradio shows a message as HTML, and ours may repeat what the visitor typed.
    message = html.escape(f"{text[:1].upper()}{text[1:]}.")
    return gr.Error(message, title="Not yet", duration=10, print_exception=False)


def _client(request: gr.Request) -> str:
    return str(request.session_hash)
