"""Public-domain works in several voices, given to other instruments.

Chorales of J. S. Bach and quartets of Haydn, Mozart and Beethoven, from the collections that
music21 carries; only the compressed MusicXML files, whose use is not restricted.
"""

import functools
import hashlib
import random
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from musicgen_rl.data.keys import KEY_NAMES
from musicgen_rl.data.pocket.compose import ROLE_GAIN_DB, Piece, humanize
from musicgen_rl.data.pocket.instruments import INSTRUMENTS
from musicgen_rl.data.pocket.musicxml import Bar, Work, read_musicxml
from musicgen_rl.data.pocket.rhythm import on_grid
from musicgen_rl.data.pocket.score import Note, Part, Score
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.data.pocket.tunes import folder

CHORALES = ("bach",)
QUARTETS = ("beethoven", "haydn", "mozart")
CHORALE_SHARE = 0.65

ENSEMBLES: dict[str, tuple[tuple[str, ...], ...]] = {
    "choral hymn": (
        ("choir", "choir", "choir", "choir"),
        ("church organ", "church organ", "church organ", "church organ"),
        ("trumpet", "french horn", "trombone", "tuba"),
        ("choir", "choir", "cello", "contrabass"),
    ),
    "string quartet": (("violin", "violin", "viola", "cello"),) * 3,
    "orchestral": (
        ("flute", "oboe", "clarinet", "bassoon"),
        ("oboe", "clarinet", "french horn", "cello"),
        ("strings", "strings", "french horn", "contrabass"),
    ),
    "baroque": (
        ("recorder", "oboe", "viola", "cello"),
        ("harpsichord", "harpsichord", "harpsichord", "harpsichord"),
        ("oboe", "violin", "viola", "bassoon"),
    ),
    "solo piano": (("piano", "piano", "piano", "piano"),),
    "ambient": (("warm pad", "choir pad", "halo pad", "deep synth bass"),),
    "synthwave": (("saw lead", "polysynth", "polysynth", "synth bass"),),
    "chiptune": (("square lead", "square lead", "saw lead", "square lead"),),
}
"""Style -> instruments from the top voice down."""

WEIGHTS: dict[str, dict[str, float]] = {
    "chorale": {"choral hymn": 5, "string quartet": 2, "orchestral": 2, "baroque": 2,
                "solo piano": 1, "ambient": 0.7, "synthwave": 0.5, "chiptune": 0.5},
    "quartet": {"string quartet": 5, "orchestral": 2, "baroque": 1.5, "solo piano": 1,
                "chiptune": 0.7, "synthwave": 0.3},
}  # fmt: skip
"""Kind of work -> style -> weight."""

NOTES_A_SECOND = 7.0
"""Busiest the top voice may become; faster writing gets a slower tempo."""

# How well each degree fits a key: Krumhansl and Kessler's probe-tone ratings (1982).
_MAJOR = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


@dataclass(frozen=True)
class Excerpt:
    """Some bars of a work."""

    title: str
    """File name without its ending, with its folder."""
    identity: str
    """Shared by all versions of the music."""
    beats: int
    """Beats a bar, 3 or 4."""
    num_beats: float
    """Length in quarter notes."""
    voices: tuple[tuple[tuple[float, float, int], ...], ...]
    """Notes of each voice from the excerpt's beginning."""


@functools.cache
def works(kind: str) -> tuple[Path, ...]:
    """List the files of a kind of work, `chorale` or `quartet`, in a fixed order."""
    folders = CHORALES if kind == "chorale" else QUARTETS
    return tuple(p for name in folders for p in sorted((folder() / name).rglob("*.mxl")))


@functools.lru_cache(maxsize=32)
def _work(path: Path) -> Work:
    return read_musicxml(path)


def draw_voices(rng: random.Random, *, duration_s: float, shift: int = 0) -> Piece | None:
    """Draw an excerpt and an ensemble for it, or None where the drawn bars do not serve.

    Args:
        rng: source of chance; the same state gives the same piece.
        duration_s: wanted length.
        shift: semitones above the key that is drawn.
    """
    kind = "chorale" if rng.random() < CHORALE_SHARE else "quartet"
    path = rng.choice(works(kind))
    weights = WEIGHTS[kind]
    style = STYLES[rng.choices(list(weights), weights=list(weights.values()))[0]]
    names = rng.choice(ENSEMBLES[style.name])
    low, high = style.tempo
    energy = rng.betavariate(1.6, 1.6)
    tempo = low + (high - low) * energy
    work = _work(path)
    title = f"{path.parent.name} {path.stem}"
    excerpt = cut(work, rng, title=title, beats_wanted=duration_s * tempo / 60)
    if excerpt is None:
        return None
    return score_voices(excerpt, style.name, names, rng, tempo=tempo, energy=energy, shift=shift)


def cut(work: Work, rng: random.Random, *, title: str, beats_wanted: float) -> Excerpt | None:
    """Cut some bars of one metre out of a work.

    Args:
        work: four parts; others do not serve.
        rng: chooses where, on every fourth bar.
        title: of the work.
        beats_wanted: length in quarter notes.

    Returns:
        The excerpt, or None if there is no stretch of three or four beats of at least half the
        wanted length in which every voice plays.
    """
    if len(work.parts) != 4:
        return None
    long_enough = [r for r in _stretches(work.bars) if _length(r) >= beats_wanted / 2]
    if not long_enough:
        return None
    run = rng.choice(long_enough)
    starts = [i for i in range(0, len(run), 4) if _length(run[i:]) >= beats_wanted / 2]
    first = rng.choice(starts)
    chosen: list[Bar] = []
    for bar in run[first:]:
        if _length(chosen) >= beats_wanted and len(chosen) % 4 == 0:
            break
        chosen.append(bar)
    begin, end = chosen[0].start, chosen[-1].start + chosen[-1].length
    voices = tuple(
        tuple((s - begin, min(d, end - s), p) for s, d, p in part if begin <= s < end - 1e-6)
        for part in work.parts
    )
    if not all(voices):
        return None
    quarter_beats = 3 if 4 * chosen[0].numerator == 3 * chosen[0].denominator else 4
    return Excerpt(title, _identity(title, work), quarter_beats, end - begin, voices)


def _stretches(bars: tuple[Bar, ...]) -> list[list[Bar]]:
    """Group neighbouring bars of 2, 3 or 4 quarters with one time signature.

    Bars cut in two by a repeat sign or an upbeat stay in; they only move the downbeat.
    """
    found: list[list[Bar]] = [[]]
    for bar in bars:
        full = 4 * bar.numerator / bar.denominator
        usable = 0 < bar.length <= full and bar.denominator in (2, 4) and full in (2, 3, 4)
        before = found[-1][-1] if found[-1] else bar
        if not usable or (before.numerator, before.denominator) != (bar.numerator, bar.denominator):
            found.append([])
        if usable:
            found[-1].append(bar)
    return [run for run in found if run]


def _length(bars: list[Bar]) -> float:
    return sum(b.length for b in bars)


def _identity(title: str, work: Work) -> str:
    """Name a chorale by its melody, since several share one; other works by their folder."""
    if title.startswith("bach "):
        pitches = [p for _, _, p in work.parts[0]][:13]
        mark = ",".join(str(b - a) for a, b in pairwise(pitches))
    else:
        mark = title
    return f"voices-{hashlib.sha256(mark.encode()).hexdigest()[:10]}"


def find_key(voices: tuple[tuple[tuple[float, float, int], ...], ...]) -> tuple[int, str]:
    """Estimate tonic and mode from how long every pitch class sounds.

    Args:
        voices: notes (start, duration, pitch) of each voice.

    Returns:
        Pitch class of the tonic, and major or minor.

    Source: the Krumhansl-Schmuckler algorithm.
    """
    weight = [0.0] * 12
    for voice in voices:
        for _, duration, pitch in voice:
            weight[pitch % 12] += duration

    def fit(tonic: int, profile: tuple[float, ...]) -> float:
        turned = [weight[(tonic + i) % 12] for i in range(12)]
        mean_w, mean_p = sum(turned) / 12, sum(profile) / 12
        top = sum((w - mean_w) * (p - mean_p) for w, p in zip(turned, profile, strict=True))
        spread_w = sum((w - mean_w) ** 2 for w in turned)
        spread_p = sum((p - mean_p) ** 2 for p in profile)
        return float(top / max(1e-9, (spread_w * spread_p) ** 0.5))

    options = [(t, m) for t in range(12) for m in ("major", "minor")]
    return max(options, key=lambda o: fit(o[0], _MAJOR if o[1] == "major" else _MINOR))


def score_voices(
    excerpt: Excerpt,
    style_name: str,
    names: tuple[str, ...],
    rng: random.Random,
    *,
    tempo: float,
    energy: float,
    shift: int = 0,
) -> Piece:
    """Give the voices of an excerpt to instruments, in a key of their own.

    Args:
        excerpt: four voices.
        style_name: whose production and words to use.
        names: an instrument for each voice, top voice first.
        rng: source of chance.
        tempo: wanted quarter notes a minute; lowered for busy writing.
        energy: 0 calm to 1 busy.
        shift: semitones above the key that is drawn.
    """
    style = STYLES[style_name]
    tonic, mode = find_key(excerpt.voices)
    move = rng.randint(-3, 3)
    move = (move + shift + 6) % 12 - 6 if shift else move
    busiest = max(len(voice) for voice in excerpt.voices) / excerpt.num_beats
    tempo = on_grid(min(tempo, NOTES_A_SECOND * 60 / busiest))
    parts = []
    for index, (name, voice) in enumerate(zip(names, excerpt.voices, strict=True)):
        role = ("lead", "counter", "chords", "bass")[index]
        instrument = INSTRUMENTS[name]
        notes = [
            Note(s, d * 0.97, p + move, _loudness(s, excerpt.beats, energy, rng))
            for s, d, p in voice
        ]
        middle = sum(n.pitch for n in notes) / len(notes)
        inside = min(max(middle, instrument.low + 8), instrument.high - 8)
        octave = 12 * round((inside - middle) / 12)
        notes = [replace(n, pitch=n.pitch + octave) for n in notes]
        gain = 0.6 * ROLE_GAIN_DB[role] + rng.uniform(-1, 1)
        part = Part(role, name, instrument.program, notes, gain, pan=rng.randint(44, 84))
        parts.append(part)
    score = Score(tempo, excerpt.beats, parts, excerpt.num_beats, style.rubato * 0.8)
    humanize(score, rng, 0.5, 1.0, max(style.human_ms, 4.0) if style_name != "chiptune" else 0.0)
    return Piece(
        score, style, KEY_NAMES[(tonic + move) % 12], mode, energy, 0.5,
        tune=excerpt.title, identity=excerpt.identity,
    )  # fmt: skip


def _loudness(start: float, beats: int, energy: float, rng: random.Random) -> int:
    """Velocity that swells over four bars and stresses the downbeat."""
    place = (start / (4 * beats)) % 1.0
    swell = 8 * (1 - abs(2 * place - 1))
    accent = 5 if start % beats == 0 else 0
    return round(66 + 18 * energy + swell + accent + rng.gauss(0, 3))
