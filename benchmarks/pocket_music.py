"""Is it music? Key, beat, form, drift and loops, of generated clips and of real ones beside them.

    python benchmarks/pocket_music.py --manifest held_out/manifest.jsonl [--model pocket]
        [--diversity 0.5] [--held] [--chords] [--clips 20] [--long 6] [--real 40]
        [--out STEM] [--picture FILE]

Captions of held-out pieces, styles in turn and those that name a tempo first, are played once each,
unpicked, 30 s long, `--long` of them 60 s; the same measures are taken of held-out pieces, because
alone they say nothing:

- in scale: share of tonal energy on the notes of the best major scale (or its relative minor);
- in named key: the same of the scale that the caption names, where it names one; chance is .58;
- tempo: share of captions naming one for which librosa hears it, its half or its double within 4 %;
  without `--held` none is held, so this is what the words do;
- pulse: the highest autocorrelation of the onset strength at 40 to 220 bpm; 1 repeats exactly;
- beat wobble: standard deviation of the time from beat to beat over its mean;
- sections: distance (dB a mel band) of 3 s blocks 12 s and more apart over that of neighbours; 1
  has no sections, only chance;
- returns: how alike (cosine, chroma in time) 4 s are to the likest 4 s at least 6 s away;
- held: share of the time in which the loudest pitch class is the one of a second before: a drone
  is 1, and is in scale and returns all the time;
- silent: share of quarters of a second below -55 dB: the clip has ended, or not begun;
- loop: longest time in which the two coarsest codebooks repeat themselves every frame, or every so
  many frames up to a second, in seconds;
- drift: last ten seconds minus seconds 10 to 20, of flatness (dB; noise is 0, tones far below),
  level (dB) and in scale. Of a real piece the last ten seconds end 3 s before its end, where the
  music does.

With `--held` each clip is held to the tempo and the key that its caption names or, where it names
none, to those that the model finds; with `--chords` instead to chords beside these, as the studio
does.

The committed result without a suffix is of `musicgen-rl data make held_out --hours 3 --seed 910
--valid .49 --test .49`.

Writes pocket_music.json and .md, and one sheet of what each clip plays: energy by semitone (up)
and time, the clip above, the piece whose caption it was given below.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import soxr
import torch
from pocket_prompts import in_scale, save_small

from musicgen_rl.audio.tempo import named_tempo, tempo_fits
from musicgen_rl.codec.base import Codec
from musicgen_rl.data.chords import AUTO_CHORDS, NO_CHORDS
from musicgen_rl.data.keys import AUTO_KEY, NO_KEY, Key, named_key
from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.data.pocket.listen import ANALYSIS_RATE, harmonic_chroma
from musicgen_rl.data.pocket.prompts import corpora_of, corpora_words
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.storage import write_json
from musicgen_rl.training.reward_mels import read_mono

RATE = ANALYSIS_RATE
RESULT = Path("benchmarks/results/pocket_music")
PICTURE = Path("docs/images/pocket_chromagrams.png")
"""The committed sheet; clips of any other result are drawn beside it."""
HELD = ("", "a tempo and a key", "a tempo, a key and chords")
"""To what clips may be held."""
SHORT_S, LONG_S = 30.0, 60.0
HOP = 512
COARSE = 2
MEASURES: dict[str, tuple[str, int]] = {
    "in scale": (".2f", -1), "in named key": (".2f", -1), "tempo": (".0%", -1),
    "pulse": (".2f", -1), "beat wobble": (".2f", 1), "sections": (".2f", -1),
    "returns": (".2f", -1), "held": (".2f", 1), "silent": (".1%", 1), "loop, s": (".1f", 1),
    "drift of flatness, dB": ("+.1f", 1), "drift of level, dB": ("+.1f", 0),
    "drift of in scale": ("+.2f", -1),
}  # fmt: skip
"""Measure -> (how it is written, which side is the bad one: -1 low, 1 high, 0 both)."""


@dataclass(frozen=True)
class Sound:
    """What is measured: samples [M] at RATE, codes [K, T], and the frames a second of these."""

    samples: np.ndarray
    codes: np.ndarray
    frame_rate: float


def choose(
    manifests: Sequence[Path], count: int, least_s: float = SHORT_S
) -> list[tuple[Path, Entry, str]]:
    """Take a caption of each of `count` held-out pieces, styles in turn, named tempi first."""
    by_style: dict[str, list[tuple[Path, Entry, str]]] = {}
    for manifest in manifests:
        for entry in read_manifest(manifest):
            if entry.split == "train" or (entry.duration_s or 0.0) < least_s:
                continue
            caption = next((c for c in entry.captions if named_tempo(c)), entry.captions[0])
            place = manifest.parent / entry.audio
            by_style.setdefault(entry.attributes["style"], []).append((place, entry, caption))
    for queue in by_style.values():
        queue.sort(key=lambda item: named_tempo(item[2]) is None)
    queues = [by_style[name] for name in sorted(by_style)]
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[i] for i in range(longest) for queue in queues if i < len(queue)][:count]


def share_of_key(chroma: np.ndarray, key: Key) -> float:
    """Give the share of chroma [12] on a key's notes."""
    return float(chroma[list(key.notes)].sum() / (chroma.sum() + 1e-9))


def pulse_and_wobble(samples: np.ndarray) -> tuple[float, float, float]:
    """Hear the beat of samples [M]: (tempo in bpm, pulse, wobble)."""
    strength = librosa.onset.onset_strength(y=samples, sr=RATE, hop_length=HOP)
    heard = librosa.feature.tempo(onset_envelope=strength, sr=RATE, hop_length=HOP)
    tempo = float(np.atleast_1d(heard)[0])
    centred = strength - strength.mean()
    correlation = librosa.autocorrelate(centred)
    lags = np.arange(len(correlation)) * HOP / RATE
    counted = (lags >= 60 / 220) & (lags <= 60 / 40)
    overlap = 1.0 - np.arange(len(correlation)) / len(correlation)
    scaled = correlation / (overlap * correlation[0] + 1e-9)
    _, beats = librosa.beat.beat_track(onset_envelope=strength, sr=RATE, hop_length=HOP, bpm=tempo)
    gaps = np.diff(beats)
    wobble = float(gaps.std() / gaps.mean()) if len(gaps) > 2 else float("nan")
    return tempo, float(scaled[counted].max()), wobble


def form(samples: np.ndarray) -> tuple[float, float]:
    """Look for form in samples [M]: (sections, returns)."""
    mel = librosa.feature.melspectrogram(y=samples, sr=RATE, n_mels=40, hop_length=HOP)
    levels = 10 * np.log10(mel + 1e-6)
    step = round(3 * RATE / HOP)
    blocks = levels[:, : levels.shape[1] // step * step].reshape(40, -1, step).mean(2).T  # [B, 40]
    apart = np.abs(blocks[:, None] - blocks[None]).mean(2)  # [B, B] dB
    distance = np.abs(np.subtract.outer(np.arange(len(blocks)), np.arange(len(blocks))))
    sections = float(apart[distance >= 4].mean() / (apart[distance == 1].mean() + 1e-9))
    chroma = librosa.feature.chroma_stft(y=samples, sr=RATE, n_fft=4096, hop_length=4000)
    frames = chroma - chroma.mean(0)  # [12, 4 a second]
    windows = np.stack([frames[:, i : i + 16].ravel() for i in range(frames.shape[1] - 15)])
    windows /= np.linalg.norm(windows, axis=1, keepdims=True) + 1e-9
    alike = windows @ windows.T
    near = np.abs(np.subtract.outer(np.arange(len(alike)), np.arange(len(alike)))) < 24
    return sections, float(np.where(near, -1.0, alike).max(1).mean())


def held(samples: np.ndarray) -> float:
    """Give the share of quarters of a second whose loudest pitch class sounded a second before."""
    chroma = librosa.feature.chroma_stft(y=samples, sr=RATE, n_fft=4096, hop_length=4000)
    loudest = chroma.argmax(0)
    return float((loudest[4:] == loudest[:-4]).mean())


def silent(samples: np.ndarray) -> float:
    """Give the share of quarters of a second below -55 dB."""
    blocks = samples[: len(samples) // 4000 * 4000].reshape(-1, 4000)
    return float((np.square(blocks).mean(1) < 10**-5.5).mean())


def longest_loop(codes: np.ndarray, longest_period: int) -> int:
    """Count the frames of the longest stretch of codes [K, T] that repeats with one short period.

    The frames of the first turn are not counted: a stretch that only equals itself is 0 long.
    """
    longest = 0
    for period in range(1, min(longest_period, codes.shape[1] - 1) + 1):
        same = (codes[:, period:] == codes[:, :-period]).all(0)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], same.astype(int), [0]])))
        runs = edges[1::2] - edges[::2]
        longest = max([longest, *(int(run) for run in runs if run >= period)])
    return longest


def flatness_db(samples: np.ndarray) -> float:
    """Give the median flatness of the spectrum of samples [M], in dB; white noise is near -2.5."""
    flat = librosa.feature.spectral_flatness(y=samples, n_fft=2048, hop_length=1024)
    return float(np.median(10 * np.log10(flat + 1e-10)))


def drift(early: np.ndarray, late: np.ndarray) -> dict[str, float]:
    """Compare two parts of a clip: what the later one has more of."""

    def level(part: np.ndarray) -> float:
        return float(10 * np.log10(np.square(part).mean() + 1e-10))

    scales = [in_scale(harmonic_chroma(part)) for part in (early, late)]
    return {
        "drift of flatness, dB": flatness_db(late) - flatness_db(early),
        "drift of level, dB": level(late) - level(early),
        "drift of in scale": scales[1] - scales[0],
    }


def measure(sound: Sound, caption: str) -> dict[str, float]:
    """Measure a sound against what its caption names; nan where it names nothing."""
    samples = sound.samples[: round(SHORT_S * RATE)]
    chroma = harmonic_chroma(samples)
    tempo, pulse, wobble = pulse_and_wobble(samples)
    sections, returns = form(samples)
    named, key = named_tempo(caption), named_key(caption)
    codes = sound.codes[:COARSE, : round(SHORT_S * sound.frame_rate)]
    return {
        "in scale": in_scale(chroma),
        "in named key": share_of_key(chroma, key) if key else float("nan"),
        "tempo": float(tempo_fits(tempo, named)) if named else float("nan"),
        "pulse": pulse, "beat wobble": wobble, "sections": sections, "returns": returns,
        "held": held(samples), "silent": silent(samples),
        "loop, s": longest_loop(codes, round(sound.frame_rate)) / sound.frame_rate,
    }  # fmt: skip


def drift_of(samples: np.ndarray, end_s: float) -> dict[str, float]:
    """Compare seconds 10 to 20 of samples [M] with the ten that end at `end_s`."""
    ten, end = 10 * RATE, round(end_s * RATE)
    return drift(samples[ten : 2 * ten], samples[end - ten : end])


def summarise(
    made: Sequence[Mapping[str, float]], real: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Average each measure; count made clips that pass what 95 % of the real ones keep."""
    found = {}
    for name, (form_, bad) in MEASURES.items():
        values = [np.array([row[name] for row in rows if np.isfinite(row.get(name, np.nan))])
                  for rows in (made, real)]  # fmt: skip
        means = [float(v.mean()) if len(v) else None for v in values]
        out = None
        if all(len(v) for v in values) and name != "tempo":
            low, high = np.quantile(values[1], [0.05, 0.95] if bad else [0.025, 0.975])
            below, above = (values[0] < low) & (bad <= 0), (values[0] > high) & (bad >= 0)
            out = int((below | above).sum())
        found[name] = {"made": means[0], "real": means[1], "format": form_,
                       "clips": len(values[0]), "real clips": len(values[1]),
                       "outside": out}  # fmt: skip
    return found


def markdown(about: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """Write the table."""
    lines = [
        f"# Is it music? {about['model']}{about['held'] and ', held to ' + about['held']}", "",
        f"Made by `benchmarks/pocket_music.py` ({about['seconds']:.0f} s of generating and "
        "measuring; its first lines say what the measures are). *Outside* counts generated clips "
        "beyond what 95 % of the real ones keep, on the bad side. "
        f"{corpora_words(about.get('corpora', ()))}".rstrip(), "",
        "| measure | generated | clips | real, held out | clips | outside |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, row in summary.items():
        cells = ["" if row[k] is None else f"{row[k]:{row['format']}}" for k in ("made", "real")]
        outside = "" if row["outside"] is None else f"{row['outside']} of {row['clips']}"
        lines.append(f"| {name} | {cells[0]} | {row['clips']} | {cells[1]} | {row['real clips']} | "
                     f"{outside} |")  # fmt: skip
    return "\n".join([*lines, ""])


def draw(pairs: Sequence[tuple[str, np.ndarray, np.ndarray]], path: Path) -> None:
    """Draw energy by semitone and time of pairs (title, made [M], real [M]), made above real."""
    from matplotlib.figure import Figure

    columns = 5
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.6 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, columns, squeeze=False, sharex=True, sharey=True)
    for axis in axes.flat:
        axis.set_axis_off()
    for i, (title, *sounds) in enumerate(pairs):
        for j, samples in enumerate(sounds):
            axis = axes[2 * (i // columns) + j][i % columns]
            levels = librosa.cqt(
                samples[: round(SHORT_S * RATE)], sr=RATE, hop_length=1024, n_bins=66,
                fmin=librosa.note_to_hz("C2"),
            )  # fmt: skip
            pooled = np.abs(levels[:, : levels.shape[1] // 2 * 2]).reshape(66, -1, 2).mean(2)
            image = librosa.amplitude_to_db(pooled, ref=np.max, top_db=45)
            axis.set_axis_on()
            axis.imshow(image, origin="lower", aspect="auto", cmap="magma", interpolation="nearest",
                        extent=(0, SHORT_S, 36, 36 + 66))  # fmt: skip
            axis.set_yticks(range(36, 102, 12), [f"C{o}" for o in range(2, 8)], fontsize=8)
            axis.tick_params(axis="x", labelsize=8)
            name = "the real piece" if j else f"{i + 1}. {title[:44]}"
            axis.set_title(name, fontsize=9, loc="left", pad=2)
    save_small(figure, path, 65)


def at_rate(samples: np.ndarray, rate: int) -> np.ndarray:
    """Bring samples [M] to RATE."""
    return np.asarray(soxr.resample(samples, rate, RATE), dtype=np.float32)


def real_sound(path: Path, codec: Codec, frame_rate: float) -> Sound:
    """Read a real piece and encode its beginning."""
    samples, rate = read_mono(path)
    part = samples[: round(SHORT_S * rate)]
    with torch.inference_mode():
        codes = codec.encode(part.expand(1, codec.audio_channels, -1))[0].numpy()
    return Sound(at_rate(samples.numpy(), rate), codes, frame_rate)


def generate(
    pipeline: Pipeline,
    captions: list[str],
    seconds: float,
    diversity: float | None,
    held: str,
) -> list[Sound]:
    """Play every caption once, seed 0; `held` is one of HELD."""
    if not captions:
        return []
    made = pipeline.generate(
        captions,
        duration_s=seconds,
        seed=0,
        diversity=diversity,
        tempo_bpm=None if held else 0.0,
        steady=bool(held),
        key=AUTO_KEY if held else NO_KEY,
        chords=AUTO_CHORDS if held == HELD[2] else NO_CHORDS,
    )
    return [
        Sound(at_rate(clip.samples.mean(0), clip.sample_rate), np.asarray(clip.codes),
              pipeline.info.frame_rate)
        for clip in made
    ]  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True, action="append")
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--diversity", type=float)
    parser.add_argument(
        "--held", action="store_const", const=HELD[1], default="", help="to a tempo and a key"
    )
    parser.add_argument(
        "--chords", action="store_const", const=HELD[2], dest="held", help="to chords beside these"
    )
    parser.add_argument("--clips", type=int, default=20)
    parser.add_argument("--long", type=int, default=6, help="how many of them are 60 s long")
    parser.add_argument("--real", type=int, default=40)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--picture", type=Path, help="beside OUT if that is given and this is not")
    options = parser.parse_args()
    if options.picture is None:
        committed = options.out.resolve() == RESULT.resolve()
        options.picture = PICTURE if committed else options.out.with_suffix(".png")
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(1)
    begun = time.perf_counter()
    pipeline = Pipeline.load(options.model, device="cpu")
    chosen = choose(options.manifest, max(options.real, options.clips), SHORT_S + 3)
    captions = [caption for *_, caption in chosen[: options.clips]]
    long = min(options.long, len(captions))
    sounds = generate(pipeline, captions[:long], LONG_S, options.diversity, options.held)
    sounds += generate(pipeline, captions[long:], SHORT_S, options.diversity, options.held)
    print(f"{len(sounds)} clips after {time.perf_counter() - begun:.0f} s", flush=True)
    made = [measure(sound, caption) for sound, caption in zip(sounds, captions, strict=True)]
    for row, sound in zip(made[:long], sounds, strict=False):
        row |= drift_of(sound.samples, LONG_S)
    real, pairs = [], []
    for i, (path, entry, caption) in enumerate(chosen):
        sound = real_sound(path, pipeline.codec, pipeline.info.frame_rate)
        row = measure(sound, caption)
        end = len(sound.samples) / RATE - 3.0
        real.append(row | (drift_of(sound.samples, end) if end >= 45 else {}))
        if i < len(sounds):
            style = entry.attributes["style"]
            pairs.append((f"{style}: {caption}", sounds[i].samples, sound.samples))
    draw(pairs, options.picture)
    about = {
        "model": pipeline.info.name, "model_sha256": pipeline.model_sha256,
        "diversity": options.diversity, "held": options.held, "captions": captions,
        "corpora": corpora_of(options.manifest),
        "real": len(real), "seconds": round(time.perf_counter() - begun, 1),
    }  # fmt: skip
    summary = summarise(made, real)
    rows = [{"caption": c, **{k: None if np.isnan(v) else round(v, 4) for k, v in row.items()}}
            for c, row in zip(captions, made, strict=True)]  # fmt: skip
    real_rows = [{k: None if np.isnan(v) else round(v, 4) for k, v in row.items()} for row in real]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_json(
        options.out.with_suffix(".json"),
        {"about": about, "summary": summary, "rows": rows, "real": real_rows},
    )
    text = markdown(about, summary)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
