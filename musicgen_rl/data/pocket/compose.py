"""Compose one piece of a style: form, harmony, players, ending."""

import math
import random
from dataclasses import dataclass, replace

from musicgen_rl.data.chords import Chord as NamedChord
from musicgen_rl.data.keys import KEY_NAMES, MODES
from musicgen_rl.data.pocket.accompany import write_bass, write_chords, write_drums
from musicgen_rl.data.pocket.instruments import DRUM_KEYS, DRUM_KITS, INSTRUMENTS
from musicgen_rl.data.pocket.melody import double_in_thirds, write_melody
from musicgen_rl.data.pocket.rhythm import on_grid, swing_beat
from musicgen_rl.data.pocket.score import Note, Part, Score
from musicgen_rl.data.pocket.style import Layer, Style
from musicgen_rl.data.pocket.theory import Chord, family, parse_progression


@dataclass(frozen=True)
class Piece:
    """A composed piece and what is known about it."""

    score: Score
    """The notes."""
    style: Style
    """Its style."""
    key: str
    """Name of the tonic."""
    mode: str
    """Name of the mode."""
    energy: float
    """0 calm to 1 busy: what tempo, rhythms and dynamics followed."""
    swing: float
    """Position of the off-beat, 0.5 straight."""
    fades: bool = False
    """Whether the end fades out."""
    tune: str = ""
    """Title of the borrowed tune, empty where the melody is ours."""
    identity: str = ""
    """Shared by all pieces on the same tune; empty where the melody is ours."""
    chords: tuple[tuple[float, NamedChord], ...] = ()
    """Beats at which chords begin; empty where voices make the harmony."""
    progression: str = ""
    """That of its first theme, in roman numerals; empty where it has none of its own."""


@dataclass(frozen=True)
class Section:
    """A stretch of bars with one texture."""

    harmony: list[list[Chord]]
    """Chords of each bar."""
    stage: int
    """0 intro, 1 first theme, 2 and more later themes; layers enter by it."""
    theme: str
    """Which theme the lead plays, empty for none."""
    level: float
    """Factor on velocities."""
    drop: tuple[str, ...] = ()
    """Drums that rest."""
    progression: str = ""
    """What its harmony comes of, in roman numerals; empty where a tune's makes it."""


def pick_weighted(rng: random.Random, weights: dict[str, float]) -> str:
    """Draw a name by weight."""
    return rng.choices(list(weights), weights=list(weights.values()))[0]


def by_energy(rng: random.Random, options: tuple[str, ...], energy: float) -> str:
    """Choose among options sorted from calm to busy."""
    place = round(energy * (len(options) - 1) + rng.gauss(0, 0.45))
    return options[max(0, min(len(options) - 1, place))]


def compose(style: Style, rng: random.Random, *, duration_s: float, shift: int = 0) -> Piece:
    """Compose a piece.

    Args:
        style: what to compose in.
        rng: source of chance; the same state gives the same piece.
        duration_s: wanted length; the piece is a whole number of bars near it.
        shift: semitones above the tonic that is drawn.
    """
    energy = min(1.0, max(0.0, rng.betavariate(1.6, 1.6)))
    tempo = draw_tempo(style, rng, energy)
    beats = rng.choice(style.meters)
    mode = pick_weighted(rng, style.modes)
    tonic = (rng.randrange(12) + shift) % 12
    swing = rng.uniform(*style.swing)
    sections = plan_form(style, rng, mode, beats, tempo, duration_s, energy)
    parts = choose_players(style, rng)
    write_parts(style, rng, parts, sections, tonic=tonic, mode=mode, beats=beats, energy=energy)
    fades = rng.random() < style.fade
    num_beats = float(sum(len(s.harmony) for s in sections) * beats)
    score = Score(
        tempo_bpm=tempo,
        beats_per_bar=beats,
        parts=[p for p, _ in parts if p.notes],
        num_beats=num_beats,
        slowdown=0.0 if fades else style.rubato * rng.uniform(0.6, 1.2),
    )
    humanize(score, rng, swing, style.swing_unit, style.human_ms)
    return Piece(
        score, style, KEY_NAMES[tonic], mode, energy, swing, fades,
        chords=chart(sections, tonic, beats, mode), progression=sections[0].progression,
    )  # fmt: skip


def draw_tempo(style: Style, rng: random.Random, energy: float) -> float:
    """Draw quarter notes a minute on the grid: about where the energy is in the style's range."""
    low, high = style.tempo
    drawn = low + (high - low) * energy + rng.gauss(0, (high - low) / 7)
    return on_grid(min(high, max(low, drawn)))


def plan_form(
    style: Style,
    rng: random.Random,
    mode: str,
    beats: int,
    tempo: float,
    duration_s: float,
    energy: float,
) -> list[Section]:
    """Lay out intro, themes and ending over whole bars."""
    pool = style.major if family(mode) == "major" else style.minor
    pool = pool or style.major or style.minor
    first = rng.choice(pool)
    others = [p for p in pool if p != first]
    second = rng.choice(others) if others and rng.random() < 0.6 else first
    harmony = {name: parse_progression(name) for name in (first, second)}
    total = max(8, round(duration_s * tempo / 60 / beats))
    span = max(8, len(harmony[first]))
    base = 0.78 + 0.3 * energy
    intro = rng.choice((0, 2, 2, 4)) if total >= 20 else rng.choice((0, 0, 2))
    sections = []
    if intro:
        opening = _take(harmony[first], intro)
        sections.append(Section(opening, 0, "", base * 0.85, ("snare", "crash"), progression=first))
    order = rng.choice(("AABA", "ABAB", "AABB", "ABAC"))
    used, i = intro, 0
    while used < total:
        letter = order[i % 4]
        bars = min(span, max(4, total - used))
        progression = second if letter == "B" else first
        level = base * (1.0 + 0.05 * min(i, 3) + (0.04 if letter == "B" else 0.0))
        stage = min(1 + i, 3)
        drop = ("kick", "snare") if letter == "C" and rng.random() < 0.3 else ()
        theme = letter if rng.random() < style.tune_chance else ""
        sections.append(
            Section(_take(harmony[progression], bars), stage, theme, level, drop, progression)
        )
        used, i = used + bars, i + 1
    return sections


def chart(
    sections: list[Section], tonic: int, beats: int, mode: str
) -> tuple[tuple[float, NamedChord], ...]:
    """List the chords of a piece with the beats at which they begin.

    The last bar is the tonic's, on which everyone stops.
    """
    bars = [bar for section in sections for bar in section.harmony]
    listed = [
        (number * beats + place * beats / len(bar), _sounding(chord, tonic))
        for number, bar in enumerate(bars[:-1])
        for place, chord in enumerate(bar)
    ]
    end = Chord(0, _final_intervals(sections, mode))
    return (*listed, (float((len(bars) - 1) * beats), _sounding(end, tonic)))


def _sounding(chord: Chord, tonic: int) -> NamedChord:
    return NamedChord((tonic + chord.root) % 12, chord.intervals)


def _final_intervals(sections: list[Section], mode: str) -> tuple[int, ...]:
    """Intervals of the last chord: a fifth alone where the piece began so."""
    if any(len(chord.intervals) == 2 for chord in sections[0].harmony[0]):
        return (0, 7)
    return (0, 4 if family(mode) == "major" else 3, 7)


def _take(progression: list[list[Chord]], bars: int) -> list[list[Chord]]:
    """Repeat or cut a progression to a number of bars."""
    return [progression[i % len(progression)] for i in range(bars)]


ROLE_GAIN_DB = {"lead": 3.5, "counter": 2.5, "arp": 4.5, "chords": 1.5, "pad": 0.0, "bass": -0.5}
"""What every role gets on top of its layer's gain, so that melodies stand in front."""

EVEN_VELOCITY = 84
"""Velocity at which a layer's gain holds; softer layers are raised by most of what they lose."""


def layer_gain(layer: Layer) -> float:
    """Return the mix gain of a layer in dB."""
    lost = 40 * math.log10(EVEN_VELOCITY / layer.velocity)
    return layer.gain_db + ROLE_GAIN_DB[layer.role] + 0.6 * lost


def choose_players(style: Style, rng: random.Random) -> list[tuple[Part, Layer | None]]:
    """Draw the instruments; drums come last, with no layer."""
    parts: list[tuple[Part, Layer | None]] = []
    taken: set[str] = set()
    for layer in style.layers:
        if rng.random() >= layer.chance:
            continue
        free = [n for n in layer.instruments if n not in taken] or list(layer.instruments)
        name = rng.choice(free)
        taken.add(name)
        part = Part(
            role=layer.role,
            instrument=name,
            program=INSTRUMENTS[name].program,
            gain_db=layer_gain(layer) + rng.uniform(-1.5, 1.5),
            pan=rng.randint(44, 84),
        )
        parts.append((part, layer))
    if style.grooves and rng.random() < style.drums_chance:
        kit = rng.choice(style.kits)
        gain = style.drums_gain_db + rng.uniform(-1.5, 1.5)
        parts.append((Part("drums", kit, DRUM_KITS[kit][0], gain_db=gain), None))
    return parts


def write_parts(
    style: Style,
    rng: random.Random,
    parts: list[tuple[Part, Layer | None]],
    sections: list[Section],
    *,
    tonic: int,
    mode: str,
    beats: int,
    energy: float,
    borrowed: dict[str, list[Note]] | None = None,
) -> None:
    """Fill every part, section by section; themes and patterns are kept for their return.

    A `borrowed` theme (name of the section's theme -> notes from beat 0) replaces an invented one.
    """
    themes: dict[str, list[Note]] = {}
    patterns = {
        id(part): by_energy(rng, layer.patterns, energy)
        for part, layer in parts
        if layer is not None and layer.patterns
    }
    place = round(energy * (len(style.grooves) - 1) + rng.gauss(0, 0.4)) if style.grooves else 0
    groove_index = max(0, min(len(style.grooves) - 1, place))
    harmonize = rng.random() < style.tune.harmony
    at = 0.0
    for number, section in enumerate(sections):
        length = len(section.harmony) * beats
        last = number == len(sections) - 1
        for part, layer in parts:
            if layer is None:
                notes = write_drums(
                    rng,
                    style.grooves[groove_index],
                    num_bars=len(section.harmony),
                    beats=beats,
                    level=section.level,
                    fill_last=not last,
                    leave_out=section.drop,
                    crash=section.stage > 0,
                )
                if part.instrument == "orchestral":
                    notes = _timpani(notes, tonic)
            elif layer.enters > section.stage:
                notes = []
            elif layer.role in ("lead", "counter"):
                if not section.theme:
                    continue
                name = f"{section.theme}{layer.role}{len(section.harmony)}"
                if borrowed is not None and layer.role == "lead":
                    themes[name] = _in_range(borrowed[section.theme], part, layer)
                if name not in themes:
                    themes[name] = _theme(
                        style, rng, layer, part, section, tonic, mode, beats, energy
                    )
                notes = [_scaled(n, section.level) for n in themes[name]]
                if layer.role == "lead" and harmonize and section.stage >= 2:
                    classes = [(tonic + s) % 12 for s in MODES[mode]]
                    notes = notes + double_in_thirds(notes, classes)
            elif layer.role == "bass":
                notes = write_bass(
                    rng,
                    layer,
                    patterns[id(part)],
                    harmony=section.harmony,
                    tonic=tonic,
                    beats=beats,
                    scale=MODES[mode],
                    low=INSTRUMENTS[part.instrument].low,
                    level=section.level,
                )
            else:
                notes = write_chords(
                    rng,
                    layer,
                    patterns[id(part)],
                    harmony=section.harmony,
                    tonic=tonic,
                    beats=beats,
                    center=layer.center,
                    level=section.level,
                )
            if last and part.notes:
                notes = _ending(notes, layer, length, beats, tonic, sections, mode)
            part.notes += [replace(n, start=n.start + at) for n in notes]
        at += length


def _theme(
    style: Style,
    rng: random.Random,
    layer: Layer,
    part: Part,
    section: Section,
    tonic: int,
    mode: str,
    beats: int,
    energy: float,
) -> list[Note]:
    """A lead's theme, or a slower counter melody around the layer's own register."""
    tune = style.tune
    if layer.role == "counter":
        slow = (*tune.rhythms[:2], "x---x---")
        tune = replace(tune, rhythms=slow, center=layer.center, ornament=0.0, leap=0.1, reach=7)
    instrument = INSTRUMENTS[part.instrument]
    middle = (instrument.low + instrument.high) // 2
    octave = 12 * round((middle - tune.center) / 12)  # a lead in its own register
    if instrument.low + 4 <= tune.center <= instrument.high - 5:
        octave = 0
    return write_melody(
        rng,
        replace(tune, center=tune.center + octave),
        harmony=section.harmony,
        tonic=tonic,
        mode=mode,
        beats=beats,
        energy=energy * (0.5 if layer.role == "counter" else 1.0),
        low=instrument.low,
        high=instrument.high,
        velocity=layer.velocity,
        gate=layer.gate,
    )


def _in_range(notes: list[Note], part: Part, layer: Layer) -> list[Note]:
    """Move a borrowed theme by octaves into the middle of the instrument that plays it."""
    if not notes:
        return notes
    instrument = INSTRUMENTS[part.instrument]
    middle = sum(n.pitch for n in notes) / len(notes)
    wanted = max(instrument.low + 9, min(instrument.high - 9, 72))
    shift = 12 * round((wanted - middle) / 12)
    return [
        replace(
            n,
            pitch=n.pitch + shift,
            duration=n.duration * layer.gate,
            velocity=max(1, min(127, n.velocity + layer.velocity - EVEN_VELOCITY)),
        )
        for n in notes
    ]


def _timpani(notes: list[Note], tonic: int) -> list[Note]:
    """Play tom-toms as timpani in the key; on this kit their keys are pitches 41 to 53."""
    root = 41 + (tonic - 41) % 12
    fifth = 41 + (tonic + 7 - 41) % 12
    keys = {"tom1": fifth, "tom2": fifth, "tom3": root, "crash": 59}
    moved = {DRUM_KEYS[name]: key for name, key in keys.items()}
    return [replace(n, pitch=moved.get(n.pitch, n.pitch)) for n in notes]


def _scaled(note: Note, level: float) -> Note:
    return replace(note, velocity=max(1, min(127, round(note.velocity * level))))


def _ending(
    notes: list[Note],
    layer: Layer | None,
    length: float,
    beats: int,
    tonic: int,
    sections: list[Section],
    mode: str,
) -> list[Note]:
    """Stop on the first beat of the last bar and let the tonic chord ring."""
    stop = length - beats
    kept = [replace(n, duration=min(n.duration, max(0.05, stop - n.start))) for n in notes]
    kept = [n for n in kept if n.start < stop - 0.01]
    if layer is None:
        played = {n.pitch for n in notes}
        for key in (DRUM_KEYS["kick"], DRUM_KEYS["crash"], 59):
            if key in played:
                kept.append(Note(stop, 0.5, key, 92))
        return kept
    if not kept:
        return kept
    final = [(tonic + i) % 12 for i in _final_intervals(sections, mode)]
    loud = round(sum(n.velocity for n in kept) / len(kept))
    if layer.role in ("lead", "counter", "bass"):
        wanted = (tonic,)
        around = kept[-1].pitch
        options = [p for p in range(around - 7, around + 8) if p % 12 in wanted]
        chosen = [min(options, key=lambda p: abs(p - around))]
    else:
        middle = sum(n.pitch for n in kept) / len(kept)
        options = [p for p in range(int(middle) - 10, int(middle) + 11) if p % 12 in final]
        chosen = sorted(options, key=lambda p: abs(p - middle))[: max(2, layer.voices)]
    return kept + [Note(stop, beats * 0.9, p, max(1, loud)) for p in chosen]


def humanize(
    score: Score, rng: random.Random, swing: float, swing_unit: float, human_ms: float
) -> None:
    """Swing the off-beats and shift every note a little, in place.

    Players have habits: what comes at one place of the bar comes early or late by the same in every
    bar, but for a smaller part.

    Args:
        score: what to play.
        rng: source of chance.
        swing: position of the off-beat in its pair.
        swing_unit: beats of the pair.
        human_ms: spread of timing in milliseconds.
    """
    for part in score.parts:
        drag = rng.gauss(0, human_ms * 0.4) / 1000
        habits: dict[tuple[int, int], float] = {}
        played = []
        for n in part.notes:
            start = swing_beat(n.start, swing, swing_unit)
            end = swing_beat(n.start + n.duration, swing, swing_unit)
            place = (round(n.start % score.beats_per_bar * 12), n.pitch if part.is_drums else 0)
            if place not in habits:
                habits[place] = rng.gauss(0, human_ms * 0.45) / 1000
            shift = n.shift_s + drag + habits[place] + rng.gauss(0, human_ms * 0.2) / 1000
            played.append(replace(n, start=start, duration=max(0.03, end - start), shift_s=shift))
        part.notes = played
