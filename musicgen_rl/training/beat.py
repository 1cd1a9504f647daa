"""Teach a frozen model to follow a beat: the loss of its own codes, told where each beat falls.

Only the adapter (lm/beat.py) learns. Crops are short, and some begin where the piece begins, since
it is at a start that a tempo is chosen; later the music itself tells it. Of a model with a dial the
base alone is listened to: its ends were tuned away from the loss of true music, on purpose, and an
adapter would learn to bring them back. They follow the base's.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from musicgen_rl.checkpoint import ModelInfo, load_lm, model_hash, part_folder, read_info
from musicgen_rl.checkpoint.beat import save_beat
from musicgen_rl.config import require_number
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.lm.beat import FASTEST_BPM, FIRST_BEAT_S, SLOWEST_BPM, Beat, BeatAdapter
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

SLOWING_S = 10.0
"""Of a piece's end that is left out: players slow down there."""
WRONG = 1.12
"""A tempo so much faster than the true one is what the report sets against it."""
EVAL_ROWS = 64


@dataclass(frozen=True, kw_only=True)
class BeatTrainConfig(LoopConfig):
    """How a beat adapter is trained."""

    minutes: float = 20.0
    batch_size: int = 16
    """Crops a step."""
    learning_rate: float = 2e-3
    muon_learning_rate: float = 0.0
    weight_decay: float = 0.0
    crop_s: float = 4.0
    """Length of a crop, in seconds."""
    beginnings: float = 0.3
    """Share of the crops that begin where their piece begins."""
    caption_dropout: float = 0.15
    """Share of crops without a prompt."""
    hidden: int = 128
    """Width of the adapter's hidden layer."""
    strength: float = 1.4
    """What the adapter adds is written down so many times as strong as it was learnt."""

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require_number("crop_s", self.crop_s, 1.0, 60.0, unit="s")
        require_number("beginnings", self.beginnings, 0.0, 1.0)
        require_number("caption_dropout", self.caption_dropout, 0.0, 1.0)
        require_number("hidden", self.hidden, 1, 65536)
        require_number("strength", self.strength, 0.01, 100.0)


def beat_of(piece: TokenPiece) -> Beat | None:
    """Read where a piece's beats fall; None where its attributes do not say, or say too much.

    `beat_s` is the exact length of a beat in seconds, `first_beat_s` where one falls. A tempo in
    whole beats a minute would be a quarter of a beat off within half a minute.
    """
    length = piece.attributes.get("beat_s")
    first = piece.attributes.get("first_beat_s", FIRST_BEAT_S)
    if not all(isinstance(v, int | float) and not isinstance(v, bool) for v in (length, first)):
        return None
    if not length or not SLOWEST_BPM <= 60.0 / length <= FASTEST_BPM:
        return None
    return Beat(60.0 / length, float(first))


def with_beats(pieces: Sequence[TokenPiece], frame_rate: float, frames: int) -> list[TokenPiece]:
    """Keep the pieces whose beats are known, without their ends, where T frames are left."""
    end = round(SLOWING_S * frame_rate)
    cut = (replace(p, codes=p.codes[:, : p.codes.shape[1] - end]) for p in pieces if beat_of(p))
    return [piece for piece in cut if piece.codes.shape[1] >= frames]


class BeatCrops:
    """Draws crops with the places of their beats, and what they cost under an adapter.

    Args:
        data: pieces with beats.
        text: states of their captions.
        config: how to train.
        frame_rate: of the codec, frames a second.
    """

    def __init__(
        self, data: TokenDataset, text: TextStates, config: BeatTrainConfig, frame_rate: float
    ) -> None:
        self.data, self.text, self.config, self.frame_rate = data, text, config, frame_rate
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

    def cost(
        self, lm: MusicLM, adapter: BeatAdapter | None, batch: Batch, faster: float = 1.0
    ) -> Tensor:
        """Compute what the codes of a batch cost, in nats a crop: [B].

        Args:
            lm: the frozen model.
            adapter: tells the beat; None tells none.
            batch: from `draw`.
            faster: tell a tempo so much faster than the true one.
        """
        config, device = lm.config, lm.norm.weight.device
        targets = apply_delay(batch.codes, config.pad_token, config.audio_channels).to(device)
        told = None
        if adapter is not None:
            beats = [beat_of(self.data.pieces[number]) for number in batch.pieces]
            known = [replace(b, bpm=b.bpm * faster) for b in beats if b is not None]
            S = targets.shape[-1]
            places = [
                beat.places(start, S, self.frame_rate)
                for beat, start in zip(known, batch.starts, strict=True)
            ]
            bpm = torch.tensor([beat.bpm for beat in known], device=device)
            told = adapter(torch.stack(places).to(device), bpm)
        condition = self.text.condition(batch.captions).to(device)
        logits = lm(shift_right(targets, config.pad_token), condition, told)
        return token_losses(logits, targets, config.pad_token).sum((1, 2))


def players_of(info: ModelInfo) -> list[MusicLM]:
    """Load the frozen models that are to follow an adapter: the base, and the ends of its dial."""
    folders = [info.folder / end for end in ENDS] if has_endpoints(info.folder) else []
    return [load_lm(each) for each in (info, *map(read_info, folders))]


@torch.no_grad()
def report(lm: MusicLM, adapter: BeatAdapter, crops: BeatCrops) -> dict[str, float]:
    """Measure on held-out crops what the beat saves, in nats a crop: the true one, a wrong one."""
    saved = {"true": 0.0, "wrong": 0.0}
    size = crops.config.batch_size
    for first in range(0, EVAL_ROWS, size):
        rows = range(first, min(EVAL_ROWS, first + size))
        batch = crops.draw(EVAL_SEED, rows)
        without = crops.cost(lm, None, batch)
        for name, faster in (("true", 1.0), ("wrong", WRONG)):
            saved[name] += float((without - crops.cost(lm, adapter, batch, faster)).sum())
    return {f"saved_{name}_nats": round(total / EVAL_ROWS, 2) for name, total in saved.items()}


def train_beat(
    model: str | Path,
    tokens_folder: str | Path,
    folder: str | Path,
    config: BeatTrainConfig,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train a beat adapter for a model, or go on with the run in `folder`.

    Args:
        model: its folder; where it has a dial, both ends are served too.
        tokens_folder: music whose attributes tell `beat_s`, encoded by the model's codec.
        folder: of the run; in the end `beat.safetensors` and `beat.json` lie there.
        config: how to train.
        stop: asked after every step; True saves and returns.

    Returns:
        What the beat saves on held-out crops, of each model in turn, and steps and seconds; of a
        run that was stopped the steps and seconds alone, and no adapter is written yet.

    Raises:
        InputError: no piece tells its beats, or a split has none.
        ConfigError: the tokens are another codec's, or the model reads no MiniLM.
        CheckpointError: the run in `folder` is of another kind, or was begun with something else.
    """
    folder = Path(folder)
    info, pieces = load_tokens(tokens_folder)
    begun = read_start(model, info)
    if begun.text_encoder.get("type") != "minilm":
        raise ConfigError(
            f"{begun.name} reads its prompts by {begun.text_encoder.get('type')!r}: a beat is "
            "taught to models that read them by MiniLM"
        )
    frames = round(config.crop_s * info.frame_rate)
    split = {
        name: with_beats([p for p in pieces if p.split == name], info.frame_rate, frames)
        for name in ("train", "valid")
    }
    for name, members in split.items():
        if not members:
            raise InputError(
                f'no piece of "split": "{name}" tells its beats and lasts {config.crop_s:g} s and '
                f'{SLOWING_S:g} more: give "beat_s", the seconds of a beat, in its attributes'
            )
    captions = unique_captions(split["train"] + split["valid"])
    reader = part_folder(begun, begun.text_encoder)
    begun_with = asdict(config) | {
        "start": model_hash(begun), "text encoder": hash_part(reader),
        "recordings": hash_codes(split["train"]),
    }  # fmt: skip
    for free in ("minutes", "steps", "save_every_s", "strength"):
        begun_with.pop(free)
    require_same_run(folder, "beat", begun_with)
    text = share_text_states(captions, load_minilm(reader), hash_part(reader), folder)
    train, valid = (
        BeatCrops(
            TokenDataset(split[name], captions, begun.lm.pad_token), text, config, info.frame_rate
        )
        for name in ("train", "valid")
    )
    players = players_of(begun)
    torch.manual_seed(config.seed)
    adapter = BeatAdapter(begun.lm.hidden_size, begun.lm.num_layers, config.hidden)

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

    done = run_training(adapter, config, folder, "beat", loss_at, begun_with, ask)
    if stopped:
        return {"steps": done.steps, "seconds": done.seconds}
    names = ("base", *ENDS)[: len(players)]
    figures = {name: report(lm, adapter, valid) for name, lm in zip(names, players, strict=True)}
    facts = {
        "model": {"name": begun.name, "sha256": model_hash(begun)},
        "steps": done.steps, "seconds": done.seconds,
        "hours": round(train.data.num_frames / info.frame_rate / 3600, 2),
        "crop_s": config.crop_s, "batch_size": config.batch_size, "seed": config.seed,
        "data_licenses": list(info.licenses), "held_out": figures,
    }  # fmt: skip
    save_beat(adapter, folder, facts, config.strength)
    return facts
