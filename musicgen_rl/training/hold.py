"""Teach a frozen model what it is told: the loss of its own codes, told the beat or the key.

Only an adapter (lm/told.py) learns. Crops are short, and some begin where the piece begins, since
it is at a start that a tempo or a key is chosen; later the music itself tells it. Of a model with a
dial the base alone is listened to: its ends were tuned away from the loss of true music, on
purpose, and an adapter would learn to bring them back. They follow the base's.
"""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from musicgen_rl.checkpoint import ModelInfo, load_lm, model_hash, part_folder, read_info
from musicgen_rl.checkpoint.holds import Hold, save_hold
from musicgen_rl.config import require_number
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.pipeline.dial import ENDS, has_endpoints
from musicgen_rl.training.dataset import (
    Batch,
    TextStates,
    TokenDataset,
    TokenPiece,
    hash_codes,
    unique_captions,
)
from musicgen_rl.training.lm_loss import EVAL_SEED, token_losses
from musicgen_rl.training.lm_run import load_minilm, read_start, share_text_states
from musicgen_rl.training.reward_loop import LoopConfig, require_same_run, run_training
from musicgen_rl.training.same_run import hash_part
from musicgen_rl.training.tokens import load_tokens

EVAL_ROWS = 64
A = TypeVar("A", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class HoldTrainConfig(LoopConfig):
    """How an adapter is trained."""

    minutes: float = 20.0
    batch_size: int = 16
    """Crops a step."""
    muon_learning_rate: float = 0.0
    weight_decay: float = 0.0
    crop_s: float = 4.0
    """Length of a crop, in seconds."""
    beginnings: float = 0.3
    """Share of the crops that begin where their piece begins."""
    caption_dropout: float = 0.15
    """Share of crops without a prompt."""
    strength: float = 1.0
    """What the adapter adds is written down so many times as strong as it was learnt."""

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require_number("crop_s", self.crop_s, 1.0, 60.0, unit="s")
        require_number("beginnings", self.beginnings, 0.0, 1.0)
        require_number("caption_dropout", self.caption_dropout, 0.0, 1.0)
        require_number("strength", self.strength, 0.01, 100.0)


class Lesson(ABC, Generic[A]):
    """What a model is taught to be held to."""

    hold: Hold
    """Whose adapter it is."""
    needs: str
    """What the attributes of the music must say, for messages."""
    spare_s: float = 0.0
    """Of a piece's end that is left out."""

    @abstractmethod
    def knows(self, piece: TokenPiece) -> bool:
        """Tell whether a piece's attributes say what is needed."""

    @abstractmethod
    def adapter(self, info: ModelInfo) -> A:
        """Make an adapter that adds nothing yet."""

    @abstractmethod
    def tell(
        self,
        adapter: A,
        pieces: Sequence[TokenPiece],
        starts: Sequence[int],
        steps: int,
        frame_rate: float,
        *,
        wrong: bool,
    ) -> Tensor:
        """Compute what is added for crops, of the truth or of something near it that is wrong.

        Returns:
            float32 [L, B, S, D], S may be 1 for all steps alike.
        """

    def finish(self, adapter: A) -> None:
        """Take out of a trained adapter what is of use in training alone; nothing, most often."""
        del adapter

    def keep(
        self, pieces: Sequence[TokenPiece], frame_rate: float, frames: int
    ) -> list[TokenPiece]:
        """Keep the pieces that are known, without their ends, where T frames are left."""
        end = round(self.spare_s * frame_rate)
        cut = (replace(p, codes=p.codes[:, : p.codes.shape[1] - end]) for p in pieces
               if self.knows(p))  # fmt: skip
        return [piece for piece in cut if piece.codes.shape[1] >= frames]


class HoldCrops(Generic[A]):
    """Draws crops, and tells what they cost under an adapter.

    Args:
        lesson: what is taught.
        data: pieces that it knows.
        text: states of their captions.
        config: how to train.
        frame_rate: of the codec, frames a second.
    """

    def __init__(
        self,
        lesson: Lesson[A],
        data: TokenDataset,
        text: TextStates,
        config: HoldTrainConfig,
        frame_rate: float,
    ) -> None:
        self.lesson, self.data, self.text = lesson, data, text
        self.config, self.frame_rate = config, frame_rate
        self.frames = round(config.crop_s * frame_rate)

    def draw(self, seed: int, rows: range) -> Batch:
        """Draw crops; of some the beginning of their piece in their place."""
        batch = self.data.draw(seed, rows, self.frames, self.config.caption_dropout)
        codes, starts = batch.codes.clone(), list(batch.starts)
        for index, row in enumerate(rows):
            if random.Random(f"beginning/{seed}/{row}").random() < self.config.beginnings:
                piece = self.data.pieces[batch.pieces[index]]
                codes[index], starts[index] = piece.codes[:, : self.frames].long(), 0
        return replace(batch, codes=codes, starts=tuple(starts))

    def cost(self, lm: MusicLM, adapter: A | None, batch: Batch, *, wrong: bool = False) -> Tensor:
        """Compute what the codes of a batch cost, in nats a crop: [B].

        Args:
            lm: the frozen model.
            adapter: tells; None tells nothing.
            batch: from `draw`.
            wrong: tell what is not true.
        """
        config, device = lm.config, lm.norm.weight.device
        targets = apply_delay(batch.codes, config.pad_token, config.audio_channels).to(device)
        told = None
        if adapter is not None:
            pieces, S = [self.data.pieces[number] for number in batch.pieces], targets.shape[-1]
            told = self.lesson.tell(
                adapter, pieces, batch.starts, S, self.frame_rate, wrong=wrong
            ).expand(-1, -1, S, -1)
        condition = self.text.condition(batch.captions).to(device)
        logits = lm(shift_right(targets, config.pad_token), condition, told)
        return token_losses(logits, targets, config.pad_token).sum((1, 2))


def players_of(info: ModelInfo) -> list[MusicLM]:
    """Load the frozen models that are to follow an adapter: the base, and the ends of its dial."""
    folders = [info.folder / end for end in ENDS] if has_endpoints(info.folder) else []
    return [load_lm(each) for each in (info, *map(read_info, folders))]


@torch.no_grad()
def report(lm: MusicLM, adapter: A, crops: HoldCrops[A]) -> dict[str, float]:
    """Measure on held-out crops what is saved by the truth and by what is wrong, nats a crop."""
    saved = {"true": 0.0, "wrong": 0.0}
    size = crops.config.batch_size
    for first in range(0, EVAL_ROWS, size):
        rows = range(first, min(EVAL_ROWS, first + size))
        batch = crops.draw(EVAL_SEED, rows)
        without = crops.cost(lm, None, batch)
        for name in saved:
            told = crops.cost(lm, adapter, batch, wrong=name == "wrong")
            saved[name] += float((without - told).sum())
    return {f"saved_{name}_nats": round(total / EVAL_ROWS, 2) for name, total in saved.items()}


def train_hold(
    lesson: Lesson[A],
    model: str | Path,
    tokens_folder: str | Path,
    folder: str | Path,
    config: HoldTrainConfig,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train an adapter for a model, or go on with the run in `folder`.

    Args:
        lesson: what is taught.
        model: its folder; where it has a dial, both ends are served too.
        tokens_folder: music whose attributes tell what the lesson needs, encoded by the model's
            codec.
        folder: of the run; in the end the adapter and its card lie there.
        config: how to train.
        stop: asked after every step; True saves and returns.

    Returns:
        What is saved on held-out crops, of each model in turn, and steps and seconds; of a run that
        was stopped the steps and seconds alone, and no adapter is written yet.

    Raises:
        InputError: no piece tells what is needed, or a split has none.
        ConfigError: the tokens are another codec's, or the model reads no MiniLM.
        CheckpointError: the run in `folder` is of another kind, or was begun with something else.
    """
    folder, hold = Path(folder), lesson.hold
    info, pieces = load_tokens(tokens_folder)
    begun = read_start(model, info)
    if begun.text_encoder.get("type") != "minilm":
        raise ConfigError(
            f"{begun.name} reads its prompts by {begun.text_encoder.get('type')!r}: a {hold.name} "
            "is taught to models that read them by MiniLM"
        )
    frames = round(config.crop_s * info.frame_rate)
    split = {
        name: lesson.keep([p for p in pieces if p.split == name], info.frame_rate, frames)
        for name in ("train", "valid")
    }
    for name, members in split.items():
        if not members:
            more = f" and {lesson.spare_s:g} more" if lesson.spare_s else ""
            raise InputError(
                f'no piece of "split": "{name}" tells its {hold.name} and lasts '
                f"{config.crop_s:g} s{more}: give {lesson.needs}, in its attributes"
            )
    captions = unique_captions(split["train"] + split["valid"])
    reader = part_folder(begun, begun.text_encoder)
    begun_with = asdict(config) | {
        "start": model_hash(begun), "text encoder": hash_part(reader),
        "recordings": hash_codes(split["train"]),
    }  # fmt: skip
    for free in ("minutes", "steps", "save_every_s", "strength"):
        begun_with.pop(free)
    require_same_run(folder, hold.name, begun_with)
    text = share_text_states(captions, load_minilm(reader), hash_part(reader), folder)
    train, valid = (
        HoldCrops(
            lesson, TokenDataset(split[name], captions, begun.lm.pad_token), text, config,
            info.frame_rate,
        )
        for name in ("train", "valid")
    )  # fmt: skip
    players = players_of(begun)
    torch.manual_seed(config.seed)
    adapter = lesson.adapter(begun)

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        rows = range(step * config.batch_size, (step + 1) * config.batch_size)
        costs = train.cost(players[0], adapter, train.draw(config.seed, rows))
        codes = begun.lm.num_codebooks * frames
        return costs.mean() / codes, {"nats": float(costs.detach().mean())}

    stopped = False

    def ask() -> bool:
        nonlocal stopped
        stopped = stop()
        return stopped

    done = run_training(adapter, config, folder, hold.name, loss_at, begun_with, ask)
    if stopped:
        return {"steps": done.steps, "seconds": done.seconds}
    lesson.finish(adapter)
    names = ("base", *ENDS)[: len(players)]
    figures = {name: report(lm, adapter, valid) for name, lm in zip(names, players, strict=True)}
    facts = {
        "model": {"name": begun.name, "sha256": model_hash(begun)},
        "steps": done.steps, "seconds": done.seconds,
        "hours": round(train.data.num_frames / info.frame_rate / 3600, 2),
        "crop_s": config.crop_s, "batch_size": config.batch_size, "seed": config.seed,
        "data_licenses": list(info.licenses), "held_out": figures,
    }  # fmt: skip
    save_hold(hold, adapter, folder, facts, config.strength)
    return facts
