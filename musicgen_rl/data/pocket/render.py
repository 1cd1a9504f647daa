"""Scores to samples: soundfonts, the synthesizer, and the fold to mono 32 kHz."""

import functools
import io
import json
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray

from musicgen_rl.data.pocket.score import Part, Score, score_to_midi
from musicgen_rl.errors import InputError

SAMPLE_RATE = 32_000
"""Hz of everything the corpus holds."""
REFERENCE_DB = -33.0
"""Level to which a held middle note of every instrument is brought before the mix."""


@dataclass(frozen=True)
class Soundfont:
    """A soundfont that Debian ships."""

    name: str
    """Short name, key of levels.json and attribute value."""
    path: Path
    """Where the package installs it."""
    package: str
    """Debian package."""
    broken_programs: frozenset[int] = frozenset()
    """Programs that this synthesizer plays wrongly from it."""


SOUNDFONTS: dict[str, Soundfont] = {
    "fluid": Soundfont("fluid", Path("/usr/share/sounds/sf2/FluidR3_GM.sf2"), "fluid-soundfont-gm"),
    # Its layered pianos come out 20 dB quieter at high velocity: heard and measured, so left out.
    "musescore": Soundfont(
        "musescore",
        Path("/usr/share/sounds/sf2/MuseScore_General_Full.sf2"),
        "musescore-general-soundfont-lossless",
        frozenset({0, 1, 3}),
    ),
}
"""Name -> soundfont."""


@functools.cache
def _levels() -> dict[str, dict[str, float]]:
    """Measured levels in dB of every program at velocity 100, per soundfont."""
    text = resources.files("musicgen_rl.data.pocket").joinpath("levels.json").read_text()
    found: dict[str, dict[str, float]] = json.loads(text)
    return found


@functools.lru_cache(maxsize=2)
def _soundfont_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        packages = " ".join(s.package for s in SOUNDFONTS.values())
        raise InputError(
            f"cannot read soundfont {path}: install it with apt-get install {packages}"
        ) from error


def can_render(score: Score, soundfont: Soundfont) -> bool:
    """Whether every part of the score sounds right in the soundfont."""
    return not any(not p.is_drums and p.program in soundfont.broken_programs for p in score.parts)


def balanced(score: Score, soundfont: Soundfont) -> Score:
    """Return the score with every part's gain corrected for its instrument's measured level."""
    table = _levels()[soundfont.name]

    def corrected(part: Part) -> Part:
        name = f"kit{part.program}" if part.is_drums else str(part.program)
        own = table.get(name, REFERENCE_DB)
        return replace(part, gain_db=part.gain_db + max(-9.0, min(4.0, REFERENCE_DB - own)))

    return replace(score, parts=[corrected(p) for p in score.parts])


def render(score: Score, soundfont: Soundfont) -> NDArray[np.float32]:
    """Render a score, dry.

    Args:
        score: what to play.
        soundfont: with which sounds.

    Returns:
        Mono samples at SAMPLE_RATE, [M], unlevelled.

    Raises:
        InputError: if the soundfont is not installed.
    """
    import midirenderer

    midi = score_to_midi(balanced(score, soundfont))
    wave = midirenderer.render_wave_from(_soundfont_bytes(soundfont.path), midi)
    stereo, rate = sf.read(io.BytesIO(wave), dtype="float32", always_2d=True)
    mono = 0.5 * (stereo[:, 0] + stereo[:, 1])
    return np.asarray(soxr.resample(mono, rate, SAMPLE_RATE, quality="HQ"), dtype=np.float32)
