"""The five models shipped with pocket are there, whole, and hear what they are for."""

import math

import pytest
import torch
from torch import Tensor

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.rewards import load_encoder, load_probe, load_scorer

REWARDS = checkpoints_folder() / "pocket" / "rewards"
RATE = 32000


def tune(root_hz: float, notes: list[int], beat_s: float, *, buzz: float = 0.5) -> Tensor:
    """Play semitones above a root, one a beat, for 3 s, [M]."""
    t = torch.arange(3 * RATE) / RATE
    beat = (t / beat_s).long()
    pitch = root_hz * 2.0 ** (torch.tensor(notes)[beat % len(notes)] / 12)
    phase = 2 * math.pi * torch.cumsum(pitch / RATE, 0)
    sound = sum(buzz**k * torch.sin((k + 1) * phase) for k in range(6))
    return 0.1 * sound * torch.exp(-3.0 * (t - beat * beat_s))


@pytest.mark.parametrize("role", ["training", "report"])
def test_encoders_hear_the_tune_through_noise_and_level(role: str) -> None:
    encoder = load_encoder(REWARDS / f"encoder-{role}")
    assert (encoder.identity.kind, encoder.identity.role) == ("encoder", role)
    first = tune(220.0, [0, 4, 7, 12], 0.25)
    other = tune(311.0, [0, 3, 5, 3, 10], 0.4, buzz=0.2)
    noisy = 0.4 * first + 0.0005 * torch.randn(3 * RATE)
    a, b, c = encoder.embed(torch.stack([first, noisy, other]), RATE)
    assert float(a @ b) > 0.9
    assert float(a @ c) < float(a @ b) - 0.05


def test_no_two_models_are_the_same() -> None:
    encoders = [load_encoder(REWARDS / f"encoder-{r}").identity for r in ("training", "report")]
    scorers = [load_scorer(REWARDS / f"scorer-{r}").identity for r in ("training", "report")]
    probe = load_probe(REWARDS / "probe").identity
    assert len({i.sha256 for i in (*encoders, *scorers, probe)}) == 5
    assert [i.role for i in scorers] == ["training", "report"]
    assert probe.role == "report"


@pytest.mark.parametrize("role", ["training", "report"])
def test_scorers_tell_drums_from_a_sustained_chord(role: str) -> None:
    scorer = load_scorer(REWARDS / f"scorer-{role}")
    t = torch.arange(4 * RATE) / RATE
    pad = sum(0.05 * torch.sin(2 * math.pi * f * t) for f in (130.8, 164.8, 196.0, 261.6))
    hits = torch.randn(4 * RATE) * torch.exp(-25 * (t % 0.125)) * 0.2
    kick = torch.sin(2 * math.pi * 55 * t) * torch.exp(-12 * (t % 0.5)) * 0.5
    clips = torch.stack([pad, hits + kick])
    captions = ["calm ambient pad", "fast techno with drum machine"]
    scores = scorer.embed_audio(clips, RATE) @ scorer.embed_text(captions).T
    assert float(scores[0, 0] + scores[1, 1]) > float(scores[0, 1] + scores[1, 0]) + 0.2


def test_the_probe_hears_whether_there_are_drums() -> None:
    probe = load_probe(REWARDS / "probe")
    assert {"style", "tempo_band", "mode", "drums", "instruments", "moods"} <= probe.classes.keys()
    t = torch.arange(4 * RATE) / RATE
    pad = sum(0.05 * torch.sin(2 * math.pi * f * t) for f in (130.8, 164.8, 196.0, 261.6))
    hits = torch.randn(4 * RATE) * torch.exp(-25 * (t % 0.125)) * 0.2
    heard = probe.log_probs(torch.stack([pad, pad + hits]), RATE)["drums"].exp()
    yes = probe.classes["drums"].index("True")
    assert float(heard[1, yes]) > 0.5
    assert float(heard[1, yes]) > float(heard[0, yes])


def test_all_five_are_small_and_have_cards() -> None:
    files = [p for p in REWARDS.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in files) < 18e6
    for name in ("encoder-training", "encoder-report", "scorer-training", "scorer-report", "probe"):
        text = (REWARDS / name / "README.md").read_text()
        assert "license: apache-2.0" in text
        assert "Figures" in text
