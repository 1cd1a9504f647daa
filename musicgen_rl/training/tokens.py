"""Encode a manifest's audio to tokens, once, in shards.

A shard is one safetensors file: codes uint16 [K, T] by piece, and in its header the captions,
attributes, piece and split of each, so that the two cannot part. A shard is written whole or not
at all; a second run skips the shards that are there and fit the manifest and the codec.
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from musicgen_rl.codec.base import Codec
from musicgen_rl.codec.load import load_codec
from musicgen_rl.data.manifest import read_manifest
from musicgen_rl.data.workers import end_with_parent
from musicgen_rl.errors import InputError, StorageError
from musicgen_rl.training.checkpointing import sync
from musicgen_rl.training.dataset import TokenPiece, read_token_shard

SHARD = "tokens-{:05d}.safetensors"
INFO = "tokens.json"


@dataclass(frozen=True)
class Source:
    """One audio file to encode."""

    audio: str
    """Path."""
    captions: tuple[str, ...]
    """At least one, none empty."""
    piece: str
    """Pieces of one name stay in one split."""
    split: str
    """train, valid or test."""
    attributes: dict[str, Any]
    """Kept as they are."""
    license: str
    """Of the recording."""
    offset: float = 0.0
    """Share of a frame that is left out at the start, 0 to 1."""


@dataclass(frozen=True)
class TokenInfo:
    """What a folder of tokens was made with."""

    codec_hash: str
    """Tells one trained codec from another."""
    num_codebooks: int
    """K."""
    codebook_size: int
    """V."""
    audio_channels: int
    """1 or 2."""
    frame_rate: float
    """Frames a second."""
    num_shards: int
    """Files."""
    licenses: tuple[str, ...]
    """Of the recordings, each once."""


def hash_folder(folder: str | Path, leave_out: Collection[str] = ()) -> str:
    """Hash the files of a folder, names and contents, but for those to leave out: 16 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(Path(folder).iterdir()):
        if path.is_file() and path.name not in leave_out:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def hash_lines(pieces: Iterable[Source | TokenPiece]) -> str:
    """Hash what a manifest says of the pieces that are learnt from and measured on.

    Known before anything is encoded, and of tokens too. Where the audio lies is left out, so it may
    be moved; so are licences, and the test split.

    Args:
        pieces: in the manifest's order, each as often as it is encoded.

    Returns:
        sha256, hexadecimal.
    """
    digest = hashlib.sha256()
    for piece in pieces:
        if piece.split != "test":
            told = [piece.piece, piece.split, piece.captions, piece.attributes, piece.offset]
            digest.update(json.dumps(told, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def sources_of(manifest: str | Path) -> list[Source]:
    """Read a manifest as sources, audio paths made absolute.

    Raises:
        InputError: a line is wrong, by number.
    """
    path = Path(manifest)
    return [
        Source(
            audio=str((path.parent / entry.audio).resolve()),
            captions=entry.captions,
            piece=entry.piece,
            split=entry.split,
            attributes=entry.attributes,
            license=entry.license,
        )
        for entry in read_manifest(path)
    ]


def with_offsets(sources: Sequence[Source], count: int) -> list[Source]:
    """List pieces to learn from `count` times, each time another part of a frame later.

    The frames then fall elsewhere in the sound, which puts the same music into other codes: more to
    learn from where there is not enough music.

    Args:
        sources: of a manifest; those of other splits are listed once.
        count: at least 1.
    """
    return [
        source if index == 0 else replace(source, offset=index / count)
        for source in sources
        for index in range(count if source.split == "train" else 1)
    ]


def encode_sources(
    sources: Sequence[Source],
    codec: Codec,
    codec_hash: str,
    folder: str | Path,
    *,
    pieces_per_shard: int = 32,
    report: Callable[[int, int], None] | None = None,
) -> TokenInfo:
    """Encode every source; what is already there is left alone.

    Args:
        sources: from a manifest that `check_manifest` finds nothing wrong with.
        codec: encodes; audio of another rate is resampled, channels are folded or doubled.
        codec_hash: identity of the codec, for example `hash_folder` of its files.
        folder: gets the shards.
        pieces_per_shard: sources in one file.
        report: called with (sources done, sources in all) after each shard.

    Returns:
        What `tokens.json` in the folder says.

    Raises:
        InputError: a file cannot be read, is silent or has nan samples; shards before are kept.
        StorageError: the disk is full; shards before are kept.
    """
    folder = Path(folder)
    shards = _shards(sources, codec_hash, folder, pieces_per_shard)
    for index, shard in enumerate(shards):
        if not _holds(shard.path, shard.stamp):
            _encode_shard(shard, codec)
        if report is not None:
            report(min(len(sources), (index + 1) * pieces_per_shard), len(sources))
    info = TokenInfo(
        codec_hash=codec_hash,
        num_codebooks=codec.num_codebooks,
        codebook_size=codec.codebook_size,
        audio_channels=codec.audio_channels,
        frame_rate=codec.sample_rate / codec.hop_length,
        num_shards=len(shards),
        licenses=tuple(sorted({source.license for source in sources})),
    )
    try:
        temporary = folder / (INFO + ".tmp")
        temporary.write_text(json.dumps(asdict(info), indent=1))
        os.replace(temporary, folder / INFO)
    except OSError as error:
        raise StorageError(f"cannot write {folder / INFO}: {error}") from error
    return info


def encode_apart(
    sources: Sequence[Source],
    codec_folder: str | Path,
    codec_hash: str,
    folder: str | Path,
    *,
    processes: int,
    pieces_per_shard: int = 32,
    report: Callable[[int, int], None] | None = None,
) -> None:
    """Encode the shards that are missing, one thread and one codec a process.

    What the folder holds is for `encode_sources` to say, which finds nothing left to encode.

    Args:
        sources: as of `encode_sources`, and so are the next and the last.
        codec_folder: loaded in every process.
        codec_hash: its identity.
        folder: gets the shards.
        processes: at least 2.
        pieces_per_shard: sources in one file.
        report: called with (sources done, sources in all) after each shard.

    Raises:
        InputError: a file cannot be read, is silent or has nan samples; finished shards are kept.
        StorageError: the disk is full; finished shards are kept.
    """
    shards = _shards(sources, codec_hash, Path(folder), pieces_per_shard)
    missing = [shard for shard in shards if not _holds(shard.path, shard.stamp)]
    done = len(sources) - sum(len(shard.members) for shard in missing)
    context = get_context("spawn")
    given = (str(codec_folder),)
    with ProcessPoolExecutor(min(processes, len(missing) or 1), context, _begin, given) as pool:
        running = {pool.submit(_encode_apart, shard): shard for shard in missing}
        try:
            for future in as_completed(running):
                future.result()
                done += len(running[future].members)
                if report is not None:
                    report(done, len(sources))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


_CODECS: list[Codec] = []
"""The codec of a process of `encode_apart`."""


def _begin(codec_folder: str) -> None:
    end_with_parent()
    torch.set_num_threads(1)
    _CODECS[:] = [load_codec(codec_folder)]


def _encode_apart(shard: "_Shard") -> None:
    _encode_shard(shard, _CODECS[0])


def is_encoded(
    sources: Sequence[Source],
    codec_hash: str,
    folder: str | Path,
    *,
    pieces_per_shard: int = 32,
) -> bool:
    """Say whether a folder holds the tokens of these sources; arguments as `encode_sources`."""
    folder = Path(folder)
    if not (folder / INFO).is_file():
        return False
    shards = _shards(sources, codec_hash, folder, pieces_per_shard)
    return all(_holds(shard.path, shard.stamp) for shard in shards)


def load_tokens(folder: str | Path) -> tuple[TokenInfo, list[TokenPiece]]:
    """Read a folder of tokens.

    Raises:
        InputError: the folder holds no finished tokens.
        CheckpointError: a shard is damaged.
    """
    folder = Path(folder)
    try:
        raw = json.loads((folder / INFO).read_text())
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} holds no finished tokens: encode the manifest first ({error})"
        ) from error
    info = TokenInfo(**{**raw, "licenses": tuple(raw["licenses"])})
    pieces: list[TokenPiece] = []
    for shard in range(info.num_shards):
        codes, header = read_token_shard(folder / SHARD.format(shard))
        for index, entry in enumerate(json.loads(header["entries"])):
            pieces.append(
                TokenPiece(
                    codes=codes[f"{index:05d}"],
                    captions=tuple(entry["captions"]),
                    piece=entry["piece"],
                    split=entry["split"],
                    attributes=entry["attributes"],
                    offset=entry.get("offset", 0.0),
                )
            )
    return info, pieces


@dataclass(frozen=True)
class _Shard:
    """One file of tokens."""

    path: Path
    members: tuple[Source, ...]
    stamp: str
    """Tells it from the same file of other sources or another codec."""


def _shards(
    sources: Sequence[Source], codec_hash: str, folder: Path, pieces_per_shard: int
) -> list[_Shard]:
    """Divide sources among files; the arguments are those of `encode_sources`."""
    groups = [
        tuple(sources[first : first + pieces_per_shard])
        for first in range(0, len(sources), pieces_per_shard)
    ]
    return [
        _Shard(folder / SHARD.format(index), members, _stamp(members, codec_hash))
        for index, members in enumerate(groups)
    ]


def _encode_shard(shard: _Shard, codec: Codec) -> None:
    read = _read_ahead(shard.members, codec)
    codes = {f"{i:05d}": encode_samples(samples, codec) for i, samples in enumerate(read)}
    entries = json.dumps([_told(source) for source in shard.members])
    _write_atomically(shard.path, codes, {"stamp": shard.stamp, "entries": entries})


def _read_ahead(sources: Sequence[Source], codec: Codec, files: int = 4) -> Iterator[Tensor]:
    """Read files as `read_samples` does, in their order, the next few while one is used."""

    def read(source: Source) -> Tensor:
        samples = read_samples(source.audio, codec.sample_rate, codec.audio_channels)
        return samples[:, round(source.offset * codec.hop_length) :]

    with ThreadPoolExecutor(files) as pool:
        ahead: deque[Future[Tensor]] = deque()
        for source in sources:
            ahead.append(pool.submit(read, source))
            if len(ahead) > files:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _told(source: Source) -> dict[str, Any]:
    """A source for a shard's header; an offset of 0 is left out, as before there were any."""
    told = asdict(source)
    return told if source.offset else {k: v for k, v in told.items() if k != "offset"}


def encode_samples(
    samples: Tensor, codec: Codec, *, chunk_frames: int = 3000, margin: int = 100
) -> Tensor:
    """Encode a recording in chunks, so that an hour of audio needs no more memory than a minute.

    Args:
        samples: of `read_samples`, [C, M].
        codec: its encoder may look `margin` frames to either side.
        chunk_frames: frames kept of one call.
        margin: frames encoded on either side of a chunk and thrown away.

    Returns:
        Codes uint16 [K, T], on the CPU.
    """
    hop = codec.hop_length
    total = -(-samples.shape[1] // hop)
    kept: list[Tensor] = []
    for start in range(0, total, chunk_frames):
        first, stop = max(0, start - margin), min(total, start + chunk_frames)
        last = min(total, stop + margin)
        with torch.inference_mode():
            part = samples[None, :, first * hop : last * hop].to(codec.device)
            codes = codec.encode(part)[0]
        kept.append(codes[:, start - first : stop - first].cpu())
    return torch.cat(kept, dim=1).to(torch.uint16)


def read_samples(path: str, sample_rate: int, channels: int) -> Tensor:
    """Read audio as [C, M] float32 at a given rate.

    Raises:
        InputError: the file is damaged, silent, or has nan or infinite samples.
    """
    import soundfile
    import torchaudio.functional

    try:
        data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (RuntimeError, OSError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from error
    samples = torch.from_numpy(data).T.contiguous()  # [channels of the file, M]
    if not torch.isfinite(samples).all():
        raise InputError(f"{path}: has nan or infinite samples: leave it out of the manifest")
    if samples.numel() == 0 or samples.abs().max() < 1e-4:
        raise InputError(f"{path}: is silent: leave it out of the manifest")
    if samples.shape[0] != channels:
        samples = samples.mean(0, keepdim=True).expand(channels, -1)
    if rate != sample_rate:
        samples = torchaudio.functional.resample(samples, rate, sample_rate)
    return samples


def _holds(path: Path, stamp: str) -> bool:
    return path.exists() and read_token_shard(path)[1].get("stamp") == stamp


def _stamp(members: Sequence[Source], codec_hash: str) -> str:
    """Identify a shard: its sources, the sizes of their files, and the codec."""
    parts = [(_told(source), Path(source.audio).stat().st_size) for source in members]
    text = json.dumps([codec_hash, parts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _write_atomically(path: Path, tensors: dict[str, Tensor], header: dict[str, str]) -> None:
    temporary = path.with_suffix(".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, temporary, metadata=header)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {path}: {error}; earlier shards are kept, free space and run it again"
        ) from error
