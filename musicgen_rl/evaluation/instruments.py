"""What measures clips: encoders, scorers, a probe, each with the identity of its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.codec.base import Codec
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.rewards.identity import Identity


class Encoder(Protocol):
    """Embeds sound."""

    @property
    def identity(self) -> Identity:
        """Which one it is."""
        ...

    def embed(self, samples: Tensor, sample_rate: int) -> Tensor:
        """Embed samples [B, M] as unit vectors [B, d]."""
        ...


class TextScorer(Protocol):
    """Scores sound against text."""

    @property
    def identity(self) -> Identity:
        """Which one it is."""
        ...

    def score(self, samples: Tensor, sample_rate: int, captions: Sequence[str]) -> Tensor:
        """Score samples [B, M] against B captions, [B]."""
        ...


class AttributeProbe(Protocol):
    """Tells attributes of sound."""

    @property
    def identity(self) -> Identity:
        """Which one it is."""
        ...

    @property
    def classes(self) -> Mapping[str, Sequence[str]]:
        """Attribute -> class names."""
        ...

    def log_probs(self, samples: Tensor, sample_rate: int) -> Mapping[str, Tensor]:
        """Return attribute -> log probabilities [B, classes]."""
        ...


@dataclass(frozen=True, kw_only=True)
class Instruments:
    """All that measures one evaluation."""

    encoders: Mapping[str, Encoder]
    """Short name ("report", "training", "clap") -> encoder. "report" is the headline."""
    scorers: Mapping[str, TextScorer] = field(default_factory=dict)
    """The same for text-audio scorers."""
    probe: AttributeProbe | None = None
    """Attribute probe, if there is one."""
    codec: Codec | None = None
    """For the codes that distinct rates count, and the codec floor."""
    codec_name: str = ""
    """Whose codec: the model's name and hash."""

    def identities(self) -> dict[str, dict[str, Any]]:
        """Return "encoder report" and so on -> who it is, for results."""
        named: dict[str, Identity] = {}
        named |= {f"encoder {n}": e.identity for n, e in self.encoders.items()}
        named |= {f"scorer {n}": s.identity for n, s in self.scorers.items()}
        if self.probe is not None:
            named["probe"] = self.probe.identity
        return {
            key: who.to_json() | {"training_saw_it": who.role == "training"}
            for key, who in named.items()
        }


def load_instruments(
    folder: Path,
    *,
    codec: Codec | None = None,
    codec_name: str = "",
    clap: str = "",
    device: torch.device | str = "cpu",
) -> Instruments:
    """Load the instruments of a folder.

    Args:
        folder: holds encoder-report and, as far as there are any, encoder-training,
            scorer-report, scorer-training and probe.
        codec: the evaluated model's.
        codec_name: says which.
        clap: a CLAP folder or hub id in transformers' format, used beside them.
        device: where CLAP runs; the others are small and stay on the CPU.

    Raises:
        ModelError: one is not there, damaged, or of another kind.
    """
    from musicgen_rl.rewards.encoder import load_encoder
    from musicgen_rl.rewards.probe import load_probe
    from musicgen_rl.rewards.scorer import load_scorer

    encoders: dict[str, Encoder] = {"report": load_encoder(folder / "encoder-report")}
    scorers: dict[str, TextScorer] = {}
    for role in ("report", "training"):
        if role == "training" and (folder / f"encoder-{role}").is_dir():
            encoders[role] = load_encoder(folder / f"encoder-{role}")
        if (folder / f"scorer-{role}").is_dir():
            scorers[role] = load_scorer(folder / f"scorer-{role}")
    probe = load_probe(folder / "probe") if (folder / "probe").is_dir() else None
    if clap:
        from musicgen_rl.evaluation.clap import load_clap

        encoders["clap"] = scorers["clap"] = load_clap(clap, device)
    return Instruments(
        encoders=encoders, scorers=scorers, probe=probe, codec=codec, codec_name=codec_name
    )


def find_instruments(given: str, model_folder: Path | None) -> Path:
    """Find the folder of instruments: the one given, the model's own, or pocket's.

    Raises:
        ConfigError: there is none; says where was looked.
    """
    own = [] if model_folder is None else [model_folder / "rewards"]
    tried = [Path(given).expanduser()] if given else [*own, checkpoints_folder() / "pocket/rewards"]
    for folder in tried:
        if (folder / "encoder-report").is_dir():
            return folder
    raise ConfigError(
        f"no instruments in {' or '.join(map(str, tried))}: name with --instruments a folder that "
        "holds encoder-report (made by `musicgen-rl train encoder`; see docs/rewards.md)"
    )


def probe_classes(folder: Path) -> dict[str, list[str]] | None:
    """Read what a folder's probe can hear, without loading it.

    Args:
        folder: from `find_instruments`.

    Returns:
        Attribute -> class names; None where there is no probe.

    Raises:
        ModelError: it is damaged, or no probe.
    """
    if not (folder / "probe").is_dir():
        return None
    from musicgen_rl.rewards.files import read_description

    classes: dict[str, list[str]] = read_description(folder / "probe", "probe")[2]["classes"]
    return classes


def require_unchanged(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> None:
    """Refuse to put rows of other instruments into one table.

    Args:
        ours: `Instruments.identities()`.
        theirs: those that measured what is there already.
        where: names it in the message.

    Raises:
        ConfigError: an instrument has other weights, is missing or is new.
    """
    for key in sorted(ours.keys() | theirs.keys()):
        a, b = (
            f"{who[key]['name']}, {who[key]['sha256'][:12]}" if key in who else "none"
            for who in (ours, theirs)
        )
        if key not in ours or key not in theirs or ours[key]["sha256"] != theirs[key]["sha256"]:
            raise ConfigError(
                f"{where} was measured by another {key} ({b}; here {a}): go on with the same "
                "instruments, or name a new folder"
            )


def require_same(ours: Mapping[str, Any], theirs: Mapping[str, Any], where: str) -> None:
    """Refuse to put numbers of different instruments side by side.

    Args:
        ours: `Instruments.identities()`, or what a summary holds.
        theirs: the other's.
        where: names the other in the message.

    Raises:
        InputError: an instrument of one name has other weights.
    """
    for key in ours.keys() & theirs.keys():
        a, b = ours[key]["sha256"], theirs[key]["sha256"]
        if a != b:
            raise InputError(
                f"{where} was measured by another {key} ({theirs[key]['name']}, {b[:12]}; here "
                f"{ours[key]['name']}, {a[:12]}): their numbers cannot be compared; measure again"
            )
    if not ours.keys() & theirs.keys():
        raise InputError(f"{where} was measured by none of the instruments here: measure it again")
