"""Instruments without weights: quick, and true enough to tell sounds apart."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from musicgen_rl.codec.base import Codec
from musicgen_rl.evaluation.instruments import Instruments
from musicgen_rl.rewards.identity import Identity


def identity(kind: str, role: str = "report", sha256: str = "a") -> Identity:
    return Identity(f"fake {kind}", sha256 * 64, kind, role)


class FakeEncoder:
    """Loudness in eight bands of the spectrum."""

    def __init__(self, role: str = "report", sha256: str = "a") -> None:
        self.identity = identity("encoder", role, sha256)

    def embed(self, samples: Tensor, sample_rate: int) -> Tensor:
        spectrum = torch.fft.rfft(samples).abs()[:, 1:]
        bands = F.adaptive_avg_pool1d(spectrum[:, None], 8)[:, 0]
        return F.normalize(bands.clamp(min=1e-6).log() + 3.0, dim=-1)


class FakeScorer:
    """Loves long captions and loud clips."""

    def __init__(self, role: str = "report") -> None:
        self.identity = identity("scorer", role)

    def score(self, samples: Tensor, sample_rate: int, captions: Sequence[str]) -> Tensor:
        assert len(captions) == len(samples)
        return samples.std(dim=1) + torch.tensor([len(c) / 100 for c in captions])


class FakeProbe:
    """Hears bright clips as jazz, others as rock."""

    def __init__(self) -> None:
        self.identity = identity("probe")
        self.classes = {"style": ("jazz", "rock"), "moods": ("calm", "wild", "sad")}

    def log_probs(self, samples: Tensor, sample_rate: int) -> dict[str, Tensor]:
        bright = samples.diff(dim=1).std(dim=1) - samples.std(dim=1)
        style = torch.stack([bright, -bright], dim=1) * 20
        return {
            "style": style.log_softmax(dim=1),
            "moods": F.logsigmoid(torch.tensor([[2.0, -2.0, 1.0]]).repeat(len(samples), 1)),
        }


def fake_instruments(codec: Codec | None = None, sha256: str = "a") -> Instruments:
    return Instruments(
        encoders={"report": FakeEncoder(sha256=sha256), "training": FakeEncoder("training", "c")},
        scorers={"report": FakeScorer()},
        probe=FakeProbe(),
        codec=codec,
        codec_name="tiny",
    )
