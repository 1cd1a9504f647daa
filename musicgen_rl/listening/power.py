"""Power by simulation: the study's own assignment and analysis, thousands of made-up raters."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.config import require
from musicgen_rl.listening.assignment import Assignment
from musicgen_rl.listening.crossed import holm, p_value, two_way_se
from musicgen_rl.listening.raters import RaterModel, World
from musicgen_rl.listening.study import Planned, Study

_SCORE = np.array([1.0, -1.0, 0.0])  # of CHOICES: first, second, tie


@dataclass(frozen=True)
class Layout:
    """Who judges what in one planned comparison, as arrays over answers."""

    planned: Planned
    kind: str
    words: int
    ties: bool
    raters: NDArray[np.intp]
    prompts: NDArray[np.intp]
    share: NDArray[np.float64]
    """Place in the session, 0 to 1; of rating, that of the first arm's clip."""
    share_b: NDArray[np.float64]
    a_first: NDArray[np.bool_]
    x_is_first: NDArray[np.bool_]


def layout(study: Study, assignment: Assignment, planned: Planned) -> Layout:
    """Read from the assignment who judges what."""
    question = study.question(planned.question)
    item = next(item for item in question.items if item.id == planned.item)
    a, b = planned.arms
    rows = []
    for slot, session in enumerate(assignment.sessions):
        single: dict[tuple[int, str], float] = {}
        for trial in session:
            if trial.question != question.id or trial.kind != "main":
                continue
            place = trial.position / len(session)
            if question.kind == "rating":
                single[trial.prompt, trial.labels[0]] = place
            elif question.kind == "mushra":
                rows.append((slot, trial.prompt, place, place, True, True))
            elif set(trial.labels[:2]) == {a, b}:
                x_first = trial.labels[-1] == trial.labels[0]
                rows.append((slot, trial.prompt, place, place, trial.labels[0] == a, x_first))
        rows += [
            (slot, prompt, single[prompt, a], single[prompt, b], True, True)
            for prompt, arm in single
            if arm == a and (prompt, b) in single
        ]
    columns = list(zip(*rows, strict=True))
    return Layout(
        planned, question.kind, len(item.words), question.ties,
        np.array(columns[0], dtype=np.intp), np.array(columns[1], dtype=np.intp),
        np.array(columns[2], dtype=np.float64), np.array(columns[3], dtype=np.float64),
        np.array(columns[4], dtype=np.bool_), np.array(columns[5], dtype=np.bool_),
    )  # fmt: skip


def simulate_scores(world: World, plan: Layout) -> NDArray[np.float64]:
    """Draw the scores of one comparison, as `responses.scores` would make them; [n].

    Careless raters answer at random, as in `World.answer`.
    """
    item = world.items[plan.planned.question, plan.planned.item]
    a, b = (world.arms[name] for name in plan.planned.arms)
    r, p, n = plan.raters, plan.prompts, len(plan.raters)
    like_a, like_b = world.liking(r, p, a, item), world.liking(r, p, b, item)
    if plan.kind == "rating":
        own = world.bias[r] + world.prompt[p]
        first = world.points(own + like_a + world.noise(plan.share, n), plan.words)
        second = world.points(own + like_b + world.noise(plan.share_b, n), plan.words)
        guess = world.rng.integers(1, plan.words + 1, (2, n))
        lost = world.is_careless[r]
        return np.where(lost, guess[0], first) - np.where(lost, guess[1], second)
    if plan.kind == "mushra":
        grades = [np.clip(np.rint(55 + 12 * (like + world.noise(plan.share, n))), 0, 100)
                  for like in (like_a, like_b)]  # fmt: skip
        guess = world.rng.integers(0, 101, (2, n))
        lost = world.is_careless[r]
        return np.where(lost, guess[0], grades[0]) - np.where(lost, guess[1], grades[1])
    one = np.where(plan.a_first, like_a, like_b)
    two = np.where(plan.a_first, like_b, like_a)
    if plan.kind == "abx":
        x = np.where(plan.x_is_first, one, two) + world.noise(plan.share, n)
        one, two = one + world.noise(plan.share, n), two + world.noise(plan.share, n)
        says_first = np.abs(x - one) <= np.abs(x - two)
        says_first = np.where(world.is_careless[r], world.rng.random(n) < 0.5, says_first)
        right: NDArray[np.float64] = (says_first == plan.x_is_first) - 0.5
        return right
    noise = world.noise(plan.share, n) - world.noise(plan.share, n)
    chosen = world.choose(one - two + world.model.first_bias + noise, plan.ties)
    guess = world.rng.integers(0, 3 if plan.ties else 2, n)
    chosen = np.where(world.is_careless[r], guess, chosen)
    signed: NDArray[np.float64] = np.where(plan.a_first, 1.0, -1.0) * _SCORE[chosen]
    return signed


def power(
    study: Study,
    assignment: Assignment,
    effects: Sequence[float],
    *,
    model: RaterModel | None = None,
    runs: int = 300,
    seed: int = 0,
) -> list[dict[str, float | str]]:
    """Estimate how often each planned comparison would be found.

    Args:
        study: with planned comparisons.
        assignment: of it.
        effects: advantages of a comparison's first arm to try, in points of a five-point scale.
        model: how raters answer; its effects are replaced.
        runs: simulated studies for each effect.
        seed: of the simulation.

    Returns:
        One row for each effect and comparison: found after Holm, found alone, and the simulation's
        own standard error.
    """
    require(bool(study.analysis.planned), "there is no planned comparison to estimate power for")
    model = model or RaterModel()
    layouts = [layout(study, assignment, planned) for planned in study.analysis.planned]
    rng = np.random.default_rng(seed)
    rows: list[dict[str, float | str]] = []
    for effect in effects:
        found = np.zeros((len(layouts), 2))
        for _ in range(runs):
            p_values = []
            for plan in layouts:
                changed = RaterModel(**(vars(model) | {"effects": {plan.planned.arms[0]: effect}}))
                world = World(changed, study, study.raters.count, rng)
                p_values.append(_test(simulate_scores(world, plan), plan))
            alone = np.array(p_values) < study.analysis.level
            found[:, 0] += np.array(holm(p_values)) < study.analysis.level
            found[:, 1] += alone
        for plan, (after_holm, alone_) in zip(layouts, found / runs, strict=True):
            rows.append(
                {
                    "question": plan.planned.question,
                    "item": plan.planned.item,
                    "arms": " - ".join(plan.planned.arms),
                    "effect": float(effect),
                    "power": round(float(after_holm), 4),
                    "power_alone": round(float(alone_), 4),
                    "se": round(float(np.sqrt(after_holm * (1 - after_holm) / runs)), 4),
                }
            )
    return rows


def _test(values: NDArray[np.float64], plan: Layout) -> float:
    mean = float(values.mean())
    df = min(len(np.unique(plan.raters)), len(np.unique(plan.prompts))) - 1
    return p_value(mean, two_way_se(values - mean, plan.raters, plan.prompts), max(df, 1))
