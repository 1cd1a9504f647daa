"""What a run leaves beside its clips: the manifest, as lines and as columns, and the summary."""

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from musicgen_rl.batch.plan import Plan, PlannedClip
from musicgen_rl.batch.store import Record, Store
from musicgen_rl.data.manifest import Entry, write_atomic, write_manifest

MANIFEST, COLUMNS, SUMMARY = "manifest.jsonl", "manifest.parquet", "summary.json"
GIVEN = "given"
"""Where facts stand in the manifest whose names the run needs for itself, such as `index`."""


def write_tables(folder: Path, plan: Plan, store: Store) -> Path:
    """Write the manifest of all finished clips, in the plan's order.

    Args:
        folder: of the run.
        plan: of the run.
        store: of the run.

    Returns:
        The jsonl file, in the format that training reads (`musicgen_rl.data.manifest`). Clips of
        one prompt are one piece, so that they stay in one split. For tar shards `audio` is where
        the clip lies once the shards are unpacked into `clips/`.

    Raises:
        StorageError: it cannot be written.
    """
    licenses = {model.name: model.license for model in plan.models}
    clips = {clip.id: clip for clip in plan.clips}
    pairs = [(clips[r.id], r) for r in store.records(settings=False)]
    path = folder / MANIFEST
    write_manifest(path, (_entry(c, r, licenses[c.item.model]) for c, r in pairs))
    write_atomic(folder / COLUMNS, _parquet(_columns(pairs, licenses)))
    return path


def write_summary(folder: Path, call: dict[str, Any]) -> None:
    """Write what all calls of a run came to; one that found nothing to do adds nothing.

    Args:
        folder: of the run.
        call: the summary of this one, JSON values.

    Raises:
        StorageError: it cannot be written.
    """
    path = folder / SUMMARY
    try:
        calls = json.loads(path.read_text(encoding="utf-8"))["calls"]
    except (OSError, ValueError, KeyError, TypeError):
        calls = []  # the first one, or somebody wrote something else there
    if call["made"] or call["failed"] or not calls:
        calls.append(call)
    standing = {
        "total": call["total"],
        "finished": call["kept"] + call["made"],
        "failed": call["failed"],
        "missing": call["missing"],
        "calls": calls,
    }
    text = json.dumps(standing, indent=2, ensure_ascii=False)
    write_atomic(path, f"{_whole(text)}\n".encode())


def _entry(clip: PlannedClip, record: Record, license: str) -> Entry:
    return Entry(
        audio=_audio(record),
        duration_s=record.duration_s,
        captions=(clip.item.prompt,),
        attributes=_with_facts(clip.item.attributes, {
            "id": clip.id,
            "name": clip.item.name,
            "model": clip.item.model,
            "seed": clip.item.seed,
            "index": clip.item.index,
            "diversity": clip.item.diversity,
            "takes": clip.item.takes,
            "guidance_scale": clip.sampling.guidance_scale,
            "guidance_s": clip.sampling.guidance_s,
            "temperature": clip.sampling.temperature,
            "codes_sha256": record.codes_sha256,
        }),
        piece=_piece(clip.item.prompt),
        split=clip.item.split,
        license=license,
    )  # fmt: skip


def _with_facts(facts: Mapping[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Put the user's facts beside what the run says; those of one name stand under `given`."""
    twice = {name: value for name, value in facts.items() if name in own or name == GIVEN}
    if twice.keys() <= {GIVEN}:  # a fact of that name alone is one like any other
        return dict(facts) | own
    return {k: v for k, v in facts.items() if k not in twice} | own | {GIVEN: twice}


def _columns(
    pairs: list[tuple[PlannedClip, Record]], licenses: dict[str, str]
) -> Iterator[dict[str, Any]]:
    for clip, record in pairs:
        item = clip.item
        yield {
            "id": clip.id,
            "name": item.name,
            "audio": _audio(record),
            "shard": None if record.member is None else record.path,
            "captions": [item.prompt],
            "duration_s": record.duration_s,
            "num_frames": record.num_frames,
            "bytes": record.size,
            "model": item.model,
            "seed": item.seed,
            "index": item.index,
            "takes": item.takes,
            "diversity": item.diversity,
            "merge_method": None if item.diversity is None else item.merge_method,
            "guidance_scale": float(clip.sampling.guidance_scale),
            "guidance_s": float(clip.sampling.guidance_s),
            "temperature": float(clip.sampling.temperature),
            "top_k": clip.sampling.top_k,
            "top_p": float(clip.sampling.top_p),
            "negative_prompt": clip.sampling.negative_prompt,
            "file_sha256": record.file_sha256,
            "codes_sha256": record.codes_sha256,
            "attributes": json.dumps(dict(item.attributes), ensure_ascii=False),
            "piece": _piece(item.prompt),
            "split": item.split,
            "license": licenses[item.model],
        }


def _parquet(rows: Iterator[dict[str, Any]]) -> bytes:
    """Encode rows; the types are named, so that a run without a dial has the same columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, whole, number = pa.string(), pa.int64(), pa.float64()
    schema = pa.schema([
        ("id", text), ("name", text), ("audio", text), ("shard", text),
        ("captions", pa.list_(text)), ("duration_s", number), ("num_frames", whole),
        ("bytes", whole), ("model", text),
        ("seed", whole), ("index", whole), ("takes", whole), ("diversity", number),
        ("merge_method", text),
        ("guidance_scale", number), ("guidance_s", number),
        ("temperature", number), ("top_k", whole), ("top_p", number),
        ("negative_prompt", text), ("file_sha256", text), ("codes_sha256", text),
        ("attributes", text), ("piece", text), ("split", text), ("license", text),
    ])  # fmt: skip
    out = io.BytesIO()
    with pq.ParquetWriter(out, schema, compression="zstd") as writer:
        block: list[dict[str, Any]] = []
        for row in rows:
            block.append(row)
            if len(block) == 10_000:
                writer.write_table(_table(block, schema))
                block = []
        if block:
            writer.write_table(_table(block, schema))
    return out.getvalue()


def _table(rows: list[dict[str, Any]], schema: Any) -> Any:
    import pyarrow as pa

    try:
        return pa.Table.from_pylist(rows, schema)
    except UnicodeEncodeError:  # half of a character, which parquet cannot hold
        whole = [{k: _whole(v) if isinstance(v, str) else v for k, v in r.items()} for r in rows]
        return pa.Table.from_pylist(whole, schema)


def _whole(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _audio(record: Record) -> str:
    return record.path if record.member is None else f"clips/{record.member}"


def _piece(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "replace")).hexdigest()[:16]
