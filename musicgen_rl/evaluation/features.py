"""Clips to rows: every instrument is applied once to every clip, in batches."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musicgen_rl.audio.io import read_audio
from musicgen_rl.errors import AudioFileError
from musicgen_rl.evaluation.artefacts import find_artefacts
from musicgen_rl.evaluation.instruments import AttributeProbe, Instruments, require_unchanged
from musicgen_rl.evaluation.prompts import Prompt, asked
from musicgen_rl.evaluation.table import EMBEDDING, Row, read_rows, write_rows
from musicgen_rl.rewards.mel import hearing_once
from musicgen_rl.rewards.probe import MANY, right_share

BATCH = 32
_TOLERANCE = 0.02  # of the duration: other systems round their lengths

Array = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class ClipRef:
    """One clip to be measured."""

    arm: str
    """Name of its arm."""
    prompt: Prompt
    """What was asked for."""
    prompt_index: int
    """Its number."""
    index: int
    """Which clip of arm and prompt."""
    path: Path
    """Its audio."""


def measure(
    samples: Array, sample_rate: int, prompts: Sequence[Prompt], instruments: Instruments
) -> list[Row]:
    """Measure a batch of clips.

    Args:
        samples: [B, M], mono.
        sample_rate: Hz.
        prompts: of each clip.
        instruments: what to measure with.

    Returns:
        One dictionary of numbers, embeddings and codes a clip.
    """
    sound = torch.from_numpy(samples)
    rows: list[Row] = [dict[str, object](find_artefacts(s, sample_rate)) for s in samples]
    columns: dict[str, Sequence[object] | Array] = {}
    texts = [p.text for p in prompts]
    with hearing_once():
        for name, scorer in instruments.scorers.items():
            columns[f"adherence_{name}"] = scorer.score(sound, sample_rate, texts).tolist()
        if instruments.probe is not None:
            columns |= _probe(sound, sample_rate, prompts, instruments.probe)
        for name, encoder in instruments.encoders.items():
            columns[EMBEDDING + name] = encoder.embed(sound, sample_rate).float().cpu().numpy()
    codec = instruments.codec
    if codec is not None and codec.sample_rate == sample_rate:
        stacked = sound[:, None].expand(-1, codec.audio_channels, -1)
        with torch.inference_mode():
            codes = codec.encode(stacked.to(codec.device))  # [B, K, T]
        columns["codes"] = list(codes[:, 0].cpu().numpy())
    for key, values in columns.items():
        for row, value in zip(rows, values, strict=True):
            row[key] = value
    return rows


def measure_files(
    clips: Sequence[ClipRef],
    instruments: Instruments,
    store: Path,
    *,
    sample_rate: int,
    duration_s: float,
    progress: Callable[[int], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    named: Callable[[ClipRef], str] = lambda clip: str(clip.path),
) -> list[Row]:
    """Measure clips from files; what a store holds already is not measured again.

    Args:
        clips: of one arm, in any number.
        instruments: what to measure with.
        store: folder of parts, one for each batch that was measured.
        sample_rate: Hz that every file must have.
        duration_s: length that every file must have.
        progress: called with the number of clips just done.
        stop: asked between batches.
        named: what the row says of where the audio is.

    Returns:
        Rows, those from the store first; fewer than clips only after a stop.

    Raises:
        AudioFileError: a file is not audio, or of another length or rate.
        ConfigError: other instruments filled the store.
        StorageError: the store cannot be written.
    """
    known = dict(stored_rows(store, instruments.identities()))
    rows = [known[_key(c)] for c in clips if _key(c) in known]
    progress(len(rows))
    missing = [c for c in clips if _key(c) not in known]
    part = len(list(store.glob("*.parquet"))) if store.is_dir() else 0
    for start in range(0, len(missing), BATCH):
        if stop():
            break
        batch = missing[start : start + BATCH]
        samples = np.stack([read_clip(c.path, sample_rate, duration_s) for c in batch])
        measured = measure(samples, sample_rate, [c.prompt for c in batch], instruments)
        about = [
            {
                "arm": c.arm, "prompt_index": c.prompt_index, "prompt": c.prompt.text,
                "index": c.index, "file": named(c), "duration_s": duration_s,
            }
            for c in batch
        ]  # fmt: skip
        new = [a | m for a, m in zip(about, measured, strict=True)]
        write_rows(new, store / f"{part:05d}.parquet", instruments.identities())
        part += 1
        rows += new
        progress(len(new))
    return rows


def stored_rows(
    store: Path, identities: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, str, int], Row]]:
    """Yield what a store holds: (arm, prompt, index) and row.

    Args:
        store: folder of parts.
        identities: of the instruments at hand.

    Raises:
        ConfigError: a part was measured by others.
    """
    for path in sorted(store.glob("*.parquet")):
        rows, measured_by = read_rows(path)
        require_unchanged(identities, measured_by, str(path))
        for row in rows:
            yield (row["arm"], row["prompt"], row["index"]), row


def read_clip(path: Path, sample_rate: int, duration_s: float) -> Array:
    """Read a file as mono samples [M] of exactly the length that all have.

    Raises:
        AudioFileError: not audio, or of another rate or length.
    """
    clip = read_audio(path)
    if clip.sample_rate != sample_rate:
        raise AudioFileError(
            f"{path} has {clip.sample_rate} Hz, the others {sample_rate} Hz: resample it, or the "
            "comparison hears the difference of the rates"
        )
    wanted = round(sample_rate * duration_s)
    if abs(clip.num_samples - wanted) > max(1.0, _TOLERANCE * wanted):
        raise AudioFileError(
            f"{path} lasts {clip.duration_s:.2f} s, the others {duration_s:.2f} s: cut all clips "
            "to one length"
        )
    return fit_length(clip.samples.mean(axis=0), wanted)


def fit_length(mono: NDArray[Any], wanted: int) -> Array:
    """Cut mono samples [m], or add silence, to [wanted]."""
    cut = mono[:wanted]
    return np.asarray(np.pad(cut, (0, wanted - len(cut))), dtype=np.float32)


def _probe(
    sound: Tensor, sample_rate: int, prompts: Sequence[Prompt], probe: AttributeProbe
) -> dict[str, list[float]]:
    """Ask the probe whether each clip has what its prompt asks for."""
    wishes = [asked(p, probe.classes) for p in prompts]
    heard = probe.log_probs(sound, sample_rate)
    shares = right_share(heard, probe.classes, wishes)
    right = torch.stack(list(shares.values()))  # [attributes, B], nan where nothing was asked
    likely: list[float] = []
    for b, wish in enumerate(wishes):
        values = [
            float(heard[name][b, list(probe.classes[name]).index(str(value))])
            for name, value in wish.items()
            if name not in MANY and str(value) in probe.classes[name]
        ]
        likely.append(float(np.mean(values)) if values else float("nan"))
    return {"probe_logp": likely, "probe_right": right.nanmean(dim=0).tolist()}


def _key(clip: ClipRef) -> tuple[str, str, int]:
    return clip.arm, clip.prompt.text, clip.index
