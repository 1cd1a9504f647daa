"""Thirty prompts in plain words, one clip each, measured instead of picked.

    python benchmarks/pocket_prompts.py [--model pocket] [--diversity 0] [--steady] [--key auto]
        [--chords auto]
        [--keep FOLDER]
    python benchmarks/pocket_prompts.py --own captions.csv --out own_words   # people's own words
    python benchmarks/pocket_prompts.py --calibrate held_out/manifest.jsonl

For each clip of 10 s, seed 0, sampling as the model ships it: level and peak, the tempo librosa
hears (and whether it is the named one, its half or its double, within 4 %), how much of the chroma
lies in the best of the 24 keys' scales, how often a second the strongest pitch class moves, the
loudest repetition (the largest similarity of two different seconds), onsets a second, what the
style probe hears, and the rank of the clip's own prompt among all thirty for the report scorer
(chance is 15.5). Writes pocket_prompts.md, the worst first and the worst five told at length,
pocket_prompts.json beside it, and spectrograms of the worst five.

A clip drones, is out of any key or repeats where it passes what 95 % of held-out pieces of the
corpus keep. `--calibrate` measures that: ten seconds from the middle of each, all the measures,
and how many of the real clips show a fault themselves; pocket_thresholds.json keeps it.

`--own` takes thirty captions, evenly, of a csv with columns caption_id and caption; its results
name them by number alone. No style is listed for them, so the style that is heard is no fault
there, nor is another instrument: what is looked for is key, held notes, repeats, level, clipping,
and a tempo that is named. `--again` writes the page of results that are there already anew.
"""

import argparse
import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch

from musicgen_rl.audio.tempo import named_tempo, tempo_fits
from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.data.manifest import read_manifest
from musicgen_rl.errors import InputError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards import load_probe, load_scorer
from musicgen_rl.rewards.probe import Probe
from musicgen_rl.rewards.scorer import Scorer
from musicgen_rl.storage import read_json, write_json
from musicgen_rl.training.reward_mels import read_mono

RESULTS = Path(__file__).parent / "results"
THRESHOLDS = RESULTS / "pocket_thresholds.json"
REWARDS = checkpoints_folder() / "pocket/rewards"
WORST = 5

PROMPTS: list[tuple[str, set[str], float]] = [
    ("slow sad piano", {"solo piano"}, 0),
    ("string quartet, tender, no drums", {"string quartet"}, 0),
    ("big orchestra with brass, triumphant", {"orchestral", "march"}, 0),
    ("a jig for fiddle and flute", {"folk"}, 0),
    ("late night jazz trio, double bass walking", {"jazz"}, 0),
    ("bossa nova guitar on a beach", {"bossa nova"}, 0),
    ("slow blues with organ and guitar", {"blues"}, 0),
    ("rock band at 140 bpm, distorted guitars", {"rock", "metal"}, 140),
    ("heavy metal, fast and aggressive", {"metal"}, 0),
    ("funk, slap bass and clavinet, 105 bpm", {"funk"}, 105),
    ("reggae with offbeat organ", {"reggae"}, 0),
    ("lo-fi hip hop to study to", {"lo-fi", "hip hop"}, 0),
    ("house music, four on the floor, 124 bpm", {"house"}, 124),
    ("dark techno, 132 bpm", {"techno"}, 132),
    ("ambient pads, floating, no beat", {"ambient"}, 0),
    ("80s synthwave with arpeggios", {"synthwave"}, 0),
    ("8 bit game music, happy", {"chiptune"}, 0),
    ("military march with snare drum, 120 bpm", {"march"}, 120),
    ("viennese waltz", {"waltz"}, 0),
    ("salsa with congas and trumpets", {"latin"}, 0),
    ("drum and bass, 170 bpm", {"drum and bass"}, 170),
    ("country song with banjo and steel guitar", {"country"}, 0),
    ("church choir and pipe organ", {"choral hymn"}, 0),
    ("harpsichord in the style of the baroque", {"baroque"}, 0),
    ("soft ballad with cello", {"ballad"}, 0),
    ("cheerful ukulele tune for a commercial", {"pop", "folk"}, 0),
    ("mysterious music for a detective film", {"orchestral", "ambient", "jazz"}, 0),
    ("marimba and flute, playful, 110 bpm", set(), 110),
    ("solo classical guitar", {"folk", "bossa nova", "tango"}, 0),
    ("energetic dance music with a big synth lead", {"house", "techno", "trance"}, 0),
]
"""Prompt, styles of the corpus that would answer it (none: any), tempo named or 0."""
MAJOR = np.array([1, 0, 1, 0, 1, 1, 0, 1, 0, 1, 0, 1], dtype=bool)


def in_scale(chroma: np.ndarray) -> float:
    """Give the share of chroma [12] in the best scale, major or, with the same notes, minor."""
    return float(max(chroma[np.roll(MAJOR, k)].sum() for k in range(12)) / (chroma.sum() + 1e-9))


def measure(samples: np.ndarray, rate: int) -> dict[str, float]:
    """Measure a clip [M]."""
    chroma = librosa.feature.chroma_stft(y=samples, sr=rate, n_fft=8192, hop_length=1280)
    blocks = chroma[:, : chroma.shape[1] // 4 * 4].reshape(12, -1, 4).mean(2)
    mel = librosa.feature.melspectrogram(y=samples, sr=rate, n_mels=64, hop_length=640)
    log = np.log(mel + 1e-5)
    seconds = log[:, : log.shape[1] // 50 * 50].reshape(64, -1, 50)
    seconds = (seconds - seconds.mean(2).mean(1)[:, None, None]).transpose(1, 0, 2)
    flat = seconds.reshape(len(seconds), -1)
    flat = flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-9)
    alike = flat @ flat.T - 2.0 * np.eye(len(flat))
    tempo = librosa.feature.tempo(y=samples, sr=rate)
    return {
        "level_db": 20.0 * float(np.log10(np.sqrt((samples**2).mean()) + 1e-9)),
        "peak": float(np.abs(samples).max()),
        "tempo": float(np.atleast_1d(tempo)[0]),
        "in_scale": in_scale(chroma.mean(1)),
        "moves": float((np.diff(blocks.argmax(0)) != 0).sum() / (len(samples) / rate)),
        "repeats": float(alike.max()),
        "onsets": len(librosa.onset.onset_detect(y=samples, sr=rate)) / (len(samples) / rate),
    }


@dataclass(frozen=True)
class Limits:
    """What 95 % of real clips keep."""

    in_scale: float
    """Least share of chroma in a scale."""
    moves: float
    """Fewest moves of the strongest pitch class a second."""
    repeats: float
    """Largest similarity of two seconds."""

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]]) -> "Limits":
        """Take them from measured real clips."""

        def quantile(name: str, share: float) -> float:
            return round(float(np.quantile([row[name] for row in rows], share)), 3)

        return cls(quantile("in_scale", 0.05), quantile("moves", 0.05), quantile("repeats", 0.95))

    @classmethod
    def read(cls, path: Path) -> "Limits":
        """Read what `--calibrate` wrote."""
        return cls(**read_json(path)["limits"])


def faults(row: Mapping[str, Any], styles: set[str], tempo: float, limits: Limits) -> list[str]:
    """List what is wrong with a clip, in words."""
    found = []
    if styles and row["style"] not in styles:
        found.append(f"sounds like {row['style']}")
    if tempo and not tempo_fits(row["tempo"], tempo):
        found.append(f"tempo {row['tempo']:.0f} instead of {tempo:.0f}")
    if row["level_db"] < -45:
        found.append("nearly silent")
    if row["peak"] >= 1.0:
        found.append("clipped")
    if row["in_scale"] < limits.in_scale:
        found.append("out of any key")
    if row["moves"] < limits.moves:
        found.append("drones")
    if row["repeats"] > limits.repeats:
        found.append("a second repeats")
    return found


def hear(probe: Probe, samples: np.ndarray, rate: int, styles: set[str]) -> dict[str, Any]:
    """Ask the probe for the style: the likeliest, the three likeliest, log p of `styles`."""
    heard = probe.log_probs(torch.from_numpy(samples)[None], rate)["style"][0]
    names = probe.classes["style"]
    best = heard.argsort(descending=True)[:3].tolist()
    wanted = [names.index(style) for style in styles if style in names]
    return {
        "style": names[best[0]],
        "styles": {names[i]: round(float(heard[i].exp()), 2) for i in best},
        "log_p": float(torch.logsumexp(heard[wanted], 0)) if wanted else 0.0,
    }


def ranks(scores: torch.Tensor) -> list[int]:
    """Give the rank of each row's own column in scores [N, N], 1 is the best."""
    return [int((row > row[i]).sum()) + 1 for i, row in enumerate(scores)]


def calibrate(manifests: Sequence[Path], probe: Probe) -> dict[str, Any]:
    """Measure held-out pieces, ten seconds from the middle of each."""
    rows = []
    for manifest in manifests:
        for entry in read_manifest(manifest):
            if entry.split == "train":
                continue
            samples, rate = read_mono(manifest.parent / entry.audio)
            start = max(0, (len(samples) - 10 * rate) // 2)
            part = samples[start : start + 10 * rate].numpy()
            style, tempo = entry.attributes["style"], float(entry.attributes["tempo_bpm"])
            rows.append({"style_asked": style, "tempo_asked": tempo, **measure(part, rate),
                         **hear(probe, part, rate, {style})})  # fmt: skip
    if not rows:
        raise InputError(f"{manifests[0]} has no held-out pieces: mark some valid or test")
    limits = Limits.of(rows)
    found = [faults(row, {row["style_asked"]}, 0.0, limits) for row in rows]
    return {
        "pieces": len(rows),
        "limits": vars(limits),
        "tempo heard": float(np.mean([tempo_fits(r["tempo"], r["tempo_asked"]) for r in rows])),
        "style heard": float(np.mean([r["style"] == r["style_asked"] for r in rows])),
        "no fault": float(np.mean([not words for words in found])),
        "means": {name: float(np.mean([row[name] for row in rows]))
                  for name in ("in_scale", "moves", "repeats", "onsets", "level_db")},
    }  # fmt: skip


def own_prompts(path: Path, count: int = 30) -> list[tuple[str, str, set[str], float]]:
    """Read `count` captions of a csv, evenly: (name, prompt, no styles, tempo named or 0)."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or {"caption_id", "caption"} - rows[0].keys():
        raise InputError(f"{path} needs columns caption_id and caption")
    chosen = [rows[round(i)] for i in np.linspace(0, len(rows) - 1, min(count, len(rows)))]
    return [(f"caption {r['caption_id']}", r["caption"], set(), named_tempo(r["caption"]) or 0.0)
            for r in chosen]  # fmt: skip


def describe(row: Mapping[str, Any], limits: Limits) -> str:
    """Tell a clip by its measurements."""
    heard = ", ".join(f"{name} ({p:.2f})" for name, p in row["styles"].items())
    named = f", {row['named']:.0f} named" if row["named"] else ""
    return (
        f"{'; '.join(row['faults']) or 'no fault'}. Heard as {heard}; its own prompt is number "
        f"{row['rank']} of {row['of']} for the scorer. Tempo {row['tempo']:.0f}{named}; "
        f"{row['onsets']:.1f} onsets a "
        f"second; {row['in_scale']:.2f} of the chroma in a scale (real clips: "
        f"{limits.in_scale:.2f} and more); pitch moves {row['moves']:.1f} times a second (real: "
        f"{limits.moves:.1f} and more); likest two seconds {row['repeats']:.2f} (real: up to "
        f"{limits.repeats:.2f}); level {row['level_db']:.0f} dB."
    )


def markdown(
    rows: Sequence[Mapping[str, Any]], limits: Limits, title: str, real: float | None
) -> str:
    """Write the table, and the worst five at length.

    Args:
        rows: clips, the worst first.
        limits: what real clips keep.
        title: of the page.
        real: share of real clips without a fault, a wrong style counted; None where no style was
            looked for.
    """
    beside = (
        f"of real held-out clips, {real:.0%}" if real is not None else
        "looked for are key, held notes and repeats, each within what 95 % of real clips keep, and "
        "level, clipping and a tempo that is named. **Style and instruments are not**: the second "
        "column has what is heard, to be held against the words"
    )  # fmt: skip
    clean = sum(not r["faults"] for r in rows)
    mean = float(np.mean([r["rank"] for r in rows]))
    lines = [
        f"# {title}", "",
        f"Made by `benchmarks/pocket_prompts.py`. {clean} of {len(rows)} clips show no fault; "
        f"{beside}. Among the {len(rows)} prompts a clip's own has rank "
        f"{mean:.1f} on average for the report scorer; chance is {(len(rows) + 1) / 2:.1f}.", "",
        "| prompt | heard as | tempo | in scale | moves a second | level dB | rank | faults |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    lines += [
        f"| {r['prompt']} | {r['style']} | {r['tempo']:.0f} | {r['in_scale']:.2f} | "
        f"{r['moves']:.1f} | {r['level_db']:.0f} | {r['rank']} | {', '.join(r['faults']) or '-'} |"
        for r in rows
    ]
    lines += ["", f"## The worst {WORST}", ""]
    lines += [f"{i}. *{r['prompt']}*: {describe(r, limits)}"
              for i, r in enumerate(rows[:WORST], start=1)]  # fmt: skip
    return "\n".join([*lines, ""])


def draw(
    rows: Sequence[Mapping[str, Any]], clips: Mapping[str, np.ndarray], rate: int, path: Path
) -> None:
    """Draw mel spectrograms of clips [M], with what is wrong with each above it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.4 * len(rows)), layout="constrained")
    for axis, row in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        mel = librosa.feature.melspectrogram(
            y=clips[row["prompt"]], sr=rate, n_mels=128, hop_length=640, n_fft=2048
        )
        levels = librosa.power_to_db(mel, ref=np.max, top_db=70)
        axis.imshow(levels, origin="lower", aspect="auto", cmap="magma", extent=(0, 10, 0, 128))
        marks = librosa.mel_frequencies(128, fmax=rate / 2)
        hertz = (125, 500, 2000, 8000)
        axis.set_yticks([int(np.searchsorted(marks, h)) for h in hertz], hertz)
        axis.set_title(f"{row['prompt']}: {', '.join(row['faults']) or 'no fault'}", fontsize=9)
    save_small(figure, path, 60)


def save_small(figure: Any, path: Path, dpi: int) -> None:
    """Save a figure as a png of 128 colours, a third of the size of one of all."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=dpi)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.open(buffer).convert("RGB").quantize(128).save(path, optimize=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--diversity", type=float)
    parser.add_argument("--steady", action="store_true", help="each finds a tempo and holds it")
    parser.add_argument("--key", help="to hold; auto finds one where the words name none")
    parser.add_argument("--chords", help="to hold; auto finds some where the words name none")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--own", type=Path)
    parser.add_argument("--again", action="store_true", help="write OUT.md anew from OUT.json")
    parser.add_argument("--calibrate", type=Path, action="append")
    parser.add_argument("--thresholds", type=Path, default=THRESHOLDS)
    parser.add_argument("--rewards", type=Path, default=REWARDS)
    parser.add_argument("--out", type=Path, default=RESULTS / "pocket_prompts")
    parser.add_argument("--picture", type=Path, help="docs/images/OUT_worst.png if not given")
    return parser.parse_args()


def main() -> None:
    options = parse()
    if options.again:
        kept = read_json(options.out.with_suffix(".json"))
        if "title" not in kept:
            raise InputError(f"{options.out}.json does not tell its title: make it again")
        text = markdown(
            kept["rows"], Limits(**kept["limits"]), kept["title"], kept["real no fault"]
        )
        options.out.with_suffix(".md").write_text(text, encoding="utf-8")
        return
    torch.set_num_threads(1)
    probe = load_probe(options.rewards / "probe")
    if options.calibrate:
        found = calibrate(options.calibrate, probe)
        write_json(options.thresholds, found)
        print(json.dumps(found, indent=1))
        return
    limits, real = Limits.read(options.thresholds), read_json(options.thresholds)["no fault"]
    asked = own_prompts(options.own) if options.own else [(p, p, s, t) for p, s, t in PROMPTS]
    pipeline = Pipeline.load(options.model, device="cpu")
    scorer: Scorer = load_scorer(options.rewards / "scorer-report")
    rows: list[dict[str, Any]] = []
    clips: dict[str, np.ndarray] = {}
    for name, prompt, styles, tempo in asked:
        clip = pipeline.generate(
            prompt, duration_s=10, seed=0, diversity=options.diversity, steady=options.steady,
            key=options.key, chords=options.chords,
        )[0]  # fmt: skip
        if options.keep:
            clip.save(options.keep / (re.sub(r"\W+", "-", name) + ".ogg"), overwrite=True)
        clips[name] = samples = clip.samples.mean(axis=0)
        row = {"prompt": name, "named": tempo, **measure(samples, clip.sample_rate),
               **hear(probe, samples, clip.sample_rate, styles)}  # fmt: skip
        row["faults"] = faults(row, styles, tempo, limits)
        rows.append(row)
        print(f"{name}: {', '.join(row['faults']) or 'nothing found'}", flush=True)
    heard = scorer.embed_audio(torch.from_numpy(np.stack(list(clips.values()))), clip.sample_rate)
    read = scorer.embed_text([prompt for _, prompt, *_ in asked])
    for row, rank in zip(rows, ranks(heard @ read.T), strict=True):
        row |= {"rank": rank, "of": len(rows)}
    rows.sort(key=lambda r: (-len(r["faults"]), r["log_p"], -r["rank"]))
    at = "as shipped" if options.diversity is None else f"diversity {options.diversity:g}"
    at += ", with a steady beat" if options.steady else ""
    at += f", key {options.key}" if options.key else ""
    at += f", chords {options.chords}" if options.chords else ""
    words = "captions in people's own words" if options.own else "prompts in plain words"
    title = f"{len(rows)} {words}: {options.model}, {at}, 10 s, seed 0"
    real = None if options.own else real
    text = markdown(rows, limits, title, real)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".md").write_text(text, encoding="utf-8")
    write_json(options.out.with_suffix(".json"), {
        "model": pipeline.info.name, "model_sha256": pipeline.model_sha256,
        "diversity": options.diversity, "steady": options.steady, "key": options.key,
        "chords": options.chords, "title": title, "limits": vars(limits),
        "real no fault": real, "rows": rows,
    })  # fmt: skip
    picture = options.picture or Path(f"docs/images/{options.out.name}_worst.png")
    draw(rows[:WORST], clips, clip.sample_rate, picture)
    print(text)


if __name__ == "__main__":
    main()
