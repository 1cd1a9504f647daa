"""Teach a model what goes with which words: tempo, key, chords, from captions of music that has it.

No audio is needed. What is learnt (text/sense.py) is one layer over the meaning that the model's
own text encoder gives a caption; captions that say it themselves are left out.
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
from musicgen_rl.checkpoint.holds import CHORD_SENSE, KEY_SENSE, TEMPO_SENSE, Hold, save_hold
from musicgen_rl.config import require_number
from musicgen_rl.data.chords import named_chords
from musicgen_rl.data.keys import named_key, stated_key
from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.data.progressions import PROGRESSIONS
from musicgen_rl.errors import InputError
from musicgen_rl.pipeline.parts import load_text_encoder
from musicgen_rl.storage import hash_file
from musicgen_rl.text.key import SCALES, KeySense
from musicgen_rl.text.progression import ProgressionSense
from musicgen_rl.text.sense import Sense, meaning_of
from musicgen_rl.text.tempo import TempoSense, number_of

FEWEST = 50
"""Captions to learn from, and pieces held out times ten, that make sense at the least."""


@dataclass(frozen=True, kw_only=True)
class SenseTrainConfig:
    """How a sense of tempo, of key or of chords is trained."""

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
class Subject:
    """What is to be found in words."""

    hold: Hold
    """Its file in a model's folder."""
    sense: type[Sense]
    """What learns it."""
    attributes: str
    """Those that tell it, in words."""
    number_of: Callable[[Entry], int | None]
    """Says which of the choices a piece has; None where its attributes do not tell."""
    named: Callable[[str], bool]
    """Says whether a caption tells it itself."""


@dataclass(frozen=True)
class Told:
    """A caption of music of which it is known."""

    caption: str
    number: int
    """Among the choices."""
    piece: str


def _tempo_number(entry: Entry) -> int | None:
    bpm = entry.attributes.get("tempo_bpm")
    if isinstance(bpm, bool) or not isinstance(bpm, int | float) or not 20 <= bpm <= 400:
        return None
    return number_of(float(bpm))


def _scale_number(entry: Entry) -> int | None:
    key = stated_key(entry.attributes)
    return None if key is None else SCALES.index(key.scale)


def _progression_number(entry: Entry) -> int | None:
    name = entry.attributes.get("progression")
    return PROGRESSIONS.index(name) if name in PROGRESSIONS else None


TEMPO = Subject(
    TEMPO_SENSE,
    TempoSense,
    '"tempo_bpm"',
    _tempo_number,
    lambda text: named_tempo(text) is not None,
)
KEY = Subject(
    KEY_SENSE, KeySense, '"key" and "mode"', _scale_number, lambda text: named_key(text) is not None
)

CHORDS = Subject(
    CHORD_SENSE,
    ProgressionSense,
    'a "progression" of those known',
    _progression_number,
    lambda text: named_chords(text) is not None,
)


def told(subject: Subject, entries: Sequence[Entry]) -> list[Told]:
    """List the captions that do not say it themselves, of pieces whose attributes do."""
    return [
        Told(caption, number, entry.piece or entry.audio)
        for entry in entries
        if (number := subject.number_of(entry)) is not None
        for caption in entry.captions
        if not subject.named(caption)
    ]


def fit(kind: type[Sense], meanings: Tensor, numbers: Tensor, weight_decay: float) -> Sense:
    """Find the layer of the least cross-entropy.

    Args:
        kind: of the sense.
        meanings: [N, D].
        numbers: which of the choices each has, [N].
        weight_decay: of the squared weights.
    """
    sense = kind(meanings.shape[1])
    found = torch.optim.LBFGS(sense.parameters(), max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        found.zero_grad()
        worth = F.nll_loss(sense(meanings), numbers)
        worth = worth + weight_decay * sense.layer.weight.square().sum()
        worth.backward()  # type: ignore[no-untyped-call]
        return worth

    found.step(loss)  # type: ignore[no-untyped-call]
    return sense.eval().requires_grad_(False)


def train_sense(
    subject: Subject,
    info: ModelInfo,
    manifest: Path,
    out: Path,
    config: SenseTrainConfig,
    *,
    stop: Callable[[], bool] = lambda: False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, float]:
    """Teach a model what goes with which words.

    Args:
        subject: TEMPO, KEY or CHORDS.
        info: the model, whose text encoder reads the captions.
        manifest: its lines' attributes tell the subject; audio is not read.
        out: receives the weights and their card.
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
    heard = told(subject, read_manifest(manifest))
    random.Random(config.seed).shuffle(heard)
    heard = heard[: config.captions]
    pieces = sorted({one.piece for one in heard})
    random.Random(config.seed + 1).shuffle(pieces)
    held = set(pieces[: max(1, round(config.held_out * len(pieces)))])
    if len(heard) < FEWEST or len(pieces) < FEWEST:
        raise InputError(
            f"{manifest} has {len(heard)} captions of {len(pieces)} pieces whose attributes tell "
            f"{subject.attributes} and that do not name it themselves: at least {FEWEST} of each "
            "are needed"
        )
    text, found = load_text_encoder(info, torch.device("cpu")), list[Tensor]()
    for one in heard:
        if stop():
            return {}
        found.append(meaning_of(text, one.caption))
        if len(found) % 500 == 0 or len(found) == len(heard):
            report(len(found), len(heard))
    meanings = torch.stack(found)  # [N, D]
    numbers = torch.tensor([one.number for one in heard])
    apart = torch.tensor([one.piece in held for one in heard])
    sense = fit(subject.sense, meanings[~apart], numbers[~apart], config.weight_decay)
    counts = torch.bincount(numbers[~apart], minlength=sense.count).float() + 0.5
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
    save_hold(subject.hold, sense, out, facts)
    return figures
