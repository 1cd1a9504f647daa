"""Styles made with machines."""

from musicgen_rl.data.pocket.style import Groove, Layer, Sound, Style, Tune

LOFI = Style(
    name="lo-fi",
    words=("lo-fi hip hop", "lofi", "chillhop", "lo-fi beat"),
    tempo=(66, 92),
    swing=(0.54, 0.62),
    swing_unit=0.5,
    modes={"major": 4, "minor": 4, "dorian": 2},
    major=("IVmaj7 | iii7 | ii7 | Imaj7", "Imaj9 | vi7 | ii9 | V7", "IVmaj7 | V | iii7 | vi7"),
    minor=("i9 | iv7 | bVImaj7 | V7", "i7 | bVImaj7 | bIIImaj7 | bVII", "bVImaj7 | bVII | i7 | i7"),
    layers=(
        Layer(
            role="lead",
            instruments=("electric piano", "nylon guitar", "vibraphone", "jazz guitar", "kalimba"),
            velocity=66,
            gain_db=-1,
        ),
        Layer(
            role="chords",
            instruments=("electric piano", "piano", "jazz guitar"),
            center=58,
            voices=4,
            velocity=62,
            patterns=("C-------", "C---..c-", "C-..c-..C..c..c-"),
        ),
        Layer(
            role="pad",
            instruments=("warm pad", "slow strings"),
            center=60,
            velocity=50,
            gain_db=-8,
            patterns=("C---",),
            chance=0.4,
        ),
        Layer(
            role="bass",
            instruments=("double bass", "fretless bass", "bass guitar"),
            center=38,
            velocity=80,
            gain_db=1,
            patterns=("1-------", "1--.....1-5-....", "1--...1---..5-A-"),
        ),
    ),
    grooves=(
        Groove(
            hits={"hat": "x.x.x.x.", "snare": "..x...x.", "kick": "x..x...."}, fill="soft"
        ),
        Groove(
            hits={
                "hat": "x.xox.x.x.xox.xo",
                "snare": "....x.......x..o",
                "kick": "x......x..x.....",
            },
            fill="soft",
        ),
    ),
    kits=("room", "808", "jazz"),
    drums_gain_db=-1,
    tune=Tune(
        rhythms=("x---....", "x--x..x-", ".x-x-x..", "x.xx--x."),
        scale="pentatonic",
        rest=0.4,
        leap=0.2,
        center=70,
    ),
    tune_chance=0.75,
    human_ms=16,
    sound=Sound(
        room_s=(0.4, 0.9),
        wet=(0.08, 0.16),
        lowpass_hz=(3800, 7500),
        noise_db=-52,
        wobble=9,
        drive=(0.1, 0.3),
    ),
    fade=0.5,
)

HOUSE = Style(
    name="house",
    words=("house", "deep house", "dance", "club house"),
    tempo=(118, 130),
    modes={"minor": 5, "dorian": 3, "major": 2},
    major=("I | V | vi | IV", "IVmaj7 | V | iii7 | vi7"),
    minor=("i7 | bVI | bIII | bVII", "i7 | iv7 | i7 | bVII", "i9 | bVImaj7 | i9 | v7"),
    layers=(
        Layer(
            role="lead",
            instruments=("saw lead", "synth voice", "piano", "square lead"),
            velocity=76,
            gain_db=-4,
            enters=2,
        ),
        Layer(
            role="chords",
            instruments=("piano", "polysynth", "electric piano", "drawbar organ"),
            center=62,
            voices=4,
            velocity=80,
            gain_db=-1,
            patterns=("C..c..c.", "..C...C.", "C..C..C..C..C.c."),
            gate=0.55,
        ),
        Layer(
            role="pad",
            instruments=("synth strings", "warm pad", "choir pad"),
            center=60,
            velocity=60,
            gain_db=-6,
            patterns=("C---",),
            chance=0.6,
            enters=1,
        ),
        Layer(
            role="bass",
            instruments=("synth bass", "deep synth bass"),
            center=37,
            velocity=92,
            gain_db=2,
            patterns=("..1...1.", "..1.1.1.", "..1..18...1..181"),
            gate=0.7,
        ),
    ),
    grooves=(
        Groove(hits={"kick": "X.X.X.X.", "clap": "..x...x.", "open": ".x.x.x.x"}, fill="build"),
        Groove(
            hits={
                "kick": "X...X...X...X...",
                "clap": "....X.......X...",
                "open": "..x...x...x...x.",
                "hat": "xoxoxoxoxoxoxoxo",
                "shaker": "oxxooxxooxxooxxo",
            },
            fill="build",
        ),
    ),
    kits=("electronic", "808"),
    drums_gain_db=-4,
    tune=Tune(
        rhythms=("x---....", "x..x..x.", "x.xx..x."), scale="pentatonic", rest=0.3, center=72
    ),
    tune_chance=0.6,
    human_ms=1.5,
    sound=Sound(room_s=(0.5, 1.2), wet=(0.06, 0.14), pump=0.45, drive=(0.1, 0.3)),
    fade=0.3,
)

TECHNO = Style(
    name="techno",
    words=("techno", "hypnotic techno", "warehouse techno", "minimal techno"),
    tempo=(124, 142),
    modes={"minor": 5, "phrygian": 3, "dorian": 1},
    minor=("i5 | i5 | i5 | i5", "i | i | bII | i", "i | i | i | bVII"),
    layers=(
        Layer(
            role="arp",
            instruments=("saw lead", "square lead", "synth bass", "crystal synth"),
            center=57,
            voices=3,
            velocity=78,
            gain_db=-2,
            patterns=("0.0.1.0.0.2.0.1.", "0.10.20.0.10.201", "0120012001200123"),
            gate=0.5,
        ),
        Layer(
            role="chords",
            instruments=("polysynth", "synth brass", "metallic pad"),
            center=60,
            voices=3,
            velocity=72,
            gain_db=-4,
            patterns=("...C....|........", "..c..c....c.....", "..C..c...C..c..."),
            gate=0.4,
            chance=0.75,
            enters=1,
        ),
        Layer(
            role="pad",
            instruments=("sweep pad", "bowed pad", "metallic pad"),
            center=55,
            velocity=58,
            gain_db=-7,
            patterns=("C---",),
            chance=0.6,
        ),
        Layer(
            role="bass",
            instruments=("synth bass", "deep synth bass"),
            center=34,
            velocity=96,
            gain_db=2,
            patterns=(".1.1.1.1", "..11..11..11..11", ".111.111.111.111"),
            gate=0.6,
        ),
    ),
    grooves=(
        Groove(hits={"kick": "X.X.X.X.", "open": ".x.x.x.x"}, fill="build"),
        Groove(
            hits={
                "kick": "X...X...X...X...",
                "open": "..x...x...x...x.",
                "hat": "xxxxxxxxxxxxxxxx",
                "clap": "....x.......x...",
                "rim": "...x..?....x..?.",
            },
            fill="build",
        ),
    ),
    kits=("808", "electronic"),
    drums_gain_db=-4,
    tune=Tune(rhythms=("x...x...",), rest=0.5),
    tune_chance=0.0,
    human_ms=1.0,
    sound=Sound(room_s=(0.6, 1.8), wet=(0.06, 0.16), pump=0.5, drive=(0.2, 0.5), echo=0.15),
    fade=0.4,
)

AMBIENT = Style(
    name="ambient",
    words=("ambient", "atmospheric ambient", "drone", "meditative ambient"),
    tempo=(50, 78),
    modes={"major": 3, "lydian": 3, "minor": 3, "dorian": 2},
    major=("Imaj7 | Imaj7 | IVmaj7 | IVmaj7", "Iadd9 | II | Iadd9 | IV", "Imaj9 | vi7 | IVmaj7 | V"),
    minor=("i9 | i9 | bVImaj7 | bVImaj7", "iadd9 | bVII | bVImaj7 | bVII", "i7 | iv7 | i7 | iv7"),
    layers=(
        Layer(
            role="lead",
            instruments=("crystal synth", "piano", "pan flute", "music box", "atmosphere synth"),
            velocity=58,
            gain_db=-4,
        ),
        Layer(
            role="pad",
            instruments=("warm pad", "new age pad", "halo pad", "choir pad", "bowed pad"),
            center=58,
            voices=4,
            velocity=70,
            gain_db=1,
            patterns=("C---",),
            gate=1.0,
        ),
        Layer(
            role="pad",
            instruments=("slow strings", "sweep pad", "choir", "synth strings"),
            center=66,
            voices=3,
            velocity=56,
            gain_db=-3,
            patterns=("C---",),
            chance=0.7,
            gate=1.0,
            enters=1,
        ),
        Layer(
            role="arp",
            instruments=("harp", "electric piano", "celesta", "kalimba"),
            center=67,
            voices=4,
            velocity=50,
            gain_db=-5,
            patterns=("0---2---", "0-2-1-3-", "02130213"),
            chance=0.5,
            enters=1,
        ),
        Layer(
            role="bass",
            instruments=("deep synth bass", "contrabass"),
            center=36,
            velocity=64,
            gain_db=-3,
            patterns=("1---",),
            gate=1.0,
            chance=0.7,
        ),
    ),
    tune=Tune(
        rhythms=("x---", "x-----x-", "..x---x-"), scale="pentatonic", rest=0.45, center=76, leap=0.3
    ),
    tune_chance=0.8,
    human_ms=20,
    rubato=0.2,
    sound=Sound(room_s=(3.0, 5.5), wet=(0.3, 0.5), lowpass_hz=(6000, 13000)),
    fade=0.6,
)

SYNTHWAVE = Style(
    name="synthwave",
    words=("synthwave", "retrowave", "80s synth", "outrun"),
    tempo=(84, 122),
    modes={"minor": 6, "dorian": 2, "major": 2},
    major=("I | V | vi | IV", "vi | IV | I | V"),
    minor=("i | bVI | bIII | bVII", "i | bVII | bVI | bVII", "i | iv | bVI | bVII"),
    layers=(
        Layer(
            role="lead",
            instruments=("saw lead", "square lead", "synth brass", "calliope"),
            velocity=82,
            gain_db=-2,
        ),
        Layer(
            role="pad",
            instruments=("warm pad", "polysynth", "synth strings"),
            center=60,
            voices=4,
            velocity=66,
            gain_db=-2,
            patterns=("C---",),
        ),
        Layer(
            role="arp",
            instruments=("square lead", "saw lead", "crystal synth", "polysynth"),
            center=66,
            voices=3,
            velocity=64,
            gain_db=-6,
            patterns=("01210121", "0123210101232101"),
            gate=0.5,
            chance=0.8,
            enters=1,
        ),
        Layer(
            role="bass",
            instruments=("synth bass", "deep synth bass"),
            center=36,
            velocity=92,
            gain_db=2,
            patterns=("1-1-1-1-", "11111111", "1181118111811181"),
            gate=0.6,
        ),
    ),
    grooves=(
        Groove(hits={"kick": "X...X...", "snare": "..X...X.", "hat": "x.x.x.x."}),
        Groove(hits={"kick": "X...X...X...X...", "snare": "....X.......X...", "hat": "x.xxx.xxx.xxx.xx"}),
    ),
    kits=("electronic", "power"),
    drums_gain_db=0,
    tune=Tune(rhythms=("x---x---", "x--x--x-", "x-x-xx-x", "x-xxx-xx"), leap=0.25, rest=0.15),
    tune_chance=0.9,
    human_ms=1.5,
    sound=Sound(room_s=(1.0, 2.2), wet=(0.1, 0.22), pump=0.2, echo=0.2, drive=(0.05, 0.2)),
    fade=0.3,
)

CHIPTUNE = Style(
    name="chiptune",
    words=("chiptune", "8-bit", "video game", "retro game"),
    tempo=(110, 176),
    modes={"major": 5, "minor": 4, "mixolydian": 1},
    major=("I | V | vi | IV", "I | IV | V | I", "IV | V | iii | vi", "I | bVII | IV | V"),
    minor=("i | bVI | bVII | i", "i | bVII | bVI | V", "i | iv | bVII | bIII"),
    layers=(
        Layer(role="lead", instruments=("square lead",), velocity=84, gate=0.8),
        Layer(
            role="arp",
            instruments=("square lead", "saw lead"),
            center=64,
            velocity=58,
            gain_db=-6,
            patterns=("01210121", "0120120120120120", "0120120120121212"),
            gate=0.6,
        ),
        Layer(
            role="bass",
            instruments=("square lead", "synth bass"),
            center=42,
            velocity=80,
            gain_db=0,
            patterns=("1-1-5-1-", "1.8.1.8.", "11811181"),
            gate=0.7,
        ),
        Layer(
            role="counter", instruments=("square lead",), center=67, velocity=60, gain_db=-6, enters=2
        ),
    ),
    grooves=(
        Groove(hits={"kick": "x...x...", "snare": "..x...x.", "hat": "xxxxxxxx"}),
        Groove(hits={"kick": "x..x..x.", "snare": "..x...x.", "hat": "x.xxx.xxx.xxx.xx"}),
    ),
    kits=("808", "electronic"),
    drums_chance=0.85,
    drums_gain_db=-1,
    tune=Tune(
        rhythms=("x---x-x-", "x-xxx-x-", "x-xxxxxx", "xxxxxxx.xx.xx.xx"),
        leap=0.35,
        rest=0.05,
        ornament=0.1,
        center=74,
        reach=11,
    ),
    human_ms=0.0,
    sound=Sound(room_s=(0.1, 0.2), wet=(0.0, 0.02), crush=True),
)

DRUM_AND_BASS = Style(
    name="drum and bass",
    words=("drum and bass", "drum'n'bass", "jungle", "breakbeat"),
    tempo=(160, 178),
    modes={"minor": 5, "dorian": 3},
    minor=("i9 | i9 | bVImaj7 | bVImaj7", "i | i | bVII | bVI", "i7 | iv7 | i7 | bVII"),
    layers=(
        Layer(
            role="lead",
            instruments=("synth voice", "saw lead", "electric piano", "crystal synth"),
            velocity=72,
            gain_db=-4,
        ),
        Layer(
            role="pad",
            instruments=("warm pad", "synth strings", "halo pad", "choir pad"),
            center=60,
            voices=4,
            velocity=66,
            gain_db=-3,
            patterns=("C---",),
        ),
        Layer(
            role="bass",
            instruments=("deep synth bass", "synth bass"),
            center=34,
            velocity=98,
            gain_db=3,
            patterns=("1-------", "1--1--..1-......", "1..1..8-..1..5.."),
        ),
    ),
    grooves=(
        Groove(
            hits={
                "kick": "X.........x.....", "snare": "....X.......X...", "hat": "x.x.x.x.x.x.x.x."
            }
        ),
        Groove(
            hits={
                "kick": "X.x.......x.....|X.x.......x..x..", "snare": "....X..o.o..X..o",
                "hat": "xoxoxoxoxoxoxoxo", "ride": "x...x...x...x...",
            }
        ),
    ),
    kits=("room", "electronic"),
    drums_gain_db=0,
    tune=Tune(rhythms=("x-------", "x---....", "x--x--x-"), scale="pentatonic", rest=0.4),
    tune_chance=0.7,
    human_ms=3,
    sound=Sound(room_s=(0.8, 1.6), wet=(0.06, 0.15), drive=(0.1, 0.35), echo=0.12),
    fade=0.3,
)  # fmt: skip

HIP_HOP = Style(
    name="hip hop",
    words=("hip hop", "boom bap", "trap", "rap beat"),
    tempo=(72, 96),
    swing=(0.5, 0.58),
    swing_unit=0.5,
    modes={"minor": 6, "phrygian": 2, "dorian": 2},
    minor=("i | i | bVI | V", "i | bVI | i | bVII", "i7 | iv7 | i7 | V7", "i | bII | i | bII"),
    layers=(
        Layer(
            role="lead",
            instruments=("piano", "flute", "square lead", "koto", "vibraphone", "pizzicato strings"),
            velocity=74,
            gain_db=-2,
        ),
        Layer(
            role="chords",
            instruments=("piano", "electric piano", "strings", "synth strings", "harp"),
            center=60,
            velocity=66,
            gain_db=-2,
            patterns=("C-------", "0-1-2-1-", "C---..c-"),
        ),
        Layer(
            role="bass",
            instruments=("deep synth bass", "synth bass", "bass guitar"),
            center=33,
            velocity=100,
            gain_db=4,
            patterns=("1---....", "1-----..1-......", "1--..1--....1-5-"),
        ),
    ),
    grooves=(
        Groove(hits={"kick": "X..x....", "snare": "..X...X.", "hat": "x.x.x.x."}, fill="soft"),
        Groove(
            hits={
                "kick": "X......x..x.....",
                "clap": "....X.......X...",
                "hat": "x.x.x.xxx.x.x.xx",
                "open": "..............?.",
            },
            fill="soft",
        ),
        Groove(
            hits={
                "kick": "X.....x...x..x..",
                "snare": "....X..o....X...",
                "hat": "xxxxxxxxxxxxxxxx",
            }
        ),
    ),
    kits=("808", "room"),
    drums_gain_db=-1.5,
    tune=Tune(rhythms=("x---x---", "x--x--x-", "x.x.x-.."), rest=0.3, leap=0.2, center=71),
    tune_chance=0.75,
    human_ms=5,
    sound=Sound(room_s=(0.3, 0.8), wet=(0.04, 0.1), drive=(0.15, 0.4)),
    fade=0.3,
)

ELECTRONIC_STYLES = (
    LOFI, HOUSE, TECHNO, AMBIENT, SYNTHWAVE, CHIPTUNE, DRUM_AND_BASS, HIP_HOP,
)  # fmt: skip
