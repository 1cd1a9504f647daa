"""Studies whose answers are known: stored as the server would store them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from musicgen_rl.listening.assignment import Trial
from musicgen_rl.listening.clips import KEY_FILE
from musicgen_rl.listening.plan import Plan, freeze, make_plan
from musicgen_rl.listening.sham import write_sham_clips
from musicgen_rl.listening.store import Store, store_url
from tests.listening.studies import content

Decide = Callable[[int, Trial], dict[str, Any] | None]
"""From slot and trial to the values that are answered; None leaves the session."""


class Clock:
    """Ten seconds pass each time somebody looks."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 10
        return self.now


def planned(folder: Path, **changes: Any) -> Plan:
    """Write a study, plan and freeze it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(yaml.safe_dump(content(**changes), sort_keys=False))
    plan = make_plan(folder)
    freeze(plan)
    return plan


def with_clips(plan: Plan) -> Plan:
    """Write clips of noise that pass for real ones, so that the study can be served."""
    write_sham_clips(plan)
    path = plan.folder / KEY_FILE
    key = json.loads(path.read_text())
    del key["made"]["sham"]
    path.write_text(json.dumps(key))
    return plan


def answered(plan: Plan, decide: Decide, *, simulated: bool = False) -> Store:
    """Store the answers of one person in every slot."""
    store = Store(store_url(plan.folder), plan.hash, simulated=simulated, clock=Clock())
    tokens = store.invite(range(len(plan.assignment.sessions)))
    for slot, (token, session) in enumerate(zip(tokens, plan.assignment.sessions, strict=True)):
        rater = store.rater(store.agree(token, f"nonce {slot}"))
        for trial in session:
            values = decide(slot, trial)
            if values is None:
                break
            store.show(rater, trial.position)
            store.add(rater, trial.position, f"s{trial.position}", values, [], [])
    return store


def attentive(trial: Trial, items: list[str]) -> dict[str, Any]:
    """Pass a check of rating, pair or sets."""
    if len(trial.labels) == 1:
        return dict.fromkeys(items, 1)
    return dict.fromkeys(items, ("first", "second")[trial.labels.index("good")])


def inattentive(trial: Trial, items: list[str]) -> dict[str, Any]:
    """Fail it."""
    if len(trial.labels) == 1:
        return dict.fromkeys(items, 5)
    return dict.fromkeys(items, ("first", "second")[trial.labels.index("bad")])
