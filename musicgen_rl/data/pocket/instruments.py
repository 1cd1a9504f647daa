"""The General MIDI sounds the composer may use, with the words people have for them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """One General MIDI sound."""

    name: str
    """What captions call it."""
    program: int
    """General MIDI program, 0 to 127."""
    low: int
    """Lowest pitch the composer gives it (MIDI number)."""
    high: int
    """Highest pitch the composer gives it."""
    family: str
    """keys, mallets, organ, guitar, bass, strings, voice, brass, reed, wind, drums or synth."""
    words: tuple[str, ...] = ()
    """Other names in captions."""
    decays: bool = False
    """True where a held note dies away by itself (plucked, struck)."""


def _table() -> dict[str, Instrument]:
    rows = [
        # name, program, low, high, family, other words, decays
        ("piano", 0, 28, 100, "keys", ("grand piano", "acoustic piano"), True),
        ("bright piano", 1, 28, 100, "keys", ("piano", "upright piano"), True),
        ("honky-tonk piano", 3, 36, 96, "keys", ("saloon piano", "detuned piano"), True),
        ("electric piano", 4, 36, 92, "keys", ("rhodes", "e-piano"), True),
        ("FM electric piano", 5, 36, 92, "keys", ("digital piano", "electric piano"), True),
        ("harpsichord", 6, 36, 88, "keys", ("baroque keyboard",), True),
        ("clavinet", 7, 36, 84, "keys", ("clav", "funky clavinet"), True),
        ("celesta", 8, 60, 100, "mallets", ("music box tones", "bells"), True),
        ("glockenspiel", 9, 72, 103, "mallets", ("bells",), True),
        ("music box", 10, 60, 96, "mallets", ("toy music box",), True),
        ("vibraphone", 11, 53, 89, "mallets", ("vibes",), True),
        ("marimba", 12, 45, 90, "mallets", ("wooden mallets",), True),
        ("xylophone", 13, 65, 100, "mallets", (), True),
        ("dulcimer", 15, 50, 86, "mallets", ("hammered dulcimer",), True),
        ("drawbar organ", 16, 36, 90, "organ", ("organ", "hammond organ"), False),
        ("rock organ", 18, 36, 88, "organ", ("organ", "overdriven organ"), False),
        ("church organ", 19, 36, 88, "organ", ("pipe organ", "organ"), False),
        ("accordion", 21, 53, 88, "reed", ("squeezebox",), False),
        ("harmonica", 22, 60, 84, "reed", ("mouth organ", "blues harp"), False),
        ("bandoneon", 23, 53, 86, "reed", ("tango accordion", "concertina"), False),
        ("nylon guitar", 24, 40, 83, "guitar", ("classical guitar", "acoustic guitar"), True),
        ("steel guitar", 25, 40, 83, "guitar", ("acoustic guitar", "folk guitar"), True),
        ("jazz guitar", 26, 40, 83, "guitar", ("mellow electric guitar",), True),
        ("clean guitar", 27, 40, 84, "guitar", ("clean electric guitar", "electric guitar"), True),
        ("muted guitar", 28, 40, 76, "guitar", ("palm-muted guitar", "electric guitar"), True),
        ("overdriven guitar", 29, 40, 86, "guitar", ("crunchy guitar", "electric guitar"), False),
        ("distorted guitar", 30, 38, 86, "guitar", ("heavy guitar", "electric guitar"), False),
        ("double bass", 32, 28, 60, "bass", ("upright bass", "acoustic bass"), True),
        ("bass guitar", 33, 28, 60, "bass", ("electric bass", "bass"), True),
        ("picked bass", 34, 28, 60, "bass", ("bass guitar", "electric bass"), True),
        ("fretless bass", 35, 28, 60, "bass", ("bass", "smooth bass"), True),
        ("slap bass", 36, 28, 62, "bass", ("funky bass", "popping bass"), True),
        ("synth bass", 38, 28, 60, "bass", ("electronic bass", "analog bass"), False),
        ("deep synth bass", 39, 28, 60, "bass", ("sub bass", "synth bass"), False),
        ("violin", 40, 55, 96, "strings", ("fiddle",), False),
        ("viola", 41, 48, 84, "strings", (), False),
        ("cello", 42, 36, 76, "strings", (), False),
        ("contrabass", 43, 28, 58, "strings", ("bowed bass",), False),
        ("pizzicato strings", 45, 36, 88, "strings", ("plucked strings",), True),
        ("harp", 46, 30, 96, "strings", (), True),
        ("timpani", 47, 38, 57, "drums", ("kettle drums",), True),
        ("strings", 48, 36, 92, "strings", ("string section", "orchestral strings"), False),
        ("slow strings", 49, 36, 90, "strings", ("strings", "lush strings"), False),
        ("synth strings", 50, 36, 90, "synth", ("string synth", "strings pad"), False),
        ("choir", 52, 48, 80, "voice", ("choir aahs", "wordless choir"), False),
        ("synth voice", 54, 48, 84, "voice", ("vocal pad", "voice-like synth"), False),
        ("trumpet", 56, 55, 84, "brass", (), False),
        ("trombone", 57, 40, 70, "brass", (), False),
        ("tuba", 58, 28, 55, "brass", (), False),
        ("muted trumpet", 59, 55, 82, "brass", ("trumpet with a mute",), False),
        ("french horn", 60, 41, 77, "brass", ("horn",), False),
        ("brass", 61, 43, 82, "brass", ("brass section", "horn section"), False),
        ("synth brass", 62, 40, 86, "synth", ("analog brass", "synth stabs"), False),
        ("soprano sax", 64, 56, 88, "reed", ("saxophone",), False),
        ("alto sax", 65, 49, 82, "reed", ("saxophone", "sax"), False),
        ("tenor sax", 66, 44, 78, "reed", ("saxophone", "sax"), False),
        ("oboe", 68, 58, 90, "wind", (), False),
        ("bassoon", 70, 34, 72, "wind", (), False),
        ("clarinet", 71, 50, 90, "wind", (), False),
        ("piccolo", 72, 74, 102, "wind", (), False),
        ("flute", 73, 60, 96, "wind", (), False),
        ("recorder", 74, 60, 93, "wind", ("wooden flute",), False),
        ("pan flute", 75, 60, 92, "wind", ("pan pipes",), False),
        ("ocarina", 79, 60, 90, "wind", (), False),
        ("square lead", 80, 36, 98, "synth", ("square wave", "pulse synth"), False),
        ("saw lead", 81, 36, 98, "synth", ("sawtooth synth", "synth lead"), False),
        ("calliope", 82, 48, 94, "synth", ("airy synth lead",), False),
        ("fifths lead", 86, 40, 84, "synth", ("synth lead",), False),
        ("new age pad", 88, 36, 90, "synth", ("shimmering pad", "synth pad"), False),
        ("warm pad", 89, 36, 88, "synth", ("synth pad", "analog pad"), False),
        ("polysynth", 90, 36, 92, "synth", ("poly synth", "synth chords"), False),
        ("choir pad", 91, 40, 84, "synth", ("space choir", "synth pad"), False),
        ("bowed pad", 92, 36, 86, "synth", ("glass pad", "synth pad"), False),
        ("metallic pad", 93, 36, 86, "synth", ("synth pad",), False),
        ("halo pad", 94, 36, 88, "synth", ("ethereal pad", "synth pad"), False),
        ("sweep pad", 95, 36, 88, "synth", ("sweeping pad", "synth pad"), False),
        ("crystal synth", 98, 48, 98, "synth", ("glassy synth", "bell synth"), True),
        ("atmosphere synth", 99, 40, 90, "synth", ("atmospheric synth",), True),
        ("sitar", 104, 45, 80, "guitar", (), True),
        ("banjo", 105, 48, 86, "guitar", (), True),
        ("koto", 107, 48, 86, "guitar", ("japanese zither",), True),
        ("kalimba", 108, 55, 90, "mallets", ("thumb piano",), True),
        ("bagpipe", 109, 55, 82, "reed", ("pipes",), False),
        ("fiddle", 110, 55, 93, "strings", ("violin",), False),
        ("steel drums", 114, 52, 88, "mallets", ("steel pan",), True),
    ]  # fmt: skip
    return {row[0]: Instrument(*row) for row in rows}


INSTRUMENTS: dict[str, Instrument] = _table()
"""Name -> instrument."""

DRUM_KITS: dict[str, tuple[int, str]] = {
    "standard": (0, "drums"),
    "room": (8, "drums"),
    "power": (16, "powerful drums"),
    "electronic": (24, "electronic drums"),
    "808": (25, "drum machine"),
    "jazz": (32, "jazz drums"),
    "brush": (40, "brushed drums"),
    "orchestral": (48, "orchestral percussion"),
}
"""Name -> program on the drum channel, and words for captions."""

DRUM_KEYS: dict[str, int] = {
    "kick": 36, "snare": 38, "rim": 37, "clap": 39, "hat": 42, "pedal": 44, "open": 46,
    "crash": 49, "ride": 51, "bell": 53, "tom1": 48, "tom2": 45, "tom3": 41, "tamb": 54,
    "cowbell": 56, "bongo1": 60, "bongo2": 61, "conga_mute": 62, "conga1": 63, "conga2": 64,
    "timbale1": 65, "timbale2": 66, "agogo": 67, "shaker": 70, "guiro": 73, "claves": 75,
    "woodblock": 76, "triangle": 81, "bassdrum": 35, "snare2": 40,
}  # fmt: skip
"""Drum name -> General MIDI key."""
