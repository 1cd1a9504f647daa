"""Real clips: what distances are measured to, and the lines that say what is possible.

From a manifest's held-out pieces. One part is the reference set. Another part, of other pieces, is
measured twice: as it is, and through the codec, which is the best any model on this codec can
sound. Their scores with wrong captions say what no adherence at all looks like. Only features are
kept, never sound.
"""

import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray

from musicgen_rl.audio.io import read_audio
from musicgen_rl.audio.loudness import LoudnessConfig, level
from musicgen_rl.codec.base import Codec
from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.errors import InputError, StorageError
from musicgen_rl.evaluation.distances import MIN_CLIPS
from musicgen_rl.evaluation.features import BATCH, measure
from musicgen_rl.evaluation.instruments import Instruments
from musicgen_rl.evaluation.prompts import Prompt
from musicgen_rl.evaluation.table import EMBEDDING, Row
from musicgen_rl.storage import hash_file

Array = NDArray[np.float64]

_FORMAT = 1
_DAMAGED = (OSError, EOFError, KeyError, TypeError, ValueError, BadZipFile, zlib.error)
LINES = ("real", "codec floor", "wrong caption")


@dataclass(frozen=True, eq=False)
class RealSet:
    """Features of real clips."""

    reference: Mapping[str, Array]
    """Encoder's short name -> [m, d]."""
    line_embeddings: Mapping[str, Mapping[str, Array]]
    """"real" and "codec floor" -> encoder's short name -> [f, d]."""
    line_numbers: Mapping[str, Mapping[str, float]]
    """Line -> number's name -> mean over its clips."""
    identities: Mapping[str, Any]
    """Who measured."""
    duration_s: float
    """Of every clip."""
    source: str
    """Name of the manifest, and how many pieces of which splits."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """The manifest's sha256 and how many clips were asked for; empty where not recorded."""

    def save(self, path: Path) -> None:
        """Write as npz: features in half precision, the rest as JSON inside.

        Raises:
            StorageError: it cannot be written.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for name, features in self.reference.items():
            arrays[f"reference/{name}"] = features.astype(np.float16)
        for line, by_name in self.line_embeddings.items():
            for name, features in by_name.items():
                arrays[f"{line}/{name}"] = features.astype(np.float16)
        header = {
            "format": _FORMAT, "identities": dict(self.identities), "source": self.source,
            "duration_s": self.duration_s, "origin": dict(self.origin),
            "line_numbers": {k: dict(v) for k, v in self.line_numbers.items()},
        }  # fmt: skip
        arrays["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp.npz")
        try:
            np.savez_compressed(temporary, **arrays)  # type: ignore[arg-type]
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise StorageError(f"cannot write {path}: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path) -> "RealSet":
        """Read what `save` wrote.

        Raises:
            InputError: it is not such a file.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                header = json.loads(bytes(stored["header"]))
                arrays = {k: stored[k].astype(np.float64) for k in stored.files if k != "header"}
            parts: dict[str, dict[str, Array]] = {}
            for key, value in arrays.items():
                line, _, name = key.partition("/")
                parts.setdefault(line, {})[name] = value
            return cls(
                reference=parts.pop("reference"), line_embeddings=parts,
                line_numbers=header["line_numbers"], identities=header["identities"],
                duration_s=float(header["duration_s"]), source=str(header["source"]),
                origin=header.get("origin", {}),
            )  # fmt: skip
        except _DAMAGED as error:
            raise InputError(
                f"{path} holds no features of real clips ({error}): give a manifest, or the "
                "real.npz of another evaluation"
            ) from error

    def equals(self, other: "RealSet") -> bool:
        """Tell whether two sets hold the same numbers of the same clips."""
        ours, theirs = ({"reference": s.reference, **s.line_embeddings} for s in (self, other))
        told = [(s.source, s.duration_s, s.line_numbers, s.identities) for s in (self, other)]
        return (
            told[0] == told[1]
            and {k: set(v) for k, v in ours.items()} == {k: set(v) for k, v in theirs.items()}
            and all(
                np.array_equal(features, theirs[line][name], equal_nan=True)
                for line, own in ours.items() for name, features in own.items()
            )
        )  # fmt: skip

    def is_of(self, manifest: Path, clips: int) -> bool:
        """Tell whether the set was measured from a manifest as it is now.

        Args:
            manifest: the file.
            clips: how many were asked for.

        Returns:
            By the name alone where nothing more is recorded.
        """
        if not self.origin:
            return self.source.startswith(f"{manifest.name}: ")
        return dict(self.origin) == origin_of(manifest, clips)


def origin_of(manifest: Path, clips: int) -> dict[str, Any]:
    """Say what a set is measured from: the manifest's sha256, and how many clips.

    Raises:
        InputError: the manifest cannot be read.
    """
    try:
        return {"sha256": hash_file(manifest), "clips": clips}
    except OSError as error:
        raise InputError(f"cannot read {manifest}: {error.strerror or error}") from error


def real_set(
    manifest: Path,
    instruments: Instruments,
    *,
    sample_rate: int,
    duration_s: float,
    clips: int = 400,
    line_clips: int = 100,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> RealSet:
    """Measure the held-out pieces of a manifest.

    Args:
        manifest: its pieces of the splits test and valid are used; all of them where it has none.
        instruments: what to measure with; the codec makes the floor.
        sample_rate: Hz to bring them to.
        duration_s: length to cut from each.
        clips: of the reference set, at most; several of one piece where pieces are few.
        line_clips: of the lines.
        seed: of places and order.
        progress: called with clips done and to do.

    Raises:
        InputError: too few pieces, or pieces too short.
    """
    entries = read_manifest(manifest)
    held_out = [e for e in entries if e.split in ("test", "valid")] or entries
    long = [e for e in held_out if e.duration_s is None or e.duration_s >= duration_s]
    generator = np.random.default_rng(seed)
    order = [long[i] for i in generator.permutation(len(long))]
    share = line_clips / (clips + line_clips)
    aside = max(2, round(len(order) * share)) if order else 0
    chosen_lines = _spread(order[:aside], line_clips)
    chosen = _spread(order[aside:], clips)
    if len(chosen) < MIN_CLIPS:
        raise InputError(
            f"{manifest} has {len(long)} held-out pieces of {duration_s:g} s or more, which give "
            f"{len(chosen)} clips: at least {MIN_CLIPS} are needed"
        )
    total = len(chosen) + len(chosen_lines)
    done = 0

    def measured(entries: Sequence[tuple[Entry, float]], codec: Codec | None) -> list[Row]:
        nonlocal done
        rows: list[Row] = []
        for start in range(0, len(entries), BATCH):
            batch = entries[start : start + BATCH]
            sound = np.stack(
                [cut_clip(manifest.parent, e, at, sample_rate, duration_s) for e, at in batch]
            )
            if codec is not None:
                sound = _through(codec, sound, sample_rate)
            prompts = [Prompt(e.captions[0], e.attributes) for e, _ in batch]
            rows += measure(sound, sample_rate, prompts, replace(instruments, codec=None))
            done += 0 if codec is not None else len(batch)
            progress(done, total)
        return rows

    reference = measured(chosen, None)
    lines = {"real": measured(chosen_lines, None)}
    codec = instruments.codec
    if codec is not None and codec.sample_rate == sample_rate:
        lines["codec floor"] = measured(chosen_lines, codec)
    numbers = {name: _means(rows) for name, rows in lines.items()}
    numbers["wrong caption"] = _wrong_captions(
        manifest, chosen_lines, instruments, sample_rate, duration_s
    )
    return RealSet(
        reference=stack_features(reference),
        line_embeddings={name: stack_features(rows) for name, rows in lines.items()},
        line_numbers=numbers,
        identities=instruments.identities(),
        duration_s=duration_s,
        source=f"{manifest.name}: {len(long)} pieces of "
        f"{', '.join(sorted({e.split for e in long}))}, {len(chosen)} clips as reference, "
        f"{len(chosen_lines)} of other pieces for the lines",
        origin=origin_of(manifest, clips),
    )


def _spread(entries: Sequence[Entry], clips: int) -> list[tuple[Entry, float]]:
    """Take clips from pieces in turn, each next one of a piece from another place in it."""
    if not entries:
        return []
    rounds = -(-clips // len(entries))
    at = [(k + 0.5) / rounds for k in range(rounds)]
    listed = [(e, at[k]) for k in range(min(rounds, 4)) for e in entries]
    return listed[:clips]


def cut_clip(
    folder: Path, entry: Entry, at: float, sample_rate: int, duration_s: float
) -> NDArray[np.float32]:
    """Cut one clip [M] out of a piece, levelled as generated clips are."""
    import soxr

    clip = read_audio(folder / entry.audio)
    mono = clip.samples.mean(axis=0)
    size = round(duration_s * clip.sample_rate)
    if len(mono) < size:
        raise InputError(
            f"{entry.audio} lasts {clip.duration_s:.1f} s, real clips need {duration_s:g} s: say "
            "so in duration_s of the manifest, and it is left out"
        )
    start = round(at * (len(mono) - size))
    piece = mono[start : start + size]
    if clip.sample_rate != sample_rate:
        piece = soxr.resample(piece, clip.sample_rate, sample_rate)
    wanted = round(duration_s * sample_rate)
    piece = np.pad(piece[:wanted], (0, max(0, wanted - len(piece))))
    levelled = level(piece[None].astype(np.float32), sample_rate, LoudnessConfig())
    return np.asarray(levelled[0], dtype=np.float32)


def _through(codec: Codec, sound: NDArray[np.float32], sample_rate: int) -> NDArray[np.float32]:
    """Encode and decode clips [B, M], levelled again."""
    stacked = torch.from_numpy(sound)[:, None].expand(-1, codec.audio_channels, -1)
    with torch.inference_mode():
        played = codec.decode(codec.encode(stacked.to(codec.device))).mean(dim=1)
    back = played[:, : sound.shape[1]].cpu().numpy()
    return np.stack([level(b[None], sample_rate, LoudnessConfig())[0] for b in back])


def _wrong_captions(
    manifest: Path,
    chosen: Sequence[tuple[Entry, float]],
    instruments: Instruments,
    sample_rate: int,
    duration_s: float,
) -> dict[str, float]:
    """Score clips with the captions of others: what a model that ignores prompts would get."""
    batch = list(chosen)[: 2 * BATCH]
    sound = np.stack([cut_clip(manifest.parent, e, at, sample_rate, duration_s) for e, at in batch])
    others = _others([e for e, _ in batch])
    prompts = [Prompt(e.captions[0], e.attributes) for e in others]
    found = _means(measure(sound, sample_rate, prompts, replace(instruments, codec=None)))
    return {k: v for k, v in found.items() if k.startswith(("adherence_", "probe_"))}


def _others(entries: Sequence[Entry]) -> list[Entry]:
    """Give each clip another piece, half the list further on or the next that will do.

    Of another caption too, if there is one: the same words would be right.
    """
    size = len(entries)
    found = []
    for i, own in enumerate(entries):
        onwards = [entries[(i + size // 2 + step) % size] for step in range(size)]
        apart = [
            (e.audio != own.audio, e.piece != own.piece, e.captions[0] != own.captions[0])
            for e in onwards
        ]
        found.append(onwards[apart.index(max(apart))])
    return found


def stack_features(rows: Sequence[Row]) -> dict[str, Array]:
    """Collect the embeddings of rows: encoder's short name -> [n, d]."""
    names = [k for k in rows[0] if k.startswith(EMBEDDING)]
    return {
        k.removeprefix(EMBEDDING): np.stack([r[k] for r in rows]).astype(np.float64) for k in names
    }


def _means(rows: Sequence[Row]) -> dict[str, float]:
    names = [k for k, v in rows[0].items() if isinstance(v, float | int)]
    found = {}
    for name in names:
        values = np.array([r[name] for r in rows], dtype=np.float64)
        if np.isfinite(values).any():
            found[name] = float(np.nanmean(values))
    return found
