"""From rows to files: clips.parquet, summary.json, front.svg, front.png, report.html."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musicgen_rl.data.manifest import write_atomic
from musicgen_rl.errors import InputError
from musicgen_rl.evaluation.analyse import StatisticsConfig, analyse
from musicgen_rl.evaluation.arms import Arm
from musicgen_rl.evaluation.figures import draw_front
from musicgen_rl.evaluation.instruments import require_same
from musicgen_rl.evaluation.real import RealSet
from musicgen_rl.evaluation.report import render_report
from musicgen_rl.evaluation.summary import build_summary
from musicgen_rl.evaluation.table import ClipTable, Row, build_table, write_rows
from musicgen_rl.storage import write_json

CLIPS, SUMMARY, REPORT = "clips.parquet", "summary.json", "report.html"
FRONTS = ("front.svg", "front.png")


def finish(
    folder: Path,
    rows: Sequence[Row],
    arms: Sequence[Arm],
    prompts: Sequence[str],
    reference: str,
    *,
    identities: Mapping[str, Any],
    made: Mapping[str, Any],
    statistics: StatisticsConfig,
    real: RealSet | None = None,
    throughput: Sequence[Mapping[str, Any]] = (),
    title: str = "Quality and diversity",
    sound: bool = True,
) -> dict[str, Any]:
    """Analyse and write everything.

    Args:
        folder: where to.
        rows: of all clips.
        arms: in the order wanted.
        prompts: texts in the order wanted.
        reference: arm the others are compared with.
        identities: of the instruments that measured the rows.
        made: whatever a rerun needs.
        statistics: how uncertainty is measured.
        real: real clips, measured by the same instruments.
        throughput: of `measure_throughput`.
        title: of the report.
        sound: whether the report plays the sample clips beside it.

    Returns:
        The summary.

    Raises:
        InputError: real clips of other instruments or another length, too few prompts.
        StorageError: a file cannot be written.
    """
    table = build_table(rows, [a.name for a in arms], prompts)
    if real is not None:
        check_real(real, identities, table.duration_s)
    results = analyse(table, arms, reference, statistics, real)
    write_rows(rows, folder / CLIPS, identities)
    summary = build_summary(
        results, statistics,
        num_prompts=len(prompts),
        clips={arm.name: int(np.sum(table.rows_of(i))) for i, arm in enumerate(arms)},
        instruments=identities,
        made=made,
        real=None if real is None else {"source": real.source, "duration_s": real.duration_s},
        throughput=throughput,
    )  # fmt: skip
    write_json(folder / SUMMARY, summary)
    draw_front(summary, [folder / name for name in FRONTS])
    samples = sample_paths(table, folder) if sound else {}
    write_atomic(folder / REPORT, render_report(summary, samples, title).encode())
    return summary


def check_real(real: RealSet, identities: Mapping[str, Any], duration_s: float) -> None:
    """Refuse real clips that cannot be compared with these.

    Raises:
        InputError: measured by other instruments, or of another length.
    """
    require_same(identities, real.identities, "the set of real clips")
    if abs(real.duration_s - duration_s) > 0.02 * duration_s:
        raise InputError(
            f"the real clips last {real.duration_s:g} s, the arms' {duration_s:g} s: give the "
            "manifest, so that clips of this length are cut from it"
        )


def sample_paths(table: ClipTable, folder: Path) -> dict[str, list[tuple[str, str]]]:
    """List, of the first prompts, the clips that are there: arm -> (prompt, path from `folder`)."""
    found: dict[str, list[tuple[str, str]]] = {}
    for row in np.flatnonzero((table.prompt_of < 4) & (table.index < 2)):
        path = table.files[row]
        if path and (folder / path).is_file():
            arm, prompt = table.arms[table.arm_of[row]], table.prompts[table.prompt_of[row]]
            found.setdefault(arm, []).append((prompt, path))
    return found
