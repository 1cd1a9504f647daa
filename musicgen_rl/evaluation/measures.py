"""What is measured, in words and in numbers: each arm's estimates from the table of clips."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.evaluation.bootstrap import Estimate, combine, mean_estimate, pair_estimate
from musicgen_rl.evaluation.distances import MIN_CLIPS, frechet_estimate, kid_estimate
from musicgen_rl.evaluation.diversity import (
    centre,
    distinct_by_prompt,
    pair_tables,
    prompt_share,
    require_several,
    vendi_by_prompt,
    within_prompts,
)
from musicgen_rl.evaluation.table import ClipTable

Array = NDArray[np.float64]
Estimates = dict[str, Estimate]

FRECHET_DRAWS = 100
"""A distance takes a matrix root a draw, and a spread needs no more draws; p comes from it."""


@dataclass(frozen=True)
class Measure:
    """One number that every arm has."""

    label: str
    """Short, for tables."""
    group: str
    """adherence, quality, artefacts or diversity."""
    better: int
    """1 more is better, -1 less is better, 0 neither by itself."""
    says: str
    """What it is, in a sentence."""
    instrument: str = ""
    """Key in the instruments' identities, if one measured it."""


_PLAIN = {
    "probe_logp": Measure(
        "probe, log p", "adherence", 1,
        "Mean log probability that the probe gives to what the prompt asks for.", "probe",
    ),
    "probe_right": Measure(
        "probe, right", "adherence", 1,
        "Share of asked attributes that the probe hears as asked.", "probe",
    ),
    "silent": Measure(
        "silent", "artefacts", -1,
        "Share of clips of which more than 30 % lies below -50 dB of full scale.",
    ),
    "clipped": Measure(
        "clipped", "artefacts", -1, "Share of clips with four samples in a row at full scale."
    ),
    "looped": Measure(
        "looped", "artefacts", -1,
        "Share of clips that repeat themselves almost exactly (correlation above 0.995).",
    ),
    "drifting": Measure(
        "tempo drifts", "artefacts", -1,
        "Share, of clips with a pulse, whose halves differ in tempo by more than 8 %.",
    ),
    "distinct": Measure(
        "distinct codes", "diversity", 1,
        "Share of different pairs of neighbouring codes (first codebook) among a prompt's clips.",
    ),
}  # fmt: skip


def describe(key: str) -> Measure:
    """Say what a key of the estimates is; the part after the underscore names the instrument."""
    if key in _PLAIN:
        return _PLAIN[key]
    kind, _, name = key.partition("_")
    encoder, scorer = f"encoder {name}", f"scorer {name}"
    seen = " (training saw it)" if name == "training" else ""
    return {
        "adherence": Measure(
            f"adherence, {name}", "adherence", 1,
            f"Mean text-audio score of the {name} scorer{seen}.", scorer,
        ),
        "frechet": Measure(
            f"Fréchet, {name}", "quality", -1,
            f"Fréchet distance to real clips in the {name} encoder{seen}, extrapolated to "
            "infinitely many clips.", encoder,
        ),
        "kid": Measure(
            f"KID, {name}", "quality", -1,
            f"Kernel distance to real clips in the {name} encoder{seen}, unbiased.", encoder,
        ),
        "diversity": Measure(
            f"diversity, {name}", "diversity", 1,
            f"Mean of 1 - cosine over pairs of one prompt's clips, {name} encoder{seen}, centred.",
            encoder,
        ),
        "raw": Measure(
            f"diversity uncentred, {name}", "diversity", 1,
            f"The same without taking off what all clips share, {name} encoder{seen}.", encoder,
        ),
        "vendi": Measure(
            f"Vendi, {name}", "diversity", 1,
            f"How many of a prompt's clips are effectively different, {name} encoder{seen}, "
            "centred.", encoder,
        ),
        "across": Measure(
            f"across prompts, {name}", "diversity", 0,
            f"Mean of 1 - cosine over pairs of clips of different prompts, {name} encoder{seen}, "
            "centred.", encoder,
        ),
        "share": Measure(
            f"share of prompts, {name}", "diversity", 1,
            "How much of all variety is between prompts and not within: noise takes it to 0 "
            f"({name} encoder{seen}).", encoder,
        ),
    }[kind]  # fmt: skip


def table_centres(table: ClipTable, real: Mapping[str, Array] | None) -> dict[str, Array]:
    """Return the mean embedding that diversity is measured around, one for all arms."""
    source = table.embeddings if real is None else real
    return {name: source[name].mean(axis=0) for name in table.embeddings if name in source}


def estimate_arm(
    table: ClipTable,
    arm: int,
    draws: Array,
    centres: Mapping[str, Array],
    real: Mapping[str, Array] | None,
) -> Estimates:
    """Estimate all measures of one arm.

    Args:
        table: of clips.
        arm: its number.
        draws: [R, P] of prompts, the same for all arms.
        centres: encoder -> [d], from `table_centres`.
        real: encoder -> [m, d]; without it there are no distances.

    Raises:
        InputError: a prompt with a single clip.
    """
    own = table.rows_of(arm)
    prompt_of = table.prompt_of[own]
    P = len(table.prompts)
    counts = np.bincount(prompt_of, minlength=P)
    require_several(counts, table.arms[arm])
    found: Estimates = {}
    for name, values in table.numbers.items():
        _add(found, name, _prompt_means(values[own], prompt_of, P), draws)
    if table.codes is not None:
        codes = [c for c, mine in zip(table.codes, own, strict=True) if mine]
        _add(found, "distinct", distinct_by_prompt(codes, prompt_of, P), draws)
    for name, embeddings in table.embeddings.items():
        e = embeddings[own]
        centred = centre(e, centres[name])
        _add(found, f"diversity_{name}", within_prompts(centred, prompt_of, P), draws)
        _add(found, f"raw_{name}", within_prompts(e, prompt_of, P), draws)
        _add(found, f"vendi_{name}", vendi_by_prompt(centred, prompt_of, P), draws)
        across = across_estimate(centred, prompt_of, P, draws)
        found[f"across_{name}"] = across
        found[f"share_{name}"] = combine(prompt_share, found[f"diversity_{name}"], across)
        if real is not None and name in real and len(e) >= MIN_CLIPS:
            found[f"kid_{name}"] = kid_estimate(e, prompt_of, real[name], draws)
            few = draws[:FRECHET_DRAWS]
            found[f"frechet_{name}"] = frechet_estimate(e, prompt_of, real[name], few)
    return found


def across_estimate(
    embeddings: Array, prompt_of: NDArray[np.int64], P: int, draws: Array
) -> Estimate:
    """Estimate the mean of 1 - cosine over pairs of clips of different prompts."""
    sums, pairs = pair_tables(1.0 - embeddings @ embeddings.T, prompt_of, P)
    np.fill_diagonal(sums, 0.0)
    np.fill_diagonal(pairs, 0.0)
    return pair_estimate(sums, pairs, draws)


def _prompt_means(values: Array, prompt_of: NDArray[np.int64], P: int) -> Array:
    """Average over each prompt's clips that have a value, [P]."""
    known = np.isfinite(values)
    count = np.bincount(prompt_of[known], minlength=P)
    total = np.bincount(prompt_of[known], weights=values[known], minlength=P)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _add(found: Estimates, key: str, values: Array, draws: Array) -> None:
    estimate = mean_estimate(values, draws)
    if estimate is not None:
        found[key] = estimate
