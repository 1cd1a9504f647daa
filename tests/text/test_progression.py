"""Chords that go with words: in the clip's key, as likely as they were learnt."""

from collections import Counter

import torch

from musicgen_rl.data.chords import Progression
from musicgen_rl.data.keys import Key
from musicgen_rl.data.progressions import FORMS, MAJOR, MINOR, PROGRESSIONS, in_form, in_key
from musicgen_rl.text.progression import ProgressionSense


def drawn(sense, key, seeds=4000):
    """Count what the first section is, and what all are."""
    found = [sense.choose(torch.zeros(4), seed, key) for seed in range(seeds)]
    first = Counter(Progression.of(*each.sections[0].bars).name for each in found)
    return first, Counter(each.name for each in found)


def test_chords_are_drawn_as_likely_as_they_are_sharpened_and_have_the_third_of_the_key():
    sense = ProgressionSense(4)
    likely = [PROGRESSIONS.index(name) for name in (*MAJOR[:2], MINOR[0])]
    with torch.no_grad():
        sense.layer.bias[likely] = torch.tensor([20.0, 20.0 - 1.0 / sense.typical, 30.0])
    major, whole = drawn(sense, Key(2, "mixolydian"))
    assert set(major) == {in_key(name, 2).name for name in MAJOR[:2]}
    share = 1 / (1 + 1 / torch.e)
    assert abs(major[in_key(MAJOR[0], 2).name] / 4000 - share) < 0.03
    alone = sum(whole[name] for name in major)  # what is drawn twice comes without a second
    assert abs(alone / 4000 - (share**2 + (1 - share) ** 2)) < 0.03
    assert set(whole) - set(major) == {
        in_form(*pair, form, 2).name for pair in (MAJOR[:2], MAJOR[1::-1]) for form in FORMS
    }
    assert set(drawn(sense, Key(9, "dorian"), 50)[1]) == {in_key(MINOR[0], 9).name}


def test_a_sense_that_knows_nothing_draws_all_that_fit():
    sense = ProgressionSense(4)
    for key, among in ((Key(0, "major"), MAJOR), (Key(0, "phrygian"), MINOR)):
        assert set(drawn(sense, key, 3000)[0]) == {in_key(name, 0).name for name in among}
