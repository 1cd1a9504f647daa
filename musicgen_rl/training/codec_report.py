"""Judge a codec on audio it has not seen.

    python -m musicgen_rl.training.codec_report CODEC MANIFEST --out FOLDER [--split valid]

Writes report.json and spectrograms.png (reference over reconstruction). Measures:

- distance: multi-scale log-mel distance, `codec_losses.log_mel_distance`: sum over four windows
  of the mean absolute difference of natural-log mel magnitudes;
- chroma: correlation of the two chromagrams (librosa, 12 classes, window 4096), mean over clips;
  a clip without pitched content says little about it, so drums pull it down;
- onset_f1: onsets (librosa) of one found in the other within 50 ms, F1 over all clips;
- onset_f1_moved: the same for the references against themselves, half a frame of the onset
  finder later: what the measure gives a codec that changes nothing one can hear;
- chroma_interval, onset_f1_interval: 95 % by bootstrap over pieces, a piece's clips together; not
  where there are fewer than five pieces;
- chroma_with_drums, chroma_without_drums: the mean apart, where the attributes of every piece tell
  `drums` and there are both;
- used, perplexity: share of each codebook's entries that occur, and their evenness (at most V);
- level_db: RMS of the reconstruction over that of the reference, mean over clips.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from musicgen_rl.codec.base import Codec
from musicgen_rl.codec.load import load_codec
from musicgen_rl.codec.spectral import LOG_FLOOR
from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.errors import InputError, MusicgenRLError, StorageError
from musicgen_rl.training.codec_codebooks import usage
from musicgen_rl.training.codec_crops import AudioPool, fixed_crops, fixed_files, read_split
from musicgen_rl.training.codec_losses import log_mel_distances
from musicgen_rl.training.tokens import hash_folder

ONSET_WINDOW_S = 0.05
ONSET_HOP = 320
"""Samples between frames of the onset finder."""


def chroma_correlation(made: Tensor, real: Tensor, sample_rate: int) -> float:
    """Correlate the chromagrams of two sounds [M]; 1 is equal pitch content, 0 unrelated."""
    a, b = _chroma(made, sample_rate), _chroma(real, sample_rate)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / scale if scale > 0 else 0.0


def _chroma(samples: Tensor, sample_rate: int) -> npt.NDArray[np.float32]:
    import librosa

    chroma: npt.NDArray[np.float32] = librosa.feature.chroma_stft(
        y=samples.numpy(), sr=sample_rate, n_fft=4096, hop_length=1024, tuning=0.0
    )
    return chroma


def onset_times(samples: Tensor, sample_rate: int) -> list[float]:
    """Find onsets of samples [M], in seconds."""
    from librosa.onset import onset_detect

    times = onset_detect(y=samples.numpy(), sr=sample_rate, hop_length=ONSET_HOP, units="time")
    return [float(t) for t in times]


def match_onsets(made: Sequence[float], real: Sequence[float], window_s: float) -> int:
    """Count pairs of onsets, each used once, that lie within a window of each other.

    Args:
        made: rising times in seconds.
        real: rising times in seconds.
        window_s: largest distance of a pair.

    Returns:
        The greatest number of pairs.
    """
    i = j = pairs = 0
    while i < len(made) and j < len(real):
        if abs(made[i] - real[j]) <= window_s:
            i, j, pairs = i + 1, j + 1, pairs + 1
        elif made[i] < real[j]:
            i += 1
        else:
            j += 1
    return pairs


def onset_f1(pairs: int, made: int, real: int) -> float:
    """F1 of onsets: 2 * pairs / (made + real); 1 where neither has any."""
    return 2.0 * pairs / (made + real) if made + real else 1.0


def ratio_interval(
    over: Sequence[float], under: Sequence[float], pieces: Sequence[int]
) -> list[float] | None:
    """Bootstrap the ratio of two sums over clips, by drawing pieces with replacement.

    Args:
        over: a number a clip.
        under: another, such as 1 for a mean.
        pieces: which piece each clip is of.

    Returns:
        The 95 % interval; None where there are fewer than five pieces.
    """
    names, which = np.unique(np.asarray(pieces), return_inverse=True)
    if len(names) < 5:
        return None
    sums = [np.bincount(which, np.asarray(part, float)) for part in (over, under)]  # [pieces]
    random = np.random.default_rng(0)
    drawn = random.multinomial(len(names), np.full(len(names), 1 / len(names)), size=4000)
    top, bottom = (drawn @ part for part in sums)
    low, high = np.percentile(top / np.maximum(bottom, 1e-9), [2.5, 97.5])
    return [round(float(low), 4), round(float(high), 4)]


def judge_codec(
    codec: Codec, clips: Tensor, pieces: Sequence[int] | None = None
) -> tuple[dict[str, Any], Tensor]:
    """Measure a codec on clips.

    Args:
        codec: a mono codec.
        clips: samples [B, M].
        pieces: which piece each clip is of; each of its own where None.

    Returns:
        The measures named at the top of this file, and the reconstructions [B, M].
    """
    rows: list[dict[str, float]] = []
    codes, made_clips = [], []
    # Pairs, onsets found, onsets wanted.
    counts: dict[str, list[tuple[int, int, int]]] = {"onset_f1": [], "onset_f1_moved": []}
    for clip in clips:
        code = codec.encode(clip[None, None].to(codec.device))
        made = codec.decode(code)[0, 0, : len(clip)].cpu().clone()
        wanted = onset_times(clip, codec.sample_rate)
        moved = torch.nn.functional.pad(clip, (ONSET_HOP // 2, 0))
        for name, sound in (("onset_f1", made), ("onset_f1_moved", moved)):
            found = onset_times(sound, codec.sample_rate)
            pairs = match_onsets(found, wanted, ONSET_WINDOW_S)
            counts[name].append((pairs, len(found), len(wanted)))
        scales = log_mel_distances(made[None], clip[None], codec.sample_rate)
        level = 10.0 * torch.log10((made.square().mean() + 1e-10) / (clip.square().mean() + 1e-10))
        chroma = chroma_correlation(made, clip, codec.sample_rate)
        rows.append({"distance": float(scales.sum()), "chroma": chroma, "level_db": float(level)})
        codes.append(code.cpu())
        made_clips.append(made)
    shares, perplexities = usage(torch.cat(codes, -1), codec.codebook_size)
    report: dict[str, Any] = {
        name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]
    }
    for name, count in counts.items():
        report[name] = round(onset_f1(*(sum(part) for part in zip(*count, strict=True))), 4)
    pieces = range(len(clips)) if pieces is None else pieces
    onsets = counts["onset_f1"]
    twice, all_found = [2 * pairs for pairs, _, _ in onsets], [a + b for _, a, b in onsets]
    intervals = {
        "chroma": ratio_interval([row["chroma"] for row in rows], [1.0] * len(rows), pieces),
        "onset_f1": ratio_interval(twice, all_found, pieces),
    }
    report |= {f"{name}_interval": found for name, found in intervals.items() if found}
    report["used"] = [round(s, 3) for s in shares]
    report["perplexity"] = [round(p) for p in perplexities]
    report["clips"] = len(clips)
    report["frames"] = sum(code.shape[-1] for code in codes)
    report["each"] = [{k: round(v, 3) for k, v in row.items()} for row in rows]
    return report, torch.stack(made_clips)


def chroma_by_drums(
    entries: Sequence[Entry], pieces: Sequence[int], each: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """Average chroma apart by whether a piece has drums; empty where that is not known of all.

    Args:
        entries: of the pieces.
        pieces: which of them each clip is of.
        each: the clips' measures, with `chroma`.
    """
    if not all("drums" in entry.attributes for entry in entries):
        return {}
    drums = [bool(entries[piece].attributes["drums"]) for piece in pieces]
    apart = {
        name: [row["chroma"] for row, has in zip(each, drums, strict=True) if has is wanted]
        for name, wanted in (("with", True), ("without", False))
    }
    if not all(apart.values()):
        return {}
    return {
        f"chroma_{name}_drums": round(float(np.mean(found)), 4) for name, found in apart.items()
    }


def draw_spectrograms(
    real: Tensor, made: Tensor, sample_rate: int, path: Path, titles: Sequence[str]
) -> None:
    """Draw log spectrograms of clips [B, M], each reference above its reconstruction.

    Raises:
        StorageError: the picture cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0 * len(real), 6.0), layout="constrained")
    axes = figure.subplots(2, len(real), squeeze=False, sharex=True, sharey=True)
    window = torch.hann_window(2048)
    for row, sounds in enumerate((real, made)):
        for column, sound in enumerate(sounds):
            spectrum = torch.stft(sound, 2048, 512, window=window / 512, return_complex=True).abs()
            image = 20.0 * spectrum.clamp(min=LOG_FLOOR).log10()
            axes[row][column].imshow(
                image[:512].numpy(), origin="lower", aspect="auto", vmin=-90, vmax=0, cmap="magma",
                extent=(0, len(sound) / sample_rate, 0, sample_rate / 4000),
            )  # fmt: skip
            axes[row][column].set_title(f"{titles[column]}: {('reference', 'codec')[row]}")
    axes[1][0].set_xlabel("s")
    axes[1][0].set_ylabel("kHz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=60)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error}") from error


def report_codec(
    codec_folder: Path, manifest: Path, out: Path, *, split: str = "valid", clips: int = 24,
    clip_s: float = 10.0, pictures: int = 4,
) -> dict[str, Any]:  # fmt: skip
    """Judge a codec folder on a manifest's split and write report.json and spectrograms.png.

    Args:
        codec_folder: what `load_codec` reads.
        manifest: names the audio, of the codec's rate.
        out: folder to write to; created if missing.
        split: which lines of the manifest.
        clips: number of clips, spread over the files.
        clip_s: length of a clip in seconds.
        pictures: clips drawn.

    Returns:
        What report.json holds.

    Raises:
        InputError: the split is empty, or no clip is asked for.
        AudioFileError: a file cannot be used; all are named.
        CheckpointError: the codec cannot be loaded.
        StorageError: `out` cannot be written.
    """
    codec = load_codec(codec_folder)
    paths = read_split(manifest, split)
    if not paths:
        raise InputError(f"{manifest} has no {split} split: choose another with --split")
    if clips < 1:
        raise InputError(f"{clips} clips cannot be judged: give --clips a number from 1")
    length = round(clip_s * codec.sample_rate)
    sounds = fixed_crops(AudioPool(paths, codec.sample_rate, length), clips, length)
    pieces = fixed_files(len(paths), clips)
    report, made = judge_codec(codec, sounds, pieces)
    entries = [entry for entry in read_manifest(manifest) if entry.split == split]
    drums = chroma_by_drums(entries, pieces, report["each"])
    report = {"codec_hash": hash_folder(codec_folder)} | drums | report
    chosen = torch.linspace(0, clips - 1, min(pictures, clips)).round().long()
    titles = [f"clip {int(i)}" for i in chosen]
    draw_spectrograms(
        sounds[chosen], made[chosen], codec.sample_rate, out / "spectrograms.png", titles
    )
    try:
        (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {out / 'report.json'}: {error}") from error
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; see the top of this file."""
    import argparse

    parser = argparse.ArgumentParser(description="Judge a codec on audio it has not seen.")
    parser.add_argument("codec", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--split", default="valid")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--clip-s", type=float, default=10.0)
    given = parser.parse_args(arguments)
    try:
        report = report_codec(
            given.codec, given.manifest, given.out, split=given.split, clips=given.clips,
            clip_s=given.clip_s,
        )  # fmt: skip
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    shown = {key: value for key, value in report.items() if key != "each"}
    sys.stdout.write(json.dumps(shown) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
