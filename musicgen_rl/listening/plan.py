"""The plan: assignment and analysis, frozen by hash before the first answer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from musicgen_rl.errors import InputError
from musicgen_rl.listening.assignment import (
    Assignment,
    assign,
    describe_balance,
    expected_minutes,
    required_clips,
)
from musicgen_rl.listening.files import read_json, write_json
from musicgen_rl.listening.reading import load_study
from musicgen_rl.listening.study import Study, digest

PLAN_FILE = "plan.json"

ANALYSIS = {
    "scores": "rating and mushra: a rater's score of one arm minus that of the other on the same "
    "prompt; pair and sets: 1, 0 (no difference) or -1; abx: right minus one half",
    "mean": "the mean of these, each answer counting alike",
    "interval": "crossed bootstrap over raters and prompts, its spread set to the two-way "
    "cluster-robust standard error, t with min(raters, prompts) - 1 degrees of freedom",
    "test": "two-sided t of mean over that standard error",
    "many_comparisons": "Holm over the planned comparisons",
    "left_out": "raters with more failed attention checks than max_attention_failures; a check is "
    "judged by one item whose answer is known (`check` in study.yaml) and failed by rating "
    "plainly damaged sound above the middle of that scale, by not choosing the intact clip or "
    "group, by not finding several different pieces more varied than one piece several times, by "
    "grading damaged sound at or above the hidden reference, or by taking X for the other one",
    "not_used": "practice trials; repeated trials are used for steadiness only",
    "corrections": "the last answer of a trial counts",
}
"""What is computed, in words; part of the frozen hash."""


@dataclass(frozen=True)
class Plan:
    """A study with its assignment."""

    folder: Path
    study: Study
    assignment: Assignment

    @property
    def hash(self) -> str:
        """Hash of study, assignment and analysis: what must not change once answers exist."""
        content = {
            "study": self.study.to_dict(),
            "assignment": self.assignment.to_dict(),
            "analysis": ANALYSIS,
        }
        return digest(content)


def make_plan(folder: str | Path) -> Plan:
    """Read a study's folder and draw its assignment.

    Raises:
        InputError, ConfigError: as `reading.load_study`.
    """
    study = load_study(folder)
    return Plan(Path(folder), study, assign(study))


def freeze(plan: Plan, power: list[dict[str, Any]] | None = None) -> Path:
    """Write plan.json: the hash, what is planned, and what it will cost."""
    minutes = [expected_minutes(plan.study, s) for s in plan.assignment.sessions]
    content = {
        "hash": plan.hash,
        "study": plan.study.digest(),
        "analysis": ANALYSIS,
        "balance": describe_balance(plan.study, plan.assignment),
        "trials": sum(map(len, plan.assignment.sessions)),
        "clips": len(required_clips(plan.assignment)),
        "minutes_per_rater": [round(min(minutes), 1), round(max(minutes), 1)],
        "minutes_total": round(sum(minutes), 1),
        "power": power or [],
    }
    return write_json(plan.folder / PLAN_FILE, content)


def read_frozen(folder: str | Path) -> str | None:
    """Read the hash a folder's plan was frozen with; None if there is none."""
    try:
        return str(read_json(Path(folder) / PLAN_FILE, "").get("hash"))
    except InputError:
        return None


def load_plan(folder: str | Path) -> Plan:
    """Read a frozen plan and hold it against the study.

    Raises:
        InputError: there is none, or the study was changed after it was frozen.
    """
    plan = make_plan(folder)
    how = "`musicgen-rl listen plan FOLDER` writes it"
    frozen = read_json(plan.folder / PLAN_FILE, how)
    if frozen.get("hash") != plan.hash:
        raise InputError(
            f"{str(plan.folder / PLAN_FILE)!r} was frozen for another state of study.yaml: run "
            "`musicgen-rl listen plan` again, or bring the study back to what it was"
        )
    return plan
