"""How the studio looks: its theme, its controls, and the places of its results."""

import html
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from app import words
from app.cards import Card, make_card
from app.playback import stream_facts
from app.service import Job, Service
from app.settings import (
    CHORD_ROWS,
    GUIDANCE,
    GUIDED_S,
    KEYS,
    LOUDNESS,
    TEMPERATURE,
    Settings,
    fresh_settings,
)
from app.status import READY, line
from musicgen_rl.audio.encoding import FORMATS
from musicgen_rl.checkpoint.holds import BEAT, CHORDS, HOLDS, KEY, can_find, has_hold
from musicgen_rl.checkpoint.scorer import find_scorer
from musicgen_rl.data.chords import AUTO_CHORDS, NO_CHORDS
from musicgen_rl.data.keys import AUTO_KEY, NO_KEY
from musicgen_rl.merging.recipe import METHODS
from musicgen_rl.pipeline.request import MAX_TEMPO_BPM

_SYSTEM_FONTS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")


@dataclass(frozen=True)
class Controls:
    """What a visitor sets: one component for each field of `Settings`."""

    by_name: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.by_name[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def components(self) -> list[Any]:
        """All of them, in order of their names in `Settings`."""
        return [self.by_name[field.name] for field in fields(Settings)]

    def read(self, values: Mapping[Any, Any]) -> Settings:
        """Take what an event brought, by component."""
        return Settings(**{f.name: values[self.by_name[f.name]] for f in fields(Settings)})

    def showing(self, settings: Settings, *names: str) -> dict[Any, Any]:
        """Update that sets the controls; only those named, or all."""
        chosen = names or tuple(f.name for f in fields(Settings))
        return {self.by_name[name]: getattr(settings, name) for name in chosen}


@dataclass(frozen=True)
class Actions:
    """Buttons beside the controls, and what they speak through."""

    go: gr.Button
    stop: gr.Button
    status: gr.HTML
    history: gr.Dropdown
    restore: gr.Button
    link: gr.Button
    link_text: gr.Textbox


@dataclass(frozen=True)
class Results:
    """Where clips appear."""

    empty: gr.HTML
    live: gr.HTML
    cards: list[Card]


@dataclass(frozen=True)
class Comparing:
    """The place of two clips in step."""

    first: gr.Slider
    second: gr.Slider
    go: gr.Button
    status: gr.HTML
    panel: gr.HTML


@dataclass(frozen=True)
class Spreading:
    """The place of clips as points."""

    clips: gr.Slider
    go: gr.Button
    status: gr.HTML
    panel: gr.HTML


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
        "button_secondary_background_fill_hover_dark": "*neutral_500",
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


def header(service: Service, visit: str = "") -> str:
    """Write the top of the page.

    It also carries the page's own name, and how clips will sound, for what plays in the page.
    """
    model = html.escape(service.info.name)
    return (
        f'<header data-studio="visit" data-visit="{html.escape(visit, quote=True)}" '
        f'data-rate="{service.sample_rate}" data-channels="{service.channels}">'
        "<h1>musicgen-rl studio</h1>"
        "<p>Say what to play. It is made here, on this computer, by the model "
        f"<b>{model}</b>.</p></header>"
    )


def place_controls(services: dict[str, Service]) -> tuple[Controls, Actions]:
    """Place what a visitor sets, with the buttons and the status among it."""
    service = next(iter(services.values()))
    limits, fresh = service.limits, fresh_settings(service)
    dialled = any(one.has_dial for one in services.values())
    at: dict[str, Any] = {}
    at["prompt"] = gr.Textbox(
        label="What to play", placeholder="slow sad piano", lines=2, max_lines=5,
        max_length=limits.max_prompt_characters, submit_btn=False, autofocus=True,
        elem_id="prompt",
    )  # fmt: skip
    examples = gr.Dataset(
        components=[at["prompt"]], samples=[[text] for text in words.EXAMPLES], type="index",
        label="Or start from", elem_id="try",
    )  # fmt: skip
    # In the page itself: gr.Examples would ask the server, which may be making music.
    examples.click(
        None, examples, at["prompt"], js=f"(number) => {json.dumps(words.EXAMPLES)}[number]",
        api_visibility="private",
    )  # fmt: skip
    at["diversity"] = gr.Slider(
        0, 1, fresh.diversity, step=0.01, label="Quality to diversity", info=words.DIAL,
        buttons=[], elem_id="dial", elem_classes="dial", visible=dialled,
    )  # fmt: skip
    with gr.Row():
        at["duration"] = gr.Slider(
            1, limits.max_duration_s, fresh.duration, step=1, label="Seconds", buttons=[],
            min_width=200, elem_id="duration",
        )  # fmt: skip
        at["variations"] = gr.Slider(
            1, limits.max_variations, fresh.variations, step=1, label="Variations", precision=0,
            buttons=[], min_width=200, elem_id="variations",
        )  # fmt: skip
    _place_held(at, services, fresh)
    with gr.Row(elem_classes="go"):
        go = gr.Button("Generate", variant="primary", scale=3, min_width=160, elem_id="generate")
        stop = gr.Button("Stop", variant="stop", interactive=False, min_width=90, elem_id="stop")
    status = gr.HTML(line(READY), elem_id="status")
    with gr.Row(elem_classes="seed"):
        at["seed"] = gr.Number(
            label="Seed", info=words.SEED, precision=0, minimum=0, min_width=220, elem_id="seed",
            placeholder="random",
        )  # fmt: skip
        with gr.Column(min_width=120, scale=1, elem_classes="side"):
            at["locked"] = gr.Checkbox(label="Lock the seed", elem_id="lock")
            at["format"] = gr.Dropdown(
                list(FORMATS), value="wav", label="File format", filterable=False, min_width=120,
                elem_id="format",
            )  # fmt: skip
    _place_more(at, services, fresh, dialled)
    with gr.Accordion("History and links", open=False, elem_id="history"):
        history = gr.Dropdown(
            [], label="Runs of this visit", interactive=True, elem_id="runs",
            info="Restoring brings back all settings, and the clips while they are kept.",
        )  # fmt: skip
        with gr.Row(equal_height=True):
            restore = gr.Button("Restore", size="md", min_width=120)
            link = gr.Button("Make a link to these settings", size="md", min_width=160)
        link_text = gr.Textbox(
            label="Link", interactive=False, visible=False, buttons=["copy"], elem_id="link",
        )  # fmt: skip
    return Controls(at), Actions(go, stop, status, history, restore, link, link_text)


_ORDERS = {AUTO_KEY: words.FITTING, "": words.AS_NAMED, NO_KEY: words.NONE_HELD}
"""What is shown for an order that names no key and no chords: it is the same for both."""
assert (AUTO_CHORDS, NO_CHORDS) == (AUTO_KEY, NO_KEY)


def _place_held(at: dict[str, Any], services: dict[str, Service], fresh: Settings) -> None:
    """Place what clips are held to, where a model can."""
    can = {hold: any(has_hold(one.info, hold) for one in services.values()) for hold in HOLDS}
    finds = {hold: any(can_find(one.info, hold) for one in services.values()) for hold in HOLDS}
    with gr.Row(visible=can[BEAT] or can[KEY]):
        at["tempo"] = gr.Number(
            label="Tempo (bpm)", minimum=0, maximum=MAX_TEMPO_BPM, placeholder=words.AS_NAMED,
            min_width=130, visible=can[BEAT], elem_id="tempo",
        )  # fmt: skip
        at["key"] = gr.Dropdown(
            [
                *((s, key) for key, s in _ORDERS.items() if key != AUTO_KEY or finds[KEY]),
                *((key, key) for key in KEYS),
            ],
            value=fresh.key, label="Key", min_width=130, visible=can[KEY], elem_id="key",
        )  # fmt: skip
    at["chords"] = gr.Dropdown(
        [
            *((s, row) for row, s in _ORDERS.items() if row != AUTO_CHORDS or finds[CHORDS]),
            *((row, row) for row in CHORD_ROWS),
        ],
        value=fresh.chords, label="Chords", info=words.CHORDS, allow_custom_value=True,
        visible=can[CHORDS], elem_id="chords",
    )  # fmt: skip
    at["steady"] = gr.Checkbox(
        value=fresh.steady, label="Steady beat", info=words.STEADY,
        visible=finds[BEAT], elem_id="steady",
    )  # fmt: skip


def _place_more(
    at: dict[str, Any], services: dict[str, Service], fresh: Settings, dialled: bool
) -> None:
    """Place what few visitors need."""
    service = next(iter(services.values()))
    with gr.Accordion("More", open=False, elem_id="more"):
        at["model"] = gr.Dropdown(
            list(services), value=fresh.model, label="Model", filterable=False,
            visible=len(services) > 1, elem_id="model",
        )  # fmt: skip
        at["base"] = gr.Checkbox(
            label="Play the base model instead", info=words.BASE, visible=dialled, elem_id="base"
        )
        at["takes"] = gr.Slider(
            1, service.limits.max_takes, fresh.takes, step=1, label="Takes", info=words.TAKES,
            precision=0, buttons=[], elem_id="takes",
            visible=any(find_scorer(one.info) for one in services.values()),
        )  # fmt: skip
        at["lead"] = gr.Checkbox(
            value=fresh.lead, label="The words lead where held music begins", info=words.LEAD,
            visible=any(one.info.lead is not None for one in services.values()), elem_id="lead",
        )  # fmt: skip
        at["guidance"] = gr.Slider(
            *GUIDANCE, fresh.guidance, step=0.1, label="Guidance",
            info=words.GUIDANCE_DIAL if dialled else words.GUIDANCE, buttons=[],
            elem_id="guidance",
        )  # fmt: skip
        at["guided_s"] = gr.Slider(
            *GUIDED_S, fresh.guided_s, step=0.5, label="Guided seconds", info=words.GUIDED_S,
            buttons=[], elem_id="guided-s",
        )  # fmt: skip
        at["negative"] = gr.Textbox(
            label="Negative prompt", info=words.NEGATIVE, value=fresh.negative,
            max_length=service.limits.max_prompt_characters, elem_id="negative",
        )  # fmt: skip
        at["temperature"] = gr.Slider(
            *TEMPERATURE, fresh.temperature, step=0.05, label="Temperature",
            info=words.TEMPERATURE, buttons=[], elem_id="temperature",
        )  # fmt: skip
        at["top_k"] = gr.Number(
            label="Top-k", info=words.TOP_K, value=fresh.top_k, precision=0, minimum=0,
            elem_id="top-k",
        )  # fmt: skip
        at["method"] = gr.Dropdown(
            list(METHODS), value=fresh.method, label="Way between the ends", info=words.METHOD,
            filterable=False, visible=dialled, elem_id="method",
        )  # fmt: skip
        at["levelled"] = gr.Checkbox(
            value=fresh.levelled, label="Level the loudness", elem_id="levelled"
        )
        at["loudness"] = gr.Slider(
            *LOUDNESS, fresh.loudness, step=1, label="Loudness", info=words.LOUDNESS,
            buttons=[], elem_id="loudness",
        )  # fmt: skip
        at["first"] = gr.Number(
            label="First variation", info=words.FIRST, value=fresh.first, precision=0, minimum=1,
            elem_id="first",
        )  # fmt: skip


def place_clips(service: Service) -> Results:
    """Place the clips, side by side."""
    empty = gr.HTML(
        '<div class="empty">Your clips appear here, side by side.</div>', elem_id="empty"
    )
    live = gr.HTML("", visible=False, elem_id="live")
    with gr.Row(elem_classes="cards"):
        cards = [make_card(number) for number in range(1, service.limits.max_variations + 1)]
    return Results(empty, live, cards)


def stream_box(job: Job, service: Service) -> str:
    """Lay out the player of a clip that is being made; static/stream.js plays it."""
    facts = " ".join(f'data-{name}="{fact}"' for name, fact in stream_facts(service, job).items())
    return (
        f'<section class="stream" data-studio="stream" {facts}>'
        '<div class="row"><b>Variation 1, while it is made</b>'
        '<button data-studio="stream-pause">Pause</button><span data-studio="stream-said" '
        'class="say">The first sound is being made ...</span></div>'
        '<canvas data-studio="stream-picture" width="1200" height="72" role="img" '
        'aria-label="How loud the clip is; what was heard is in colour"></canvas></section>'
    )


def place_jam(services: dict[str, Service]) -> None:
    """Place the jam; static/studio.js brings it to life."""
    service = next(iter(services.values()))
    with_dial = [name for name, one in services.items() if one.has_dial]
    dialled = html.escape(json.dumps(with_dial), quote=True)
    name = html.escape(service.info.name, quote=True)
    dial = ""
    if with_dial:
        dial = (
            '<label class="wide"><span>Quality to diversity: <output data-studio="live-dial-value">'
            '0.50</output></span><input type="range" min="0" max="1" step="0.01" value="0.5" '
            'data-studio="live-dial" aria-label="Quality to diversity, while it plays">'
            '<span class="ends"><span>quality</span><span>diversity</span></span></label>'
        )
    formats = "".join(f"<option>{name}</option>" for name in FORMATS)
    most = service.limits.max_prompt_characters
    own = {model: fresh_settings(one).guidance for model, one in services.items()}
    guidance, owns = own[service.info.name], html.escape(json.dumps(own), quote=True)
    said = {said: key for key, said in _ORDERS.items()}
    orders = html.escape(json.dumps(said), quote=True)
    low, high = GUIDANCE
    gr.HTML(
        f'''<section class="jam"><p class="hint">{html.escape(words.LIVE)}</p>
<div class="row"><button class="big" data-studio="live-start" data-model="{name}"
 data-dialled="{dialled}" data-guidance="{owns}" data-orders="{orders}">Start the jam</button>
<button data-studio="live-stop" disabled>Stop the jam</button></div>
<canvas data-studio="live-picture" width="800" height="110" role="img"
 aria-label="How loud the jam is; the colour is where the dial stood"></canvas>
<p class="say"><span data-studio="live-status" role="status">Nothing plays yet.</span>
<span data-studio="live-place"></span></p>
<p data-studio="live-move" class="say"></p>
<p data-studio="live-refused" class="say bad" role="alert"></p>
{dial}
<label class="wide">What to play now<span class="row"><input type="text" maxlength="{most}"
 data-studio="live-prompt" placeholder="as above" aria-label="What the jam plays">
<button data-studio="live-say">Change to this</button></span></label>
<div class="row"><label>Guidance <input type="number" min="{low:g}" max="{high:g}" step="0.5"
 value="{guidance:g}" data-own="{guidance:g}" data-studio="live-guidance"
 aria-label="Guidance of the jam"></label>
<label>Keep as <select data-studio="live-format" aria-label="File format of the kept jam">{formats}
</select></label><button data-studio="live-keep" disabled>Keep what was played</button></div>
<p data-studio="live-kept" class="say" role="status"></p></section>''',
        elem_id="jam",
    )


def place_compare() -> Comparing:
    """Place two clips in step."""
    gr.HTML(f'<p class="hint">{html.escape(words.COMPARE)}</p>')
    with gr.Row():
        first = gr.Slider(
            0, 1, 0.0, step=0.01, label="First position", buttons=[], min_width=160, scale=2,
            elem_id="pair-first", elem_classes="dial",
        )  # fmt: skip
        second = gr.Slider(
            0, 1, 1.0, step=0.01, label="Second position", buttons=[], min_width=160, scale=2,
            elem_id="pair-second", elem_classes="dial",
        )  # fmt: skip
        go = gr.Button("Compare", variant="primary", min_width=110, elem_id="pair-go")
    status = gr.HTML(line(""), elem_id="pair-said")
    return Comparing(first, second, go, status, gr.HTML("", elem_id="pair-panel"))


def place_spread(front: str) -> Spreading:
    """Place clips as points, and the measured front where there is one."""
    gr.HTML(f'<p class="hint">{html.escape(words.SPREAD)}</p>')
    with gr.Row():
        clips = gr.Slider(
            3, 8, 4, step=1, label="Clips at each of three positions", precision=0, buttons=[],
            min_width=200, elem_id="spread-clips",
        )  # fmt: skip
        go = gr.Button("Draw the spread", variant="primary", min_width=140, elem_id="spread-go")
    status = gr.HTML(line(""), elem_id="spread-said")
    panel = gr.HTML("", elem_id="spread-panel")
    if front:
        gr.HTML(front, elem_id="front")
    return Spreading(clips, go, status, panel)


def place_licence(services: dict[str, Service]) -> None:
    """Say whether the clips may be used, of each model."""
    said = []
    for name, service in services.items():
        answer, reason = words.may_i_use_this(service.info.license)
        whose = f"{html.escape(name)}: " if len(services) > 1 else ""
        said.append(f"<p><b>{whose}{html.escape(answer)}.</b> {html.escape(reason)}</p>")
    gr.HTML(f'<section class="use"><h2>May I use this?</h2>{"".join(said)}</section>')
