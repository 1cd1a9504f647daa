"""Crops of tokenised pieces, with a caption each, for the language model.

Every row of every step is drawn from a generator keyed by (seed, row number). So the sampler has
no state to save: a resumed run, or one spread over more processes, sees the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from musicgen_rl.errors import CheckpointError, InputError
from musicgen_rl.lm.condition import Condition
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.training.checkpointing import (
    hash_tensors,
    load_training_state,
    save_training_state,
)

SHORTEST_LOOP = 8
"""Frames of the shortest stretch that a crop may repeat."""


@dataclass(frozen=True)
class TokenPiece:
    """One tokenised piece of music."""

    codes: Tensor
    """uint16 [K, T]."""
    captions: tuple[str, ...]
    """Ways to describe it; at least one."""
    piece: str
    """Pieces of one name stay in one split."""
    split: str
    """train, valid or test."""
    attributes: dict[str, Any]
    """What the manifest knew about it."""
    offset: float = 0.0
    """Share of a frame that was left out at the start: above 0 it is music that is there twice."""


@dataclass(frozen=True)
class Batch:
    """Rows for the model."""

    codes: Tensor
    """long [B, K, T]; the pad token where a piece is shorter than the crop."""
    captions: tuple[int, ...]
    """B caption numbers; -1 is the null prompt."""
    pieces: tuple[int, ...] = ()
    """B places in `TokenDataset.pieces`: where each row is from."""
    starts: tuple[int, ...] = ()
    """B frames of those pieces at which the rows begin."""


class TextStates:
    """States of all captions, computed once, so that training runs no text encoder."""

    def __init__(self, hidden: Tensor, offsets: Tensor) -> None:
        """Keep the states.

        Args:
            hidden: states of all captions one after the other, [sum of L, D], any float dtype.
            offsets: where each caption begins and the last ends, long [N + 1].
        """
        self._hidden = hidden
        self._offsets = offsets.tolist()
        self.longest = max((b - a for a, b in zip(self._offsets, self._offsets[1:], strict=False)),
                           default=1)  # fmt: skip

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def hidden_size(self) -> int:
        """D."""
        return int(self._hidden.shape[1])

    def condition(self, captions: Sequence[int]) -> Condition:
        """Look up captions; -1 is the null prompt.

        Every batch is padded to the longest caption of the set, so shapes never change.

        Returns:
            hidden float32 [B, L, D], mask [B, L].
        """
        hidden = torch.zeros(len(captions), self.longest, self.hidden_size)
        mask = torch.zeros(len(captions), self.longest, dtype=torch.bool)
        for row, caption in enumerate(captions):
            if caption >= 0:
                start, end = self._offsets[caption], self._offsets[caption + 1]
                hidden[row, : end - start] = self._hidden[start:end].float()
                mask[row, : end - start] = True
        return Condition(hidden, mask)


class TokenDataset:
    """Pieces of one split, and the rule that draws crops from them."""

    def __init__(self, pieces: Sequence[TokenPiece], captions: Sequence[str], pad: int) -> None:
        """Prepare.

        Args:
            pieces: at least one.
            captions: all captions; a caption's number is its place here.
            pad: token for frames that a short piece lacks.

        Raises:
            InputError: there is no piece.
        """
        if not pieces:
            raise InputError("this split has no pieces: check the manifest's split column")
        number = {caption: index for index, caption in enumerate(captions)}
        self.pieces = tuple(pieces)
        self._captions = [[number[caption] for caption in piece.captions] for piece in pieces]
        self._pad = pad
        self._lengths = np.array([piece.codes.shape[1] for piece in pieces])
        self.num_frames = sum(p.codes.shape[1] for p in pieces if not p.offset)
        """Frames of music; those of another offset are not counted again."""

    def draw(
        self, seed: int, rows: range, crop_frames: int, caption_dropout: float = 0.0,
        loop_share: float = 0.0,
    ) -> Batch:  # fmt: skip
        """Draw crops, every possible start in the split equally likely.

        Args:
            seed: of the whole run.
            rows: numbers of the rows; the same number always gives the same row.
            crop_frames: T.
            caption_dropout: share of rows that get the null prompt, 0 to 1.
            loop_share: share of rows that are a loop: their first frames, from `SHORTEST_LOOP` to
                half of them, over and over.

        Returns:
            B = len(rows) rows.
        """
        ends = np.cumsum(np.maximum(self._lengths - crop_frames, 0) + 1)
        codes = torch.full((len(rows), self.pieces[0].codes.shape[0], crop_frames), self._pad)
        captions: list[int] = []
        pieces: list[int] = []
        starts: list[int] = []
        for index, row in enumerate(rows):
            random = np.random.Generator(np.random.Philox(key=[seed, row]))
            place = int(random.integers(ends[-1]))
            chosen = int(np.searchsorted(ends, place, side="right"))
            start = place - (int(ends[chosen - 1]) if chosen else 0)
            crop = self.pieces[chosen].codes[:, start : start + crop_frames]
            codes[index, :, : crop.shape[1]] = crop.long()
            pieces.append(chosen)
            starts.append(start)
            options = self._captions[chosen]
            caption = options[int(random.integers(len(options)))]
            captions.append(-1 if random.random() < caption_dropout else caption)
            if loop_share and random.random() < loop_share:
                codes[index] = _looped(codes[index], random.random())
        return Batch(codes, tuple(captions), tuple(pieces), tuple(starts))


def _looped(codes: Tensor, place: float) -> Tensor:
    """Repeat the first frames of codes [K, T]; `place`, 0 to 1, says how many, in equal ratios."""
    T = codes.shape[1]
    longest = max(T // 2, 1)
    shortest = min(SHORTEST_LOOP, longest)
    length = round(shortest * (longest / shortest) ** place)
    return codes[:, torch.arange(T) % length]


def hash_codes(pieces: Sequence[TokenPiece]) -> str:
    """Hash the codes of pieces, in their order: sha256, hexadecimal."""
    return hash_tensors({str(index): piece.codes for index, piece in enumerate(pieces)})


def unique_captions(pieces: Sequence[TokenPiece]) -> list[str]:
    """List every caption once, in order of appearance."""
    return list(dict.fromkeys(caption for piece in pieces for caption in piece.captions))


def precompute_text_states(
    captions: Sequence[str],
    encoder: TextEncoder,
    folder: str | Path,
    batch_size: int = 512,
    *,
    encoder_hash: str | None = None,
) -> TextStates:
    """Encode captions and keep the states in a file; later calls read it.

    Args:
        captions: unique.
        encoder: run only where the file does not hold these very captions, read by it.
        folder: where the file lives.
        batch_size: captions encoded at once, like lengths together.
        encoder_hash: tells the encoder from others; not needed in a folder that sees only one.

    Returns:
        float16 states, in the captions' order.

    Raises:
        StorageError: the file cannot be written.
    """
    key = {"captions": list(captions), "encoder": encoder_hash}
    saved = load_training_state(folder)
    if saved is not None and {name: saved[1].get(name) for name in key} == key:
        return TextStates(saved[0]["hidden"], saved[0]["offsets"])
    states: list[Tensor] = [torch.empty(0)] * len(captions)
    order = sorted(range(len(captions)), key=lambda index: len(captions[index]))
    for first in range(0, len(order), batch_size):
        members = order[first : first + batch_size]
        with torch.inference_mode():
            condition = encoder.encode([captions[index] for index in members])
        for index, hidden, mask in zip(members, condition.hidden, condition.mask, strict=True):
            states[index] = hidden[mask].to(torch.float16).cpu()
    lengths = torch.tensor([0, *(state.shape[0] for state in states)])
    tensors = {"hidden": torch.cat(states), "offsets": lengths.cumsum(0)}
    save_training_state(folder, tensors, key)
    return TextStates(tensors["hidden"], tensors["offsets"])


def read_token_shard(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read one file of tokens: tensors uint16 [K, T] by name, and the header.

    Raises:
        CheckpointError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as opened:
            names = opened.keys()
            return {name: opened.get_tensor(name) for name in names}, opened.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): delete it and encode the tokens again"
        ) from error
