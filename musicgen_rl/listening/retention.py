"""What the consent page promises about deletion, kept: whose time is over is deleted, and said."""

from datetime import UTC, datetime
from pathlib import Path

from musicgen_rl.listening.database import Database, Deleted
from musicgen_rl.listening.plan import Plan
from musicgen_rl.listening.report import REPORT_FILES


def delete_due(plan: Plan, store: Database) -> list[str]:
    """Delete the raters whose retention time is over.

    Args:
        plan: says how long it is.
        store: of the plan.

    Returns:
        What is to be said about it, a sentence each; nothing where nothing was due.
    """
    done = store.delete_expired(plan.study.retention_days)
    if not done.raters:
        return [] if done.wiped else aftermath(done, plan.folder)
    days = plan.study.retention_days
    head = (
        f"deleted: {done.raters} raters with {done.answers} answers, who began more than {days} "
        "days ago, as they were promised"
    )
    return [head, *aftermath(done, plan.folder)]


def aftermath(done: Deleted, folder: Path) -> list[str]:
    """Say what a deletion leaves to do: traces that could not be removed, and older reports."""
    lines = []
    if done.raters:
        there = [str(folder / name) for name in REPORT_FILES if (folder / name).exists()]
        here = f" (here: {', '.join(there)})" if there else ""
        lines.append(
            "reports, tables and backups made before this still hold these answers: make them "
            f"again or delete them{here}"
        )
    if not done.wiped:
        lines.append(
            "traces are left in the database's files, because another program was using them: "
            "when it has ended, run `musicgen-rl listen forget FOLDER --expired`"
        )
    return lines


def first_deletion(plan: Plan, store: Database) -> str | None:
    """Name the day on which the first rater's answers will be deleted, in UTC.

    Returns:
        Such as "2027-11-24"; None where nobody's answers are stored.
    """
    at = store.first_expiry(plan.study.retention_days)
    return None if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
