from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from musicgen_rl.data.pocket.instruments import INSTRUMENTS
from musicgen_rl.data.pocket.render import (
    SAMPLE_RATE,
    SOUNDFONTS,
    balanced,
    can_render,
    render,
)
from musicgen_rl.data.pocket.score import Note, Part, Score
from musicgen_rl.errors import InputError

FLUID = SOUNDFONTS["fluid"]
needs_fluid = pytest.mark.skipif(not FLUID.path.is_file(), reason=f"needs {FLUID.package}")


def score(instrument: str, pitch: int = 69) -> Score:
    part = Part("lead", instrument, INSTRUMENTS[instrument].program, [Note(1, 2, pitch, 90)])
    return Score(120.0, 4, [part], num_beats=4.0)


def test_pianos_that_render_wrongly_are_kept_away() -> None:
    assert can_render(score("piano"), FLUID)
    assert not can_render(score("piano"), SOUNDFONTS["musescore"])
    assert can_render(score("flute"), SOUNDFONTS["musescore"])


def test_every_instrument_has_a_measured_level() -> None:
    for font in SOUNDFONTS.values():
        for name in INSTRUMENTS:
            gain = balanced(score(name), font).parts[0].gain_db
            assert -9 <= gain <= 4


def test_quiet_sounds_are_raised_and_loud_ones_lowered() -> None:
    kalimba = balanced(score("kalimba"), FLUID).parts[0].gain_db
    trombone = balanced(score("trombone"), FLUID).parts[0].gain_db
    assert kalimba > 0 > trombone


def test_a_missing_soundfont_says_what_to_install() -> None:
    with pytest.raises(InputError, match="apt-get install fluid-soundfont-gm"):
        render(score("flute"), replace(FLUID, path=Path("/none.sf2")))


@needs_fluid
def test_the_right_pitch_sounds_at_the_right_time() -> None:
    x = render(score("flute", 69), FLUID)
    assert x.ndim == 1
    start = round((0.05 + 0.5) * SAMPLE_RATE)
    quiet, loud = x[: start - 800], x[start + 4000 : start + 4000 + SAMPLE_RATE // 2]
    assert np.abs(quiet).max() < 0.02 * np.abs(loud).max()
    spectrum = np.abs(np.fft.rfft(loud * np.hanning(len(loud)), 8 * SAMPLE_RATE))
    assert np.argmax(spectrum) / 8 == pytest.approx(440, rel=0.01)
