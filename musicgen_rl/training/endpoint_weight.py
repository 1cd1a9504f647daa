"""`--diversity-weight auto`: the weight of the reward, out of what the quality run wrote down.

Distilling guidance takes nats off the KL and diversity off the clips. A weight of the one over the
other makes both ends of that way worth the same, so that the reward has somewhere to rest between
them (docs/training.md). It is a number that depends on model, guidance and clip length, so no
preset can know it.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from musicgen_rl.errors import ConfigError
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.metrics import read_metrics

STILL_BASE = 0.9
"""While the KL is above this share of the first step's, the student counts as the base; by the end
it must be below."""
LAST = 4
"""The end of a run is the last one in so many of its hearings, and so many at least."""
SURE = 2.0
"""Standard errors by which D must have fallen."""
SAME = ("guidance_scale", "negative_prompt", "codebook_weights")
"""Options that both ends must share, or their KLs are of different kinds."""
OR_A_NUMBER = "or give a number, --diversity-weight 100 for example"


def suggest_weight(rows: Sequence[Mapping[str, Any]], tokens_per_clip: float) -> dict[str, float]:
    """Find the weight that makes the way of a quality run worth nothing either way.

    Only steps with clips of the usual length in which D was heard count. At first are those in
    which the student still was the base, at last a quarter of them, four at least.

    Args:
        rows: of the quality run's metrics.jsonl.
        tokens_per_clip: frames times codebooks of the diversity run's clips, over which its KL is
            summed.

    Returns:
        `weight`, of three digits, and what it is made of: `kl_first`, `kl_last` (nats a clip of
        that many tokens), `diversity_first`, `diversity_last`.

    Raises:
        ConfigError: too little was heard, or the KL or D fell no more than by chance.

    Source: ours.
    """
    heard = [r for r in rows if r["kind"] == "train" and r.get("diversity") is not None]
    usual = min((r["tokens_per_clip"] for r in heard), default=0.0)
    heard = [r for r in heard if r["tokens_per_clip"] == usual]
    base = [r for r in heard if r["kl_per_token"] >= STILL_BASE * heard[0]["kl_per_token"]]
    last = heard[-max(LAST, len(heard) // LAST) :]
    if len(heard) < 2 * LAST or heard[0]["step"] > 1:
        raise ConfigError(
            f"diversity_weight auto needs a quality run that heard D in its first step and "
            f"{2 * LAST} times at least, this one did {len(heard)} times: train it longer with the "
            f"training encoder, at a lower listen_every, {OR_A_NUMBER}"
        )
    base = [r for r in base if r["step"] < last[0]["step"]]
    kl_first, kl_last = (fmean(r["kl_per_token"] for r in part) for part in (base, last))
    first, final = (fmean(r["diversity"] for r in part) for part in (base, last))
    error = stdev(r["diversity"] for r in last) * math.sqrt(1 / len(base) + 1 / len(last))
    if kl_last >= STILL_BASE * kl_first or first - final <= SURE * error:
        raise ConfigError(
            f"diversity_weight auto has nothing to go by: in the quality run the KL a token went "
            f"from {kl_first:.3f} to {kl_last:.3f} and D from {first:.3f} to {final:.3f}, where "
            f"both must fall, the KL by a tenth and D by more than {SURE * error:.3f}: train it "
            f"longer, {OR_A_NUMBER}"
        )
    weight = (kl_first - kl_last) * tokens_per_clip / (first - final)
    return {
        "weight": float(f"{weight:.3g}"), "kl_first": round(kl_first * tokens_per_clip, 2),
        "kl_last": round(kl_last * tokens_per_clip, 2), "diversity_first": round(first, 4),
        "diversity_last": round(final, 4),
    }  # fmt: skip


def weight_of_run(
    folder: Path, quality: Mapping[str, Any], config: EndpointConfig, tokens_per_clip: float
) -> dict[str, float]:
    """Find the weight for a diversity run from the folder of a quality run.

    Args:
        folder: of the quality run.
        quality: its options, or its card's.
        config: of the diversity run.
        tokens_per_clip: frames times codebooks of the diversity run's clips.

    Returns:
        As `suggest_weight`, `weight` times the `kl_weight` of the diversity run.

    Raises:
        ConfigError: there are no metrics, or they tell nothing for this run.
    """
    require_auto(quality, config)
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise ConfigError(
            f"diversity_weight auto needs what the quality run wrote down, and there is no {path}: "
            f"give --start RUN/export of that run, {OR_A_NUMBER}"
        )
    found = suggest_weight(read_metrics(path), tokens_per_clip)
    return found | {"weight": float(f"{found['weight'] * config.kl_weight:.3g}")}


def require_auto(quality: Mapping[str, Any], config: EndpointConfig) -> None:
    """Check that a quality run can tell the weight of a diversity run.

    Args:
        quality: options of the quality run.
        config: of the diversity run.

    Raises:
        ConfigError: the one's KL or D is not the other's.
    """
    if quality.get("diversity_weight") != 0:
        raise ConfigError(
            "diversity_weight auto needs a quality run to start from, trained with "
            f"diversity_weight 0: give --start RUN/export of one, {OR_A_NUMBER}"
        )
    if config.reward == "determinant" or config.kl_weight == 0:
        raise ConfigError(
            "diversity_weight auto weighs the mean of 1 - cosine against a KL with a weight: take "
            f"reward cosine or answered and kl_weight above 0, {OR_A_NUMBER}"
        )
    for name in SAME:
        if name in quality and quality[name] != getattr(config, name):
            raise ConfigError(
                f"diversity_weight auto needs both ends to have one {name}, got {quality[name]!r} "
                f"and {getattr(config, name)!r}: give both the same, {OR_A_NUMBER}"
            )
    if quality.get("minutes") == 0 and quality["steps"] <= (2 * LAST - 1) * quality["listen_every"]:
        raise ConfigError(
            f"diversity_weight auto needs a quality run that hears D {2 * LAST} times at least, "
            f"{quality['steps']} steps with listen_every {quality['listen_every']} are too few: "
            f"give it more, {OR_A_NUMBER}"
        )


def weight_line(found: Mapping[str, float]) -> str:
    """Say in one line which weight was found, and from what."""
    return (
        f"diversity_weight {found['weight']:g}: the quality run took the KL from "
        f"{found['kl_first']:.1f} to {found['kl_last']:.1f} nats a clip of the diversity run's "
        f"length, and D from {found['diversity_first']:.3f} to {found['diversity_last']:.3f}"
    )
