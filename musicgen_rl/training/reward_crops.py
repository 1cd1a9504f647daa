"""Which crops a step of reward training hears: they depend on seed and step alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from musicgen_rl.errors import InputError
from musicgen_rl.rewards.mel import FRAME_RATE, WINDOW_HOPS
from musicgen_rl.training.reward_augment import frames_needed, play_faster
from musicgen_rl.training.reward_mels import MelPiece, half_of, unpack_levels

EVEN, ODD = (0, -4, -2, 2, 4), (-3, -1, 1, 3)
"""Semitones by which one piece becomes several: two of one set never lie closer than a tone."""


@dataclass(frozen=True)
class Crop:
    """A place in a piece."""

    piece: MelPiece
    """Which."""
    start: int
    """First frame, of `plain` or of `coded`."""
    frames: int
    """Length after playing it faster."""
    semitones: int = 0
    """Played so much higher and faster."""
    coded: bool = False
    """As the codec plays it."""

    def levels(self) -> Tensor:
        """Read it as decibels [frames, N_MELS]."""
        source = self.piece.coded if self.coded else self.piece.plain
        assert source is not None
        needed = frames_needed(self.frames, self.semitones)
        part = source[self.start : self.start + needed]
        if len(part) < needed:  # a frame or two at the end of a piece
            part = torch.cat([part, part[-1:].expand(needed - len(part), -1)])
        return play_faster(unpack_levels(part), self.frames, self.semitones)

    def seconds(self) -> tuple[float, float]:
        """Begin and end in the piece, in seconds."""
        first = self.start + (self.piece.coded_start if self.coded else 0)
        last = first + frames_needed(self.frames, self.semitones) + WINDOW_HOPS
        return first / FRAME_RATE, last / FRAME_RATE


def training_pieces(pieces: Sequence[MelPiece], half: str, seconds: float) -> list[MelPiece]:
    """Choose the pieces of a half of the training split that hold two crops.

    Args:
        pieces: of all splits.
        half: "a", "b" or "all".
        seconds: of a crop at most.

    Raises:
        InputError: fewer than two are left.
    """
    shortest = 2 * frames_needed(round(seconds * FRAME_RATE), max(EVEN)) + 2
    found = [
        p for p in pieces
        if p.split == "train" and half in ("all", half_of(p.group)) and len(p.plain) >= shortest
    ]  # fmt: skip
    if len(found) < 2:
        raise InputError(
            f"half {half!r} of the training split has {len(found)} pieces of "
            f"{shortest / FRAME_RATE:.0f} s or more: bring at least two"
        )
    return found


def held_out_pieces(
    pieces: Sequence[MelPiece], trained: Sequence[MelPiece], count: int, seconds: float
) -> list[MelPiece]:
    """Choose pieces of no group that was trained on: valid and test first, then the other half.

    Args:
        pieces: of all splits.
        trained: what was learnt from.
        count: at most.
        seconds: a piece holds two crops of this length, 1 s apart.
    """
    learnt = {p.group for p in trained}
    shortest = 2 * round(seconds * FRAME_RATE) + FRAME_RATE
    left = [p for p in pieces if p.group not in learnt and len(p.plain) >= shortest]
    return sorted(left, key=lambda p: p.split == "train")[:count]


def draw_crop(
    random: np.random.Generator, piece: MelPiece, frames: int, semitones: int, coded_share: float
) -> Crop:
    """Draw a place in a piece, now and then as the codec plays it."""
    needed = frames_needed(frames, semitones)
    coded = piece.coded is not None and len(piece.coded) >= needed
    coded = coded and random.random() < coded_share
    length = len(piece.coded) if coded and piece.coded is not None else len(piece.plain)
    start = int(random.integers(0, max(1, length - needed + 1)))
    return Crop(piece, start, frames, semitones, coded)


def draw_pair(
    random: np.random.Generator,
    piece: MelPiece,
    frames: tuple[int, int],
    semitones: int,
    coded_share: float,
) -> tuple[Crop, Crop]:
    """Draw two crops of a piece that do not overlap, where it is long enough for that."""
    first = draw_crop(random, piece, frames[0], semitones, coded_share)
    begin, end = first.seconds()
    for _ in range(20):
        second = draw_crop(random, piece, frames[1], semitones, coded_share)
        if second.seconds()[0] >= end or second.seconds()[1] <= begin:
            break
    return first, second


def draw_classes(
    random: np.random.Generator, by_style: Sequence[Sequence[MelPiece]], count: int, styles: int
) -> list[tuple[MelPiece, int]]:
    """Draw what must be told apart in a step: few styles, many pieces of each.

    Pieces of one style, and one piece in several keys, are the hard cases: what tells two takes of
    one prompt apart is all that tells them apart.

    Args:
        random: draws.
        by_style: pieces, sorted by style.
        count: classes.
        styles: styles they are taken from.

    Returns:
        `count` different (piece, semitones).
    """
    chosen = random.permutation(len(by_style))[:styles]
    share = -(-count // len(chosen))
    drawn: list[tuple[MelPiece, int]] = []
    for style in chosen:
        members = by_style[int(style)]
        order = random.permutation(len(members))
        sets = [EVEN if random.random() < 0.5 else ODD for _ in members]
        keys = [random.permutation(s) for s in sets]
        for i in range(min(share, len(members) * len(ODD))):
            member = int(order[i % len(members)])
            drawn.append((members[member], int(keys[member][i // len(members)])))
    return drawn[:count]


def draw_frames(random: np.random.Generator, low_s: float, high_s: float) -> int:
    """Draw a length in frames; short ones are as likely as long ones by their logarithm."""
    return round(low_s * FRAME_RATE * math.pow(high_s / low_s, random.random()))


def styles_of(pieces: Sequence[MelPiece]) -> list[list[MelPiece]]:
    """Sort pieces by their style; those without one are one style."""
    found: dict[str, list[MelPiece]] = {}
    for piece in pieces:
        found.setdefault(str(piece.attributes.get("style", "")), []).append(piece)
    return [found[name] for name in sorted(found)]


def stack(crops: Sequence[Crop]) -> Tensor:
    """Read crops of one length as [B, frames, N_MELS]."""
    return torch.stack([crop.levels() for crop in crops])
