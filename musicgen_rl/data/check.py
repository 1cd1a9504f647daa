"""Look for everything wrong with a manifest before a long run trips over it."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile as sf

from musicgen_rl.config import require_number
from musicgen_rl.data.manifest import Entry, numbered_lines, parse_entry
from musicgen_rl.errors import InputError

BLOCK_FRAMES = 1 << 20
DURATION_TOLERANCE_S = 0.1


@dataclass(frozen=True, kw_only=True)
class CheckConfig:
    """What counts as wrong in a manifest."""

    min_duration_s: float = 2.0
    """Shortest clip that training can use, in seconds."""
    silence_db: float = -60.0
    """A clip whose loudest sample stays below this level (dB of full scale) is silent."""
    decode: bool = True
    """Decode every file, which finds silence, nan and truncation; without it only headers are
    read."""
    same_rate: bool = True
    """Name files whose sample rate is not the commonest one."""
    splits: tuple[str, ...] = ()
    """Splits that must have a line each; not asked where a line cannot be read."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("min_duration_s", self.min_duration_s, 0, 3600, unit="s")
        require_number("silence_db", self.silence_db, -200, 0, unit="dB")


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a manifest."""

    line: int
    """Line number from 1, 0 for the manifest as a whole."""
    text: str
    """What is wrong and what to do."""

    def __str__(self) -> str:
        return f"line {self.line}: {self.text}" if self.line else self.text


def check_manifest(path: Path, config: CheckConfig | None = None) -> list[Problem]:
    """List what is wrong with a manifest, line by line.

    Args:
        path: the jsonl file.
        config: what counts as wrong.

    Returns:
        Problems in order of their lines; empty if training can use every line.

    Raises:
        InputError: if the manifest itself cannot be read.
    """
    config = config or CheckConfig()
    problems: list[Problem] = []
    rates: dict[int, int] = {}
    first_line: dict[Path, int] = {}
    splits: dict[str, tuple[str, int]] = {}
    count = unread = 0
    for line, text in numbered_lines(path):
        count += 1
        try:
            entry = parse_entry(text)
        except InputError as error:
            problems.append(Problem(line, str(error)))
            unread += 1
            continue
        audio = path.parent / entry.audio
        before = first_line.setdefault(audio, line)
        if before != line:
            problems.append(Problem(line, f"{entry.audio} is already on line {before}"))
        split, at = splits.setdefault(entry.piece, (entry.split, line))
        if split != entry.split:
            problems.append(
                Problem(
                    line,
                    f"piece {entry.piece!r} is in {entry.split} here and in {split} on line {at}: "
                    "keep a piece in one split",
                )
            )
        found, rate = check_audio(audio, entry, config)
        problems += [Problem(line, text) for text in found]
        if rate:
            rates[line] = rate
    if count == 0:
        problems.append(Problem(0, f"{path} holds no entries: write one JSON object a line"))
    elif unread == 0:
        there = {split for split, _ in splits.values()}
        problems += [
            Problem(0, f'there is no {name} split: mark some lines with "split": "{name}"')
            for name in config.splits
            if name not in there
        ]
    problems += _mixed_rates(rates) if config.same_rate else []
    return sorted(problems, key=lambda p: p.line)


def require_usable(path: Path, config: CheckConfig | None = None) -> None:
    """Refuse a manifest before a run begins, with everything that is wrong with it.

    Args:
        path: the jsonl file.
        config: what counts as wrong.

    Raises:
        InputError: a line for each problem.
    """
    refuse(path, check_manifest(path, config))


def refuse(path: Path, problems: Sequence[Problem]) -> None:
    """Refuse a manifest that has problems.

    Raises:
        InputError: a line for each problem.
    """
    if problems:
        listed = "\n  ".join(str(problem) for problem in problems)
        raise InputError(f"{path} cannot be learnt from:\n  {listed}")


def check_audio(audio: Path, entry: Entry, config: CheckConfig) -> tuple[list[str], int]:
    """List what is wrong with one audio file.

    Args:
        audio: the file.
        entry: its line of the manifest.
        config: what counts as wrong.

    Returns:
        Problems, and the sample rate in Hz (0 if the file cannot be read).
    """
    if not audio.is_file():
        return [f"no file {entry.audio}: paths are relative to the manifest"], 0
    try:
        with sf.SoundFile(audio) as file:
            rate, frames = int(file.samplerate), int(file.frames)
            peak, finite, decoded = _scan(file) if config.decode else (1.0, True, frames)
    except (sf.LibsndfileError, RuntimeError) as error:
        reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
        return [f"{entry.audio} cannot be decoded ({reason}): export it again as wav or flac"], 0
    found = []
    if decoded < frames:
        found.append(
            f"{entry.audio} is cut off: {decoded} of {frames} samples can be decoded; copy it again"
        )
    seconds = frames / rate
    if seconds < config.min_duration_s:
        found.append(
            f"{entry.audio} lasts {seconds:.2f} s, shorter than {config.min_duration_s:g} s: "
            "remove it (`data check` takes --min-duration-s)"
        )
    if entry.duration_s is not None and abs(entry.duration_s - seconds) > DURATION_TOLERANCE_S:
        found.append(
            f"duration_s says {entry.duration_s:g} s, {entry.audio} lasts {seconds:.2f} s: "
            "correct it, or leave it out"
        )
    if not finite:
        found.append(f"{entry.audio} holds nan or infinite samples: export it again")
    elif frames and 20 * math.log10(max(peak, 1e-12)) < config.silence_db:
        found.append(
            f"{entry.audio} is silent (no sample above {config.silence_db:g} dB): remove it"
        )
    return found, rate


def _scan(file: sf.SoundFile) -> tuple[float, bool, int]:
    """Decode a file: its peak, whether all samples are finite, and how many frames there were."""
    peak, finite, count = 0.0, True, 0
    while True:
        block = file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)
        if len(block) == 0:
            return peak, finite, count
        count += len(block)
        finite = finite and bool(np.isfinite(block).all())
        peak = max(peak, float(np.abs(np.nan_to_num(block)).max()))


def _mixed_rates(rates: dict[int, int]) -> list[Problem]:
    """Name the lines whose sample rate is not the commonest one."""
    usual = Counter(rates.values()).most_common(1)
    return [
        Problem(line, f"sample rate {rate} Hz where most files have {usual[0][0]} Hz: resample it")
        for line, rate in rates.items()
        if rate != usual[0][0]
    ]
