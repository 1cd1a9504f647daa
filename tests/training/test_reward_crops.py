import itertools

import numpy as np
import pytest
import torch

from musicgen_rl.errors import InputError
from musicgen_rl.rewards.mel import N_MELS
from musicgen_rl.training.reward_crops import (
    Crop,
    draw_classes,
    draw_crop,
    draw_frames,
    draw_pair,
    held_out_pieces,
    stack,
    styles_of,
    training_pieces,
)
from musicgen_rl.training.reward_mels import MelPiece, half_of, unpack_levels


def piece(
    name: str, *, style: str = "jazz", split: str = "train", group: str = "", frames: int = 600,
    coded: int = 0,
) -> MelPiece:  # fmt: skip
    ramp = (torch.arange(frames) % 250).to(torch.uint8)[:, None].expand(-1, N_MELS)
    played = ramp[100 : 100 + coded] if coded else None
    return MelPiece(name, group or name, split, ("words",), {"style": style}, ramp, played, 100)


def draws(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_crop_reads_its_place() -> None:
    levels = Crop(piece("x"), 30, 5).levels()
    assert torch.equal(levels, unpack_levels(piece("x").plain[30:35]))
    assert Crop(piece("x"), 30, 5).seconds()[0] == 0.6


def test_a_coded_crop_is_read_from_what_the_codec_played() -> None:
    crop = Crop(piece("x", coded=80), 10, 5, coded=True)
    assert torch.equal(crop.levels(), unpack_levels(piece("x").plain[110:115]))
    assert crop.seconds()[0] == 2.2


def test_a_crop_at_the_very_end_is_filled_up() -> None:
    assert Crop(piece("x", frames=100), 96, 8).levels().shape == (8, N_MELS)


@pytest.mark.parametrize("semitones", [-4, 0, 4])
def test_pairs_do_not_overlap(semitones: int) -> None:
    for seed in range(30):
        first, second = draw_pair(draws(seed), piece("x"), (100, 150), semitones, 0.0)
        (a, b), (c, d) = first.seconds(), second.seconds()
        assert b <= c or d <= a
        assert (first.frames, second.frames) == (100, 150)


def test_coded_crops_are_drawn_as_often_as_asked() -> None:
    drawn = [draw_crop(draws(s), piece("x", coded=300), 50, 0, 0.4).coded for s in range(300)]
    assert 0.3 < np.mean(drawn) < 0.5
    assert not draw_crop(draws(), piece("x", coded=40), 50, 0, 1.0).coded  # too short


def test_classes_are_different_and_from_few_styles() -> None:
    pieces = [piece(f"{s}{i}", style=f"style {s}") for s in range(6) for i in range(3)]
    drawn = draw_classes(draws(), styles_of(pieces), 16, styles=2)
    assert len(drawn) == 16
    assert len({(p.key, key) for p, key in drawn}) == 16
    assert len({p.attributes["style"] for p, _ in drawn}) == 2
    for name in {p.key for p, _ in drawn}:
        keys = sorted(key for p, key in drawn if p.key == name)
        assert all(b - a >= 2 for a, b in itertools.pairwise(keys))


def test_styles_are_sorted_and_pieces_without_one_are_kept() -> None:
    plain = MelPiece("z", "z", "train", ("w",), {}, torch.zeros(9, N_MELS), None, 0)
    found = styles_of([piece("a", style="rock"), plain, piece("b", style="rock")])
    assert [[p.key for p in group] for group in found] == [["z"], ["a", "b"]]


def test_a_half_of_the_training_split_is_learnt_from() -> None:
    pieces = [piece(f"n{i}") for i in range(40)] + [piece("v", split="valid")]
    first, second = (training_pieces(pieces, h, 2.0) for h in "ab")
    assert {p.key for p in first} == {f"n{i}" for i in range(40) if half_of(f"n{i}") == "a"}
    assert len(first) + len(second) == len(training_pieces(pieces, "all", 2.0)) == 40
    assert training_pieces([piece("short", frames=200), *pieces], "all", 2.0) == pieces[:40]
    with pytest.raises(InputError, match="has 0 pieces of"):
        training_pieces(pieces, "all", 30.0)


def test_held_out_pieces_share_no_tune_with_what_was_learnt() -> None:
    learnt = [piece("a", group="tune")]
    others = [
        piece("b", group="tune"), piece("c"), piece("d", split="test"), piece("e", frames=90)
    ]  # fmt: skip
    held = held_out_pieces([*learnt, *others], learnt, 9, 2.0)
    assert [p.key for p in held] == ["d", "c"]
    assert len(held_out_pieces([*learnt, *others], learnt, 1, 2.0)) == 1


def test_lengths_lie_between_the_bounds() -> None:
    drawn = [draw_frames(draws(s), 1.6, 5.0) for s in range(200)]
    assert min(drawn) >= 80
    assert max(drawn) <= 250
    assert 130 < np.median(drawn) < 155  # the geometric mean is 141


def test_draws_depend_on_the_seed_alone() -> None:
    pieces = styles_of([piece(f"{i}", style=str(i % 3)) for i in range(9)])
    one, same, other = (draw_classes(draws(s), pieces, 6, 2) for s in (1, 1, 2))
    assert [(p.key, k) for p, k in one] == [(p.key, k) for p, k in same]
    assert [(p.key, k) for p, k in one] != [(p.key, k) for p, k in other]
    assert stack([Crop(piece("x"), 0, 7), Crop(piece("x"), 3, 7)]).shape == (2, 7, N_MELS)
