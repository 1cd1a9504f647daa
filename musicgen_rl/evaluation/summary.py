"""summary.json: all results of an evaluation, for programs; docs/evaluation.md describes it."""

import math
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from musicgen_rl.errors import CheckpointError, InputError
from musicgen_rl.evaluation.analyse import Front, Results, StatisticsConfig
from musicgen_rl.evaluation.measures import describe
from musicgen_rl.pipeline.provenance import versions
from musicgen_rl.storage import read_json

SCHEMA, VERSION = "musicgen-rl/evaluation", 1

_REQUIRED = ("schema", "version", "created", "made", "instruments", "bootstrap", "measures", "arms",
             "reference_arm", "lines", "fronts", "claims")  # fmt: skip


def build_summary(
    results: Results,
    statistics: StatisticsConfig,
    *,
    num_prompts: int,
    clips: Mapping[str, int],
    instruments: Mapping[str, Any],
    made: Mapping[str, Any],
    real: Mapping[str, Any] | None = None,
    throughput: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Put results and their circumstances into one JSON-able dictionary.

    Args:
        results: of the statistics.
        statistics: how they were done.
        num_prompts: P.
        clips: arm's name -> how many clips.
        instruments: identities of what measured.
        made: command, model, prompts, seeds, durations, seconds: whatever a rerun needs.
        real: where real clips came from.
        throughput: rows of `measure_throughput`.
    """
    level = statistics.level
    keys = list(dict.fromkeys(k for own in results.estimates.values() for k in own))
    keys.sort(key=lambda k: (["adherence", "quality", "diversity", "artefacts"].index(
        describe(k).group)))  # fmt: skip
    return {
        "schema": SCHEMA,
        "version": VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "made": dict(made),
        "machine": describe_machine(),
        "versions": versions(),
        "instruments": dict(instruments),
        "real": None if real is None else dict(real),
        "bootstrap": {
            "prompts": num_prompts, "draws": statistics.draws, "level": level,
            "seed": statistics.seed,
        },
        "measures": {key: vars(describe(key)) for key in keys},
        "reference_arm": results.reference,
        "arms": [
            arm.describe()
            | {
                "clips": clips[arm.name],
                "estimates": {
                    k: results.estimates[arm.name][k].to_json(level)
                    for k in keys if k in results.estimates[arm.name]
                },
                "differences": _differences(results, arm.name, keys, level),
            }
            for arm in results.arms
        ],
        "lines": {name: dict(values) for name, values in results.lines.items()},
        "fronts": [_front(front, level) for front in results.fronts],
        "claims": [claim.to_json() for claim in results.claims],
        "throughput": [dict(row) for row in throughput],
    }  # fmt: skip


def read_summary(path: Path) -> dict[str, Any]:
    """Read a summary, from the file or from its folder.

    Raises:
        InputError: it is not there, or of another schema or a newer version.
    """
    path = path / "summary.json" if path.is_dir() else path
    try:
        content = read_json(path)
    except CheckpointError as error:
        raise InputError(f"{error}: name the folder of a finished evaluation") from error
    if content.get("schema") != SCHEMA:
        raise InputError(f"{path} is no evaluation: its schema is {content.get('schema')!r}")
    if not isinstance(content.get("version"), int) or content["version"] > VERSION:
        raise InputError(
            f"{path} has version {content.get('version')!r}, this program reads up to {VERSION}: "
            "update musicgen-rl"
        )
    missing = [name for name in _REQUIRED if name not in content]
    if missing:
        raise InputError(f"{path} lacks {missing[0]!r}: evaluate again")
    return content


def describe_machine() -> dict[str, Any]:
    """Describe the processor in a few words, without anything that names the machine."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return {"processor": model, "cores": os.cpu_count(), "system": platform.system()}


def _differences(
    results: Results, arm: str, keys: Sequence[str], level: float
) -> dict[str, dict[str, float]]:
    own = results.differences.get(arm, {})
    return {
        k: own[k].to_json(level)
        | dict(zip(("p", "p_holm"), results.p_values[arm][k], strict=True))
        for k in keys if k in own
    }  # fmt: skip


def _front(front: Front, level: float) -> dict[str, Any]:
    return {
        "x": front.x,
        "y": front.y,
        "reference_point": [_finite(v) for v in front.reference],
        "areas": {k: e.to_json(level) for k, e in front.areas.items()},
        "area_gains_of_merge": {
            k: e.to_json(level) | {"p": e.p_two_sided()} for k, e in front.area_gains.items()
        },
        "undominated": front.undominated,
        "tests": front.tests,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
