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
from musicgen_rl.pipeline.request import draw_seed

CSS = Path(__file__).parent / "static" / "studio.css"
_LOOK_S = 0.1  # between two looks at a job
_SAY_S = 0.5  # between two sentences about it: each costs the server some milliseconds
_HELD_SHARE = 0.2  # sound held back longer than this is explained
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
    empty: gr.HTML
    live_box: gr.Column
    live: gr.Audio
    cards: list[Card]


def theme() -> gr.themes.Base:
    """Make the page's theme, of fonts that every system has: nothing is fetched from anywhere."""
    plain = {
        "block_title_background_fill": "transparent",
        "block_title_text_color": "*body_text_color",
        "block_title_padding": "0",
        "block_label_background_fill": "*block_background_fill",
        "block_label_text_color": "*body_text_color",
        "block_label_border_width": "0px",
        "input_border_width": "1px",
        "checkbox_border_width": "1px",
        # Greys of 4.5 or more against what they stand on.
        "body_text_color_subdued": "*neutral_600",
        "block_info_text_color": "*neutral_600",
        "body_background_fill": "*neutral_50",
        "input_border_color": "*neutral_400",
        "checkbox_border_color": "*neutral_500",
        "button_secondary_background_fill": "*neutral_100",
        "button_secondary_background_fill_hover": "*neutral_200",
    }
    dark = {
        "block_title_background_fill_dark": "transparent",
        "block_title_text_color_dark": "*body_text_color",
        "block_label_background_fill_dark": "*block_background_fill",
        "block_label_text_color_dark": "*body_text_color",
        "body_text_color_subdued_dark": "*neutral_300",
        "block_info_text_color_dark": "*neutral_300",
        "input_border_color_dark": "*neutral_500",
    }
    accent = gr.themes.Color(
        "#fff3ec", "#ffe4d3", "#fdc6a5", "#f9a273", "#ee7e45", "#d9622b", "#bd4f1e", "#9a3f19",
        "#7b3417", "#642d16", "#361508", name="ember",
    )  # fmt: skip
    return gr.themes.Soft(
        primary_hue=accent,
        secondary_hue=accent,
        neutral_hue=gr.themes.colors.stone,
        font=list(_SYSTEM_FONTS),
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
    ).set(
        **(plain | dark),
        # White on it has a contrast of 4.9.
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        slider_color="*primary_500",
        slider_color_dark="*primary_500",
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
                controls, go, stop, status = _controls(service, streams)
            with gr.Column(scale=7, min_width=320, elem_classes="results"):
                results = _results(service, go, stop, status, streams)
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


def _header(service: Service) -> str:
    model = html.escape(service.info.name)
    return (
        "<header><h1>musicgen-rl studio</h1>"
        "<p>Say what to play. It is made here, on this computer, by the model "
        f"<b>{model}</b>.</p></header>"
    )


def _controls(service: Service, streams: bool) -> tuple[Controls, gr.Button, gr.Button, gr.HTML]:
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
            1, limits.max_duration_s, 10, step=1, label="Seconds", buttons=[],
            min_width=220, elem_id="duration",
        )  # fmt: skip
        variations = gr.Slider(
            1, limits.max_variations, 2, step=1, label="Variations", precision=0, buttons=[],
            min_width=220, elem_id="variations",
        )  # fmt: skip
    with gr.Row(elem_classes="go"):
        go = gr.Button("Generate", variant="primary", scale=3, min_width=160, elem_id="generate")
        stop = gr.Button("Stop", variant="stop", interactive=False, min_width=90, elem_id="stop")
    status = gr.HTML(line(READY if streams else f"{READY} {words.NO_FFMPEG}"), elem_id="status")
    with gr.Row(elem_classes="seed"):
        seed = gr.Number(
            label="Seed", info=words.SEED, precision=0, minimum=0, min_width=220, elem_id="seed",
            value=draw_seed,
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
    return controls, go, stop, status


def _results(
    service: Service, go: gr.Button, stop: gr.Button, status: gr.HTML, streams: bool
) -> Results:
    empty = gr.HTML(
        '<div class="empty">Your clips appear here, side by side.</div>', elem_id="empty"
    )
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
    return Results(go, stop, status, empty, live_box, live, cards)
