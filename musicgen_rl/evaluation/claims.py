"""The claims of the method (arXiv:2410.06084 and ours) as tests on one result.

A claim holds where its test says so at the level, fails where the opposite is shown, and is open in
between. Which arms stand for what is told by families and roles (`arms.py`), so the same claims are
tested for any model.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from musicgen_rl.evaluation.arms import Arm
from musicgen_rl.evaluation.bootstrap import Estimate, combine
from musicgen_rl.evaluation.front import Point, above_chord, below_line, p_undominated
from musicgen_rl.evaluation.measures import Estimates
from musicgen_rl.listening.crossed import holm

KEPT = 0.9
"""Share of guidance's gain that the distilled model must keep."""
NARROW = 0.25
"""Share of the diversity that the dial adds; a control with less does not give its diversity."""
CONTROLS = ("beta-0", "half-way", "continued")
"""Roles that must all be there before the controls can be called beaten."""
RIVALS = {"guidance_scale": (1.25, 1.5, 2.0), "temperature": (1.1, 1.2)}
"""Settings of the base that must all be there before the rivals can be called beaten."""
_GUIDED = 3.0


@dataclass(frozen=True)
class Check:
    """One line under a claim."""

    what: str
    """In words."""
    value: float
    """The number that must be above the threshold (or below it, as the words say)."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end."""
    threshold: float
    """What it is compared with."""
    p: float
    """Adjusted p-value of the opposite."""
    verdict: str
    """holds, fails or open."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields; infinite ends become None."""
        return {
            k: (None if isinstance(v, float) and not np.isfinite(v) else v)
            for k, v in vars(self).items()
        }


@dataclass(frozen=True)
class Claim:
    """One row of the table."""

    name: str
    """Short."""
    says: str
    """What must be shown."""
    verdict: str
    """holds, fails, open, or "not tested" where arms are missing."""
    checks: list[Check] = field(default_factory=list)
    """What it rests on."""
    note: str = ""
    """What is missing, or how several checks became one verdict."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields."""
        return vars(self) | {"checks": [c.to_json() for c in self.checks]}


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What claims are tested on."""

    arms: Sequence[Arm]
    """In order."""
    estimates: Mapping[str, Estimates]
    """Arm's name -> its estimates."""
    diversity: str
    """Key of the diversity that counts: the untouched encoder's."""
    qualities: Sequence[str]
    """Keys of adherence that count: untouched scorer and probe, as far as there are any."""
    level: float = 0.95
    """Of intervals; 1 - level is the chance of a false "holds"."""

    def named(self, **wanted: Any) -> list[Arm]:
        """List the arms whose fields have these values."""
        return [a for a in self.arms if all(getattr(a, k) == v for k, v in wanted.items())]

    def line(self) -> list[Arm]:
        """List the arms of the merge line from quality to diversity."""
        on_line = [a for a in self.arms if a.family == "merge" and a.lam is not None]
        return sorted(on_line, key=lambda a: a.lam or 0.0)

    def point(self, arm: Arm, quality: str) -> Point:
        """Place an arm in the plane."""
        own = self.estimates[arm.name]
        return Point(arm.name, own[self.diversity], own[quality])

    def points(self, arms: Sequence[Arm], quality: str) -> list[Point]:
        """Place arms in the plane."""
        return [self.point(a, quality) for a in arms]


def check_claims(evidence: Evidence) -> list[Claim]:
    """Test every claim that the arms allow."""
    return [
        _distilled(evidence),
        _narrows(evidence),
        _widens(evidence),
        _merging_pays(evidence),
        _a_dial(evidence),
        _controls_beaten(evidence),
        _rivals_beaten(evidence),
    ]


def judge(value: Estimate, what: str, p: float, p_against: float, level: float,
          threshold: float = 0.0) -> Check:  # fmt: skip
    """Make a check of an estimate that should be above a threshold.

    Args:
        value: what is tested.
        what: in words.
        p: p-value, adjusted, of "it is not above".
        p_against: p-value, adjusted, of "it is not below".
        level: 1 - level is the limit of p.
        threshold: what it should be above.
    """
    low, high = value.interval(level)
    verdict = "holds" if p < 1 - level else "fails" if p_against < 1 - level else "open"
    return Check(what, value.value, low, high, threshold, p, verdict)


def _above(evidence: Evidence, rows: Sequence[tuple[str, Estimate]]) -> list[Check]:
    """Check that estimates are above 0, Holm-corrected over the rows."""
    p = holm([e.p_not_above() for _, e in rows])
    against = holm([1 - e.p_not_above() for _, e in rows])
    return [judge(e, what, p[i], against[i], evidence.level) for i, (what, e) in enumerate(rows)]


def _not_below(evidence: Evidence, rows: Sequence[tuple[str, Estimate]]) -> list[Check]:
    """Check that no estimate is shown to be below 0, Holm-corrected over the rows."""
    against = holm([1 - e.p_not_above() for _, e in rows])
    checks = []
    for i, (what, e) in enumerate(rows):
        low, high = e.interval(evidence.level)
        verdict = "fails" if against[i] < 1 - evidence.level else "holds"
        checks.append(Check(what, e.value, low, high, 0.0, against[i], verdict))
    return checks


def _all(checks: Sequence[Check]) -> str:
    verdicts = {c.verdict for c in checks}
    return "fails" if "fails" in verdicts else "open" if "open" in verdicts else "holds"


def _missing(name: str, says: str, what: str) -> Claim:
    return Claim(name, says, "not tested", note=f"needs {what}")


def _guided(evidence: Evidence) -> list[Arm]:
    """Find the sweep of guidance: throughout, for the claims are not of one that ends early."""
    return [a for a in evidence.named(family="guidance") if not a.sampling.get("guidance_s")]


def _parts(evidence: Evidence) -> tuple[Arm | None, Arm | None, Arm | None, Arm | None]:
    """Find base, guided base, quality end and diversity end."""
    base = next(iter(evidence.named(family="base")), None)
    guided = next((a for a in _guided(evidence) if a.guidance_scale == _GUIDED), None)
    line = evidence.line()
    quality = next((a for a in line if a.lam == 0.0), None)
    diverse = next((a for a in line if a.lam == 1.0), None)
    return base, guided, quality, diverse


def _distilled(evidence: Evidence) -> Claim:
    name = "distilled ~ guided"
    says = f"without guidance the quality end keeps {KEPT:.0%} of what guidance 3 gains over base"
    base, guided, quality, _ = _parts(evidence)
    if base is None or guided is None or quality is None or not evidence.qualities:
        return _missing(name, says, "the arms base, guidance 3 and quality, and adherence")
    rows, shares = [], []
    for key in evidence.qualities:
        b, g, q = (evidence.estimates[a.name][key] for a in (base, guided, quality))
        rows.append((f"{key}: gain of quality - {KEPT:g} x gain of guidance 3",
                     (q - b) - (g - b) * KEPT))  # fmt: skip
        low, high = _share(q - b, g - b).interval(evidence.level)
        shares.append(
            f"{key}: {(q - b).value / (g - b).value:.2f} of the gain ({low:.2f} to {high:.2f})"
            if (g - b).p_not_above() < 0.05
            else f"{key}: guidance 3 has no sure gain, so there is nothing to keep"
        )
    checks = _above(evidence, rows)
    return Claim(name, says, _all(checks), checks, "; ".join(shares))


def _share(part: Estimate, whole: Estimate) -> Estimate:
    """Divide, draws with next to no whole set aside as very large."""
    return combine(lambda a, b: a / np.where(np.abs(b) < 1e-9, 1e-9, b), part, whole)


def _narrows(evidence: Evidence) -> Claim:
    name, says = "guidance narrows", "guidance 3 makes the base less diverse"
    base, guided, _, _ = _parts(evidence)
    if base is None or guided is None:
        return _missing(name, says, "the arms base and guidance 3")
    b, g = (evidence.estimates[a.name][evidence.diversity] for a in (base, guided))
    checks = _above(evidence, [("diversity of base - of guidance 3", b - g)])
    return Claim(name, says, _all(checks), checks)


def _widens(evidence: Evidence) -> Claim:
    name = "reward widens"
    says = "the diversity end is more diverse than the quality end and than the guided base"
    _, guided, quality, diverse = _parts(evidence)
    if guided is None or quality is None or diverse is None:
        return _missing(name, says, "the arms guidance 3, quality and diversity")
    d, q, g = (evidence.estimates[a.name][evidence.diversity] for a in (diverse, quality, guided))
    checks = _above(
        evidence,
        [("diversity end - quality end", d - q), ("diversity end - guidance 3", d - g)],
    )
    return Claim(name, says, _all(checks), checks)


def _merging_pays(evidence: Evidence) -> Claim:
    name = "merging pays"
    says = (
        "an interior lam is dominated by no point of the guidance and temperature sweeps, and lies "
        "above the straight line between the ends"
    )
    base, _, quality, diverse = _parts(evidence)
    inner = [a for a in evidence.line() if a.lam not in (0.0, 1.0)]
    sweep = [a for a in evidence.arms if a.family in ("base", "guidance", "temperature")]
    if base is None or quality is None or diverse is None or not inner or not evidence.qualities:
        return _missing(name, says, "the merge line with its ends, the sweeps, and adherence")
    checks, best = [], []
    limit = 1 - evidence.level
    for key in evidence.qualities:
        ends = evidence.point(quality, key), evidence.point(diverse, key)
        rivals = evidence.points(sweep, key)
        points = evidence.points(inner, key)
        heights = [above_chord(p, *ends) for p in points]
        undominated = [min(1.0, len(points) * p_undominated(p, rivals)) for p in points]
        above = [min(1.0, len(points) * h.p_not_above()) for h in heights]
        shown = [u < limit and a < limit for u, a in zip(undominated, above, strict=True)]
        best.append(any(shown))
        for p, height, u, a, ok in zip(points, heights, undominated, above, shown, strict=True):
            low, high = height.interval(evidence.level)
            what = (
                f"{key}, {p.name}: height above the ends' line (p {a:.3f}); undominated by the "
                f"sweeps (p {u:.3f})"
            )
            verdict = "holds" if ok else "fails" if high < 0 else "open"
            checks.append(Check(what, height.value, low, high, 0.0, max(u, a), verdict))
    verdict = "holds" if all(best) else "open"
    if all(c.verdict == "fails" for c in checks):
        verdict = "fails"
    note = "p-values multiplied by the number of lams tried; one lam is enough, for each adherence"
    return Claim(name, says, verdict, checks, note)


def _a_dial(evidence: Evidence) -> Claim:
    name = "the dial is a dial"
    says = (
        "diversity grows along lam, no step shown to fall; no adherence shown to sink below the "
        "straight line in lam"
    )
    line = evidence.line()
    _, _, quality, diverse = _parts(evidence)
    if len(line) < 3 or quality is None or diverse is None:
        return _missing(name, says, "the merge line with its ends")
    x = [evidence.estimates[a.name][evidence.diversity] for a in line]
    rises = [
        (f"diversity of {b.name} - of {a.name}", x[i + 1] - x[i])
        for i, (a, b) in enumerate(itertools.pairwise(line))
    ]
    checks = _above(evidence, [("diversity end - quality end", x[-1] - x[0])])
    checks += _not_below(evidence, rises)
    barriers = []
    for key in evidence.qualities:
        q, d = (evidence.estimates[a.name][key] for a in (quality, diverse))
        for arm in line[1:-1]:
            lam = float(arm.lam or 0.0)
            between = q * (1 - lam) + d * lam
            barriers.append(
                (f"{key}: {arm.name} - straight line", evidence.estimates[arm.name][key] - between)
            )
    checks += _not_below(evidence, barriers)
    note = "only the first check must be shown; the others fail only where the opposite is shown"
    return Claim(name, says, _all(checks), checks, note)


def _controls_beaten(evidence: Evidence) -> Claim:
    """Check that no control gives the dial's diversity at the dial's adherence.

    A control that adds next to no diversity to the quality end does not, however well it plays: it
    is a rival of that end, not of the dial. So either is enough, and the p-value is doubled for the
    choice: it lies below the merge line, or it adds less than NARROW of what the dial adds.
    """
    name = "controls beaten"
    says = (
        "neither the same steps without the reward, nor half-way between base and quality, nor "
        f"continued training gives the dial's diversity at its adherence: each lies below the "
        f"merge line, or adds less than {NARROW:.0%} of the diversity that the dial adds"
    )
    line, controls = evidence.line(), evidence.named(family="control")
    _, _, quality, diverse = _parts(evidence)
    ready = quality is not None and diverse is not None and controls and evidence.qualities
    if not ready or quality is None or diverse is None:
        return _missing(name, says, "the merge line with its ends, and the controls")
    x = {a.name: evidence.estimates[a.name][evidence.diversity] for a in (*line, *controls)}
    limit = x[quality.name] + (x[diverse.name] - x[quality.name]) * NARROW
    rows = []
    for key in evidence.qualities:
        points = evidence.points(line, key)
        for control in controls:
            below = below_line(evidence.point(control, key), points)
            narrow = limit - x[control.name]
            rows.append(
                (f"{key}: merge line - {control.name}, at its diversity or more", below,
                 f"{control.name}: diversity short of {NARROW:.0%} of what the dial adds", narrow)
            )  # fmt: skip
    chosen, p, against = [], [], []
    for what, below, instead, narrow in rows:
        one, two = below.p_not_above(), narrow.p_not_above()
        chosen.append((instead, narrow) if two < one else (what, below))
        p.append(min(1.0, 2 * min(one, two)))
        against.append(max(1 - one, 1 - two))  # the opposite is that neither is so
    return _joined(evidence, name, says, chosen, holm(p), holm(against), _lacking_roles(controls))


def _lacking_roles(controls: Sequence[Arm]) -> list[str]:
    return [role for role in CONTROLS if role not in {a.role for a in controls}]


def _rivals_beaten(evidence: Evidence) -> Claim:
    """Check that the sweeps on the base lie below the merge line, each at its own diversity."""
    name, says = "rivals beaten", "guidance and temperature on the base lie below the merge line"
    line = evidence.line()
    guided = [a for a in _guided(evidence) if a.guidance_scale < _GUIDED]
    hot = [a for a in evidence.named(family="temperature") if a.temperature > 1.0]
    if len(line) < 2 or not (guided or hot) or not evidence.qualities:
        return _missing(name, says, "the merge line and the rivals")
    rows = []
    for key in evidence.qualities:
        points = evidence.points(line, key)
        rows += [
            (f"{key}: merge line - {r.name}, at its diversity or more",
             below_line(evidence.point(r, key), points))
            for r in (*guided, *hot)
        ]  # fmt: skip
    p = holm([e.p_not_above() for _, e in rows])
    against = holm([1 - e.p_not_above() for _, e in rows])
    there = {(n, getattr(a, n)) for n, own in zip(RIVALS, (guided, hot), strict=True) for a in own}
    lacking = [
        f"{n.removesuffix('_scale')} {value:g}"
        for n, values in RIVALS.items() for value in values if (n, value) not in there
    ]  # fmt: skip
    return _joined(evidence, name, says, rows, p, against, lacking)


def _joined(
    evidence: Evidence,
    name: str,
    says: str,
    rows: Sequence[tuple[str, Estimate]],
    p: Sequence[float],
    against: Sequence[float],
    lacking: Sequence[str],
) -> Claim:
    """Make one verdict of checks against the merge line; what is missing keeps it open."""
    checks = [judge(e, what, p[i], against[i], evidence.level) for i, (what, e) in enumerate(rows)]
    notes = [f"not there: {', '.join(lacking)}"] if lacking else []
    if any(not np.isfinite(c.value) for c in checks):
        notes.append("without a number: the line does not reach that diversity")
    checks = [
        c if np.isfinite(c.value) else replace(c, threshold=0.0, verdict="open") for c in checks
    ]
    verdict = _all(checks)
    if lacking and verdict == "holds":
        verdict = "open"
    return Claim(name, says, verdict, checks, "; ".join(notes))
