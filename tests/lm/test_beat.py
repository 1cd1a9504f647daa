"""A beat is told where it falls, to every runner alike; without one every number is what it was."""

import math

import pytest
import torch

from musicgen_rl.lm.beat import (
    FEATURES,
    Beat,
    BeatAdapter,
    Metronome,
    MovingMetronome,
    beat_features,
)
from musicgen_rl.lm.compiled import CompiledRunner
from musicgen_rl.lm.condition import Condition
from musicgen_rl.sampling.runner import EagerRunner
from tests.equivalence.shapes import SHAPES, build_pair, text_states

CONFIG = next(iter(SHAPES.values()))
ROWS, STEPS = 3, 24


def random_tokens(config):
    return torch.randint(0, config.codebook_size, (ROWS, config.num_codebooks, STEPS))


def condition_of(config):
    return Condition(*text_states(config))


def adapter_of(config=CONFIG, seed=0):
    torch.manual_seed(seed)
    made = BeatAdapter(config.hidden_size, config.num_layers, hidden=8)
    torch.nn.init.normal_(made.outer.weight, std=0.3)
    return made


def test_places_by_hand():
    beat = Beat(120.0, first_s=0.5)  # two beats a second
    places = beat.places(10, 3, 25.0)  # middles of frames 10 to 12: .42, .46, .5 s
    assert places.tolist() == pytest.approx([-0.16, -0.08, 0.0])
    assert Beat(60.0, 0.0).places(-1, 1, 10.0).tolist() == pytest.approx([-0.05])


def test_features_by_hand():
    (found,) = beat_features(torch.tensor([[0.25]]), torch.tensor([200.0]))
    waves = [f(2 * math.pi * c * 0.25) for c in (0.5, 1, 2, 3, 4) for f in (math.cos, math.sin)]
    assert found.shape == (1, FEATURES)
    assert found[0].tolist() == pytest.approx([*waves, 1.0, math.log(2.0)], abs=1e-6)


def test_an_adapter_that_has_learnt_nothing_adds_nothing():
    told = BeatAdapter(8, 2)(torch.rand(2, 5), torch.tensor([90.0, 120.0]))
    assert told.shape == (2, 2, 5, 8)
    assert not told.any()


def test_windows_of_a_metronome_are_parts_of_one_whole():
    metronome = Metronome(adapter_of(), [Beat(100.0), None, Beat(130.0, 0.3)], 50.0)
    whole = metronome.told(-7, 40)
    assert torch.allclose(metronome.told(5, 20), whole[:, :, 12:32], atol=1e-5)
    assert not whole[:, 1].any()
    alone = Metronome(adapter_of(), [Beat(130.0, 0.3)], 50.0).told(-7, 40)
    assert torch.equal(whole[:, 2], alone[:, 0])


def decode(runner, tokens):
    """Prefill half and step the rest: logits [steps, rows, K, V]."""
    runner.reset()
    half = STEPS // 2
    found = [runner.prefill(tokens[..., :half]).clone()]
    found += [runner.step(tokens[..., s]).clone() for s in range(half, STEPS)]
    return torch.stack(found)


@torch.no_grad()
@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES.keys())
def test_runners_follow_a_beat_as_the_whole_sequence_does(config):
    model = build_pair(config)[0]
    condition, tokens = condition_of(config), random_tokens(config)
    metronome = Metronome(adapter_of(config), [Beat(100.0), None, Beat(130.0, 0.3)], 50.0)
    beat = metronome.told(0, STEPS)
    whole = model(tokens, condition, beat).permute(2, 0, 1, 3)[STEPS // 2 - 1 :]
    for runner, near in (
        (EagerRunner(model, ROWS, STEPS), 1e-4), (CompiledRunner(model, ROWS, STEPS), 0.1),
    ):  # fmt: skip
        runner.begin(condition)
        without = decode(runner, tokens)
        runner.follow(beat)
        told = decode(runner, tokens)
        scale = float(whole.std())
        assert (told - whole).abs().max() < near * scale
        assert (told - without)[:, 0].abs().max() > 3 * near * scale
        assert torch.equal(told[:, 1], without[:, 1])  # no beat: the same to the bit
        runner.follow(None)
        assert torch.equal(decode(runner, tokens), without)
        runner.follow(beat)
        runner.begin(condition)  # another clip
        assert torch.equal(decode(runner, tokens), without)


@torch.no_grad()
def test_a_static_step_follows_too():
    model = build_pair(CONFIG)[0]
    condition, tokens = condition_of(CONFIG), random_tokens(CONFIG)
    beat = Metronome(adapter_of(), [Beat(100.0)] * ROWS, 50.0).told(0, STEPS)
    runner = EagerRunner(model, ROWS, STEPS)
    runner.begin(condition)
    runner.follow(beat)
    expected = decode(runner, tokens)
    runner.reset()
    cache = runner.cache
    runner.prefill(tokens[..., : STEPS // 2])
    cache.position.fill_(cache.length)
    for number, s in enumerate(range(STEPS // 2, STEPS), 1):
        found = model.step_static(tokens[..., s : s + 1], cache, beat)
        cache.position.add_(1)
        assert torch.allclose(found, expected[number], atol=1e-4)


def test_a_moving_beat_counts_on_and_keeps_what_was_told():
    adapter, rate = adapter_of(), 50.0
    moving = MovingMetronome(adapter, Beat(120.0), rate)
    before = moving.told(0, 60)
    assert torch.equal(before, Metronome(adapter, [Beat(120.0)], rate).told(0, 60))
    moving.move(25, 60.0)
    after = moving.told(0, 60)
    assert torch.equal(after[:, :, :25], before[:, :, :25])
    # At frame 25 (.51 s) .92 of a beat is done, and so it is at the new tempo: a beat of 1 s.
    slow = Metronome(adapter, [Beat(60.0, 0.51 - 0.92)], rate).told(0, 60)
    assert torch.allclose(after[:, :, 25:], slow[:, :, 25:], atol=1e-5)
    assert torch.allclose(moving.told(20, 30), after[:, :, 20:50], atol=1e-6)  # another window
    moving.move(40, None)
    assert torch.equal(moving.told(0, 60)[:, :, :40], after[:, :, :40])
    assert not moving.told(0, 60)[:, :, 40:].any()
    moving.move(40, 60.0)  # taken back at once
    assert torch.equal(moving.told(0, 60), after)
    moving.move(0, 60.0)
    assert torch.equal(moving.told(0, 60), Metronome(adapter, [Beat(60.0)], rate).told(0, 60))
