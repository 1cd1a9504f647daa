"""The weight that a quality run suggests: by hand, and where it must not suggest one."""

import statistics
from pathlib import Path

import pytest

from musicgen_rl.errors import ConfigError
from musicgen_rl.training.endpoint_weight import (
    require_auto,
    suggest_weight,
    weight_line,
    weight_of_run,
)
from musicgen_rl.training.metrics import read_metrics
from tests.training.endpoint_fakes import small_config

SHIPPED = Path(__file__).resolve().parents[2] / "docs/results/pocket/training/quality.jsonl"


def rows(steps: int = 16, *, kl=(0.5, 0.1), diversity=(0.8, 0.6), noise: float = 0.01, **changes):
    """Make a run whose first two steps are the base's; D scatters around its last value."""
    return [
        {"kind": "train", "step": step, "tokens_per_clip": 100.0, "kl_per_token": kl[step > 2],
         "diversity": diversity[step > 2] + (noise if step % 2 else -noise) * (step > 2)} | changes
        for step in range(1, steps + 1)
    ]  # fmt: skip


def test_the_weight_is_the_fall_of_kl_over_the_fall_of_diversity():
    found = suggest_weight(rows(), 100)
    assert found == {
        "weight": 200.0, "kl_first": 50.0, "kl_last": 10.0, "diversity_first": 0.8,
        "diversity_last": 0.6,
    }  # fmt: skip
    assert suggest_weight(rows(), 250)["weight"] == 500.0  # the KL is summed over a clip
    assert "diversity_weight 200: " in weight_line(found)
    assert "from 50.0 to 10.0 nats" in weight_line(found)


def test_long_clips_and_unheard_steps_do_not_count():
    long = rows(4, kl=(0.01, 0.01), diversity=(0.1, 0.1), tokens_per_clip=400.0)
    unheard = [{**row, "diversity": None} for row in rows(3, kl=(9.0, 9.0))]
    heard = [{"kind": "heard", "step": 1, "diversity": 0.1}]
    assert suggest_weight(rows() + long + unheard + heard, 100) == suggest_weight(rows(), 100)


def test_the_shipped_quality_run_suggests_what_the_guide_says():
    told = read_metrics(SHIPPED)
    assert suggest_weight(told, 38 * 8)["weight"] == 328.0  # clips of 1.5 s: docs/training.md
    heard = [r for r in told if r["kind"] == "train" and r["tokens_per_clip"] == 400
             and "diversity" in r]  # fmt: skip
    fall = heard[0]["diversity"] - statistics.fmean(r["diversity"] for r in heard[-8:])
    kl = heard[0]["kl_per_token"] - statistics.fmean(r["kl_per_token"] for r in heard[-8:])
    assert abs(304 * kl / fall - 328) < 1


@pytest.mark.parametrize(("run", "message"), [
    ([], "this one did 0 times"),
    (rows(7), "this one did 7 times"),
    (rows()[1:], "in its first step"),
    (rows(diversity=(0.6, 0.6)), "D from 0.600 to 0.600"),
    (rows(diversity=(0.6, 0.8)), "where both must fall"),
    (rows(diversity=(0.62, 0.6), noise=0.05), "D by more than"),
    (rows(kl=(0.1, 0.095)), "nothing to go by"),
    (rows(kl=(0.1, 0.2)), "nothing to go by"),
])  # fmt: skip
def test_a_run_that_tells_nothing_is_one_line(run, message):
    with pytest.raises(ConfigError, match=message) as caught:
        suggest_weight(run, 100)
    assert "\n" not in str(caught.value)
    assert "or give a number" in str(caught.value)


def test_what_both_ends_must_share_is_asked_for(tmp_path: Path):
    quality = {"diversity_weight": 0.0, "guidance_scale": 3.0, "negative_prompt": ""}
    for enough in ({"minutes": 0.0, "steps": 71}, {"minutes": 1.0, "steps": 1}):
        told = quality | enough | {"listen_every": 10}
        require_auto(told, small_config(diversity_weight=1.0))
    for told, config, message in (
        ({}, {}, "needs a quality run to start from"),
        (quality | {"diversity_weight": 4.0}, {}, "needs a quality run to start from"),
        (quality, {"guidance_scale": 2.0}, "one guidance_scale, got 3.0 and 2.0"),
        (quality, {"negative_prompt": "noise"}, "one negative_prompt"),
        (quality | {"minutes": 0.0, "steps": 70, "listen_every": 10}, {}, "70 steps with listen_"),
        (quality, {"reward": "determinant"}, "take reward cosine or answered"),
        (quality, {"kl_weight": 0.0}, "kl_weight above 0"),
    ):
        with pytest.raises(ConfigError, match=message):
            require_auto(told, small_config(diversity_weight=1.0, **config))
    with pytest.raises(ConfigError, match=r"there is no .*metrics\.jsonl"):
        weight_of_run(tmp_path, quality, small_config(diversity_weight=1.0), 100)


def test_a_weight_of_the_kl_weighs_the_reward_too(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text(SHIPPED.read_text())
    quality = {"diversity_weight": 0.0}
    found = [weight_of_run(tmp_path, quality, small_config(kl_weight=w), 304) for w in (1.0, 0.5)]
    assert [each["weight"] for each in found] == [328.0, 164.0]
