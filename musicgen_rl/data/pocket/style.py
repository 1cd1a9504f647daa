"""What a style is: plain data that the composer reads.

Rhythms are strings, one character a step, one string a bar; its length divides the bar, spaces are
ignored and `|` separates bars that take turns. `-` holds, `.` rests. For chords: `C` chord, `c`
soft chord, `D` and `U` strums down and up, digits single chord tones from the bottom, `B` the root
and `F` the fifth below. For the bass: `1 3 5 8` chord tones, `L` the fifth below, `r` a short
ghost root, `A` an approach to the next root, `W` the next step of a walk. For drums: `x` hit, `X`
accent, `o` ghost note, `?` a hit that comes half of the time.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One player of a style."""

    role: str
    """lead, counter, chords, pad, arp or bass."""
    instruments: tuple[str, ...]
    """Names in INSTRUMENTS; one is drawn."""
    patterns: tuple[str, ...] = ()
    """Rhythm strings from calm to busy; the piece's energy chooses. Not for leads."""
    center: int = 60
    """MIDI pitch around which it plays."""
    voices: int = 3
    """Notes of a chord."""
    gain_db: float = 0.0
    """Level in the mix."""
    velocity: int = 78
    """Middle velocity."""
    gate: float = 0.95
    """Sounding part of a note's length; below 0.6 is staccato."""
    chance: float = 1.0
    """Probability that the layer is in a piece at all."""
    enters: int = 0
    """Section from which it plays: 0 from the intro on, 1 from the first theme, 2 later."""


@dataclass(frozen=True, kw_only=True)
class Groove:
    """One drum pattern."""

    hits: dict[str, str]
    """Drum name -> rhythm string."""
    fill: str = "snare"
    """Fills: snare (rolls and toms), soft, build (house), none."""


@dataclass(frozen=True, kw_only=True)
class Tune:
    """How a style's melodies move."""

    rhythms: tuple[str, ...]
    """Rhythm strings of one bar, `x` an onset, from sparse to busy; the energy chooses."""
    scale: str = "mode"
    """mode, pentatonic or blues."""
    leap: float = 0.2
    """Probability of a jump instead of a step."""
    rest: float = 0.15
    """Probability that a phrase leaves a bar to the accompaniment."""
    center: int = 72
    """MIDI pitch around which the melody lies."""
    reach: int = 9
    """Semitones up and down from the center."""
    ornament: float = 0.0
    """Probability of a grace note before a long note."""
    harmony: float = 0.0
    """Probability that repeats are doubled in thirds or sixths."""


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Light production, as ranges from which a piece draws."""

    room_s: tuple[float, float] = (0.4, 1.2)
    """Reverberation time in seconds."""
    wet: tuple[float, float] = (0.08, 0.2)
    """Level of the room against the dry sound."""
    lowpass_hz: tuple[float, float] = (15500.0, 15500.0)
    """Corner of a gentle low-pass."""
    highpass_hz: float = 28.0
    """Corner of the high-pass."""
    drive: tuple[float, float] = (0.0, 0.0)
    """Saturation: 0 none, 1 strong."""
    noise_db: float | None = None
    """Level of vinyl noise and crackle, or none."""
    wobble: float = 0.0
    """Tape wow in cents."""
    crush: bool = False
    """Reduce resolution as old game machines did."""
    pump: float = 0.0
    """Ducking by the kick drum, 0 to 1."""
    echo: float = 0.0
    """Level of a dotted-eighth echo."""


@dataclass(frozen=True, kw_only=True)
class Style:
    """A style of music as data."""

    name: str
    """Attribute value."""
    words: tuple[str, ...]
    """What captions call it, as adjectives or nouns before `track`, `piece`, `music`."""
    tempo: tuple[int, int]
    """Range in quarter notes a minute."""
    meters: tuple[int, ...] = (4,)
    """Beats a bar."""
    swing: tuple[float, float] = (0.5, 0.5)
    """Where the off-beat eighth falls in its beat; 0.5 is straight, 0.667 a triplet."""
    swing_unit: float = 1.0
    """Beats of the pair that swings: 1 for eighths, 0.5 for sixteenths."""
    modes: dict[str, float]
    """Mode -> weight."""
    major: tuple[str, ...] = ()
    """Progressions for modes with a major third."""
    minor: tuple[str, ...] = ()
    """Progressions for modes with a minor third."""
    layers: tuple[Layer, ...]
    """Players, leads first."""
    grooves: tuple[Groove, ...] = ()
    """Drum patterns from calm to busy; none for styles without drums."""
    kits: tuple[str, ...] = ("standard",)
    """Drum kits."""
    drums_chance: float = 1.0
    """Probability that a piece has drums."""
    drums_gain_db: float = 0.0
    """Level of the drums."""
    tune: Tune
    """How melodies move."""
    tune_chance: float = 1.0
    """Probability that a theme section has a melody; below 1 for groove music."""
    human_ms: float = 9.0
    """Spread of timing in milliseconds; small for machines."""
    rubato: float = 0.0
    """Slowing at the end."""
    sound: Sound = Sound()
    """Production."""
    fade: float = 0.0
    """Probability that the piece fades out instead of ending."""
