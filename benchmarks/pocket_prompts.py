"""Thirty prompts in plain words, one clip each, measured instead of picked.

    python benchmarks/pocket_prompts.py [--model pocket] [--diversity 0] [--keep FOLDER]

For each clip of 10 s, seed 0, sampling as the model ships it: level and peak, the tempo librosa
hears (and whether it is the named one, its half or its double, within 4 %), how much of the chroma
lies in the best of the 24 keys' scales, how often a second the strongest pitch class moves, the
loudest repetition (the largest similarity of two different seconds), and what the style probe
hears. Writes pocket_prompts.md, the worst first, and pocket_prompts.json beside it.

A clip drones, is out of any key or repeats where it passes what 95 % of held-out pieces of the
corpus keep (36 pieces, 10 s from their middle: 0.8 moves, 0.67 in scale, 0.74 alike; librosa finds
the tempo of 81 % of them).
"""

import argparse
import json
import re
from pathlib import Path

import librosa
import numpy as np
import torch

from musicgen_rl.checkpoint import checkpoints_folder
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards import load_probe

LEAST_IN_SCALE, LEAST_MOVES, MOST_ALIKE = 0.67, 0.8, 0.74

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


def tempo_fits(heard: float, named: float) -> bool:
    """Say whether a tempo is the named one, its half or its double, within 4 %."""
    return any(abs(heard / (named * factor) - 1.0) <= 0.04 for factor in (0.5, 1.0, 2.0))


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
    }


def faults(row: dict[str, object], styles: set[str], tempo: float) -> list[str]:
    """List what is wrong with a clip, in words."""
    found = []
    if styles and row["style"] not in styles:
        found.append(f"sounds like {row['style']}")
    if tempo and not tempo_fits(float(row["tempo"]), tempo):  # type: ignore[arg-type]
        found.append(f"tempo {row['tempo']:.0f} instead of {tempo:.0f}")
    if float(row["level_db"]) < -45:  # type: ignore[arg-type]
        found.append("nearly silent")
    if float(row["peak"]) >= 1.0:  # type: ignore[arg-type]
        found.append("clipped")
    if float(row["in_scale"]) < LEAST_IN_SCALE:  # type: ignore[arg-type]
        found.append("out of any key")
    if float(row["moves"]) < LEAST_MOVES:  # type: ignore[arg-type]
        found.append("drones")
    if float(row["repeats"]) > MOST_ALIKE:  # type: ignore[arg-type]
        found.append("a second repeats")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--diversity", type=float)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pocket_prompts"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = Pipeline.load(options.model, device="cpu")
    probe = load_probe(checkpoints_folder() / "pocket/rewards/probe")
    rows = []
    for prompt, styles, tempo in PROMPTS:
        clip = pipeline.generate(prompt, duration_s=10, seed=0, diversity=options.diversity)[0]
        if options.keep:
            clip.save(options.keep / (re.sub(r"\W+", "-", prompt) + ".ogg"))
        samples = clip.samples[0]
        heard = probe.log_probs(torch.from_numpy(samples)[None], clip.sample_rate)["style"][0]
        row: dict[str, object] = {"prompt": prompt, **measure(samples, clip.sample_rate)}
        row["style"] = probe.classes["style"][int(heard.argmax())]
        wanted = [probe.classes["style"].index(s) for s in styles if s in probe.classes["style"]]
        row["log_p"] = float(torch.logsumexp(heard[wanted], 0)) if wanted else 0.0
        row["faults"] = faults(row, styles, tempo)
        rows.append(row)
        print(f"{prompt}: {', '.join(row['faults']) or 'nothing found'}", flush=True)
    rows.sort(key=lambda r: (-len(r["faults"]), r["log_p"]))
    clean = sum(not r["faults"] for r in rows)
    at = "as shipped" if options.diversity is None else f"diversity {options.diversity:g}"
    lines = [
        f"# Thirty prompts: {options.model}, {at}, 10 s, seed 0",
        "",
        f"Made by `benchmarks/pocket_prompts.py`. {clean} of {len(rows)} clips show no fault.",
        "",
        "| prompt | heard as | tempo | in scale | moves a second | level dB | faults |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r['prompt']} | {r['style']} | {r['tempo']:.0f} | {r['in_scale']:.2f} | "
        f"{r['moves']:.1f} | {r['level_db']:.0f} | {', '.join(r['faults']) or '-'} |"
        for r in rows
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    about = {"model": pipeline.info.name, "model_sha256": pipeline.model_sha256,
             "diversity": options.diversity, "rows": rows}  # fmt: skip
    options.out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
