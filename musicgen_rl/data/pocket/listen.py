"""Listen to a corpus by measuring: level, silence, notes in the key, tempo."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import librosa
import numpy as np
import soundfile as sf
import soxr
from numpy.typing import NDArray
from scipy import ndimage, signal

from musicgen_rl.data.describe import table
from musicgen_rl.data.keys import KEY_NAMES, MODES
from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.errors import InputError

ANALYSIS_RATE = 16_000
ANALYSIS_SECONDS = 40.0
TEMPO_TOLERANCE = 0.04
TEMPO_RATIOS = (0.5, 1.0, 2.0)
"""A tempo estimate counts at half or double the notated tempo too."""
METRE_RATIOS = (1 / 3, 2 / 3, 1.5, 3.0)
"""Further ratios at which a listener may tap, counted apart."""


@dataclass(frozen=True)
class Heard:
    """What was measured on one piece."""

    rms_db: float
    """Level in dB of full scale."""
    peak: float
    """Largest sample."""
    silent: float
    """Share of half seconds below -55 dB."""
    in_key: float
    """Share of tonal energy on notes of the scale; 0.58 is chance for seven notes. Overtones
    that leave the scale cost even the purest music a tenth or so."""
    tempo_bpm: float
    """Estimate of the tempo."""
    tempo_ok: bool
    """Whether it is within 4 % of the notated tempo, its half or double."""
    tempo_near: bool
    """The same, or at one of METRE_RATIOS."""


def tempo_matches(estimate: float, notated: float, ratios: tuple[float, ...]) -> bool:
    """Whether an estimate is within 4 % of the notated tempo times one of the ratios."""
    return any(abs(estimate / (notated * r) - 1) <= TEMPO_TOLERANCE for r in ratios)


def harmonic_chroma(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return how strong each pitch class is, percussion taken out.

    Args:
        samples: mono at ANALYSIS_RATE, [M].

    Returns:
        Energy of the twelve pitch classes, C first, [12]. Below 100 Hz a semitone is narrower than
        the analysis, so what lies there is left out.
    """
    size = 8192
    _, _, spectrum = signal.stft(samples, ANALYSIS_RATE, nperseg=size, noverlap=size - 1024)
    power = np.abs(spectrum) ** 2  # [F, T]
    steady = ndimage.median_filter(power, size=(1, 17))
    sudden = ndimage.median_filter(power, size=(17, 1))
    tonal = (power * steady / (steady + sudden + 1e-12)).mean(axis=1)  # [F]
    hz = np.arange(len(tonal)) * ANALYSIS_RATE / size
    heard = (hz > 100) & (hz < 4000)
    classes = np.round(69 + 12 * np.log2(hz[heard] / 440)).astype(int) % 12
    return np.bincount(classes, weights=tonal[heard], minlength=12).astype(np.float64)


def measure(samples: NDArray[np.float32], sample_rate: int, facts: dict[str, object]) -> Heard:
    """Measure one piece against its attributes.

    Args:
        samples: mono, [M].
        sample_rate: Hz.
        facts: attributes with key, scale and tempo_bpm.
    """
    half = sample_rate // 2
    whole = samples[: len(samples) // half * half].reshape(-1, half)
    blocks = 20 * np.log10(np.sqrt((whole.astype(np.float64) ** 2).mean(axis=1)) + 1e-9)
    rms_db = 20 * np.log10(float(np.sqrt((samples.astype(np.float64) ** 2).mean())) + 1e-9)
    start = samples[: round(ANALYSIS_SECONDS * sample_rate)]
    y = soxr.resample(start, sample_rate, ANALYSIS_RATE)
    chroma = harmonic_chroma(y)
    tonic = KEY_NAMES.index(str(facts["key"]))
    inside = sum(float(chroma[(tonic + s) % 12]) for s in MODES[str(facts["scale"])])
    estimate = float(np.atleast_1d(librosa.feature.tempo(y=y, sr=ANALYSIS_RATE))[0])
    notated = float(str(facts["tempo_bpm"]))
    return Heard(
        rms_db=float(rms_db),
        peak=float(np.abs(samples).max()),
        silent=float((blocks < -55).mean()),
        in_key=inside / max(float(chroma.sum()), 1e-9),
        tempo_bpm=estimate,
        tempo_ok=tempo_matches(estimate, notated, TEMPO_RATIOS),
        tempo_near=tempo_matches(estimate, notated, TEMPO_RATIOS + METRE_RATIOS),
    )


def listen(manifest: Path, *, pieces: int) -> str:
    """Measure some pieces of every style and report as a Markdown table.

    Args:
        manifest: jsonl file of a corpus.
        pieces: how many of each style, the first ones.

    Raises:
        InputError: if the manifest or its audio cannot be read, or has no such attributes.
    """
    chosen: dict[str, list[Entry]] = defaultdict(list)
    for entry in read_manifest(manifest):
        if {"style", "key", "scale", "tempo_bpm"} <= entry.attributes.keys():
            own = chosen[str(entry.attributes["style"])]
            if len(own) < pieces:
                own.append(entry)
    if not chosen:
        raise InputError(f"{manifest} has no pieces with style, key, scale and tempo_bpm")
    rows = []
    everything: list[Heard] = []
    for style in sorted(chosen):
        heard = []
        for entry in chosen[style]:
            path = manifest.parent / entry.audio
            try:
                samples, rate = sf.read(path, dtype="float32", always_2d=True)
            except (sf.LibsndfileError, OSError) as error:
                raise InputError(f"cannot read {path}: {error}") from error
            heard.append(measure(samples.mean(axis=1), int(rate), entry.attributes))
        rows.append(_row(style, heard))
        everything += heard
    rows.append(_row("all", everything))
    head = ("style", "pieces", "rms dB", "peak", "silent", "in key", "tempo", "tempo or metre")
    return table(head, rows)


def _row(style: str, heard: list[Heard]) -> tuple[str, ...]:
    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    return (
        style,
        str(len(heard)),
        f"{mean([h.rms_db for h in heard]):.1f}",
        f"{max(h.peak for h in heard):.2f}",
        f"{100 * mean([h.silent for h in heard]):.1f} %",
        f"{mean([h.in_key for h in heard]):.2f}",
        f"{sum(h.tempo_ok for h in heard)}",
        f"{sum(h.tempo_near for h in heard)}",
    )
