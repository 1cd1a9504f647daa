"""Are the chords that are asked for played, and does a clip come back to what it played?

    python benchmarks/chords.py --manifest held_out/manifest.jsonl [--model pocket]
        [--diversity 0 ...] [--louder 1 ...] [--returning 1 ...] [--split test] [--pieces 30]
        [--seconds 30] [--seed 0] [--out STEM]

Of each held-out piece whose chords are known a caption that names no tempo is played, unpicked, at
the piece's tempo: in its key (*key*), with the progression of its first theme over and over
(*chords*), and with both. With `--louder 1.5` the chords are told half as strongly again, with
`--returning 0` nothing that was played over them is called back (sampling/recall.py). Real
pieces stand beside them.

- on its chords: the share of tonal energy that lies on the notes of the chord that is asked for at
  the moment, less what as many notes would get by chance; 0 is chance. Of real pieces, and of clips
  told no chords, the piece's own chords, or its progression, are counted;
- in a scale, returns, held, pulse: as in `benchmarks/pocket_music.py`;
- style heard: share of clips in which the style probe hears the piece's style.

Errors are standard errors over pieces. `musicgen-rl data make probe --hours 1 --seed 4711 --test
0.9` makes such a manifest.
"""

import argparse
import itertools
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from pocket_music import at_rate, form, held, pulse_and_wobble
from pocket_prompts import in_scale
from steady import untimed_caption
from takes import PROBE, real_clip, tell_louder

from musicgen_rl.audio.clip import Clip
from musicgen_rl.data.chords import NO_CHORDS, Chord, Progression, read_chord
from musicgen_rl.data.keys import NO_KEY
from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.data.pocket.captions import key_of
from musicgen_rl.data.pocket.listen import ANALYSIS_RATE, harmonic_chroma
from musicgen_rl.data.progressions import in_key
from musicgen_rl.errors import InputError, MusicgenRLError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.rewards import load_probe
from musicgen_rl.rewards.probe import Probe
from musicgen_rl.storage import write_json

MEASURES = ("chords", "scale", "returns", "held", "pulse", "style")
HEADS = ("on its chords", "in a scale", "returns", "held", "pulse", "style heard")
WAYS = {"key": (True, False), "chords": (False, True), "key and chords": (True, True)}
"""Way -> whether the key is held, whether the chords are."""
HOP = 2048
Timeline = Sequence[tuple[float, Chord]]


def own_chords(piece: Entry) -> Timeline:
    """List the chords of a piece with the seconds at which they begin."""
    return [(float(start), read_chord(name)) for start, name in piece.attributes["chords"]]


def progression_of(piece: Entry) -> Progression:
    """Give the chords of a piece's first theme."""
    return in_key(piece.attributes["progression"], key_of(piece.attributes).tonic)


def round_and_round(piece: Entry, seconds: float) -> Timeline:
    """List the chords of a piece's first theme, played over and over for so long."""
    facts, progression = piece.attributes, progression_of(piece)
    bar_s, found = int(facts["meter"][0]) * facts["beat_s"], list[tuple[float, Chord]]()
    number = 0
    while (start := facts["first_beat_s"] + number * bar_s) < seconds:
        bar = progression.bars[number % len(progression.bars)]
        found += [(start + place * bar_s / len(bar), chord) for place, chord in enumerate(bar)]
        number += 1
    return found


def on_chords(sound: NDArray[np.float32], chords: Timeline) -> float:
    """Measure the energy of samples [M] on chords over chance, see the top of this file."""
    tonal = librosa.effects.harmonic(sound)
    chroma = librosa.feature.chroma_cqt(y=tonal, sr=ANALYSIS_RATE, hop_length=HOP)  # [12, T]
    seconds = np.arange(chroma.shape[1]) * HOP / ANALYSIS_RATE
    starts = [start for start, _ in chords]
    sounding = np.clip(np.searchsorted(starts, seconds, side="right") - 1, 0, None)
    within = np.zeros((len(chords), 12))
    for row, (_, chord) in enumerate(chords):
        within[row, list(chord.notes)] = 1.0
        within[row] -= len(chord.notes) / 12
    return float((chroma * within[sounding].T).sum() / (chroma.sum() + 1e-9))


def judge(clip: Clip, chords: Timeline, style: str, probe: Probe) -> list[float]:
    """Measure one clip, in the order of MEASURES."""
    mono = clip.samples.mean(axis=0)
    sound = at_rate(mono, clip.sample_rate)
    heard = probe.log_probs(torch.from_numpy(mono[None]), clip.sample_rate)["style"][0]
    right = probe.classes["style"][int(heard.argmax())] == style
    return [
        on_chords(sound, chords), in_scale(harmonic_chroma(sound)), form(sound)[1], held(sound),
        pulse_and_wobble(sound)[1], float(right),
    ]  # fmt: skip


def summarise(rows: Sequence[Sequence[float]]) -> dict[str, list[float]]:
    """Give mean and standard error over pieces of each measure."""
    table = np.array(rows)  # [P, 6]
    errors = table.std(axis=0, ddof=1) / len(table) ** 0.5
    return {
        name: [float(mean), float(error)]
        for name, mean, error in zip(MEASURES, table.mean(axis=0), errors, strict=True)
    }


def choose(path: Path, split: str, count: int, seconds: float) -> list[Entry]:
    """Take held-out pieces that are long enough and of which chords, beat and progression are told.

    Raises:
        InputError: fewer than two.
    """
    told = ("chords", "progression", "beat_s")
    pieces = [
        e for e in read_manifest(path)
        if e.split == split and all(name in e.attributes for name in told)
        and (e.duration_s or 0.0) >= seconds + 3.0
    ]  # fmt: skip
    if len(pieces) < 2:
        raise InputError("two held-out pieces or more are needed: data make --test 0.9")
    return pieces[:count]


def measure(given: argparse.Namespace) -> tuple[dict[str, Any], Pipeline]:
    """Play and judge; see the top of this file."""
    pieces = choose(given.manifest, given.split, given.pieces, given.seconds)
    random, probe = np.random.default_rng(given.seed), load_probe(PROBE)
    captions = [untimed_caption(p, random) or str(p.attributes["style"]) for p in pieces]
    styles = [str(piece.attributes["style"]) for piece in pieces]
    places = [given.manifest.parent / piece.audio for piece in pieces]

    def table(clips: Sequence[Clip], chords: Sequence[Timeline]) -> dict[str, list[float]]:
        rows = zip(clips, chords, styles, strict=True)
        return summarise([judge(clip, told, style, probe) for clip, told, style in rows])

    real = [real_clip(place, given.seconds) for place in places]
    rows = {"real pieces": table(real, [own_chords(piece) for piece in pieces])}
    asked = [round_and_round(piece, given.seconds) for piece in pieces]
    pipeline = Pipeline.load(given.model)
    for diversity in (None, *given.diversity):
        for way, (key, chords) in WAYS.items():
            for louder, returning in itertools.product(
                given.louder if chords else (1.0,), given.returning if chords else (0.0,)
            ):
                tell_louder(pipeline.holds.chords.adapter, louder)
                clips = [
                    pipeline.generate(
                        caption, duration_s=given.seconds, seed=given.seed, diversity=diversity,
                    guidance_scale=None if diversity is None else 1.0,
                        tempo_bpm=60.0 / piece.attributes["beat_s"],
                        beats_per_bar=int(piece.attributes["meter"][0]),
                        key=key_of(piece.attributes).name if key else NO_KEY,
                        chords=progression_of(piece).name if chords else NO_CHORDS,
                        returning=returning,
                    )[0]
                    for piece, caption in zip(pieces, captions, strict=True)
                ]  # fmt: skip
                tell_louder(pipeline.holds.chords.adapter, 1 / louder)
                name = given.model + ("" if diversity is None else f", dial {diversity:g}")
                name += f": {way}" + ("" if louder == 1.0 else f" x {louder:g}")
                name += "" if returning == 1.0 or not chords else f", returning {returning:g}"
                rows[name] = table(clips, asked)
    return {"pieces": len(pieces), "rows": rows}, pipeline


def render(found: Mapping[str, Any]) -> str:
    """Write the measurements as Markdown."""
    lines = [
        "# Are the chords that are asked for played?", "",
        f"Made by `benchmarks/chords.py`; its first lines say what is measured. {found['pieces']} "
        f"captions, one clip of {found['seconds']:g} s each, seed {found['seed']}.", "",
        "| | " + " | ".join(HEADS) + " |", "|---" * (len(HEADS) + 1) + "|",
    ]  # fmt: skip
    for name, row in found["rows"].items():
        cells = [f"{row[m][0]:.2f} ± {row[m][1]:.2f}" for m in MEASURES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--diversity", type=float, nargs="*", default=[], help="dial places too")
    parser.add_argument(
        "--louder", type=float, nargs="+", default=[1.0], help="the chords, so many times, in turn"
    )
    parser.add_argument(
        "--returning", type=float, nargs="+", default=[1.0], help="how strongly, in turn"
    )
    parser.add_argument("--split", default="test", help="of the manifest")
    parser.add_argument("--pieces", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/chords"))
    given = parser.parse_args()
    try:
        found, pipeline = measure(given)
    except MusicgenRLError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    found |= {
        "model_sha256": pipeline.model_sha256, "beat_sha256": pipeline.holds.tempo.sha256,
        "key_sha256": pipeline.holds.key.sha256, "chords_sha256": pipeline.holds.chords.sha256,
        "seconds": given.seconds, "seed": given.seed,
    }  # fmt: skip
    write_json(given.out.with_suffix(".json"), found)
    given.out.with_suffix(".md").write_text(render(found), encoding="utf-8")
    sys.stdout.write(render(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
