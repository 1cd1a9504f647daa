"""How the studio looks: its theme, its controls, and the places of its results."""

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app import words
from app.cards import Card, make_card
from app.service import Service
from app.status import READY, line
from musicgen_rl.audio.encoding import FORMATS
from musicgen_rl.pipeline.request import draw_seed

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


def header(service: Service) -> str:
    """Write the top of the page."""
    model = html.escape(service.info.name)
    return (
        "<header><h1>musicgen-rl studio</h1>"
        "<p>Say what to play. It is made here, on this computer, by the model "
        f"<b>{model}</b>.</p></header>"
    )


def place_controls(
    service: Service, streams: bool
) -> tuple[Controls, gr.Button, gr.Button, gr.HTML]:
    """Place what a visitor sets, with the buttons and the status under them."""
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


def place_results(
    service: Service, go: gr.Button, stop: gr.Button, status: gr.HTML, streams: bool
) -> Results:
    """Place what a visitor gets."""
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
