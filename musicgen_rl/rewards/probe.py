"""The probe: which attributes a clip has, as far as they can be heard.

Attributes are of two kinds: one class of several (style, tempo_band, mode, drums), or any number of
classes at once (instruments, moods).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from musicgen_rl.errors import InputError
from musicgen_rl.rewards.encoder import BATCH, SAMPLE_RATE
from musicgen_rl.rewards.files import fill, read_description
from musicgen_rl.rewards.identity import Identity
from musicgen_rl.rewards.mel import check_audio, level_free, mel_levels
from musicgen_rl.rewards.towers import Tower, TowerConfig

MANY = frozenset({"instruments", "families", "moods"})
"""Attributes of which a clip may have any number of classes."""


class ProbeNet(nn.Module):
    """A tower and one linear head for each attribute."""

    def __init__(self, tower: TowerConfig, classes: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.tower = Tower(tower)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(tower.width, len(values)) for name, values in classes.items()}
        )

    def forward(self, frames: Tensor) -> dict[str, Tensor]:
        """Hear frames [B, T, N_MELS] as logits [B, classes] of each attribute."""
        x = self.tower(frames)
        return {name: head(x) for name, head in self.heads.items()}


class Probe:
    """A loaded probe."""

    def __init__(
        self, net: ProbeNet, classes: Mapping[str, tuple[str, ...]], identity: Identity
    ) -> None:
        self._net = net.eval()
        self.classes = dict(classes)
        """Attribute -> names of its classes, in the order of the numbers."""
        self.identity = identity
        """Which one it is; goes into every result."""

    @property
    def sample_rate(self) -> int:
        """Hz to resample to; any multiple of 50 Hz from 16 kHz up is heard without."""
        return SAMPLE_RATE

    def to(self, device: torch.device | str) -> "Probe":
        """Move to a device, in place."""
        self._net.to(device)
        return self

    @torch.no_grad()
    def log_probs(self, samples: Tensor, sample_rate: int) -> dict[str, Tensor]:
        """Hear what clips are.

        Args:
            samples: [B, M], mono, 1 s or longer; tempo and mode want 4 s or more.
            sample_rate: Hz.

        Returns:
            Attribute -> log probabilities [B, classes]. They sum to one over the classes, except
            for attributes in MANY, where each class is a yes or no of its own.

        Raises:
            InputError: audio that cannot be heard.
        """
        weight = next(self._net.parameters())
        samples = check_audio(samples, sample_rate).to(weight.device)
        found: dict[str, list[Tensor]] = {name: [] for name in self.classes}
        for part in torch.split(samples, BATCH):
            for name, logits in self._net(level_free(mel_levels(part, sample_rate))).items():
                many = name in MANY
                found[name].append(F.logsigmoid(logits) if many else logits.log_softmax(-1))
        return {name: torch.cat(parts) for name, parts in found.items()}


def right_share(
    log_probs: Mapping[str, Tensor],
    classes: Mapping[str, Sequence[str]],
    wanted: Sequence[Mapping[str, Any]],
) -> dict[str, Tensor]:
    """Tell how much of what was wanted is heard.

    Args:
        log_probs: attribute -> [B, classes], from `Probe.log_probs`.
        classes: attribute -> names.
        wanted: B dictionaries; attributes that one leaves out are not asked of it. Values are
            names (or what str() turns into one, such as True), or lists of names for MANY.

    Returns:
        Attribute -> [B]: 1 or 0 whether the likeliest class is the wanted one; for MANY, of n
        wanted classes the share that is among the n likeliest. nan where nothing was asked, or
        only names the probe does not know.

    Raises:
        InputError: another number of dictionaries than clips.
    """
    shares: dict[str, Tensor] = {}
    for name, values in log_probs.items():
        if len(wanted) != len(values):
            raise InputError(f"{len(values)} clips need as many wishes, got {len(wanted)}")
        index = {value: i for i, value in enumerate(classes[name])}
        share = torch.full((len(values),), float("nan"))
        for row, wish in enumerate(wanted):
            asked = wish.get(name, ())
            listed = asked if isinstance(asked, list | tuple | set) else (asked,)
            places = {index[str(v)] for v in listed if str(v) in index}
            if places:
                top = set(values[row].topk(len(places)).indices.tolist())
                share[row] = len(places & top) / len(places)
        shares[name] = share
    return shares


def log_likelihood(
    log_probs: Tensor, classes: Sequence[str], wanted: Sequence[str | None]
) -> Tensor:
    """Take the log probability of the wanted class of each clip.

    Args:
        log_probs: [B, classes] of one attribute.
        classes: its names.
        wanted: B names.

    Returns:
        [B]; nan for None and for names the probe does not know.
    """
    index = {value: i for i, value in enumerate(classes)}
    values = [
        float(log_probs[row, index[name]]) if name in index else float("nan")
        for row, name in enumerate(wanted)
    ]
    return torch.tensor(values)


def load_probe(folder: str | Path, device: torch.device | str = "cpu") -> Probe:
    """Load a probe.

    Args:
        folder: holds reward.json and model.safetensors.
        device: where it runs.

    Raises:
        ModelNotFoundError: there is none.
        CheckpointError: it is damaged, or no probe.
    """
    identity, tower, shape = read_description(folder, "probe")
    classes = {name: tuple(values) for name, values in shape["classes"].items()}
    net = ProbeNet(tower, classes)
    fill(net, folder)
    return Probe(net, classes, identity).to(device)
