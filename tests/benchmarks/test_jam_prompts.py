"""A jam plays on after it is told another style, and the table has every way."""

import shutil

from benchmarks.jam_prompts import AFTER_S, BEFORE_S, HEARD, WAYS, play, render
from musicgen_rl.checkpoint.holds import CHORD_SENSE, KEY_SENSE
from musicgen_rl.pipeline import Pipeline
from tests.pipeline.test_chords import write_chords
from tests.pipeline.test_steady import write_sense
from tests.pipeline.test_tempo import write_beat


def test_the_table_has_a_row_for_each_way() -> None:
    shares = {way: [0.9, 0.8, 0.7, 0.1] for way in WAYS}
    text = render({"model": "m", "diversity": 0.5, "jams": 62, "ways": shares})
    assert text.count("| 0.90 | 0.80 | 0.70 | 0.10 |") == len(WAYS)
    assert len(HEARD) == 4
    assert "m at 0.5 of the dial, 62 jams a row." in text


def test_every_way_plays_on(dial_folder, tmp_path) -> None:  # type: ignore[no-untyped-def]
    folder = shutil.copytree(dial_folder, tmp_path / "m")
    write_sense(write_sense(write_beat(folder)), hold=KEY_SENSE)
    write_sense(write_chords(folder), hold=CHORD_SENSE)
    pipeline = Pipeline.load(folder, device="cpu", dtype="int8")
    for way in WAYS:
        sound = play(pipeline, "house", "folk", 1, 0.5, way)
        assert abs(sound.shape[1] / pipeline.sample_rate - BEFORE_S - AFTER_S) < 0.2
