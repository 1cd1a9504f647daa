"""From the table of clips to results: estimates, differences, fronts, claims."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.config import require, require_number
from musicgen_rl.evaluation.arms import FAMILIES, Arm
from musicgen_rl.evaluation.bootstrap import Estimate, draw_prompts
from musicgen_rl.evaluation.claims import Claim, Evidence, check_claims
from musicgen_rl.evaluation.front import (
    Point,
    hypervolume_estimate,
    p_dominates,
    p_undominated,
    undominated,
)
from musicgen_rl.evaluation.measures import Estimates, describe, estimate_arm, table_centres
from musicgen_rl.evaluation.real import RealSet
from musicgen_rl.evaluation.table import ClipTable
from musicgen_rl.listening.crossed import holm

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class StatisticsConfig:
    """How uncertainty is measured."""

    draws: int = 4000
    """Bootstrap draws of prompts."""
    level: float = 0.95
    """Of intervals; 1 - level is the chance of a false alarm in a family of tests."""
    seed: int = 0
    """Of the draws."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("level", self.level, 0.5, 0.999)
        require(
            isinstance(self.draws, int) and 200 <= self.draws <= 100_000,
            f"draws must be a whole number from 200 to 100000, got {self.draws!r}",
        )


@dataclass(frozen=True, kw_only=True)
class Front:
    """One plane: its axes and what each family dominates in it."""

    x: str
    """Key of the diversity."""
    y: str
    """Key of the quality; where less is better it is turned round for areas and tests."""
    reference: tuple[float, float]
    """Corner the areas are measured from, in the plane's own direction (more is better)."""
    areas: Mapping[str, Estimate]
    """Family -> area it dominates (base belongs to each sweep; the family "merge" stands alone)."""
    area_gains: Mapping[str, Estimate]
    """Family -> area of the merge line minus its own."""
    undominated: list[str]
    """Arms that no other equals or betters by their values."""
    tests: list[dict[str, Any]]
    """For each arm of the merge line: p of undominated by the sweeps, and whom it dominates."""


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that the statistics say."""

    arms: Sequence[Arm]
    """In order."""
    reference: str
    """Name of the arm that others are compared with."""
    estimates: Mapping[str, Estimates]
    """Arm's name -> key -> estimate."""
    differences: Mapping[str, Estimates]
    """Arm's name -> key -> arm minus reference, paired by prompt."""
    p_values: Mapping[str, Mapping[str, tuple[float, float]]]
    """Arm's name -> key -> p-value, and Holm's over the arms."""
    lines: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Line ("real", "codec floor", "wrong caption") -> key -> value."""
    fronts: Sequence[Front] = ()
    """Planes."""
    claims: Sequence[Claim] = ()
    """Tested claims."""


def analyse(
    table: ClipTable,
    arms: Sequence[Arm],
    reference: str,
    config: StatisticsConfig,
    real: RealSet | None = None,
) -> Results:
    """Estimate, compare and test.

    Args:
        table: of clips, its arms in the order of `arms`.
        arms: what they are.
        reference: name of the arm the others are compared with.
        config: how uncertainty is measured.
        real: real clips, if there are any.

    Raises:
        InputError: too few prompts, or a prompt with a single clip.
    """
    draws = draw_prompts(len(table.prompts), config.draws, config.seed)
    features = None if real is None else real.reference
    centres = table_centres(table, features)
    estimates = {
        arm.name: estimate_arm(table, i, draws, centres, features) for i, arm in enumerate(arms)
    }
    differences = {
        arm.name: {
            key: estimate - estimates[reference][key]
            for key, estimate in estimates[arm.name].items()
            if key in estimates[reference]
        }
        for arm in arms
        if arm.name != reference
    }
    evidence = _evidence(arms, estimates, config.level)
    return Results(
        arms=arms,
        reference=reference,
        estimates=estimates,
        differences=differences,
        p_values=_corrected(differences),
        lines={} if real is None else _lines(real),
        fronts=_fronts(arms, estimates, real),
        claims=[] if evidence is None else check_claims(evidence),
    )


def _corrected(differences: Mapping[str, Estimates]) -> dict[str, dict[str, tuple[float, float]]]:
    """Test each difference against 0, Holm over the arms, measure by measure."""
    keys = {key for own in differences.values() for key in own}
    found: dict[str, dict[str, tuple[float, float]]] = {arm: {} for arm in differences}
    for key in keys:
        named = [arm for arm, own in differences.items() if key in own]
        p = [differences[arm][key].p_two_sided() for arm in named]
        for arm, raw, adjusted in zip(named, p, holm(p), strict=True):
            found[arm][key] = (raw, adjusted)
    return found


def _axes(estimates: Mapping[str, Estimates]) -> tuple[str | None, list[str], list[str]]:
    """Choose, of what all arms have: diversity, adherences that count, distances."""
    shared: set[str] = set.intersection(*(set(own) for own in estimates.values()))
    x: str | None = next((k for k in ("diversity_report", "diversity_clap") if k in shared), None)
    y: list[str] = [k for k in ("adherence_report", "probe_logp", "adherence_clap") if k in shared]
    distances: list[str] = [k for k in ("kid_report", "kid_clap") if k in shared]
    return x, y, distances


def _evidence(
    arms: Sequence[Arm], estimates: Mapping[str, Estimates], level: float
) -> Evidence | None:
    x, qualities, _ = _axes(estimates)
    if x is None:
        return None
    counted = [k for k in qualities if k != "adherence_clap"] or qualities
    return Evidence(arms=arms, estimates=estimates, diversity=x, qualities=counted, level=level)


def _lines(real: RealSet) -> dict[str, dict[str, float]]:
    """Bring the lines' numbers to the estimates' keys, distances included."""
    from musicgen_rl.evaluation.distances import MIN_CLIPS, frechet_extrapolated, kid_estimate

    found = {line: dict(numbers) for line, numbers in real.line_numbers.items()}
    for line, by_encoder in real.line_embeddings.items():
        for name, features in by_encoder.items():
            if len(features) < MIN_CLIPS or name not in real.reference:
                continue
            alone = np.arange(len(features))
            kid = kid_estimate(features, alone, real.reference[name], np.ones((1, len(features))))
            found[line][f"kid_{name}"] = kid.value
            found[line][f"frechet_{name}"] = frechet_extrapolated(features, real.reference[name])
    return found


def _fronts(
    arms: Sequence[Arm], estimates: Mapping[str, Estimates], real: RealSet | None
) -> list[Front]:
    x, qualities, distances = _axes(estimates)
    if x is None:
        return []
    return [_front(x, y, arms, estimates, real) for y in (*qualities, *distances)]


def _front(
    x: str,
    y: str,
    arms: Sequence[Arm],
    estimates: Mapping[str, Estimates],
    real: RealSet | None,
) -> Front:
    turn = float(describe(y).better)
    points = {
        a.name: Point(a.name, estimates[a.name][x], estimates[a.name][y] * turn) for a in arms
    }
    reference = _corner(list(points.values()), y, turn, real)
    base = [points[a.name] for a in arms if a.family == "base"]
    areas = {}
    for family in FAMILIES:
        own = [points[a.name] for a in arms if a.family == family]
        if own:
            joined = base + own if family in ("guidance", "temperature", "top-p") else own
            areas[family] = hypervolume_estimate(joined, reference)
    gains = {
        family: areas["merge"] - area
        for family, area in areas.items()
        if "merge" in areas and family != "merge"
    }
    sweep = [points[a.name] for a in arms if a.family in ("base", "guidance", "temperature")]
    tests = []
    for arm in arms:
        if arm.family == "merge":
            own_point = points[arm.name]
            beaten = {p.name: p_dominates(own_point, p) for p in sweep}
            tests.append(
                {
                    "arm": arm.name,
                    "p_undominated": p_undominated(own_point, sweep),
                    "p_dominates": dict(zip(beaten, holm(list(beaten.values())), strict=True)),
                }
            )
    return Front(
        x=x, y=y, reference=reference, areas=areas, area_gains=gains,
        undominated=undominated(list(points.values())), tests=tests,
    )  # fmt: skip


def _corner(
    points: Sequence[Point], y: str, turn: float, real: RealSet | None
) -> tuple[float, float]:
    """Choose the corner that areas are measured from: no diversity, and no adherence.

    No diversity is 0. No adherence is what real clips get with wrong captions, where that is known;
    else a tenth of the range below the worst arm, which then belongs to this set of arms only.
    """
    wrong = {} if real is None else real.line_numbers.get("wrong caption", {})
    heights = [p.y.value for p in points]
    lowest = min(heights) - 0.1 * (max(heights) - min(heights) + 1e-9)
    return 0.0, min(turn * wrong[y], lowest) if y in wrong else lowest
