"""Whether the method learns, on a model so small that a minute is enough."""

import statistics
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from musicgen_rl.training.endpoint_loop import train_endpoint
from musicgen_rl.training.endpoint_parts import EndpointParts
from musicgen_rl.training.metrics import read_metrics
from tests.training.endpoint_fakes import ShareEncoder, small_config, small_parts

pytestmark = pytest.mark.slow


def rows_of(folder: Path):
    return [r for r in read_metrics(folder / "metrics.jsonl") if r["kind"] == "train"]


def settings(**changes):
    return small_config(
        prompts_per_step=4, clips_per_prompt=8, steps=60, learning_rate=3e-3, measure_every=10,
        micro_batch_size=32, save_minutes=100.0, guard_kl_rise=0.0, guard_hacking=0.0,
        ema_decay=0.5, **changes,
    )  # fmt: skip


def test_distillation_halves_the_kl(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    train_endpoint(parts, settings(), tmp_path / "run", live=False)
    kl = [row["kl"] for row in rows_of(tmp_path / "run")]
    assert statistics.mean(kl[-5:]) < 0.5 * kl[0]


def test_low_rank_factors_learn_too(tmp_path: Path) -> None:
    parts = small_parts(tmp_path / "base")
    config = replace(settings(), train="low-rank", rank=8, learning_rate=1e-2)
    train_endpoint(parts, config, tmp_path / "run", live=False)
    kl = [row["kl"] for row in rows_of(tmp_path / "run")]
    assert statistics.mean(kl[-5:]) < 0.75 * kl[0]


class FirstCode(ShareEncoder):
    """Embeds a clip by its first code alone, in eight kinds."""

    def embed(self, samples: Tensor, sample_rate: int) -> Tensor:
        kind = (samples[:, 0] * 8).long().clamp(max=7)
        return torch.nn.functional.one_hot(kind, 8).float() * 0.9 + 0.05


def opinionated(parts: EndpointParts) -> EndpointParts:
    """Give the base stronger opinions, so that its clips of one prompt are somewhat alike."""
    state = {n: t * (3.0 if n == "heads.weight" else 1.0) for n, t in parts.base_state.items()}
    return replace(parts, base_state=state, start_state=state)


def test_the_reward_rises_with_beta_and_not_without(tmp_path: Path) -> None:
    parts = opinionated(small_parts(tmp_path / "base", encoder=FirstCode()))
    risen = {}
    for beta in (1e-9, 20.0):
        config = replace(
            settings(), diversity_weight=beta, guidance_scale=1.0, clip_s=0.06, steps=40,
            learning_rate=1e-3, prompts_per_step=6, clips_per_prompt=24, micro_batch_size=144,
            guard_entropy=0.0, measure_every=100, listen_every=100,
        )  # fmt: skip
        train_endpoint(parts, config, tmp_path / f"{beta:g}", live=False)
        diversity = [row["diversity"] for row in rows_of(tmp_path / f"{beta:g}")]
        risen[beta] = statistics.mean(diversity[-8:]) - statistics.mean(diversity[:4])
    assert risen[20.0] > 0.08
    assert abs(risen[1e-9]) < 0.05
