"""One card for each variation: player, picture, download."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData

from app.picture import spectrogram
from musicgen_rl.audio.io import read_audio
from musicgen_rl.checkpoint.holds import HOLDS
from musicgen_rl.data.chords import read_progression


@dataclass(frozen=True)
class Card:
    """The components of one variation; hidden until there is something in it.

    `showing` is for events that say `postprocess=False`: with it Gradio has each clip probed by
    another program, and all visitors wait until that has answered.
    """

    number: int
    box: gr.Column
    player: gr.Audio
    picture: gr.Image
    download: gr.DownloadButton
    more: gr.Button
    go_on: gr.Button
    use: gr.Button

    @property
    def components(self) -> list[Any]:
        """Those that change, as an event's outputs."""
        return [self.box, self.player, self.picture, self.download]

    def hidden(self) -> dict[Any, Any]:
        """Update that takes the card away, and what is in it."""
        return {
            self.box: gr.update(visible=False),
            self.player: None,
            self.picture: None,
            self.download: None,
        }

    def showing(self, path: Path, picture: Path, held: str = "") -> dict[Any, Any]:
        """Update that shows a finished file, and what it was held to, in words."""
        whole = not path.stem.endswith("-stopped")
        label = f"Variation {self.number}" + ("" if whole else " (stopped)")
        label += f": {held}" if held else ""
        return {
            self.box: gr.update(visible=True),
            self.player: gr.update(value=_file(path), label=label),
            self.picture: _file(picture),
            self.download: gr.update(
                value=_file(path), label=f"Download variation {self.number} ({path.suffix[1:]})"
            ),
        }


def make_card(number: int) -> Card:
    """Place a hidden card where the page is being laid out."""
    with gr.Column(visible=False, elem_classes="card", min_width=280) as box:
        player = gr.Audio(
            label=f"Variation {number}",
            interactive=False,
            type="filepath",
            buttons=[],
            waveform_options=gr.WaveformOptions(
                waveform_color="#b9aa98", waveform_progress_color="#d9622b"
            ),
        )
        picture = gr.Image(
            label=f"Spectrogram of variation {number}",
            show_label=False,
            interactive=False,
            buttons=[],
            height=110,
            container=False,
            elem_classes="spectrogram",
            alt_text=f"Spectrogram of variation {number}: time to the right, pitch upwards",
        )
        download = gr.DownloadButton(f"Download variation {number}", size="md")
        with gr.Row(elem_classes="again"):
            more, go_on, use = (
                gr.Button(text, size="sm", min_width=80)
                for text in ("More like this", "Continue", "Use these settings")
            )
    return Card(number, box, player, picture, download, more, go_on, use)


def held_by(settings: Mapping[str, Any], lasts_s: float = math.inf) -> str:
    """Say what a clip's settings held it to: "124 bpm, D minor, Am F C G"; empty for nothing.

    Args:
        settings: of the clip.
        lasts_s: of its file, seconds. Sections of chords that it does not last for are left out.
    """
    tempo, key, chords = (settings.get(hold.holds) for hold in HOLDS)
    said = [
        *([f"{tempo['bpm']:g} bpm"] if tempo else []),
        *([key["name"]] if key else []),
        *([_reached(settings, lasts_s)] if chords else []),
    ]
    return ", ".join(said)


def _reached(settings: Mapping[str, Any], lasts_s: float) -> str:
    """Name the chords that a clip plays of those it is held to."""
    chords, bpm = settings["chords"], settings["tempo"]["bpm"]
    beats = chords["passed"] + min(settings["duration_s"], lasts_s) * bpm / 60
    return read_progression(chords["name"]).within(beats / chords["beats_per_bar"]).name


def _file(path: Path) -> dict[str, Any]:
    """Name a file as Gradio's components do; Gradio gives the page a copy of its own."""
    named: dict[str, Any] = FileData(path=str(path), orig_name=path.name).model_dump()
    return named


def draw(path: Path) -> Path:
    """Draw the picture of an audio file, once, beside it."""
    picture = path.with_suffix(".webp")
    if not picture.is_file():
        clip = read_audio(path)
        drawn = spectrogram(clip.samples, clip.sample_rate)
        drawn.save(picture, quality=90, method=0)  # a third of the time, a tenth more bytes
    return picture
