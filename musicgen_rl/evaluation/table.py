"""The table of clips: one row each, with all that was measured; the same on disk as parquet."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.errors import InputError, StorageError

Array = NDArray[np.float64]
Integers = NDArray[np.int64]
Row = dict[str, Any]

EMBEDDING = "embedding_"
"""Columns that start so hold vectors; the rest of the name is the encoder's."""
_ABOUT = ("arm", "prompt_index", "prompt", "index", "file", "duration_s", "codes")


@dataclass(frozen=True, eq=False)
class ClipTable:
    """All clips of an evaluation."""

    arms: list[str]
    """Names, in order."""
    prompts: list[str]
    """Texts, in order; every arm has clips of all of them."""
    arm_of: Integers
    """[n], index into arms."""
    prompt_of: Integers
    """[n], index into prompts."""
    index: Integers
    """[n], which clip of its arm and prompt."""
    files: list[str]
    """[n], audio file of each, "" where none was kept."""
    numbers: Mapping[str, Array]
    """Name -> [n]; nan where it could not be told."""
    embeddings: Mapping[str, Array]
    """Encoder's short name -> [n, d], unit length."""
    codes: list[Integers] | None
    """[n] of [T], the first codebook, where a codec was at hand."""
    duration_s: float
    """Of every clip."""

    def rows_of(self, arm: int) -> NDArray[np.bool_]:
        """Tell which rows are of an arm."""
        return np.asarray(self.arm_of == arm)


def build_table(rows: Sequence[Row], arms: Sequence[str], prompts: Sequence[str]) -> ClipTable:
    """Put rows together, by arm, prompt and index.

    Args:
        rows: as `features.measure` makes them, in any order.
        arms: names in the order wanted.
        prompts: texts in the order wanted; rows of others are left out.

    Raises:
        InputError: an arm lacks clips of a prompt.
    """
    arm_at = {name: i for i, name in enumerate(arms)}
    prompt_at = {text: i for i, text in enumerate(prompts)}
    chosen = [r for r in rows if r["arm"] in arm_at and r["prompt"] in prompt_at]
    chosen.sort(key=lambda r: (arm_at[r["arm"]], prompt_at[r["prompt"]], r["index"]))
    counts = np.zeros((len(arms), len(prompts)), dtype=int)
    for r in chosen:
        counts[arm_at[r["arm"]], prompt_at[r["prompt"]]] += 1
    if (counts == 0).any():
        a, p = (int(i) for i in np.argwhere(counts == 0)[0])
        raise InputError(f"arm {arms[a]!r} has no clips of the prompt {prompts[p]!r:.60}")
    names = [k for k in chosen[0] if k not in _ABOUT and not k.startswith(EMBEDDING)]
    vectors = [k for k in chosen[0] if k.startswith(EMBEDDING)]
    has_codes = all(r.get("codes") is not None for r in chosen)
    return ClipTable(
        arms=list(arms),
        prompts=list(prompts),
        arm_of=np.array([arm_at[r["arm"]] for r in chosen]),
        prompt_of=np.array([prompt_at[r["prompt"]] for r in chosen]),
        index=np.array([r["index"] for r in chosen]),
        files=[r["file"] for r in chosen],
        numbers={k: np.array([r[k] for r in chosen], dtype=np.float64) for k in names},
        embeddings={
            k.removeprefix(EMBEDDING): np.array([r[k] for r in chosen], dtype=np.float64)
            for k in vectors
        },
        codes=[np.asarray(r["codes"], dtype=np.int64) for r in chosen] if has_codes else None,
        duration_s=float(chosen[0]["duration_s"]),
    )


def write_rows(rows: Sequence[Row], path: Path, identities: Mapping[str, Any]) -> None:
    """Write rows as parquet, at once or not at all, the instruments' identities in its metadata.

    Raises:
        StorageError: it cannot be written.
    """
    import pyarrow as pa
    from pyarrow import parquet

    vectors = [k for k in rows[0] if k.startswith(EMBEDDING)]
    columns: dict[str, Any] = {
        key: [r[key] for r in rows] for key in rows[0] if key not in (*vectors, "codes")
    }
    columns |= {
        k: pa.array([np.asarray(r[k], dtype=np.float32) for r in rows], pa.list_(pa.float32()))
        for k in vectors
    }
    if rows[0].get("codes") is not None:
        columns["codes"] = pa.array(
            [np.asarray(r["codes"], dtype=np.int32) for r in rows], pa.list_(pa.int32())
        )
    table = pa.table(columns).replace_schema_metadata({"instruments": json.dumps(identities)})
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, temporary, compression="zstd")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def read_rows(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Read rows and the identities of what measured them.

    Raises:
        InputError: it is missing, or not what `write_rows` wrote.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(path)
        identities = json.loads(table.schema.metadata[b"instruments"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path} is no table of clips ({error}): evaluate again") from error
    rows: list[Row] = table.to_pylist()
    return rows, identities
