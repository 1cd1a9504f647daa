"""Train the audio encoder: chunks of one piece close, chunks of other pieces apart.

A step hears few styles and many pieces of each, some of them in several keys and speeds; two
chunks of each, apart in time, filtered, noised and levelled differently, some as the codec plays
them. The loss is InfoNCE both ways. Metrics: loss, hit (share of chunks whose nearest is their
partner), seconds.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from musicgen_rl.config import require, require_number
from musicgen_rl.rewards.encoder import EncoderNet
from musicgen_rl.rewards.files import save_reward_model
from musicgen_rl.rewards.identity import ROLES, Identity
from musicgen_rl.rewards.mel import level_free
from musicgen_rl.rewards.towers import TowerConfig
from musicgen_rl.training.reward_augment import augment
from musicgen_rl.training.reward_crops import (
    draw_classes,
    draw_frames,
    draw_pair,
    held_out_pieces,
    stack,
    styles_of,
    training_pieces,
)
from musicgen_rl.training.reward_loop import RewardTrainConfig, require_same_run, run_training
from musicgen_rl.training.reward_mels import MelPiece, hash_pieces, load_mels
from musicgen_rl.training.reward_retrieval import encoder_figures

HELD_OUT = 500
HALVES = ("a", "b", "all")


@dataclass(frozen=True, kw_only=True)
class EncoderTrainConfig(RewardTrainConfig):
    """One run of encoder training."""

    role: str = "training"
    """training: for rewards. report: for measuring only."""
    half: str = "a"
    """Half of the training split that is learnt from, by the pieces' names: a, b or all."""
    dim: int = 128
    """d: size of the embedding."""
    temperature: float = 0.1
    """Of the contrastive loss."""
    styles: int = 8
    """Styles a step; fewer are harder."""
    tower: TowerConfig = field(default_factory=TowerConfig)
    """Shape of the network."""

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require_role_and_half(self.role, self.half)
        require_number("dim", self.dim, 2, 4096)
        require_number("temperature", self.temperature, 0.005, 5.0)
        require_number("styles", self.styles, 1, 1000)


def require_role_and_half(role: str, half: str) -> None:
    """Refuse an unknown role or half.

    Raises:
        ConfigError: naming it.
    """
    require(role in ROLES, f"unknown role {role!r}: use training or report")
    require(half in HALVES, f"unknown half {half!r}: use a, b or all")


def info_nce(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Tell each pair from all other pairs, both ways.

    Args:
        first: unit vectors [P, d].
        second: their partners [P, d].
        temperature: cosines are divided by it.

    Returns:
        (loss, share of rows and columns whose largest entry is their partner), both scalars.

    Source: arXiv:1807.03748, equation 4; both ways as in arXiv:2103.00020.
    """
    logits = first @ second.T / temperature
    target = torch.arange(len(first), device=first.device)
    loss = 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))
    rows, columns = logits.argmax(1) == target, logits.argmax(0) == target
    return loss, torch.cat([rows, columns]).float().mean()


def pair_loss(
    net: EncoderNet, by_style: list[list[MelPiece]], config: EncoderTrainConfig, step: int
) -> tuple[Tensor, dict[str, float]]:
    """Draw a step's pairs and compute the loss."""
    random = np.random.default_rng([config.seed, step])
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    classes = draw_classes(random, by_style, config.batch_size, config.styles)
    frames = (
        draw_frames(random, config.shortest_s, config.longest_s),
        draw_frames(random, config.shortest_s, config.longest_s),
    )
    pairs = [draw_pair(random, p, frames, key, config.coded_share) for p, key in classes]
    views = [
        net(level_free(augment(stack([pair[i] for pair in pairs]), generator))) for i in (0, 1)
    ]
    loss, hit = info_nce(views[0], views[1], config.temperature)
    return loss, {"hit": float(hit)}


def train_encoder(
    mels: Path,
    folder: Path,
    config: EncoderTrainConfig,
    *,
    name: str = "",
    license: str = "unknown",
    stop: Callable[[], bool] = lambda: False,
) -> Identity | None:
    """Train an encoder, or go on with the run in a folder.

    Args:
        mels: as `prepare_mels` made it.
        folder: of the run; the finished encoder is FOLDER/export.
        config: how.
        name: for people; from the role where empty.
        license: of the weights.
        stop: asked after every step.

    Returns:
        The finished encoder's identity; None where it was stopped.

    Raises:
        InputError, CheckpointError, StorageError: as `run_training`, or too few pieces.
    """
    require_same_run(folder, "encoder", begun_with(config))
    pieces = load_mels(mels)
    trained = training_pieces(pieces, config.half, config.longest_s)
    torch.manual_seed(config.seed)
    net = EncoderNet(config.tower, config.dim)
    by_style = styles_of(trained)
    summary = run_training(
        net, config, folder, "encoder", lambda step: pair_loss(net, by_style, config, step),
        begun_with(config) | told_of(trained), stop,
    )  # fmt: skip
    if stop():
        return None
    held = held_out_pieces(pieces, trained, HELD_OUT, 5.0)
    figures = encoder_figures(net, held) if len(held) > 1 else {}
    return save_reward_model(
        net, folder / "export", name=name or f"encoder-{config.role}", kind="encoder",
        role=config.role, tower=config.tower, shape={"dim": config.dim},
        facts=run_facts(config, trained, held, summary.steps, summary.seconds, license)
        | {"figures": figures},
    )  # fmt: skip


def begun_with(config: RewardTrainConfig) -> dict[str, Any]:
    """Collect the options that a resumed run must share with its beginning."""
    free = {"minutes", "steps", "save_every_s"}
    return {k: v for k, v in asdict(config).items() if k not in free}


def told_of(pieces: Sequence[MelPiece]) -> dict[str, Any]:
    """Tell the pieces that a run learns from apart from others: how many, and a hash."""
    return {"pieces": len(pieces), "recordings": hash_pieces(pieces)}


def run_facts(
    config: RewardTrainConfig,
    trained: list[MelPiece],
    held: list[MelPiece],
    steps: int,
    seconds: float,
    license: str,
) -> dict[str, Any]:
    """Write down what a model was made of, for its card."""
    from musicgen_rl.rewards.mel import FRAME_RATE

    hours = sum(len(p.plain) for p in trained) / FRAME_RATE / 3600
    in_splits = sum(p.split != "train" for p in held)
    own = asdict(config)
    return {
        "data": f"{len(trained)} pieces, {hours:.1f} h",
        "half of the training split": own.get("half", "all"),
        "heard through the codec too": sum(p.coded is not None for p in trained),
        "held out": f"{len(held)} pieces: {in_splits} of the valid and test splits, the rest of "
        "what this model did not learn from",
        "seed": config.seed,
        "steps": steps,
        "seconds of one core": round(seconds),
        "license": license,
        "options": {k: v for k, v in own.items() if k not in ("tower", "seed", "role", "half")},
    }
