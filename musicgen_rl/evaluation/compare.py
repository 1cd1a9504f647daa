"""Two evaluations side by side: arms of one name, paired by prompt."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgen_rl.errors import InputError
from musicgen_rl.evaluation.analyse import StatisticsConfig
from musicgen_rl.evaluation.bootstrap import MIN_PROMPTS, draw_prompts
from musicgen_rl.evaluation.finish import CLIPS
from musicgen_rl.evaluation.instruments import require_same
from musicgen_rl.evaluation.measures import describe, estimate_arm, table_centres
from musicgen_rl.evaluation.summary import read_summary
from musicgen_rl.evaluation.table import build_table, read_rows
from musicgen_rl.listening.crossed import holm


@dataclass(frozen=True)
class Comparison:
    """What differs between two evaluations."""

    prompts: int
    """Prompts that both have."""
    rows: list[dict[str, Any]]
    """arm, measure, a, b, difference with interval, p and Holm's p over all rows of a measure."""


def compare(first: Path, second: Path, config: StatisticsConfig | None = None) -> Comparison:
    """Compare two evaluations' folders.

    Distances to real clips are left out: each summary holds them for its own real clips. Diversity
    is centred on the mean of all compared clips, not on real ones as in a result that has some.

    Args:
        first: the folder of one.
        second: of the other; differences are second minus first.
        config: how uncertainty is measured.

    Raises:
        InputError: other instruments, no arm or too few prompts in common, clips of other lengths.
    """
    config = config or StatisticsConfig()
    summaries = [read_summary(folder) for folder in (first, second)]
    require_same(summaries[0]["instruments"], summaries[1]["instruments"], str(second))
    tables = [read_rows(folder / CLIPS)[0] for folder in (first, second)]
    lengths = [rows[0]["duration_s"] for rows in tables]
    if abs(lengths[0] - lengths[1]) > 0.02 * lengths[0]:
        raise InputError(
            f"clips of {first} last {lengths[0]:g} s, those of {second} {lengths[1]:g} s: they "
            "cannot be compared"
        )
    arms = [a["name"] for a in summaries[0]["arms"] if a["name"] in _arms(summaries[1])]
    if not arms:
        raise InputError(
            f"{first} and {second} have no arm in common: {', '.join(_arms(summaries[0]))}; "
            f"{', '.join(_arms(summaries[1]))}"
        )
    theirs = {r["prompt"] for r in tables[1]}
    prompts = list(dict.fromkeys(r["prompt"] for r in tables[0] if r["prompt"] in theirs))
    if len(prompts) < MIN_PROMPTS:
        raise InputError(
            f"{first} and {second} share {len(prompts)} prompts, at least {MIN_PROMPTS} are needed"
        )
    joined = [
        r | {"arm": f"{side}: {r['arm']}"}
        for side, rows in zip("AB", tables, strict=True)
        for r in rows
    ]
    shared = set(tables[0][0]) & set(tables[1][0])
    joined = [{k: v for k, v in r.items() if k in shared} for r in joined]
    table = build_table(joined, [f"{s}: {arm}" for arm in arms for s in "AB"], prompts)
    draws = draw_prompts(len(prompts), config.draws, config.seed)
    centres = table_centres(table, None)
    found: list[dict[str, Any]] = []
    for i, arm in enumerate(arms):
        a, b = (estimate_arm(table, 2 * i + k, draws, centres, None) for k in (0, 1))
        for key in a:
            if key in b:
                difference = b[key] - a[key]
                found.append(
                    {
                        "arm": arm, "measure": key, "label": describe(key).label,
                        "a": a[key].value, "b": b[key].value,
                        "difference": difference.to_json(config.level),
                        "p": difference.p_two_sided(),
                    }
                )  # fmt: skip
    for key in {r["measure"] for r in found}:
        own = [r for r in found if r["measure"] == key]
        for row, adjusted in zip(own, holm([r["p"] for r in own]), strict=True):
            row["p_holm"] = adjusted
    return Comparison(len(prompts), found)


def _arms(summary: Mapping[str, Any]) -> list[str]:
    return [a["name"] for a in summary["arms"]]
