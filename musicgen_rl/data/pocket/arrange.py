"""Arrange a public-domain tune in one of our styles."""

import random
from dataclasses import replace

from musicgen_rl.data.keys import KEY_NAMES
from musicgen_rl.data.pocket.compose import (
    Piece,
    Section,
    chart,
    choose_players,
    draw_tempo,
    humanize,
    write_parts,
)
from musicgen_rl.data.pocket.score import Note, Score
from musicgen_rl.data.pocket.style import Style
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.data.pocket.tunes import Borrowed, harmonize, library

TUNE_STYLES: dict[str, float] = {
    "folk": 5, "country": 2.5, "march": 2, "waltz": 2, "solo piano": 2, "orchestral": 2,
    "string quartet": 2, "baroque": 1.5, "chiptune": 1.5, "rock": 1, "synthwave": 1, "lo-fi": 1,
    "reggae": 0.8, "latin": 0.8, "jazz": 1, "choral hymn": 1, "ambient": 0.6, "metal": 0.5,
}  # fmt: skip
"""Style -> weight; styles whose melodies can be a given tune."""


def draw_tune(rng: random.Random) -> tuple[Borrowed, Style]:
    """Draw a tune and a style that has its metre."""
    tunes = library()
    tune = tunes[rng.randrange(len(tunes))]
    weights = {name: w for name, w in TUNE_STYLES.items() if tune.beats in STYLES[name].meters}
    return tune, STYLES[rng.choices(list(weights), weights=list(weights.values()))[0]]


def arrange(
    tune: Borrowed, style: Style, rng: random.Random, *, duration_s: float, shift: int = 0
) -> Piece:
    """Set a tune for the players of a style, with chords of our own.

    Args:
        tune: the melody.
        style: who plays, and how.
        rng: source of chance; the same state gives the same piece.
        duration_s: wanted length; the tune repeats or is cut at a phrase to come near it.
        shift: semitones above the tonic that is drawn.
    """
    energy = rng.betavariate(1.6, 1.6)
    tempo = draw_tempo(style, rng, energy)
    tonic = (rng.randrange(12) + shift) % 12
    move = (tonic - tune.tonic + 5) % 12 - 5
    bars = [
        tuple(replace(n, pitch=n.pitch + move, velocity=_accent(n)) for n in bar)
        for bar in tune.bars
    ]
    moved = replace(tune, tonic=tonic, bars=tuple(bars))
    chords = harmonize(moved)
    total = max(8, round(duration_s * tempo / 60 / tune.beats))
    base = 0.78 + 0.3 * energy
    intro = rng.choice((0, 2, 4)) if total >= 16 else rng.choice((0, 2))
    sections: list[Section] = []
    borrowed: dict[str, list[Note]] = {}
    if intro:
        sections.append(Section(chords[:1] * intro, 0, "", base * 0.85, ("snare", "crash")))
    used, position = intro, 0
    while used < total:
        count = min(8, len(bars) - position, max(4, total - used))
        name = f"{position}+{count}"
        level = base * (1 + 0.05 * min(3, len(sections)))
        stage = min(3, 1 + (used - intro) // 8)
        sections.append(Section(chords[position : position + count], stage, name, level))
        borrowed[name] = [
            replace(n, start=n.start + i * tune.beats)
            for i, bar in enumerate(bars[position : position + count])
            for n in bar
        ]
        used += count
        position = (position + count) % len(bars)
    parts = choose_players(style, rng)
    write_parts(
        style, rng, parts, sections,
        tonic=tonic, mode=tune.mode, beats=tune.beats, energy=energy, borrowed=borrowed,
    )  # fmt: skip
    fades = rng.random() < style.fade
    score = Score(
        tempo_bpm=tempo,
        beats_per_bar=tune.beats,
        parts=[p for p, _ in parts if p.notes],
        num_beats=float(sum(len(s.harmony) for s in sections) * tune.beats),
        slowdown=0.0 if fades else style.rubato * rng.uniform(0.6, 1.2),
    )
    swing = 2 / 3 if tune.triplets else rng.uniform(*style.swing)
    if tune.triplets:  # its notes already lie on thirds of the beat: only the others swing
        leads = [p for p in score.parts if p.role == "lead"]
        others = replace(score, parts=[p for p in score.parts if p.role != "lead"])
        humanize(replace(score, parts=leads), rng, 0.5, 1.0, style.human_ms)
        humanize(others, rng, swing, 1.0, style.human_ms)
    else:
        humanize(score, rng, swing, style.swing_unit, style.human_ms)
    return Piece(
        score, style, KEY_NAMES[tonic], tune.mode, energy, swing, fades,
        tune=tune.title, identity=tune.identity,
        chords=chart(sections, tonic, tune.beats, tune.mode),
    )  # fmt: skip


def _accent(note: Note) -> int:
    """Stress the beats of a borrowed melody."""
    return note.velocity + (8 if note.start == 0 else 3 if note.start % 1 == 0 else -4)
