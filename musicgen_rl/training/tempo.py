"""Teach a model which tempi go with which words: from captions of music whose tempo is known.

No audio is needed. What is learnt (text/tempo.py) is one layer over the meaning that the model's
own text encoder gives a caption; captions that name their tempo are left out.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from musicgen_rl.audio.tempo import named_tempo
from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import SENSE, save_hold
from musicgen_rl.config import require_number
from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.errors import InputError
from musicgen_rl.pipeline.parts import load_text_encoder
from musicgen_rl.storage import hash_file
from musicgen_rl.text.tempo import COUNT, TempoSense, meaning_of, number_of

FEWEST = 50
"""Captions to learn from, and pieces held out times ten, that make sense at the least."""


@dataclass(frozen=True, kw_only=True)
class TempoTrainConfig:
    """How a sense of tempo is trained."""

    captions: int = 16000
    """Captions learnt from at most, drawn from all of them."""
    weight_decay: float = 1e-5
    """Weight of the squared weights in the loss."""
    held_out: float = 0.1
    """Share of the pieces that is measured on and not learnt from."""
    seed: int = 0
    """Which captions, and which pieces are held out."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("captions", self.captions, FEWEST, 1e7)
        require_number("weight_decay", self.weight_decay, 0.0, 1.0)
        require_number("held_out", self.held_out, 0.01, 0.5)
        require_number("seed", self.seed, 0, 2**31)


@dataclass(frozen=True)
class Told:
    """A caption of music whose tempo is known."""

    caption: str
    number: int
    """Of its tempo among TEMPI."""
    piece: str


def told_tempi(entries: Sequence[Entry]) -> list[Told]:
    """List the captions that do not name the tempo, of pieces whose `tempo_bpm` says it."""
    found = []
    for entry in entries:
        bpm = entry.attributes.get("tempo_bpm")
        if isinstance(bpm, int | float) and not isinstance(bpm, bool) and 20 <= bpm <= 400:
            found += [
                Told(caption, number_of(float(bpm)), entry.piece or entry.audio)
                for caption in entry.captions
                if named_tempo(caption) is None
            ]
    return found


def fit(meanings: Tensor, numbers: Tensor, weight_decay: float) -> TempoSense:
    """Find the layer of the least cross-entropy.

    Args:
        meanings: [N, D].
        numbers: which of TEMPI each has, [N].
        weight_decay: of the squared weights.
    """
    sense = TempoSense(meanings.shape[1])
    found = torch.optim.LBFGS(sense.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        found.zero_grad()
        worth = F.nll_loss(sense(meanings), numbers)
        worth = worth + weight_decay * sense.tempi.weight.square().sum()
        worth.backward()  # type: ignore[no-untyped-call]
        return worth

    found.step(loss)  # type: ignore[no-untyped-call]
    return sense.eval().requires_grad_(False)


def train_tempo(
    info: ModelInfo,
    manifest: Path,
    out: Path,
    config: TempoTrainConfig,
    *,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Teach a model which tempi go with which words.

    Args:
        info: the model, whose text encoder reads the captions.
        manifest: its lines' attributes tell `tempo_bpm`; audio is not read.
        out: receives tempo.safetensors and tempo.json.
        config: how.
        stop: asked at every caption; True leaves off, and nothing is written.
        report: called now and then with captions read and captions to read.

    Returns:
        Nats a caption on held-out pieces, `with` the words and `without` them; nothing where it was
        stopped.

    Raises:
        InputError: too few captions, or of too few pieces.
        StorageError: `out` cannot be written.
    """
    told = told_tempi(read_manifest(manifest))
    random.Random(config.seed).shuffle(told)
    told = told[: config.captions]
    pieces = sorted({one.piece for one in told})
    random.Random(config.seed + 1).shuffle(pieces)
    held = set(pieces[: max(1, round(config.held_out * len(pieces)))])
    if len(told) < FEWEST or len(pieces) < FEWEST:
        raise InputError(
            f"{manifest} has {len(told)} captions of {len(pieces)} pieces whose attributes tell "
            f'"tempo_bpm" and that do not name it themselves: at least {FEWEST} of each are needed'
        )
    text, found = load_text_encoder(info, torch.device("cpu")), list[Tensor]()
    for one in told:
        if stop():
            return {}
        found.append(meaning_of(text, one.caption))
        if len(found) % 500 == 0 or len(found) == len(told):
            report(len(found), len(told))
    meanings = torch.stack(found)  # [N, D]
    numbers = torch.tensor([one.number for one in told])
    apart = torch.tensor([one.piece in held for one in told])
    sense = fit(meanings[~apart], numbers[~apart], config.weight_decay)
    counts = torch.bincount(numbers[~apart], minlength=COUNT).float() + 0.5
    without = (counts / counts.sum()).log()
    figures = {
        "with": round(float(F.nll_loss(sense(meanings[apart]), numbers[apart])), 4),
        "without": round(float(-without[numbers[apart]].mean()), 4),
    }
    facts = {
        "captions": int((~apart).sum()), "pieces": len(pieces) - len(held),
        "held_out_nats": figures, "manifest_sha256": hash_file(manifest), "seed": config.seed,
        "weight_decay": config.weight_decay,
    }  # fmt: skip
    save_hold(SENSE, sense, out, facts)
    return figures
