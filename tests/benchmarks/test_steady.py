"""Captions that name no tempo are drawn, and what is measured is told."""

import numpy as np
import pytest

from benchmarks.steady import MEASURES, judge, render, summarise, untimed_caption
from musicgen_rl.audio.clip import Clip
from musicgen_rl.data.manifest import Entry
from musicgen_rl.rewards import load_probe
from tests.audio.test_tempo import clicks


def test_captions_that_name_a_tempo_are_passed_over() -> None:
    entry = Entry(audio="a", captions=("house, 124 bpm", "warm house", "house at 90 bpm", "club"))
    random = np.random.default_rng(0)
    assert {untimed_caption(entry, random) for _ in range(50)} == {"warm house", "club"}
    assert untimed_caption(Entry(audio="a", captions=("124 bpm",)), random) == ""


def test_an_even_beat_has_more_pulse_and_less_wobble_than_an_uneven_one() -> None:
    from benchmarks.takes import PROBE

    probe, rate = load_probe(PROBE), 32000
    even = clicks(120.0, 18.0, rate)
    random = np.random.default_rng(1)
    late = np.cumsum(random.uniform(0.2, 0.8, 40))
    uneven = np.zeros_like(even)
    tick = even[..., round(0.1 * rate) :][..., :80]
    for at in (late[late < 17.5] * rate).astype(int):
        uneven[..., at : at + 80] = tick
    found = [judge(Clip(sound, rate), "house", probe) for sound in (even, uneven)]
    assert found[0][0] > found[1][0] + 0.2
    assert found[0][1] < found[1][1]
    assert len(found[0]) == len(MEASURES)


def test_means_errors_and_the_table() -> None:
    table = np.array([[0.5, np.nan, 0.2, 0.4, 0.9, 1.0], [0.7, 0.03, 0.4, 0.6, 0.9, 0.0],
                      [0.6, 0.03, 0.3, 0.5, 0.9, 1.0]])  # fmt: skip
    row = summarise(table)
    assert list(row) == list(MEASURES)
    assert row["scale"] == [pytest.approx(0.9), pytest.approx(0.0)]
    assert row["pulse"] == pytest.approx([0.6, 0.1 / 3**0.5])
    assert row["wobble"][0] == pytest.approx(0.03)
    full = {name: [0.5, 0.125] for name in MEASURES}
    found = {"pieces": 2, "seconds": 16.0, "seed": 3,
             "rows": {"pocket, free": full, "pocket, steady": full | {"better": 0.75}}}  # fmt: skip
    lines = render(found).splitlines()
    assert lines[-2].startswith("| pocket, free | 0.50 ± 0.12 | 0.500 ± 0.125 |")
    assert lines[-1].endswith("| 0.75 |")
