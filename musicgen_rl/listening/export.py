"""Answers as a table without people: numbers for raters, durations for times."""

import csv
import io
import random
from pathlib import Path

from musicgen_rl.config import require
from musicgen_rl.listening.answers import attention_failed
from musicgen_rl.listening.files import write_text
from musicgen_rl.listening.plan import Plan
from musicgen_rl.listening.responses import Response, responses
from musicgen_rl.listening.store import Store

COLUMNS = (
    "rater", "trial", "kind", "question", "prompt", "text", "shown", "item", "value", "seconds",
    "plays", "corrected", "check",
)  # fmt: skip


def require_export(path: Path) -> None:
    """Check that a file is new, or an earlier export.

    Raises:
        ConfigError: it is something else.
    """
    if not path.exists():
        return
    require(path.is_file(), f"{str(path)!r} is a folder: name a csv file")
    with path.open("rb") as file:
        first = file.readline(4096).decode("utf-8", errors="replace").strip()
    require(first == ",".join(COLUMNS), f"{str(path)!r} is no export: name another file")


def export_csv(plan: Plan, store: Store, path: Path) -> int:
    """Write one row for each trial and item; raters get new numbers in a random order.

    In the row of the item that an attention check is judged by, the last column says how it went.

    Args:
        plan: frozen.
        store: of it.
        path: of the csv file.

    Returns:
        The number of rows.

    Raises:
        ConfigError: another file is there.
    """
    require_export(path)
    people = store.raters()
    found = responses(plan, people, store.answers())
    numbers = list(range(1, len(people) + 1))
    random.SystemRandom().shuffle(numbers)
    name = {person.id: number for person, number in zip(people, numbers, strict=True)}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    rows = 0
    for response in sorted(found, key=lambda r: (name[r.rater], r.trial.position)):
        trial = response.trial
        for item, value in response.values.items():
            shown = " ".join(map(str, value)) if isinstance(value, list) else value
            writer.writerow(
                [
                    name[response.rater],
                    trial.position,
                    trial.kind,
                    trial.question,
                    trial.prompt + 1,
                    plan.study.all_prompts[trial.prompt],
                    " ".join(trial.labels),
                    item,
                    shown,
                    round(response.seconds, 1),
                    response.plays,
                    response.revision,
                    _check(plan, response, item),
                ]
            )
            rows += 1
    write_text(path, out.getvalue())
    return rows


def _check(plan: Plan, response: Response, item: str) -> str:
    trial = response.trial
    if trial.kind != "check" or item != trial.asks:
        return ""
    question = plan.study.question(trial.question)
    return "failed" if attention_failed(question, trial, response.values) else "passed"
