"""The shipped model plays at the tempo, in the key and by the chords that are named."""

import pytest
import soxr

from musicgen_rl.audio.tempo import hear_tempo, tempo_fits
from musicgen_rl.data.chords import read_progression
from musicgen_rl.data.keys import named_key
from musicgen_rl.data.pocket.listen import ANALYSIS_RATE, harmonic_chroma
from musicgen_rl.pipeline import Pipeline


@pytest.fixture(scope="module")
def pocket():
    return Pipeline.load("pocket", device="cpu")


def share_of_notes(clip, key):
    chroma = harmonic_chroma(
        soxr.resample(clip.samples.mean(axis=0), clip.sample_rate, ANALYSIS_RATE)
    )
    return chroma[list(key.notes)].sum() / chroma.sum()


def test_the_key_that_is_named_is_played(pocket):
    prompts = [f"pop in {key}" for key in ("C major", "F# major", "Eb minor", "A minor")]

    def shares(**how):
        clips = pocket.generate(
            prompts, duration_s=6.0, seed=3, clips_per_prompt=3, diversity=0.0, **how
        )
        keys = [named_key(clip.settings["prompt"]) for clip in clips]
        found = [share_of_notes(c, k) for c, k in zip(clips, keys, strict=True)]
        return sum(found) / len(found)

    held, free = shares(), shares(key="none")  # which clips they are, the processor decides
    assert held > 0.75
    assert held > free + 0.1


def test_the_tempo_that_is_named_is_played(pocket):
    tempi = [96, 124, 140, 84, 132, 110]
    clips = pocket.generate(
        [f"pop, {bpm} bpm" for bpm in tempi], duration_s=10.0, seed=3, diversity=0.0
    )
    heard = [hear_tempo(clip.samples, clip.sample_rate) for clip in clips]
    met = [tempo_fits(found, bpm) for found, bpm in zip(heard, tempi, strict=True)]
    assert sum(met) >= 4, heard


def test_the_chords_that_are_asked_for_are_played(pocket):
    prompts, progression = ["pop", "house", "folk", "synthwave"], read_progression("Am F C G")

    def on_them(**how):
        """Share of the energy on the chord of each bar of two seconds, less chance."""
        clips = pocket.generate(
            prompts, duration_s=8.0, seed=3, diversity=0.0, tempo_bpm=120.0, **how
        )
        found = []
        for clip in clips:
            sound = soxr.resample(clip.samples.mean(axis=0), clip.sample_rate, ANALYSIS_RATE)
            for number, (chord,) in enumerate(progression.bars):
                bar = sound[2 * number * ANALYSIS_RATE : 2 * (number + 1) * ANALYSIS_RATE]
                chroma = harmonic_chroma(bar)
                found.append(chroma[list(chord.notes)].sum() / chroma.sum() - 0.25)
        return sum(found) / len(found)

    held = on_them(chords=progression.name)
    assert held > 0.2
    assert held > on_them(chords="none") + 0.1


def test_chords_go_with_the_words(pocket):
    blues, trance = (
        [read_progression(clip.settings["chords"]["name"]).sections[0] for clip in pocket.generate(
            prompt, duration_s=0.2, seed=3, clips_per_prompt=4, chords="auto")]
        for prompt in ("slow blues with harmonica", "uplifting trance")
    )  # fmt: skip
    assert [len(section.bars) for section in blues] == [12] * 4
    assert [len(section.bars) for section in trance] == [4] * 4
