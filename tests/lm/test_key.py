"""A key is told at every frame alike, and what is common to all keys is never told."""

import pytest
import torch

from musicgen_rl.data.keys import MODES, Key
from musicgen_rl.lm.beat import Beat, Metronome
from musicgen_rl.lm.key import FEATURES, KeyAdapter, KeySignature, MovingSignature, key_features
from musicgen_rl.lm.told import Course, Tellers
from tests.lm.test_beat import adapter_of as beat_adapter

C_MAJOR, A_MINOR, D_MINOR = Key(0, "major"), Key(9, "minor"), Key(2, "minor")


def adapter_of(width=8, layers=2, seed=0):
    torch.manual_seed(seed)
    made = KeyAdapter(width, layers)
    torch.nn.init.normal_(made.outer.weight, std=0.3)
    return made.requires_grad_(False)


def test_features_by_hand():
    (found,) = key_features([C_MAJOR])
    inside = {0, 2, 4, 5, 7, 9, 11}
    scale = [5 / 12 if pitch in inside else -7 / 12 for pitch in range(12)]
    tonic = [11 / 12] + [-1 / 12] * 11
    assert found.tolist() == pytest.approx(scale + tonic, abs=1e-6)


@pytest.mark.parametrize("scale", MODES)
def test_all_transpositions_together_say_nothing(scale):
    every = [Key(tonic, scale) for tonic in range(12)]
    assert torch.allclose(key_features(every).sum(0), torch.zeros(FEATURES), atol=1e-5)
    assert torch.allclose(adapter_of()(every).sum(1), torch.zeros(2, 1, 8), atol=1e-5)


def test_keys_of_the_same_notes_differ_by_their_tonics_alone():
    one, other = key_features([C_MAJOR, A_MINOR])
    assert torch.equal(one[:12], other[:12])
    assert not torch.equal(one[12:], other[12:])


def test_an_adapter_that_has_learnt_nothing_adds_nothing():
    told = KeyAdapter(8, 2)([C_MAJOR, D_MINOR])
    assert told.shape == (2, 2, 1, 8)
    assert not told.any()


def test_each_clip_is_told_its_own_key():
    adapter = adapter_of()
    told = KeySignature(adapter, [C_MAJOR, None, D_MINOR]).told(-3, 5)
    assert told.shape == (2, 3, 5, 8)
    assert not told[:, 1].any()
    for row, key in ((0, C_MAJOR), (2, D_MINOR)):
        alone = KeySignature(adapter, [key]).told(40, 1)
        assert torch.equal(told[:, row : row + 1], alone.expand(-1, -1, 5, -1))


def test_a_moving_key_keeps_what_was_told():
    adapter = adapter_of()
    moving = MovingSignature(adapter, C_MAJOR)
    first = moving.told(0, 10)
    moving.move(4, D_MINOR)
    moving.move(8, None)
    told = moving.told(-2, 12)
    assert torch.equal(told[:, :, :6], first[:, :, :6])
    assert torch.equal(told[:, :, 6:10], KeySignature(adapter, [D_MINOR]).told(0, 4))
    assert not told[:, :, 10:].any()
    assert torch.equal(moving.told(5, 2), told[:, :, 7:9])  # another window


def test_what_several_tell_is_added_up():
    beats = beat_adapter()
    key = KeySignature(adapter_of(beats.width, beats.num_layers), [C_MAJOR])
    beat = Metronome(beats, [Beat(100.0)], 50.0)
    both = Tellers([beat, key]).told(3, 7)
    assert torch.allclose(both, beat.told(3, 7) + key.told(3, 7))


def test_a_course_by_hand():
    course = Course("a")
    course.move(5, "b")
    course.move(9, "b")  # nothing new
    course.move(12, "c")
    assert list(course.spans(-2, 20)) == [(-2, 5, "a"), (5, 12, "b"), (12, 20, "c")]
    assert list(course.spans(6, 10)) == [(6, 10, "b")]
    assert list(course.spans(12, 12)) == []
    assert [course.before(f) for f in (0, 5, 6, 12, 13)] == [None, "a", "b", "b", "c"]
    course.move(5, "d")  # what came after is gone
    assert list(course.spans(0, 20)) == [(0, 5, "a"), (5, 20, "d")]
    course.move(0, "e")
    assert list(course.spans(0, 3)) == [(0, 3, "e")]
