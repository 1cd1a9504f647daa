"""Random crops of audio files; which ones depends on seed and step alone, so a run can resume."""

import math
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import torch
from torch import Tensor

from musicgen_rl.data.check import Problem
from musicgen_rl.data.manifest import numbered_lines, parse_entry, read_manifest
from musicgen_rl.errors import AudioFileError, InputError

Device = torch.device | str
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
        self._held: tuple[Tensor, Tensor] | None = None  # all samples int16; where files begin

    def read(self, index: int, start: int, count: int) -> Tensor:
        """Read samples [count] of a file, -1..1."""
        return _float(self._read16(index, start, count))

    def take(self, files: list[int], starts: list[int], count: int, device: Device) -> Tensor:
        """Read samples [len(files), count] of several files, zeros where a file ends before."""
        if self._held is not None:
            whole, begins = self._held
            within = torch.tensor(starts, device=whole.device)[:, None] + self._steps(count)
            index = torch.tensor(files, device=whole.device)
            found = whole[(begins[index][:, None] + within).clamp(max=len(whole) - 1)]
            ends = (begins[index + 1] - begins[index])[:, None]
            return (found.float() / 32768.0).masked_fill(within >= ends, 0.0)
        rows = torch.zeros(len(files), count)
        for row, file, start in zip(rows, files, starts, strict=True):
            read = self.read(file, start, min(count, self.lengths[file] - start))
            row[: len(read)] = read
        return rows.to(device)

    def hold_on(self, device: Device, threads: int = 8) -> bool:
        """Read all files now and keep them on a GPU, which then takes its crops itself.

        Args:
            device: where.
            threads: files read at a time.

        Returns:
            Whether it was done; not where all files together are beyond what may be kept.
        """
        if 2 * sum(self.lengths) > self._room:
            return False
        with ThreadPoolExecutor(threads) as pool:
            read = list(pool.map(lambda path: torch.from_numpy(_read16(path, 0, -1)), self.paths))
        begins = torch.tensor([0, *(len(samples) for samples in read)]).cumsum(0)
        self._held = torch.cat(read).to(device), begins.to(device)
        return True

    def _steps(self, count: int) -> Tensor:
        assert self._held is not None
        return torch.arange(count, device=self._held[0].device)

    def _read16(self, index: int, start: int, count: int) -> npt.NDArray[np.int16]:
        kept = self._kept.get(index)
        if kept is None:
            if self.lengths[index] * 2 > self._room:
                return _read16(self.paths[index], start, count)
            self._room -= self.lengths[index] * 2
            kept = _read16(self.paths[index], 0, -1)
            self._kept[index] = kept
        return kept[start : start + count]


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
    pool: AudioPool,
    count: int,
    length: int,
    seed: int,
    step: int,
    transpose: int = 0,
    device: Device = "cpu",
) -> Tensor:
    """Draw a step's crops, each second of audio as likely as any other.

    Args:
        pool: where from.
        count: B.
        length: samples a crop.
        seed: of the run.
        step: of the run; the same (seed, step) draws the same crops.
        transpose: crops are played up to so many semitones faster or slower, as a tape would.
        device: where the crops are wanted, and played faster or slower.

    Returns:
        Samples [B, length]; levels vary by -9 to +3 dB, never beyond full scale.
    """
    random = np.random.default_rng([seed, step])
    weights = np.array(pool.lengths, dtype=np.float64)
    files = random.choice(len(weights), size=count, p=weights / weights.sum())
    rows: dict[int, list[int]] = {}  # semitones -> rows
    starts: list[int] = []
    gains: list[float] = []
    for row, file in enumerate(files):
        semitones = int(random.integers(-transpose, transpose + 1))
        needed = min(_needed(length, semitones), pool.lengths[file])
        starts.append(int(random.integers(0, pool.lengths[file] - needed + 1)))
        gains.append(10.0 ** (float(random.uniform(-9.0, 3.0)) / 20.0))
        rows.setdefault(semitones, []).append(row)
    crops = torch.zeros(count, length, device=device)
    for semitones, members in rows.items():
        of, at = [int(files[row]) for row in members], [starts[row] for row in members]
        played = _play(pool.take(of, at, _needed(length, semitones), device), semitones)
        crops[members] = played[:, :length]
    peaks = crops.abs().amax(1).clamp(min=1e-9)
    return crops * torch.minimum(torch.tensor(gains, device=device), 1.0 / peaks)[:, None]


def _needed(length: int, semitones: int) -> int:
    up, down = SPEEDS[semitones]
    return -(-length * down // up) + 1 if semitones else length


def _play(samples: Tensor, semitones: int) -> Tensor:
    """Play samples [B, M] faster and higher, or slower and lower."""
    import torchaudio.functional

    if not semitones:
        return samples
    up, down = SPEEDS[semitones]
    played: Tensor = torchaudio.functional.resample(samples, down, up)
    return played


def fixed_files(files: int, count: int) -> list[int]:
    """Say from which file each of `fixed_crops` is: spread evenly, or in turn if there are few."""
    return [i * files // count if count < files else i % files for i in range(count)]


def fixed_crops(pool: AudioPool, count: int, length: int) -> Tensor:
    """Take crops spread evenly over a pool, always the same ones, [count, length]."""
    crops = []
    for i, index in enumerate(fixed_files(len(pool.paths), count)):
        room = pool.lengths[index] - length
        crops.append(pool.read(index, int(room * math.modf(i * 0.618034)[0]), length))
    return torch.stack(crops)


def unfit_files(manifest: Path, sample_rate: int, shortest: Mapping[str, int]) -> list[Problem]:
    """List files that a codec cannot be trained on, by their lines in the manifest.

    Args:
        manifest: the jsonl file; lines and files that cannot be read are left to `check_manifest`.
        sample_rate: Hz every file must have.
        shortest: split -> samples a file of it must have; files of other splits are not looked at.

    Returns:
        Problems in the manifest's order.
    """
    found = []
    for line, text in numbered_lines(manifest):
        try:
            entry = parse_entry(text)
            if entry.split not in shortest:
                continue
            info = soundfile.info(str(manifest.parent / entry.audio))
        except (InputError, OSError, RuntimeError):
            continue
        least = shortest[entry.split] / sample_rate
        if info.samplerate != sample_rate:
            found.append(
                Problem(line, f"{entry.audio} has {info.samplerate} Hz, the codec {sample_rate} "
                              "Hz: resample it")
            )  # fmt: skip
        elif info.frames < shortest[entry.split]:
            found.append(
                Problem(line, f"{entry.audio} lasts {info.duration:.2f} s, shorter than the "
                              f"{least:g} s of a crop of the {entry.split} split: remove it, or "
                              "lower crop_s")
            )  # fmt: skip
    return found


def read_split(manifest: Path, split: str) -> list[Path]:
    """List the audio files of one split of a manifest, in its order.

    Raises:
        InputError: the manifest is missing or a line is not as it should be.
    """
    entries = read_manifest(manifest)
    return [manifest.parent / entry.audio for entry in entries if entry.split == split]
