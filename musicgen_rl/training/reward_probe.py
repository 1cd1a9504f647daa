"""Train the probe: name style, instruments, tempo, mode, drums and moods of a clip.

It learns from the whole training split, on originals and as the codec plays them, and is measured
on the valid and test splits both ways. Metrics: loss, style (share right), seconds.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from musicgen_rl.config import require_number
from musicgen_rl.data.pocket.attributes import tempo_band
from musicgen_rl.errors import InputError
from musicgen_rl.rewards.files import save_reward_model
from musicgen_rl.rewards.identity import Identity
from musicgen_rl.rewards.mel import level_free
from musicgen_rl.rewards.probe import MANY, ProbeNet, right_share
from musicgen_rl.rewards.towers import TowerConfig
from musicgen_rl.training.reward_augment import augment
from musicgen_rl.training.reward_crops import (
    Crop,
    draw_crop,
    draw_frames,
    stack,
    training_pieces,
)
from musicgen_rl.training.reward_encoder import begun_with, run_facts, told_of
from musicgen_rl.training.reward_loop import RewardTrainConfig, require_same_run, run_training
from musicgen_rl.training.reward_mels import MelPiece, load_mels
from musicgen_rl.training.reward_retrieval import BATCH, coded_crops, crops_at
from musicgen_rl.training.reward_scorer import hash_start, start_tower

ATTRIBUTES = ("style", "tempo_band", "mode", "drums", "instruments", "families", "moods")
"""What is learnt, as far as the manifest has it."""
PLACES = (0.1, 0.5, 0.9)
"""Where in a held-out piece clips are cut."""


@dataclass(frozen=True, kw_only=True)
class ProbeTrainConfig(RewardTrainConfig):
    """One run of probe training."""

    least_pieces: int = 8
    """Training pieces a class needs to be learnt."""
    transpose: int = 2
    """Crops are played up to so many semitones faster or slower; tempo_band follows."""
    many_weight: float = 4.0
    """Weight of attributes with any number of classes, whose loss is a mean over them."""
    test_s: float = 5.0
    """Length of the clips it is measured on, in seconds."""
    tower: TowerConfig = field(default_factory=lambda: TowerConfig(kind="conv", layers=5))
    """Shape of the network; that of `start` where one is given."""

    def __post_init__(self) -> None:
        """Check every field."""
        super().__post_init__()
        require_number("least_pieces", self.least_pieces, 1, 1e9)
        require_number("transpose", self.transpose, 0, 4)
        require_number("many_weight", self.many_weight, 0.0, 1000.0)
        require_number("test_s", self.test_s, 1.0, 60.0, unit="s")


def choose_classes(pieces: Sequence[MelPiece], least: int) -> dict[str, tuple[str, ...]]:
    """List the classes that enough pieces have.

    Args:
        pieces: to learn from.
        least: pieces a class needs.

    Returns:
        Attribute -> names, most frequent first; attributes with fewer than two (one, for those in
        MANY) are left out.

    Raises:
        InputError: nothing is left.
    """
    found: dict[str, tuple[str, ...]] = {}
    for name in ATTRIBUTES:
        counts = Counter(v for p in pieces for v in values_of(p.attributes, name))
        kept = [(-n, value) for value, n in counts.items() if n >= least]
        if len(kept) >= (1 if name in MANY else 2):
            found[name] = tuple(value for _, value in sorted(kept))
    if not found:
        raise InputError(
            f"no attribute to learn: give entries {', '.join(ATTRIBUTES)}, at least {least} "
            "pieces a class"
        )
    return found


def values_of(attributes: Mapping[str, Any], name: str) -> list[str]:
    """Read an attribute as a list of names; empty where it is missing."""
    value = attributes.get(name)
    if value is None or value == "":
        return []
    return [str(v) for v in value] if isinstance(value, list | tuple) else [str(value)]


def facts_of(crop: Crop) -> dict[str, list[str]]:
    """Tell what is true of a crop: its piece's attributes, as far as they hold in it.

    Played faster, its tempo band may change; what enters after its end is not in it.
    """
    attributes = crop.piece.attributes
    found = {name: values_of(attributes, name) for name in ATTRIBUTES}
    if crop.semitones and "tempo_bpm" in attributes and found["tempo_band"]:
        bpm = float(attributes["tempo_bpm"]) * math.exp2(crop.semitones / 12.0)
        found["tempo_band"] = [tempo_band(bpm)]
    enters = attributes.get("enters_s") or {}
    end = crop.seconds()[1]
    found["instruments"] = [v for v in found["instruments"] if enters.get(v, 0.0) < end]
    if enters.get("drums", 0.0) >= end and found["drums"]:
        found["drums"] = ["False"]
    return found


def probe_loss(
    logits: Mapping[str, Tensor],
    classes: Mapping[str, Sequence[str]],
    facts: Sequence[Mapping[str, list[str]]],
    many_weight: float,
) -> Tensor:
    """Add up the losses of all attributes.

    Args:
        logits: attribute -> [B, classes].
        classes: attribute -> names.
        facts: what is true of each clip.
        many_weight: of attributes in MANY, whose loss is a mean over classes.

    Returns:
        Cross-entropy of the right class where there is one, binary cross-entropy of every class
        for attributes in MANY; a scalar.
    """
    total = torch.zeros(())
    for name, values in logits.items():
        index = {value: i for i, value in enumerate(classes[name])}
        if name in MANY:
            target = torch.zeros_like(values)
            for row, fact in enumerate(facts):
                target[row, [index[v] for v in fact[name] if v in index]] = 1.0
            total = total + many_weight * F.binary_cross_entropy_with_logits(values, target)
        else:
            right = [index.get(fact[name][0], -100) if fact[name] else -100 for fact in facts]
            if any(i >= 0 for i in right):
                total = total + F.cross_entropy(values, torch.tensor(right))
    return total


def attribute_loss(
    net: ProbeNet,
    classes: Mapping[str, tuple[str, ...]],
    pieces: list[MelPiece],
    config: ProbeTrainConfig,
    step: int,
) -> tuple[Tensor, dict[str, float]]:
    """Draw a step's crops and compute the loss."""
    random = np.random.default_rng([config.seed, step])
    generator = torch.Generator().manual_seed(int(random.integers(2**62)))
    frames = draw_frames(random, config.shortest_s, config.longest_s)
    chosen = random.permutation(len(pieces))[: config.batch_size]
    span = config.transpose
    crops = [
        draw_crop(
            random, pieces[i], frames, int(random.integers(-span, span + 1)), config.coded_share
        )
        for i in chosen
    ]
    logits = net(level_free(augment(stack(crops), generator)))
    facts = [facts_of(crop) for crop in crops]
    loss = probe_loss(logits, classes, facts, config.many_weight)
    shares = right_share({k: v.detach() for k, v in logits.items()}, classes, facts)
    numbers = {"style": float(shares["style"].nanmean())} if "style" in shares else {}
    return loss, numbers


@torch.no_grad()
def hear(
    net: ProbeNet, classes: Mapping[str, tuple[str, ...]], crops: Sequence[Crop]
) -> dict[str, float]:
    """Share of crops for which each attribute is heard right (for MANY: of the classes it has)."""
    shares: dict[str, list[Tensor]] = {name: [] for name in classes}
    for i in range(0, len(crops), BATCH):
        part = crops[i : i + BATCH]
        found = right_share(net(level_free(stack(part))), classes, [facts_of(c) for c in part])
        for name, share in found.items():
            shares[name].append(share)
    return {name: float(torch.cat(parts).nanmean()) for name, parts in shares.items()}


def probe_figures(
    net: ProbeNet,
    classes: Mapping[str, tuple[str, ...]],
    trained: Sequence[MelPiece],
    held: Sequence[MelPiece],
    seconds: float,
) -> dict[str, float]:
    """Measure a probe on held-out pieces, on originals and as the codec plays them.

    Returns:
        Per attribute: share right on originals, through the codec where prepared, and what always
        naming the most frequent classes of the training pieces would reach.
    """
    crops = [crop for place in PLACES for crop in crops_at(held, seconds, place)]
    figures = {f"{k}, original": v for k, v in hear(net, classes, crops).items()}
    coded = [crop for _, crop in coded_crops(held, seconds)]
    if coded:
        figures |= {f"{k}, through the codec": v for k, v in hear(net, classes, coded).items()}
    constant = {
        name: torch.tensor(
            [[sum(v in values_of(p.attributes, name) for p in trained) for v in values]]
        ).float().expand(len(crops), -1)
        for name, values in classes.items()
    }  # fmt: skip
    shares = right_share(constant, classes, [facts_of(c) for c in crops])
    figures |= {f"{k}, always the commonest": float(v.nanmean()) for k, v in shares.items()}
    return figures


def probe_begun_with(config: ProbeTrainConfig, start: Path | None) -> dict[str, Any]:
    """Collect what a resumed run must share with its beginning, but for the pieces.

    Args:
        config: of the run.
        start: an encoder whose tower is taken over.

    Raises:
        ModelNotFoundError, CheckpointError: `start` is no encoder, or damaged.
    """
    return begun_with(config) | {"start": hash_start(start)}


def train_probe(
    mels: Path,
    folder: Path,
    config: ProbeTrainConfig,
    *,
    start: Path | None = None,
    name: str = "",
    license: str = "unknown",
    stop: Callable[[], bool] = lambda: False,
) -> Identity | None:
    """Train a probe, or go on with the run in a folder.

    Args:
        mels: as `prepare_mels` made it.
        folder: of the run; the finished probe is FOLDER/export.
        config: how.
        start: an encoder whose tower is taken over; one that no reward uses.
        name: for people.
        license: of the weights.
        stop: asked after every step.

    Returns:
        The finished probe's identity; None where it was stopped.

    Raises:
        InputError: no attribute has classes enough, there are too few pieces, or `start` is for
            training rewards.
        CheckpointError: `start` has another shape, or the run in the folder is of another kind or
            was begun otherwise.
    """
    begun = probe_begun_with(config, start)
    require_same_run(folder, "probe", begun)
    pieces = load_mels(mels)
    trained = training_pieces(pieces, "all", config.longest_s)
    classes = choose_classes(trained, config.least_pieces)
    torch.manual_seed(config.seed)
    net = ProbeNet(config.tower, classes)
    origin = start_tower(net.tower, config.tower, start) if start else None
    if origin is not None and origin.role != "report":
        raise InputError(f"a probe judges, so it cannot start from {origin}: take one for reports")
    summary = run_training(
        net, config, folder, "probe",
        lambda step: attribute_loss(net, classes, trained, config, step),
        begun | told_of(trained), stop,
    )  # fmt: skip
    if stop():
        return None
    held = [p for p in pieces if p.split != "train"]
    figures = probe_figures(net, classes, trained, held, config.test_s) if held else {}
    facts = run_facts(config, trained, held, summary.steps, summary.seconds, license)
    return save_reward_model(
        net, folder / "export", name=name or "probe", kind="probe", role="report",
        tower=config.tower, shape={"classes": {k: list(v) for k, v in classes.items()}},
        facts=facts | {"tower started from": str(origin or "nothing"), "figures": figures},
    )  # fmt: skip
