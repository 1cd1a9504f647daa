"""The studio: the page on which music is asked for and heard.

Laid out and wired here; what is shown is decided in `words`, `status` and `cards`, and all work is
the service's.
"""

import asyncio
import html
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.processing_utils import ffmpeg_installed

from app import words
from app.cards import Card, draw, make_card
from app.playback import Playback
from app.service import ACTIVE, Job, JobRequest, Service, State
from app.status import READY, describe, line
from musicgen_rl.audio.encoding import FORMATS
from musicgen_rl.errors import MusicgenRLError

CSS = Path(__file__).parent / "static" / "studio.css"
_LOOK_S = 0.12  # between two looks at a job
_SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")


@dataclass(frozen=True)
class Controls:
    """What a visitor sets."""

    prompt: gr.Textbox
    duration: gr.Slider
    variations: gr.Slider
    seed: gr.Number
    locked: gr.Checkbox
    format: gr.Dropdown
    guidance: gr.Slider
    negative: gr.Textbox
    temperature: gr.Slider
    top_k: gr.Number

    @property
    def inputs(self) -> list[Any]:
        """In the order that `Studio.generate` takes their values."""
        return [
            self.prompt, self.duration, self.variations, self.seed, self.locked, self.format,
            self.guidance, self.negative, self.temperature, self.top_k,
        ]  # fmt: skip


@dataclass(frozen=True)
class Results:
    """What a visitor gets."""

    go: gr.Button
    stop: gr.Button
    status: gr.HTML
    live_box: gr.Column
    live: gr.Audio
    cards: list[Card]


def theme() -> gr.themes.Base:
    """Make the page's theme, of fonts that every system has: nothing is fetched from anywhere."""
    return gr.themes.Soft(
        primary_hue=gr.themes.colors.orange,
        secondary_hue=gr.themes.colors.orange,
        neutral_hue=gr.themes.colors.stone,
        font=list(_SYSTEM_FONTS),
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
    )


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
        gr.HTML(_header(service), elem_classes="header")
        with gr.Row(elem_classes="columns"):
            with gr.Column(scale=5, min_width=320, elem_classes="controls"):
                controls, go, stop = _controls(service)
            with gr.Column(scale=7, min_width=320, elem_classes="results"):
                results = _results(service, go, stop, streams)
        Studio(service, controls, results, streams).wire(page)
    page.queue(default_concurrency_limit=None, max_size=None)
    return page


class Studio:
    """What happens on the page; holds no visitor's data."""

    def __init__(
        self, service: Service, controls: Controls, results: Results, streams: bool
    ) -> None:
        self.service, self.controls, self.results = service, controls, results
        self.streams = streams

    def wire(self, page: gr.Blocks) -> None:
        """Tie events to what they do."""
        controls, results = self.controls, self.results
        outputs = [results.go, results.stop, results.status, results.live_box, results.live]
        outputs += [controls.seed, *(c for card in results.cards for c in card.components)]
        gr.on(
            [results.go.click, controls.prompt.submit],
            self.generate,
            inputs=controls.inputs,
            outputs=outputs,
            show_progress="hidden",
            concurrency_limit=None,
            api_visibility="private",
        )
        results.stop.click(self.stop, queue=False, show_progress="hidden", api_visibility="private")
        # A seed that was typed is meant to stay.
        controls.seed.input(
            None, outputs=controls.locked, js="() => true", api_visibility="private"
        )
        page.unload(self.leave)

    def stop(self, request: gr.Request) -> None:
        """Stop this visitor's jobs, and nobody else's."""
        for job in self.service.jobs_of(_client(request)):
            self.service.stop(job)

    def leave(self, request: gr.Request) -> None:
        """Free the jobs of a visitor whose page was closed."""
        for job in self.service.jobs_of(_client(request)):
            self.service.release(job)

    async def generate(
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
    ) -> AsyncIterator[dict[Any, Any]]:
        """Make music and show all that is known of it on the way."""
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
        try:
            job = self.service.submit(wanted, _client(request))
        except MusicgenRLError as error:
            text = str(error)
            gr.Warning(html.escape(text), title="Not yet", duration=8)
            yield {self.results.status: line(f"{text[:1].upper()}{text[1:]}.", kind="bad")}
            return
        try:
            async for update in self._follow(job):
                yield update
        finally:  # also when the page was closed
            self.service.release(job)

    async def _follow(self, job: Job) -> AsyncIterator[dict[Any, Any]]:
        results, shown, said = self.results, 0, ""
        clips = job.request.generation.clips_per_prompt
        playback = Playback(job.request.generation.duration_s, self.service.sample_rate)
        yield self._opening(job)
        while True:
            update = self.service.poll(job)
            running = update.state is not State.WAITING
            ended = update.state not in ACTIVE
            out: dict[Any, Any] = {}
            if self.streams and running:
                sound = playback.push(update.parts, time.monotonic(), last=ended)
                if sound is not None:
                    out[results.live] = sound
            held = self.streams and bool(update.fraction) and not playback.started
            for path in update.files:
                picture = await asyncio.to_thread(draw, path)
                out |= results.cards[shown].showing(path, picture)
                shown += 1
            later = held and update.fraction > 0.2
            text = describe(update, clips=clips, playing_later=later, kept=shown > 0)
            if text != said:
                out[results.status] = said = text
            if ended:
                yield out | self._buttons(busy=False)
                return
            if out:
                yield out
            await asyncio.sleep(_LOOK_S)

    def _opening(self, job: Job) -> dict[Any, Any]:
        """Clear the page of the last run, and show the seed of this one."""
        results = self.results
        cleared: dict[Any, Any] = {}
        for card in results.cards:
            cleared |= card.hidden()
        return (
            cleared
            | self._buttons(busy=True)
            | {
                results.status: line("Waiting to start."),
                results.live_box: gr.update(visible=self.streams),
                self.controls.seed: job.seed,
            }
        )

    def _buttons(self, *, busy: bool) -> dict[Any, Any]:
        return {
            self.results.go: gr.update(interactive=not busy),
            self.results.stop: gr.update(interactive=busy),
        }


def _client(request: gr.Request) -> str:
    return str(request.session_hash)


def _header(service: Service) -> str:
    model = html.escape(service.info.name)
    return (
        "<header><h1>musicgen-rl studio</h1>"
        "<p>Say what to play. It is made here, on this computer, by the model "
        f"<b>{model}</b>.</p></header>"
    )


def _controls(service: Service) -> tuple[Controls, gr.Button, gr.Button]:
    limits, sampling = service.limits, service.info.sampling
    prompt = gr.Textbox(
        label="What to play",
        placeholder="slow sad piano",
        lines=2,
        max_lines=5,
        max_length=limits.max_prompt_characters,
        submit_btn=False,
        autofocus=True,
        elem_id="prompt",
    )
    gr.Examples([[text] for text in words.EXAMPLES], prompt, label="Or start from", elem_id="try")
    with gr.Row():
        duration = gr.Slider(
            1, limits.max_duration_s, 10, step=1, label="Duration (seconds)", buttons=[],
            min_width=220, elem_id="duration",
        )  # fmt: skip
        variations = gr.Slider(
            1, limits.max_variations, 2, step=1, label="Variations", precision=0, buttons=[],
            min_width=220, elem_id="variations",
        )  # fmt: skip
    with gr.Row(elem_classes="go"):
        go = gr.Button("Generate", variant="primary", scale=3, min_width=160, elem_id="generate")
        stop = gr.Button("Stop", variant="stop", interactive=False, min_width=90, elem_id="stop")
    with gr.Row(elem_classes="seed"):
        seed = gr.Number(
            label="Seed", info=words.SEED, precision=0, minimum=0, min_width=220, elem_id="seed",
            value=None,
        )  # fmt: skip
        with gr.Column(min_width=120, scale=1, elem_classes="side"):
            locked = gr.Checkbox(label="Lock the seed", elem_id="lock")
            format = gr.Dropdown(
                list(FORMATS), value="wav", label="File format", filterable=False, min_width=120,
                elem_id="format",
            )  # fmt: skip
    with gr.Accordion("More", open=False, elem_id="more"):
        guidance = gr.Slider(
            1, 10, max(1.0, sampling.guidance_scale), step=0.1, label="Guidance",
            info=words.GUIDANCE, buttons=[], elem_id="guidance",
        )  # fmt: skip
        negative = gr.Textbox(
            label="Negative prompt", info=words.NEGATIVE, value=sampling.negative_prompt,
            max_length=limits.max_prompt_characters, elem_id="negative",
        )  # fmt: skip
        temperature = gr.Slider(
            0.1, 2, sampling.temperature, step=0.05, label="Temperature",
            info=words.TEMPERATURE, buttons=[], elem_id="temperature",
        )  # fmt: skip
        top_k = gr.Number(
            label="Top-k", info=words.TOP_K, value=sampling.top_k, precision=0, minimum=0,
            elem_id="top-k",
        )  # fmt: skip
    controls = Controls(
        prompt, duration, variations, seed, locked, format, guidance, negative, temperature, top_k
    )
    return controls, go, stop


def _results(service: Service, go: gr.Button, stop: gr.Button, streams: bool) -> Results:
    status = gr.HTML(line(READY if streams else f"{READY} {words.NO_FFMPEG}"), elem_id="status")
    with gr.Column(visible=False, elem_id="live") as live_box:
        live = gr.Audio(
            label="Playing while it is made: variation 1",
            streaming=streams,
            autoplay=True,
            interactive=False,
            buttons=[],
        )
    with gr.Row(elem_classes="cards"):
        cards = [make_card(number) for number in range(1, service.limits.max_variations + 1)]
    answer, reason = words.may_i_use_this(service.info.license)
    gr.HTML(
        '<section class="use"><h2>May I use this?</h2>'
        f"<p><b>{html.escape(answer)}.</b> {html.escape(reason)}</p></section>"
    )
    return Results(go, stop, status, live_box, live, cards)
