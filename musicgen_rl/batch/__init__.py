"""Thousands of clips, none lost, none twice: a plan, engines, and one writer.

Names are imported when they are first asked for: the plan's store and torch take seconds, and a
command line that only checks its options should not wait for them.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from musicgen_rl.batch.check import Fault, verify
    from musicgen_rl.batch.item import Item
    from musicgen_rl.batch.plan import Plan, PlannedClip, make_plan
    from musicgen_rl.batch.results import Failure, Result, read_results
    from musicgen_rl.batch.run import BatchSummary, run_batch

_HOMES = {
    "Item": "item",
    "Plan": "plan",
    "PlannedClip": "plan",
    "make_plan": "plan",
    "Failure": "results",
    "Result": "results",
    "read_results": "results",
    "BatchSummary": "run",
    "run_batch": "run",
    "Fault": "check",
    "verify": "check",
}

__all__ = [
    "BatchSummary",
    "Failure",
    "Fault",
    "Item",
    "Plan",
    "PlannedClip",
    "Result",
    "make_plan",
    "read_results",
    "run_batch",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"musicgen_rl.batch.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
