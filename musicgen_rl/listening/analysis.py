"""The frozen analysis of a study, and what is exploratory, named as such."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.listening.agreement import krippendorff
from musicgen_rl.listening.crossed import estimate, holm, two_way_se
from musicgen_rl.listening.mixed import fit_mixed
from musicgen_rl.listening.paired import FIRST, SECOND, TIE, fit_paired, spread
from musicgen_rl.listening.plan import ANALYSIS, Plan
from musicgen_rl.listening.responses import Response, failures, responses, scores
from musicgen_rl.listening.retention import first_deletion
from musicgen_rl.listening.store import Store
from musicgen_rl.listening.study import ANCHORS, Planned, Question

_OUTCOME = {"first": FIRST, "second": SECOND, "tie": TIE}
UNITS = {
    "rating": "points", "mushra": "points of 100", "pair": "preferred minus not", "sets":
    "preferred minus not", "abx": "right answers above one half",
}  # fmt: skip
"""What a score is counted in."""


def analyse(plan: Plan, store: Store, *, mixed: bool = True) -> dict[str, Any]:
    """Compute everything the report shows.

    Args:
        plan: frozen.
        store: of the same plan.
        mixed: whether to fit mixed models too, some seconds each.

    Returns:
        JSON-able; documented in docs/listening.md.

    Raises:
        InputError: nobody answered.
    """
    people = store.raters()
    found = responses(plan, people, store.answers())
    if not found:
        raise InputError("nobody has answered yet: there is nothing to report")
    study = plan.study
    progress = store.progress()
    failed = failures(plan, found)
    most = study.analysis.max_attention_failures
    out = {rater for rater, count in failed.items() if count > most}
    kept = [response for response in found if response.rater not in out]
    totals = {person.id: len(plan.assignment.sessions[person.slot]) for person in people}
    done: dict[int, int] = defaultdict(int)
    for response in found:
        done[response.rater] += 1
    planned = list(study.analysis.planned)
    others = [
        Planned(question=question.id, item=item.id, arms=pair)
        for question in study.questions
        for pair in study.pairs(question)
        for item in question.items
        if not any(
            (p.question, p.item) == (question.id, item.id) and set(p.arms) == set(pair)
            for p in planned
        )
    ]
    main = [_compare(plan, kept, p) for p in planned]
    # What could not be tested still counts among the comparisons that were planned.
    corrected = holm([entry.get("p", 1.0) for entry in main])
    for entry, adjusted in zip(main, corrected, strict=True):
        if "p" in entry:
            entry["p_holm"] = adjusted
            entry["found"] = bool(adjusted < study.analysis.level)
    return {
        "schema": "musicgen-rl/listening",
        "version": 1,
        "simulated": store.simulated,
        "title": study.title,
        "plan": plan.hash,
        "rules": ANALYSIS,
        "level": study.analysis.level,
        "stopped": store.stopped_at is not None,
        "deletion_from": first_deletion(plan, store),
        "unblinded_early": any(e["what"] == "unblinded before the stop" for e in store.events()),
        "people": {
            "invited": progress["invited"],
            "began": len(people) + progress["deleted"],
            "deleted": progress["deleted"],
            "finished": sum(done[person] >= total for person, total in totals.items()),
            "answers": len(found),
            "planned_answers": sum(map(len, plan.assignment.sessions)),
            "corrected": sum(response.revision > 0 for response in found),
            "left_out": len(out),
            "attention_failures": sorted(failed.values(), reverse=True),
            "checks_each": study.raters.attention_checks,
            "headphones": _count([person.headphones or "not asked" for person in people]),
            "median_minutes": _median_minutes(found),
        },
        "planned": main,
        "all_raters": [_compare(plan, found, p) for p in planned] if out else [],
        "exploratory": [_compare(plan, kept, p) for p in others],
        "arms": _arm_means(plan, kept),
        "paired": [e for q in study.questions for e in _paired(plan, kept, q)],
        "agreement": [e for q in study.questions for e in _agreement(kept, q)],
        "mixed": [
            e for q in study.questions if mixed for e in _mixed(plan, kept, q, planned)
        ],
    }  # fmt: skip


def _compare(plan: Plan, found: Sequence[Response], planned: Planned) -> dict[str, Any]:
    question = plan.study.question(planned.question)
    about = {
        "question": planned.question, "item": planned.item, "kind": question.kind,
        "arms": list(planned.arms), "unit": UNITS[question.kind],
    }  # fmt: skip
    data = scores(plan, found, question, planned.item, planned.arms)
    try:
        result = estimate(
            data.values, data.raters, data.prompts, level=plan.study.analysis.level,
            draws=plan.study.analysis.resamples,
            rng=np.random.default_rng(plan.study.seed % 2**32),
        )  # fmt: skip
    except ConfigError as error:
        return about | {"reason": str(error), "n": len(data.values)}
    return about | dict(result.to_dict())


def _arm_means(plan: Plan, found: Sequence[Response]) -> list[dict[str, Any]]:
    """Compute each arm's mean grade on scales, with an interval clustered both ways."""
    from scipy import stats

    cells: dict[tuple[str, str, str], list[tuple[float, int, int]]] = defaultdict(list)
    for response in found:
        trial, question = response.trial, plan.study.question(response.trial.question)
        if trial.kind != "main" or question.kind not in ("rating", "mushra"):
            continue
        for item in question.items:
            value = response.values[item.id]
            grades = value if isinstance(value, list) else [value]
            for label, grade in zip(trial.labels, grades, strict=True):
                cells[question.id, item.id, label].append((grade, response.rater, trial.prompt))
    names = [*(arm.name for arm in plan.study.arms), "reference", *ANCHORS]
    items = [(question.id, item.id) for question in plan.study.questions for item in question.items]
    in_order = sorted(
        cells.items(), key=lambda cell: (items.index(cell[0][:2]), names.index(cell[0][2]))
    )
    out = []
    for (question_id, item_id, label), rows in in_order:
        question = plan.study.question(question_id)
        item = next(item for item in question.items if item.id == item_id)
        x = np.array(rows, dtype=np.float64)
        raters, prompts = len(np.unique(x[:, 1])), len(np.unique(x[:, 2]))
        mean = float(x[:, 0].mean())
        half = 0.0
        if raters > 1 and prompts > 1:
            t = stats.t.ppf(1 - plan.study.analysis.level / 2, min(raters, prompts) - 1)
            half = float(t * two_way_se(x[:, 0] - mean, x[:, 1], x[:, 2]))
        out.append(
            {
                "question": question_id,
                "item": item_id,
                "arm": label,
                "mean": mean,
                "low": mean - half,
                "high": mean + half,
                "n": len(x),
                "least": 0 if question.kind == "mushra" else 1,
                "most": 100 if question.kind == "mushra" else len(item.words),
            }
        )
    return out


def _paired(plan: Plan, found: Sequence[Response], question: Question) -> list[dict[str, Any]]:
    """Fit Bradley-Terry and Davidson, with the order effect that shows position bias."""
    if question.kind not in ("pair", "sets"):
        return []
    arms = plan.study.compared(question)
    trials = [
        r for r in found if r.trial.kind == "main" and r.trial.question == question.id
    ]  # fmt: skip
    out = []
    for item in question.items:
        first = [arms.index(r.trial.labels[0]) for r in trials]
        second = [arms.index(r.trial.labels[1]) for r in trials]
        outcome = [_OUTCOME[r.values[item.id]] for r in trials]
        about: dict[str, Any] = {
            "question": question.id, "item": item.id, "n": len(trials),
            "first": outcome.count(FIRST), "second": outcome.count(SECOND),
            "ties": outcome.count(TIE),
        }  # fmt: skip
        try:
            fit = fit_paired(first, second, outcome, len(arms))
        except ConfigError as error:
            out.append(about | {"reason": str(error)})
            continue
        raters = [r.rater for r in trials]
        prompts = [r.trial.prompt for r in trials]
        strengths = []
        for index, arm in enumerate(arms):
            value = float(fit.strengths[index])
            se, _ = spread(fit.influence[:, index], raters, prompts, value)
            strengths.append({"arm": arm, "log_strength": value, "se": se})
        se, p = spread(fit.influence[:, -1], raters, prompts, fit.order)
        about |= {"strengths": strengths, "order_effect": fit.order, "order_se": se, "order_p": p}
        out.append(about)
    return out


def _agreement(found: Sequence[Response], question: Question) -> list[dict[str, Any]]:
    """Compute agreement between raters, and of each rater with the same rater's repeat."""
    out = []
    first = {
        (r.rater, r.trial.position): r for r in found if r.trial.question == question.id
    }  # fmt: skip
    for item in question.items:
        units: dict[Any, list[float]] = defaultdict(list)
        repeats: list[list[float]] = []
        for response in first.values():
            trial = response.trial
            for unit, value in _unit_values(response, item.id, question):
                if trial.kind == "main":
                    units[trial.prompt, unit].append(value)
                if trial.kind == "repeat" and trial.repeat_of is not None:
                    old = first.get((response.rater, trial.repeat_of))
                    if old is not None:
                        repeats.append([value, dict(_unit_values(old, item.id, question))[unit]])
        metric = "ordinal" if question.kind in ("rating", "pair", "sets") else "interval"
        if question.kind == "abx":
            metric = "nominal"
        out.append(
            {
                "question": question.id,
                "item": item.id,
                "metric": metric,
                "alpha": krippendorff(units.values(), metric),
                "repeats": len(repeats),
                "repeats_equal": (
                    float(np.mean([a == b for a, b in repeats])) if repeats else None
                ),
                "repeats_alpha": krippendorff(repeats, metric),
            }
        )
    return out


def _unit_values(response: Response, item: str, question: Question) -> list[tuple[Any, float]]:
    """List what was judged and how, whatever the order on the page."""
    trial, value = response.trial, response.values[item]
    if question.kind == "rating":
        return [(trial.labels[0], float(value))]
    if question.kind == "mushra":
        return [(label, float(v)) for label, v in zip(trial.labels, value, strict=True)]
    if question.kind == "abx":
        right = trial.labels[("first", "second").index(value)] == trial.labels[2]
        return [(tuple(sorted(trial.labels[:2])), float(right))]
    names = sorted(trial.labels)
    sign = 1.0 if trial.labels[0] == names[0] else -1.0
    return [(tuple(names), sign * {"first": 1.0, "tie": 0.0, "second": -1.0}[value])]


def _mixed(
    plan: Plan, found: Sequence[Response], question: Question, planned: Sequence[Planned]
) -> list[dict[str, Any]]:
    if question.kind not in ("rating", "mushra"):
        return []
    out = []
    for wanted in planned:
        if wanted.question != question.id:
            continue
        rows = []
        for response in found:
            if response.trial.kind != "main" or response.trial.question != question.id:
                continue
            for label, value in _unit_values(response, wanted.item, question):
                if label in wanted.arms:
                    rows.append(
                        (value, label == wanted.arms[0], response.rater, response.trial.prompt)
                    )
        about = {"question": question.id, "item": wanted.item, "arms": list(wanted.arms)}
        if not rows:
            out.append(about | {"reason": "there are no answers"})
            continue
        y, is_first, raters, prompts = (list(column) for column in zip(*rows, strict=True))
        fit = fit_mixed(y, is_first, raters, prompts)
        numbers = {name: value for name, value in vars(fit).items() if name != "reason"}
        out.append(about | ({"reason": fit.reason} if fit.reason else numbers))
    return out


def _count(values: Sequence[str]) -> dict[str, int]:
    return {value: values.count(value) for value in sorted(set(values))}


def _median_minutes(found: Sequence[Response]) -> float:
    """Take the median of raters' total minutes, longer pauses counted as ten minutes."""
    sums: dict[int, float] = defaultdict(float)
    for response in found:
        sums[response.rater] += min(response.seconds, 600.0)
    return round(float(np.median(list(sums.values()))) / 60, 1)
