"""Log-mel frames of a corpus on disk, so that training reward models decodes no audio.

A folder holds `mels.jsonl`, one line a piece; `mels-NNNNN.safetensors` for each, with `plain`
uint8 [T, N_MELS]; and for some `coded-NNNNN.safetensors`, a part of the piece as a codec plays it.
A value v stands for FLOOR_DB + STEP_DB * v decibels. A file is written whole or not at all; a
second run adds what is missing. A line tells the hash of the audio (`sha256`): a file that is
another under the same name is measured again, and so is one whose line tells none. Of several lines
of one piece the last holds. What a codec played tells by which (`codec`), and is measured again for
another.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import soundfile
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from musicgen_rl.codec.base import Codec
from musicgen_rl.data.check import CheckConfig, require_usable
from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.errors import AudioFileError, CheckpointError, InputError, StorageError
from musicgen_rl.rewards.mel import FLOOR_DB, FRAME_RATE, N_MELS, check_audio, mel_levels
from musicgen_rl.storage import hash_file, read_tensors, save_tensors
from musicgen_rl.training.checkpointing import hash_tensors

STEP_DB = 0.4
SHORTEST_S = 1.0
"""Of a piece, in seconds: what rewards can hear."""
INDEX = "mels.jsonl"


@dataclass(frozen=True)
class MelPiece:
    """One piece: its frames and what is known about it."""

    key: str
    """Identity: the corpus's folder and the file's path in it."""
    group: str
    """Pieces of one group (one tune) are kept on one side of every split."""
    split: str
    """train, valid or test."""
    captions: tuple[str, ...]
    """At least one."""
    attributes: dict[str, Any]
    """As in the manifest."""
    plain: Tensor
    """uint8 [T, N_MELS]."""
    coded: Tensor | None
    """uint8 [T', N_MELS] as the codec plays frames coded_start to coded_start + T', or None."""
    coded_start: int
    """Frame of `plain` where `coded` begins."""


def pack_levels(levels: Tensor) -> Tensor:
    """Round decibels to uint8, 0.4 dB a step."""
    return ((levels - FLOOR_DB) / STEP_DB).round().clamp(0, 255).to(torch.uint8)


def unpack_levels(packed: Tensor) -> Tensor:
    """Turn uint8 back into decibels, float32."""
    return packed.float() * STEP_DB + FLOOR_DB


def half_of(group: str) -> str:
    """Tell which half of the training data a group belongs to: "a" or "b", by its name alone."""
    return "ab"[hashlib.sha256(group.encode()).digest()[0] % 2]


def prepare_mels(
    manifests: Sequence[Path],
    folder: Path,
    *,
    report: Callable[[int, int], None] | None = None,
) -> int:
    """Measure every file of some manifests that the folder does not have yet, or has as another.

    What the manifests say of the others is brought up to date.

    Args:
        manifests: jsonl files.
        folder: created if missing.
        report: told (done, total) after each piece measured.

    Returns:
        Pieces measured.

    Raises:
        InputError: a manifest or file cannot be used.
        StorageError: the folder cannot be written; what was written is intact.
    """
    sources = _sources(manifests, check=not (folder / INDEX).exists())
    sounds = _hashes(sources)
    entries = {key: (path, entry) for key, path, entry in sources}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        rows = _rows(folder)
        known, lines = _last_of_each(rows), len(rows)
        todo = {key for key in sounds if known.get(key, {}).get("sha256") != sounds[key]}
        done = 0
        for key, (path, entry) in entries.items():
            name = known.get(key, {}).get("file", f"mels-{lines:05d}.safetensors")
            row = {"file": name, "key": key, "sha256": sounds[key], **_facts(entry)}
            if known.get(key) == row:
                continue
            if key in todo:
                _measure(path, folder / name)
            with (folder / INDEX).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            lines += 1
            if key in todo:
                done += 1
                if report:
                    report(done, len(todo))
    except (OSError, SafetensorError) as error:
        raise StorageError(f"cannot write {folder}: {error}") from error
    return len(todo)


def _facts(entry: Entry) -> dict[str, Any]:
    """Lay out what a manifest says of a piece for its line in the index."""
    return {
        "split": entry.split, "group": str(entry.attributes.get("tune") or entry.piece),
        "captions": list(entry.captions), "attributes": entry.attributes,
    }  # fmt: skip


def _measure(path: Path, file: Path) -> None:
    """Write a recording's frames; what a codec played of another one is removed first."""
    samples, rate = read_mono(path)
    plain = pack_levels(mel_levels(check_audio(samples[None], rate), rate)[0])
    played = _played(file)
    if played.exists() and not _holds(file, plain):
        played.unlink()
    save_tensors({"plain": plain}, file)


def _holds(file: Path, plain: Tensor) -> bool:
    """Say whether a file holds these very frames."""
    try:
        return torch.equal(read_tensors([file])["plain"], plain)
    except (CheckpointError, KeyError):
        return False


def _played(file: Path) -> Path:
    """Name the file of what a codec plays of the piece of a file of frames."""
    return file.with_name(file.name.replace("mels-", "coded-"))


@torch.inference_mode()
def prepare_coded(
    manifests: Sequence[Path],
    folder: Path,
    codec: Codec,
    *,
    every: int = 1,
    seconds: float = 12.0,
    report: Callable[[int, int], None] | None = None,
) -> int:
    """Measure a part of pieces as a codec plays them, so that models do not key on its artefacts.

    What another codec played, or one that is not told, is measured again.

    Args:
        manifests: jsonl files; files the folder lacks are passed over.
        folder: as `prepare_mels` made it.
        codec: encodes and decodes.
        every: of the pieces in the training split, only each `every`-th; all of the others.
        seconds: length of the part; which one depends on the piece's name alone.
        report: told (done, total) after each piece.

    Returns:
        Pieces added.

    Raises:
        InputError: a file cannot be used, or has another rate than the codec.
        CheckpointError: what is there is damaged.
        StorageError: the folder cannot be written; what was written is intact.
    """
    rows = _last_of_each(_rows(folder))
    files = {key: _played(folder / row["file"]) for key, row in rows.items()}
    known = [source for source in _sources(manifests) if source[0] in files]
    mark = _mark_of(codec)
    todo = [
        (key, path)
        for i, (key, path, entry) in enumerate(known)
        if (entry.split != "train" or i % every == 0 or files[key].exists())
        and not _is_of(files[key], mark)
    ]
    for done, (key, path) in enumerate(todo, start=1):
        samples, rate = read_mono(path)
        if rate != codec.sample_rate:
            raise InputError(
                f"{path} has {rate} Hz and the codec {codec.sample_rate} Hz: resample it"
            )
        length = min(round(seconds * rate), len(samples))
        place = _unit_number(key) * (len(samples) - length) / rate
        frame = int(place * FRAME_RATE)
        start = frame * rate // FRAME_RATE
        part = samples[start : start + length].expand(1, codec.audio_channels, -1)
        played = codec.decode(codec.encode(part.to(codec.device))).mean(dim=1)
        played = played[:, :length].float().cpu()
        tensors = {"coded": pack_levels(mel_levels(check_audio(played, rate), rate)[0])}
        try:
            save_tensors(tensors | {"start": torch.tensor([frame]), "codec": mark}, files[key])
        except (OSError, SafetensorError) as error:
            raise StorageError(f"cannot write {files[key]}: {error}") from error
        if report:
            report(done, len(todo))
    return len(todo)


def _mark_of(codec: Codec) -> Tensor:
    """Hash a codec's weights, uint8 [32]; codecs that have none are not told apart."""
    net = codec if isinstance(codec, nn.Module) else getattr(codec, "model", None)
    weights = net.state_dict() if isinstance(net, nn.Module) else {}
    return torch.tensor(list(bytes.fromhex(hash_tensors(weights))), dtype=torch.uint8)


def _is_of(path: Path, mark: Tensor) -> bool:
    """Say whether a file is there and was played by the codec of a mark."""
    found = _read(path, ("codec",)).get("codec") if path.exists() else None
    return found is not None and torch.equal(found, mark)


def _sources(manifests: Sequence[Path], *, check: bool = False) -> list[tuple[str, Path, Entry]]:
    """List (identity, path, entry); the identity is what the corpus folder calls the file.

    Raises:
        InputError: a manifest is broken; checked, everything that is wrong with each is named.
    """
    for manifest in manifests if check else ():
        require_usable(manifest, CheckConfig(min_duration_s=SHORTEST_S, same_rate=False))
    return [
        (f"{m.parent.name}/{e.audio}", m.parent / e.audio, e)
        for m in manifests
        for e in read_manifest(m)
    ]


def _hashes(sources: Sequence[tuple[str, Path, Entry]]) -> dict[str, str]:
    """Hash every audio file, by its identity.

    Raises:
        AudioFileError: one cannot be read.
        InputError: one identity stands for two recordings.
    """
    found: dict[str, str] = {}
    for key, path, _ in sources:
        try:
            sha256 = hash_file(path)
        except OSError as error:
            raise AudioFileError(f"{path} cannot be read: {error}") from error
        if found.setdefault(key, sha256) != sha256:
            raise InputError(
                f"{key} stands for two recordings, the second is {path}: give the folders of the "
                "manifests different names"
            )
    return found


def _unit_number(name: str) -> float:
    """A number in [0, 1) that depends on a name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4]) / 2**32


def read_mono(path: Path) -> tuple[Tensor, int]:
    """Read an audio file as one channel, [M], and its sample rate.

    Raises:
        AudioFileError: it cannot be read.
    """
    try:
        data, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, RuntimeError) as error:
        raise AudioFileError(f"{path} cannot be read: {error}") from error
    return torch.from_numpy(data.mean(axis=1)), int(rate)


def _rows(folder: Path) -> list[dict[str, Any]]:
    """Read the index; a last line cut short by a kill is left out, and cut off the file."""
    path = folder / INDEX
    rows, good = [], 0
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except (json.JSONDecodeError, UnicodeDecodeError):
            break
        good += len(line)
    if path.exists() and good < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(good)
    return rows


def _last_of_each(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Index rows by their piece, each where its first one stood."""
    return {row["key"]: row for row in rows}


def hash_pieces(pieces: Sequence[MelPiece]) -> str:
    """Hash the frames of pieces and what is known about them, in their order: sha256, hexadecimal.

    Names of files and folders are left out, so a corpus may be moved.
    """
    told = [[p.group, p.split, p.captions, p.attributes, p.coded_start] for p in pieces]
    frames = {f"plain {i}": p.plain for i, p in enumerate(pieces)}
    frames |= {f"coded {i}": p.coded for i, p in enumerate(pieces) if p.coded is not None}
    text = json.dumps([told, hash_tensors(frames)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def load_mels(folder: Path) -> list[MelPiece]:
    """Read a folder of frames into memory, about 23 MB an hour.

    Raises:
        InputError: the folder holds no frames.
        CheckpointError: a file is missing or damaged.
    """
    pieces = []
    for row in _last_of_each(_rows(folder)).values():
        plain = _read(folder / row["file"])["plain"]
        played = _played(folder / row["file"])
        found = _read(played) if played.exists() else {}
        if plain.shape[1] != N_MELS:
            raise CheckpointError(f"{row['file']} has {plain.shape[1]} bands, not {N_MELS}")
        pieces.append(
            MelPiece(
                row["key"], row["group"], row["split"], tuple(row["captions"]),
                row["attributes"], plain, found.get("coded"),
                int(found["start"]) if found else 0,
            )
        )  # fmt: skip
    if not pieces:
        raise InputError(f"{folder} holds no frames: prepare it from a manifest first")
    return pieces


def _read(path: Path, prefixes: tuple[str, ...] | None = None) -> dict[str, Tensor]:
    try:
        return read_tensors([path], prefixes)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; or remove the folder and prepare it again") from None
