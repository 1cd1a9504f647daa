"""Chords, bass and drums from rhythm strings."""

import random

from musicgen_rl.data.pocket.instruments import DRUM_KEYS
from musicgen_rl.data.pocket.rhythm import bars_of, read_bar
from musicgen_rl.data.pocket.score import Note
from musicgen_rl.data.pocket.style import Groove, Layer
from musicgen_rl.data.pocket.theory import Chord, nearest, pitches_between, voice_chord

STRUM_S = 0.012
_DRUM_VELOCITY = {"X": 108, "x": 84, "o": 46, "?": 66}


def chord_at(chords: list[Chord], start: float, beats: int) -> Chord:
    """Return the chord of a bar that sounds at `start` beats into it."""
    return chords[min(len(chords) - 1, int(start / beats * len(chords) + 1e-6))]


def write_chords(
    rng: random.Random,
    layer: Layer,
    pattern: str,
    *,
    harmony: list[list[Chord]],
    tonic: int,
    beats: int,
    center: float,
    level: float,
) -> list[Note]:
    """Play a section's harmony in the rhythm of `pattern`.

    Args:
        rng: source of chance.
        layer: the player.
        pattern: rhythm string for chords.
        harmony: chords of each bar.
        tonic: pitch class of the key.
        beats: beats a bar.
        center: MIDI pitch of the voicings.
        level: factor on velocities.
    """
    notes: list[Note] = []
    bars = bars_of(pattern)
    voicing: tuple[int, ...] = ()
    current: Chord | None = None
    for index, chords in enumerate(harmony):
        hits = read_bar(bars[index % len(bars)], beats)
        if layer.role == "pad" and len(chords) > 1:  # a pad follows every change
            hits = read_bar("".join("C---" for _ in chords), beats)
        for hit in hits:
            chord = chord_at(chords, hit.start, beats)
            if chord != current:
                voicing = voice_chord(chord, tonic, center, voicing, layer.voices)
                current = chord
            soft = 0.8 if hit.symbol == "c" else 1.0
            loud = layer.velocity * level * soft + (4 if hit.start == 0 else 0)
            start, length = index * beats + hit.start, hit.duration * layer.gate

            def add(
                pitch: int,
                shift: float = 0.0,
                change: float = 0.0,
                start: float = start,
                length: float = length,
                loud: float = loud,
            ) -> None:
                velocity = round(loud + change + rng.gauss(0, 3))
                notes.append(Note(start, length, pitch, max(1, min(127, velocity)), shift))

            if hit.symbol in "CcDU":
                tones = voicing if hit.symbol != "U" else tuple(reversed(voicing[-3:]))
                roll = STRUM_S if hit.symbol in "DU" else 0.0
                for k, pitch in enumerate(tones):
                    add(pitch, k * roll, -10 if hit.symbol == "U" else 0)
            elif hit.symbol in "BF":
                root = nearest(pitches_between(((tonic + chord.root) % 12,), 36, 58), center - 12)
                add(root - 5 if hit.symbol == "F" else root, 0.0, 4)
            else:
                k = int(hit.symbol)
                add(voicing[k % len(voicing)] + 12 * (k // len(voicing)))
    return notes


def write_bass(
    rng: random.Random,
    layer: Layer,
    pattern: str,
    *,
    harmony: list[list[Chord]],
    tonic: int,
    beats: int,
    scale: tuple[int, ...],
    low: int,
    level: float,
) -> list[Note]:
    """Play the bass of a section.

    Args:
        rng: source of chance.
        layer: the player.
        pattern: rhythm string for a bass.
        harmony: chords of each bar.
        tonic: pitch class of the key.
        beats: beats a bar.
        scale: semitones of the mode.
        low: lowest pitch of the instrument.
        level: factor on velocities.
    """
    notes: list[Note] = []
    bars = bars_of(pattern)
    roof = max(layer.center + 8, low + 12)
    walk = float(layer.center)
    for index, chords in enumerate(harmony):
        following = harmony[(index + 1) % len(harmony)][0]
        hits = read_bar(bars[index % len(bars)], beats)
        first_of_chord: Chord | None = None
        for k, hit in enumerate(hits):
            chord = chord_at(chords, hit.start, beats)
            classes = chord.pitch_classes(tonic)
            root = nearest(pitches_between((classes[0],), low, roof), layer.center)
            fifth = (classes[0] + 7) % 12 if 6 not in chord.intervals else (classes[0] + 6) % 12
            change = chord != first_of_chord
            first_of_chord = chord
            symbol = hit.symbol
            if symbol == "W":
                symbol = "1" if change else ("A" if k == len(hits) - 1 else "W")
            target = root
            if symbol == "5":
                target = nearest(pitches_between((fifth,), low, root + 7), root + 7)
            elif symbol == "3":
                target = nearest(
                    pitches_between((classes[min(1, len(classes) - 1)],), low, 62), root + 4
                )
            elif symbol == "8":
                target = root + 12
            elif symbol == "7":
                target = nearest(pitches_between((classes[-1],), low, 64), root + 10)
            elif symbol == "L":
                target = root - 5 if root - 5 >= low else root + 7
            elif symbol == "A":
                goal = nearest(
                    pitches_between(((tonic + following.root) % 12,), low, roof),
                    layer.center,
                )
                target = goal + rng.choice((-1, 1, -2, 2))
            elif symbol == "W":
                ladder = pitches_between(
                    tuple({*classes, *((tonic + s) % 12 for s in scale)}), low, roof + 4
                )
                choices = [p for p in ladder if 0 < abs(p - walk) <= 4] or [root]
                target = rng.choice(choices)
            walk = target
            ghost = 0.65 if symbol == "r" else 1.0
            loud = layer.velocity * level * ghost + (5 if hit.start == 0 else 0) + rng.gauss(0, 3)
            length = hit.duration * (0.4 if symbol == "r" else layer.gate)
            velocity = max(1, min(127, round(loud)))
            notes.append(Note(index * beats + hit.start, length, max(low, target), velocity))
    return notes


def write_drums(
    rng: random.Random,
    groove: Groove,
    *,
    num_bars: int,
    beats: int,
    level: float,
    fill_last: bool,
    leave_out: tuple[str, ...] = (),
    crash: bool = False,
) -> list[Note]:
    """Play a drum pattern for a section.

    Args:
        rng: source of chance.
        groove: the pattern.
        num_bars: bars of the section.
        beats: beats a bar.
        level: factor on velocities.
        fill_last: whether the last bar ends in a fill.
        leave_out: drums that rest in this section.
        crash: whether a cymbal marks the first beat.
    """
    notes = []
    fill_at = beats - min(2.0, beats / 2) if fill_last and groove.fill != "none" else float(beats)
    for drum, pattern in groove.hits.items():
        if drum in leave_out:
            continue
        bars = bars_of(pattern)
        for index in range(num_bars):
            for hit in read_bar(bars[index % len(bars)], beats):
                if hit.symbol == "?" and rng.random() < 0.5:
                    continue
                filling = index == num_bars - 1 and hit.start >= fill_at
                if filling and drum not in ("kick", "pedal", "shaker", "claves"):
                    continue
                velocity = round(_DRUM_VELOCITY[hit.symbol] * level + rng.gauss(0, 4))
                start = index * beats + hit.start
                notes.append(Note(start, 0.2, DRUM_KEYS[drum], max(1, min(127, velocity))))
    if crash and groove.fill != "none":
        notes.append(Note(0.0, 0.5, DRUM_KEYS["crash"], round(92 * level)))
    if fill_at < beats:
        notes += _fill(rng, groove.fill, (num_bars - 1) * beats + fill_at, beats - fill_at, level)
    return notes


def _fill(rng: random.Random, kind: str, start: float, length: float, level: float) -> list[Note]:
    """A roll into the next section."""
    steps = int(length * 4)
    drums = {
        "snare": ["snare"] * (steps // 2) + ["tom1", "tom1", "tom2", "tom3"] * 4,
        "soft": ["snare"] * steps,
        "build": ["snare"] * steps,
    }[kind]
    notes = []
    for i in range(steps):
        if kind == "soft" and rng.random() < 0.6:
            continue
        if kind == "snare" and rng.random() < 0.25:
            continue
        rise = 62 + 40 * i / max(1, steps - 1)
        loud = (rise if kind != "soft" else 50) * level
        velocity = max(1, min(127, round(loud + rng.gauss(0, 4))))
        notes.append(Note(start + i * 0.25, 0.2, DRUM_KEYS[drums[i]], velocity))
    return notes
