"""Random crops of audio files; which ones depends on seed and step alone, so a run can resume."""

import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor

from musicgen_rl.data.manifest import read_manifest
from musicgen_rl.errors import AudioFileError, InputError

MAX_TRANSPOSE = 4
SPEEDS = {
    n: (ratio.numerator, ratio.denominator)
    for n in range(-MAX_TRANSPOSE, MAX_TRANSPOSE + 1)
    for ratio in [Fraction(2.0 ** (-n / 12)).limit_denominator(20)]
}
"""Semitones up -> (up, down) of the resampling that shortens the wave, within 10 cents."""


class AudioPool:
    """Files of one split, read when first needed and kept in memory as 16 bit while they fit.

    Args:
        paths: audio files, mono or folded to mono.
        sample_rate: Hz every file must have.
        shortest: samples every file must have.
        memory_bytes: kept at most.

    Raises:
        AudioFileError: a file is missing, broken, of another rate or too short; all are named.
    """

    def __init__(
        self, paths: list[Path], sample_rate: int, shortest: int, memory_bytes: int = 6 << 30
    ) -> None:
        problems, lengths = [], []
        for path in paths:
            try:
                info = soundfile.info(str(path))
            except (OSError, RuntimeError) as error:
                problems.append(f"{path}: cannot be read ({error})")
                continue
            if info.samplerate != sample_rate:
                problems.append(f"{path}: {info.samplerate} Hz, not {sample_rate} Hz")
            elif info.frames < shortest:
                problems.append(f"{path}: {info.frames} samples, shorter than {shortest}")
            lengths.append(info.frames)
        if problems:
            raise AudioFileError("\n  ".join(["files cannot be trained on:", *problems]))
        if not paths:
            raise InputError("no audio files to train on: check the manifest's splits")
        self.paths = paths
        self.lengths = lengths
        self._kept: dict[int, npt.NDArray[np.int16]] = {}
        self._room = memory_bytes

    def read(self, index: int, start: int, count: int) -> Tensor:
        """Read samples [count] of a file, -1..1."""
        kept = self._kept.get(index)
        if kept is None:
            if self.lengths[index] * 2 > self._room:
                return _float(_read16(self.paths[index], start, count))
            kept = _read16(self.paths[index], 0, -1)
            self._kept[index] = kept
            self._room -= kept.nbytes
        return _float(kept[start : start + count])


def _read16(path: Path, start: int, count: int) -> npt.NDArray[np.int16]:
    """Read samples as one channel; `count` -1 reads to the end."""
    data: npt.NDArray[np.int16]
    data, _ = soundfile.read(str(path), start=start, frames=count, dtype="int16", always_2d=True)
    if data.shape[1] == 1:
        return data[:, 0].copy()
    folded: npt.NDArray[np.int16] = np.rint(data.mean(1)).astype(np.int16)
    return folded


def _float(samples: npt.NDArray[np.int16]) -> Tensor:
    return torch.from_numpy(samples.astype(np.float32) / 32768.0)


def draw_crops(
    pool: AudioPool, count: int, length: int, seed: int, step: int, transpose: int = 0
) -> Tensor:
    """Draw a step's crops, each second of audio as likely as any other.

    Args:
        pool: where from.
        count: B.
        length: samples a crop.
        seed: of the run.
        step: of the run; the same (seed, step) draws the same crops.
        transpose: crops are played up to so many semitones faster or slower, as a tape would.

    Returns:
        Samples [B, length]; levels vary by -9 to +3 dB, never beyond full scale.
    """
    random = np.random.default_rng([seed, step])
    weights = np.array(pool.lengths, dtype=np.float64)
    files = random.choice(len(weights), size=count, p=weights / weights.sum())
    crops = []
    for file in files:
        semitones = int(random.integers(-transpose, transpose + 1))
        up, down = SPEEDS[semitones]
        needed = min(-(-length * down // up) + 1, pool.lengths[file]) if semitones else length
        start = int(random.integers(0, pool.lengths[file] - needed + 1))
        crop = pool.read(int(file), start, needed)
        if semitones:
            turned = resample_poly(crop.numpy(), up, down)[:length].astype(np.float32)
            crop = torch.from_numpy(np.pad(turned, (0, length - len(turned))))
        gain = 10.0 ** (float(random.uniform(-9.0, 3.0)) / 20.0)
        peak = float(crop.abs().max())
        crops.append(crop * min(gain, 1.0 / max(peak, 1e-9)))
    return torch.stack(crops)


def fixed_crops(pool: AudioPool, count: int, length: int) -> Tensor:
    """Take crops spread evenly over a pool, always the same ones, [count, length]."""
    crops = []
    for i in range(count):
        index = i * len(pool.paths) // count if count < len(pool.paths) else i % len(pool.paths)
        room = pool.lengths[index] - length
        crops.append(pool.read(index, int(room * math.modf(i * 0.618034)[0]), length))
    return torch.stack(crops)


def read_split(manifest: Path, split: str) -> list[Path]:
    """List the audio files of one split of a manifest, in its order.

    Raises:
        InputError: the manifest is missing or a line is not as it should be.
    """
    entries = read_manifest(manifest)
    return [manifest.parent / entry.audio for entry in entries if entry.split == split]
