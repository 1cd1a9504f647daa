import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from musicgen_rl.rewards.mel import FLOOR_DB, N_MELS, level_free, mel_levels
from musicgen_rl.training.reward_augment import (
    add_noise,
    augment,
    colour,
    cut_top,
    frames_needed,
    play_faster,
    warp_matrix,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sine_levels(hertz: float) -> Tensor:
    t = torch.arange(48000) / 16000
    x = 0.3 * torch.sin(2 * math.pi * hertz * t)
    return mel_levels(x[None], 16000)[0]


@pytest.mark.parametrize("semitones", [-4, 3])
def test_moved_bands_are_those_of_the_moved_sound(semitones: int) -> None:
    moved = sine_levels(800.0) @ warp_matrix(semitones)
    direct = sine_levels(800.0 * 2 ** (semitones / 12))
    assert abs(int(moved[5].argmax()) - int(direct[5].argmax())) <= 1
    assert abs(float(moved[5].max() - direct[5].max())) < 4.0


def test_no_semitones_change_nothing() -> None:
    assert_close(warp_matrix(0), torch.eye(N_MELS), atol=1e-5, rtol=0)
    levels = torch.randn(20, N_MELS)
    assert torch.equal(play_faster(levels, 15, 0), levels[:15])


def test_playing_an_octave_up_takes_every_other_frame() -> None:
    steps = torch.arange(50.0)[:, None].expand(-1, N_MELS)
    assert frames_needed(10, 12) <= 21
    assert_close(play_faster(steps, 10, 12)[:, 0], torch.arange(0.0, 20.0, 2.0))
    assert_close(play_faster(steps, 10, -12)[:, 0], torch.arange(0.0, 5.0, 0.5))


@pytest.mark.parametrize("semitones", range(-4, 5))
def test_the_frames_said_to_be_needed_suffice(semitones: int) -> None:
    played = play_faster(torch.zeros(frames_needed(37, semitones), N_MELS), 37, semitones)
    assert played.shape == (37, N_MELS)


def test_colour_is_smooth_and_the_same_all_through_a_clip() -> None:
    levels = torch.full((4, 6, N_MELS), -30.0)
    change = colour(levels, seeded()) - levels
    assert_close(change[:, 0], change[:, 5])
    assert float(change.diff(dim=2).abs().max()) < 1.0
    assert float(change.std(dim=0).mean()) > 2.0


def test_noise_fills_silence_and_leaves_what_is_loud() -> None:
    levels = torch.full((8, 30, N_MELS), -90.0)
    levels[:, :, 40:44] = -10.0
    noisy = add_noise(levels, seeded())
    assert float((noisy - levels)[:, :, 41].abs().max()) < 3.0
    assert float((noisy - levels)[:, :, 100].mean()) > 10.0
    assert bool((noisy >= levels - 1e-3).all())


def test_the_top_is_cut_off_a_share_of_clips() -> None:
    levels = torch.full((200, 1, N_MELS), -20.0)
    cut = cut_top(levels, seeded(), share=0.5)
    touched = (cut[:, 0, -1] < -20.0).float().mean()
    assert 0.35 < float(touched) < 0.65
    assert torch.equal(cut[:, :, : N_MELS * 5 // 8], levels[:, :, : N_MELS * 5 // 8])
    assert torch.equal(cut_top(levels, seeded(), share=0.0), levels)


def test_augmenting_depends_on_the_generator_alone() -> None:
    levels = torch.randn(3, 9, N_MELS) * 10 - 40
    assert torch.equal(augment(levels, seeded(1)), augment(levels, seeded(1)))
    assert not torch.equal(augment(levels, seeded(1)), augment(levels, seeded(2)))
    assert bool((augment(levels, seeded(3)) >= FLOOR_DB - 1e-3).all())


def test_augmented_music_is_still_recognisable() -> None:
    levels = torch.stack([sine_levels(300.0), sine_levels(2000.0)])
    frames = level_free(augment(levels, seeded(4)))
    assert abs(int(frames[0, 9].argmax()) - int(levels[0, 9].argmax())) <= 1
    assert abs(int(frames[1, 9].argmax()) - int(levels[1, 9].argmax())) <= 1
