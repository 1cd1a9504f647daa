"""From stored answers to numbers: one score for each rater, prompt and pair of arms."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from musicgen_rl.listening.answers import CHOICES, attention_failed
from musicgen_rl.listening.assignment import Trial
from musicgen_rl.listening.plan import Plan
from musicgen_rl.listening.store import Answer, Rater
from musicgen_rl.listening.study import Question

CHOICE_SCORE = {"first": 1.0, "tie": 0.0, "second": -1.0}


@dataclass(frozen=True)
class Response:
    """The answer that counts for one trial: its last revision."""

    rater: int
    trial: Trial
    values: dict[str, Any]
    seconds: float
    """From first showing the page to the answer."""
    plays: int
    revision: int


@dataclass(frozen=True)
class Scores:
    """One comparison's numbers: above 0 favours the first arm."""

    question: str
    item: str
    arms: tuple[str, str]
    values: np.ndarray
    """[n]."""
    raters: np.ndarray
    """[n]."""
    prompts: np.ndarray
    """[n]."""


def responses(plan: Plan, raters: Iterable[Rater], answers: Iterable[Answer]) -> list[Response]:
    """Keep the last revision of every trial, by rater and position."""
    slots = {rater.id: rater.slot for rater in raters}
    last = {(answer.rater, answer.position): answer for answer in answers if answer.rater in slots}
    sessions = plan.assignment.sessions
    return [
        Response(
            rater, sessions[slots[rater]][position], answer.values,
            answer.received_at - answer.shown_at, len(answer.plays), answer.revision,
        )
        for (rater, position), answer in sorted(last.items())
    ]  # fmt: skip


def failures(plan: Plan, found: Iterable[Response]) -> dict[int, int]:
    """Count failed attention checks: rater -> number, for every rater with an answer."""
    counts: dict[int, int] = {}
    for response in found:
        counts.setdefault(response.rater, 0)
        if response.trial.kind == "check":
            question = plan.study.question(response.trial.question)
            counts[response.rater] += attention_failed(question, response.trial, response.values)
    return counts


def scores(
    plan: Plan, found: Iterable[Response], question: Question, item: str, arms: tuple[str, str]
) -> Scores:
    """Turn a question's main trials into scores of the first arm against the second."""
    rows: list[tuple[float, int, int]] = []
    single: dict[tuple[int, int], dict[str, float]] = defaultdict(dict)
    for response in found:
        trial = response.trial
        if trial.kind != "main" or trial.question != question.id:
            continue
        value = response.values[item]
        who = (response.rater, trial.prompt)
        if question.kind == "rating":
            single[who][trial.labels[0]] = value
        elif question.kind == "mushra":
            single[who] = dict(zip(trial.labels, value, strict=True))
        elif set(trial.labels[:2]) == set(arms):
            if question.kind == "abx":
                right = CHOICES.index(value) == trial.labels.index(trial.labels[2])
                rows.append((float(right) - 0.5, *who))
            else:
                sign = 1.0 if trial.labels[0] == arms[0] else -1.0
                rows.append((sign * CHOICE_SCORE[value], *who))
    for who, by_arm in single.items():
        if arms[0] in by_arm and arms[1] in by_arm:
            rows.append((by_arm[arms[0]] - by_arm[arms[1]], *who))
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    people, prompts = table[:, 1].astype(int), table[:, 2].astype(int)
    return Scores(question.id, item, arms, table[:, 0], people, prompts)
