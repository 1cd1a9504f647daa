"""Melodies from motifs: rhythm and contour stated, repeated, varied and closed."""

import random
from dataclasses import dataclass

from musicgen_rl.data.keys import MODES
from musicgen_rl.data.pocket.rhythm import Hit, bars_of, read_bar
from musicgen_rl.data.pocket.score import Note
from musicgen_rl.data.pocket.style import Tune
from musicgen_rl.data.pocket.theory import (
    BLUES,
    PENTATONIC,
    Chord,
    family,
    nearest,
    pitches_between,
    scale_over,
)

PHRASE_FORMS = ("aabc", "abac", "aaab", "abcb", "aabb")


@dataclass(frozen=True)
class Motif:
    """A bar of melody without its harmony."""

    hits: tuple[Hit, ...]
    """Onsets and lengths."""
    steps: tuple[int, ...]
    """Moves on the scale, one a hit; the first is from the phrase's anchor."""


def make_motif(rng: random.Random, tune: Tune, energy: float, beats: int) -> Motif:
    """Invent one bar: a rhythm of the style and a contour.

    Args:
        rng: source of chance.
        tune: how the style's melodies move.
        energy: 0 calm to 1 busy; chooses among the rhythms.
        beats: beats a bar.
    """
    place = energy * (len(tune.rhythms) - 1) + rng.gauss(0, 0.6)
    index = max(0, min(len(tune.rhythms) - 1, round(place)))
    bar = rng.choice(bars_of(tune.rhythms[index]))
    hits = read_bar(bar, beats)
    direction = rng.choice((-1, 1))
    steps = []
    for i in range(len(hits)):
        if i == 0:
            steps.append(rng.choice((0, 0, 1, 2, -1)))
        elif rng.random() < tune.leap:
            steps.append(rng.choice((2, 3, 4)) * rng.choice((-1, 1)))
            direction = -direction
        else:
            steps.append(direction * rng.choice((1, 1, 1, 0, 2)))
            if rng.random() < 0.35:
                direction = -direction
    return Motif(tuple(hits), tuple(steps))


def melody_scale(tune: Tune, mode: str) -> tuple[int, ...]:
    """Return the semitones of the scale a melody uses."""
    third = family(mode)
    return {"mode": MODES[mode], "pentatonic": PENTATONIC[third], "blues": BLUES[third]}[tune.scale]


def write_melody(
    rng: random.Random,
    tune: Tune,
    *,
    harmony: list[list[Chord]],
    tonic: int,
    mode: str,
    beats: int,
    energy: float,
    low: int,
    high: int,
    velocity: int,
    gate: float,
) -> list[Note]:
    """Write a theme over a section's harmony.

    Args:
        rng: source of chance.
        tune: how the style's melodies move.
        harmony: chords of each bar.
        tonic: pitch class of the key.
        mode: name of the mode.
        beats: beats a bar.
        energy: 0 calm to 1 busy.
        low: lowest pitch.
        high: highest pitch.
        velocity: middle velocity.
        gate: sounding part of a note.

    Returns:
        Notes from beat 0. Phrases are four bars; every second one ends on a long chord tone, the
        last on the tonic where the chord has it.
    """
    scale = melody_scale(tune, mode)
    center = max(low + 5, min(high - 5, tune.center + rng.randint(-3, 3)))
    floor, roof = max(low, center - tune.reach), min(high, center + tune.reach + 2)
    form = rng.choice(PHRASE_FORMS)
    motifs = {name: make_motif(rng, tune, energy, beats) for name in "abc"}
    notes: list[Note] = []
    pitch = float(center)
    anchors: dict[str, float] = {}
    for bar, chords in enumerate(harmony):
        place = bar % 4
        name = form[place]
        closing = place == 3
        motif = motifs[name]
        if closing:
            motif = _close(rng, motif, beats)
        elif place == 2 and rng.random() < tune.rest:
            continue
        elif bar >= 4 and rng.random() < 0.25:
            motif = make_motif(rng, tune, energy, beats)
        if name in anchors and not closing and rng.random() < 0.7:
            pitch = anchors[name] + rng.choice((0, 0, 0, 2, -2))
        anchors.setdefault(name, pitch)
        if abs(pitch - center) > tune.reach:
            pitch = center
        for i, (hit, step) in enumerate(zip(motif.hits, motif.steps, strict=True)):
            chord = chords[min(len(chords) - 1, int(hit.start / beats * len(chords)))]
            ladder = pitches_between(scale_over(tonic, scale, chord), floor, roof)
            tones = pitches_between(chord.pitch_classes(tonic)[:3], floor, roof)
            here = min(range(len(ladder)), key=lambda j: abs(ladder[j] - pitch))
            target = ladder[max(0, min(len(ladder) - 1, here + step))]
            strong = hit.start == int(hit.start) and (int(hit.start) % 2 == 0 or hit.duration >= 1)
            last = closing and i == len(motif.hits) - 1
            if strong or last or hit.duration >= 1.5:
                target = nearest(tones, target)
            if last and bar == len(harmony) - 1 and tonic in chord.pitch_classes(tonic):
                target = nearest(pitches_between((tonic,), floor, roof), target)
            pitch = target
            accent = 8 if hit.start == 0 else (3 if strong else -4)
            loud = round(velocity + accent + rng.gauss(0, 4) + (place - 1.5) * 1.5)
            start = bar * beats + hit.start
            if tune.ornament and hit.duration >= 0.5 and rng.random() < tune.ornament:
                grace = (
                    ladder[max(0, min(len(ladder) - 1, ladder.index(target) - 1))]
                    if (target in ladder)
                    else target - 1
                )
                notes.append(Note(start - 0.12, 0.11, grace, max(1, loud - 18)))
            notes.append(Note(start, hit.duration * gate, target, loud))
    return [n for n in notes if n.start >= 0]


def _close(rng: random.Random, motif: Motif, beats: int) -> Motif:
    """End a phrase: keep the beginning of the bar, then hold one long note."""
    at = beats / 2 if beats % 2 == 0 else float(beats - 2)
    if rng.random() < 0.4:
        at = 0.0
    kept = [(h, s) for h, s in zip(motif.hits, motif.steps, strict=True) if h.start < at]
    kept = [(Hit(h.start, min(h.duration, at - h.start), h.symbol), s) for h, s in kept]
    final = Hit(at, (beats - at) * 0.9, "x")
    return Motif((*(h for h, _ in kept), final), (*(s for _, s in kept), rng.choice((-1, 1))))


def double_in_thirds(notes: list[Note], classes: list[int]) -> list[Note]:
    """Add a second voice two scale steps below every note long enough to be heard.

    Args:
        notes: the melody.
        classes: pitch classes of the scale.
    """
    extra = []
    for n in notes:
        if n.duration < 0.3:
            continue
        ladder = pitches_between(tuple(classes), n.pitch - 8, n.pitch - 3)
        if ladder:
            extra.append(Note(n.start, n.duration, ladder[-1], max(1, n.velocity - 12)))
    return extra
