"""Popular styles between the band and the machine, and two old dances."""

from musicgen_rl.data.pocket.style import Groove, Layer, Sound, Style, Tune

POP = Style(
    name="pop",
    words=("pop", "pop rock", "pop band", "indie pop", "synth pop"),
    tempo=(92, 130),
    modes={"major": 7, "minor": 3},
    major=("I | V | vi | IV", "vi | IV | I | V", "I | vi | IV | V", "IV | I | V | vi"),
    minor=("i | bVI | bIII | bVII", "i | bVII | bVI | bVII", "bVI | bVII | i | i"),
    layers=(
        Layer(
            role="lead",
            instruments=("piano", "clean guitar", "polysynth", "synth voice", "saw lead", "flute"),
            velocity=80,
        ),
        Layer(
            role="chords",
            instruments=("piano", "steel guitar", "clean guitar", "electric piano"),
            center=59,
            voices=4,
            velocity=72,
            patterns=("C-------", "C---c-c-", "D-D-DUDU", "C-cC-cC-"),
        ),
        Layer(
            role="arp",
            instruments=("muted guitar", "crystal synth", "polysynth", "glockenspiel"),
            center=66,
            velocity=64,
            gain_db=-5,
            patterns=("0-1-2-1-", "02120212"),
            chance=0.5,
            enters=1,
            gate=0.6,
        ),
        Layer(
            role="pad",
            instruments=("warm pad", "strings", "synth strings"),
            center=60,
            voices=4,
            velocity=58,
            gain_db=-5,
            patterns=("C---",),
            chance=0.6,
            enters=1,
        ),
        Layer(
            role="bass",
            instruments=("bass guitar", "picked bass", "synth bass"),
            center=38,
            velocity=86,
            patterns=("1-------", "1--1--1-", "1-1-1-1-", "11111111"),
        ),
    ),
    grooves=(
        Groove(hits={"hat": "x.x.x.x.", "snare": "..X...X.", "kick": "X...x..."}),
        Groove(
            hits={"hat": "xoxoxoxo", "snare": "..X...X.", "clap": "..x...x.", "kick": "X..xx..."}
        ),
        Groove(
            hits={"kick": "X.X.X.X.", "clap": "..x...x.", "hat": "oxoxoxox", "tamb": "xxxxxxxx"}
        ),
    ),
    kits=("standard", "electronic", "room"),
    drums_gain_db=-1,
    tune=Tune(
        rhythms=("x---x---", "x--x--x-", "x-x-xx--", "xx-xx-x-"),
        scale="pentatonic",
        leap=0.2,
        harmony=0.25,
    ),
    human_ms=6,
    sound=Sound(room_s=(0.5, 1.2), wet=(0.06, 0.14), drive=(0.05, 0.2)),
    fade=0.25,
)

BALLAD = Style(
    name="ballad",
    words=("ballad", "slow ballad", "romantic ballad", "piano ballad"),
    tempo=(56, 82),
    modes={"major": 6, "minor": 4},
    major=("I | V | vi | IV", "I | iii | IV | V", "Imaj7 | vi7 | ii7 | V", "I | I | IV | V"),
    minor=("i | bVI | bIII | bVII", "i | iv | bVII | bIII", "i | bVII | bVI | V"),
    layers=(
        Layer(
            role="lead",
            instruments=("piano", "violin", "cello", "oboe", "clean guitar", "alto sax"),
            velocity=76,
        ),
        Layer(
            role="chords",
            instruments=("piano", "nylon guitar", "electric piano"),
            center=56,
            voices=4,
            velocity=62,
            patterns=("C---c---", "B-1-2-1-", "B123B321", "0121012101230121"),
        ),
        Layer(
            role="pad",
            instruments=("strings", "slow strings", "warm pad"),
            center=62,
            voices=4,
            velocity=60,
            gain_db=-3,
            patterns=("C---",),
            chance=0.8,
            enters=1,
        ),
        Layer(
            role="bass",
            instruments=("bass guitar", "fretless bass", "double bass"),
            center=38,
            velocity=72,
            patterns=("1-------", "1---5---"),
            chance=0.8,
            enters=1,
        ),
    ),
    grooves=(
        Groove(hits={"rim": "..x...x.", "kick": "x...x...", "hat": "o.o.o.o."}, fill="soft"),
        Groove(hits={"snare": "..x...x.", "kick": "X..xx...", "ride": "x.x.x.x."}, fill="soft"),
    ),
    kits=("room", "brush"),
    drums_chance=0.55,
    drums_gain_db=-4,
    tune=Tune(rhythms=("x---x---", "x-----x-", "x--xx-x-", "x-xxx---"), leap=0.25, rest=0.1),
    human_ms=13,
    rubato=0.3,
    sound=Sound(room_s=(1.0, 2.2), wet=(0.12, 0.24)),
)

DISCO = Style(
    name="disco",
    words=("disco", "70s disco", "funky disco", "disco dance"),
    tempo=(112, 128),
    modes={"minor": 5, "dorian": 3, "major": 3},
    major=("I | vi | ii | V", "Imaj7 | IVmaj7 | iii7 | vi7"),
    minor=("i | iv | bVII | bIII", "i7 | bVII | bVI | V7", "i7 | IV7 | i7 | IV7"),
    layers=(
        Layer(role="lead", instruments=("strings", "trumpet", "brass", "synth brass"), velocity=84),
        Layer(
            role="chords",
            instruments=("clean guitar", "clavinet", "electric piano"),
            center=64,
            velocity=72,
            patterns=("..c...c.", "..cc..cc..cc..cc", "c.cc.cc.c.cc.cc."),
            gate=0.45,
        ),
        Layer(
            role="pad",
            instruments=("strings", "synth strings"),
            center=67,
            velocity=62,
            gain_db=-3,
            patterns=("C---",),
            enters=1,
        ),
        Layer(
            role="bass",
            instruments=("bass guitar", "slap bass", "synth bass"),
            center=38,
            velocity=90,
            patterns=("1-8-1-8-", "18181818", "1.8.1.8.1.181.85"),
            gate=0.7,
        ),
    ),
    grooves=(
        Groove(hits={"kick": "X.X.X.X.", "snare": "..X...X.", "open": ".x.x.x.x"}),
        Groove(
            hits={
                "kick": "X...X...X...X...",
                "snare": "....X.......X...",
                "hat": "xx.xxx.xxx.xxx.x",
                "open": "..x...x...x...x.",
                "tamb": "x.x.x.x.x.x.x.x.",
            }
        ),
    ),
    kits=("standard", "room"),
    drums_gain_db=-2,
    tune=Tune(rhythms=("x---x---", "x--x--x-", "x.x.xxx-", "x-xxxx--"), leap=0.25, rest=0.2),
    tune_chance=0.85,
    human_ms=4,
    sound=Sound(room_s=(0.5, 1.1), wet=(0.06, 0.15), pump=0.1),
    fade=0.3,
)

RAGTIME = Style(
    name="ragtime",
    words=("ragtime", "saloon piano", "old-time piano", "silent film"),
    tempo=(76, 112),
    modes={"major": 9, "minor": 1},
    major=(
        "I | VI7 | II7 | V7 | I | VI7 | II7 V7 | I",
        "I | I | V7 | V7 | V7 | V7 | I | I",
        "I | I7 | IV | iv | I | II7 | V7 | I",
    ),
    minor=("i | V7 | i | V7 | iv | i | V7 | i",),
    layers=(
        Layer(role="lead", instruments=("honky-tonk piano", "piano", "bright piano"), velocity=86),
        Layer(
            role="chords",
            instruments=("honky-tonk piano", "piano"),
            center=57,
            velocity=68,
            patterns=("B.c.F.c.", "B.c.F.c."),
            gate=0.6,
        ),
        Layer(
            role="bass",
            instruments=("tuba", "double bass"),
            center=38,
            velocity=76,
            patterns=("1...L...",),
            chance=0.25,
            gate=0.6,
        ),
    ),
    grooves=(Groove(hits={"kick": "x...x...", "snare": "..o...o."}, fill="none"),),
    kits=("brush", "jazz"),
    drums_chance=0.2,
    drums_gain_db=-6,
    tune=Tune(
        rhythms=("x.x-x.x-", "xx-xx-x-", "x.xx.xx.x.xx.x--", ".xx.xx.xx.xx.xx."),
        leap=0.35,
        rest=0.03,
        harmony=0.3,
        center=74,
    ),
    human_ms=8,
    rubato=0.15,
    sound=Sound(room_s=(0.3, 0.8), wet=(0.05, 0.12)),
)

TANGO = Style(
    name="tango",
    words=("tango", "argentine tango", "dramatic tango"),
    tempo=(104, 132),
    modes={"minor": 4, "harmonic minor": 5, "major": 1},
    major=("I | V7 | V7 | I", "I | VI7 | ii | V7"),
    minor=("i | V7 | V7 | i", "i | iv | V7 | i", "i | bVII | bVI | V7"),
    layers=(
        Layer(
            role="lead",
            instruments=("bandoneon", "violin", "accordion", "clarinet"),
            velocity=88,
            gate=0.85,
        ),
        Layer(
            role="chords",
            instruments=("piano", "bandoneon", "nylon guitar"),
            center=58,
            voices=4,
            velocity=78,
            patterns=("C-c-c-c-", "C.c.c.cc", "C..cc.c."),
            gate=0.45,
        ),
        Layer(
            role="bass",
            instruments=("double bass", "contrabass"),
            center=38,
            velocity=86,
            patterns=("1-1-1-1-", "1--15---"),
            gate=0.6,
        ),
        Layer(
            role="counter",
            instruments=("cello", "violin", "strings"),
            center=60,
            velocity=66,
            gain_db=-3,
            chance=0.6,
            enters=2,
        ),
    ),
    tune=Tune(
        rhythms=("x--x--x-", "x-xx--x-", "x.xxx.x-", "xxxxx-x-"), leap=0.3, ornament=0.15, rest=0.1
    ),
    human_ms=11,
    rubato=0.25,
    sound=Sound(room_s=(0.5, 1.1), wet=(0.08, 0.16)),
)

TRANCE = Style(
    name="trance",
    words=("trance", "uplifting trance", "EDM", "euphoric dance"),
    tempo=(128, 142),
    modes={"minor": 6, "major": 3},
    major=("I | V | vi | IV", "vi | IV | I | V"),
    minor=("i | bVI | bIII | bVII", "bVI | bVII | i | i", "i | bVII | bVI | bVII"),
    layers=(
        Layer(
            role="lead",
            instruments=("saw lead", "synth voice", "polysynth", "fifths lead"),
            velocity=80,
            enters=1,
        ),
        Layer(
            role="arp",
            instruments=("saw lead", "crystal synth", "square lead", "polysynth"),
            center=67,
            velocity=72,
            gain_db=-3,
            patterns=("0.1.2.1.0.1.2.1.", "0120120120120120", "0123210301232103"),
            gate=0.6,
        ),
        Layer(
            role="pad",
            instruments=("synth strings", "sweep pad", "choir pad"),
            center=62,
            voices=4,
            velocity=66,
            gain_db=-3,
            patterns=("C---",),
        ),
        Layer(
            role="bass",
            instruments=("synth bass", "deep synth bass"),
            center=36,
            velocity=92,
            patterns=(".1.1.1.1", ".111.111.111.111"),
            gate=0.7,
        ),
    ),
    grooves=(
        Groove(hits={"kick": "X.X.X.X.", "open": ".x.x.x.x"}, fill="build"),
        Groove(
            hits={"kick": "X.X.X.X.", "clap": "..x...x.", "open": ".x.x.x.x", "hat": "xxxxxxxx"},
            fill="build",
        ),
    ),
    kits=("electronic", "808"),
    drums_gain_db=-3,
    tune=Tune(rhythms=("x---x---", "x--x--x-", "x-x-xx-x"), leap=0.2, rest=0.1, center=74),
    tune_chance=0.8,
    human_ms=1.0,
    sound=Sound(room_s=(1.2, 2.4), wet=(0.1, 0.22), pump=0.45, echo=0.2, drive=(0.1, 0.3)),
    fade=0.4,
)

POPULAR_STYLES = (POP, BALLAD, DISCO, RAGTIME, TANGO, TRANCE)
