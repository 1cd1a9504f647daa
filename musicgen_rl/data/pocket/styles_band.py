"""Styles played by a band."""

from musicgen_rl.data.pocket.style import Groove, Layer, Sound, Style, Tune

CLUB = Sound(room_s=(0.35, 0.8), wet=(0.06, 0.14))

JAZZ = Style(
    name="jazz",
    words=("jazz", "swing jazz", "jazzy", "jazz combo"),
    tempo=(92, 196),
    swing=(0.6, 0.68),
    modes={"major": 4, "dorian": 3, "minor": 2},
    major=(
        "Imaj7 | vi7 | ii7 | V7",
        "ii7 | V7 | Imaj7 | VI7",
        "Imaj7 IV7 | iii7 VI7 | ii7 | V7",
        "Imaj7 | Imaj7 | II7 | II7 | ii7 | V7 | Imaj7 | V7",
    ),
    minor=("i7 | iih7 V7 | i7 | V7", "i7 | iv7 | iih7 | V7", "i7 | IV7 | i7 | IV7"),
    layers=(
        Layer(
            role="lead",
            instruments=(
                "tenor sax",
                "alto sax",
                "muted trumpet",
                "trumpet",
                "vibraphone",
                "jazz guitar",
                "clarinet",
                "piano",
            ),
            velocity=86,
        ),
        Layer(
            role="chords",
            instruments=("piano", "jazz guitar", "electric piano"),
            center=59,
            voices=4,
            velocity=64,
            gain_db=-2,
            patterns=("C-------|....c---", "..c-....|c---..c-", "C..c-...|..C...c-"),
            gate=0.7,
        ),
        Layer(
            role="bass",
            instruments=("double bass",),
            center=40,
            velocity=84,
            gain_db=2,
            patterns=("1-5-", "WWWW", "WWWW"),
        ),
    ),
    grooves=(
        Groove(hits={"ride": "x.x.x.x.", "pedal": "..x...x."}, fill="soft"),
        Groove(
            hits={"ride": "x.xxx.xx", "pedal": "..x...x.", "snare": "...?...o", "kick": "o...o..."},
            fill="soft",
        ),
        Groove(
            hits={"ride": "X.xxX.xx", "pedal": "..X...X.", "snare": "?..o.?.o", "kick": "o.?.o..?"}
        ),
    ),
    kits=("jazz", "brush"),
    drums_gain_db=-3,
    tune=Tune(
        rhythms=("x--x--..", "x-xx.x-.", "x-xxxxx-", "xxxxxx-x", "xxxxxxxx"),
        leap=0.28,
        rest=0.2,
        ornament=0.08,
    ),
    human_ms=13,
    rubato=0.1,
    sound=CLUB,
)

BOSSA = Style(
    name="bossa nova",
    words=("bossa nova", "brazilian bossa nova", "bossa"),
    tempo=(108, 150),
    modes={"major": 4, "minor": 3, "dorian": 1},
    major=(
        "Imaj7 | Imaj7 | II7 | II7 | ii7 | V7 | Imaj7 | V7",
        "Imaj7 | vi7 | ii7 | V7",
        "Imaj9 | IV7 | iii7 VI7 | ii7 V7",
    ),
    minor=("i7 | iv7 | iih7 | V7", "i7 | i7 | iv7 | V7", "i9 | bVImaj7 | iih7 | V7"),
    layers=(
        Layer(
            role="lead",
            instruments=("flute", "alto sax", "nylon guitar", "vibraphone", "soprano sax"),
            velocity=74,
        ),
        Layer(
            role="chords",
            instruments=("nylon guitar",),
            center=57,
            voices=4,
            velocity=68,
            gain_db=1,
            patterns=("C--c--c-|..c--c--", "C--c-c--|c-c--c-."),
            gate=0.75,
        ),
        Layer(
            role="pad",
            instruments=("slow strings", "electric piano"),
            center=62,
            voices=3,
            velocity=52,
            gain_db=-7,
            patterns=("C---",),
            chance=0.45,
            enters=1,
        ),
        Layer(
            role="bass",
            instruments=("double bass", "fretless bass"),
            center=40,
            velocity=76,
            gain_db=1,
            patterns=("1--55--1",),
        ),
    ),
    grooves=(
        Groove(hits={"rim": "x..x..x.|..x..x..", "shaker": "xoxoxoxo"}, fill="none"),
        Groove(
            hits={
                "rim": "x..x..x.|..x..x..",
                "hat": "xxxxxxxx",
                "kick": "x..xx..x",
                "shaker": "oxoxoxox",
            },
            fill="soft",
        ),
    ),
    kits=("brush", "jazz"),
    drums_gain_db=-4,
    tune=Tune(
        rhythms=("x---x---", "x--x--x-", "x-x--x-x", ".x-x-xx-"), leap=0.2, rest=0.2, center=72
    ),
    human_ms=10,
    sound=Sound(room_s=(0.4, 1.0), wet=(0.07, 0.16)),
)

BLUES = Style(
    name="blues",
    words=("blues", "bluesy", "electric blues", "blues band"),
    tempo=(64, 132),
    swing=(0.62, 0.68),
    modes={"mixolydian": 4, "minor": 2, "dorian": 1},
    major=("I7 | IV7 | I7 | I7 | IV7 | IV7 | I7 | I7 | V7 | IV7 | I7 | V7",),
    minor=("i7 | iv7 | i7 | i7 | iv7 | iv7 | i7 | i7 | bVI7 | V7 | i7 | V7",),
    layers=(
        Layer(
            role="lead",
            instruments=("overdriven guitar", "harmonica", "clean guitar", "piano", "tenor sax"),
            velocity=88,
        ),
        Layer(
            role="chords",
            instruments=("piano", "drawbar organ", "clean guitar", "honky-tonk piano"),
            center=57,
            voices=3,
            velocity=68,
            gain_db=-2,
            patterns=("C---..c-", "..c-..c-", "C.cc.cc."),
            gate=0.7,
        ),
        Layer(
            role="bass",
            instruments=("bass guitar", "double bass"),
            center=40,
            velocity=84,
            gain_db=1,
            patterns=("1---5---", "1.13.355", "1-3-5-3-"),
        ),
    ),
    grooves=(
        Groove(hits={"hat": "x.xxx.xx", "snare": "..x...x.", "kick": "x...x..."}, fill="snare"),
        Groove(hits={"ride": "xxxxxxxx", "snare": "..X...X.", "kick": "x..xx..x"}),
    ),
    drums_gain_db=-2,
    tune=Tune(
        rhythms=("x--x....", "x-x-x-..", ".xxxx-x-", "xxx-.xxx"),
        scale="blues",
        leap=0.25,
        rest=0.3,
        ornament=0.25,
        center=70,
    ),
    human_ms=13,
    rubato=0.15,
    sound=Sound(room_s=(0.4, 0.9), wet=(0.06, 0.15), drive=(0.1, 0.3)),
)

ROCK = Style(
    name="rock",
    words=("rock", "indie rock", "guitar rock", "classic rock"),
    tempo=(100, 164),
    modes={"major": 4, "mixolydian": 2, "minor": 4, "dorian": 1},
    major=("I | V | vi | IV", "I | bVII | IV | I", "I | IV | V | IV", "I5 | IV5 | I5 | V5"),
    minor=("i | bVI | bIII | bVII", "i5 | bVII5 | bVI5 | bVII5", "i | bVII | IV | i"),
    layers=(
        Layer(
            role="lead",
            instruments=("overdriven guitar", "distorted guitar", "rock organ", "clean guitar"),
            velocity=88,
            gain_db=-1,
        ),
        Layer(
            role="chords",
            instruments=("overdriven guitar", "distorted guitar", "clean guitar"),
            center=52,
            voices=3,
            velocity=82,
            gain_db=-2,
            patterns=("C-------", "C---c-c-", "CcCcCcCc", "C-cCc-Cc"),
            gate=0.9,
        ),
        Layer(
            role="arp",
            instruments=("clean guitar", "rock organ", "piano"),
            center=64,
            voices=3,
            velocity=66,
            gain_db=-6,
            patterns=("C---", "0-2-1-2-"),
            chance=0.5,
            enters=1,
        ),
        Layer(
            role="bass",
            instruments=("picked bass", "bass guitar"),
            center=38,
            velocity=92,
            gain_db=1,
            patterns=("1---1---", "1-111-11", "11111111"),
        ),
    ),
    grooves=(
        Groove(hits={"hat": "xxxxxxxx", "snare": "..X...X.", "kick": "X...X..."}),
        Groove(hits={"hat": "XxXxXxXx", "snare": "..X...X.", "kick": "X..xX..."}),
        Groove(hits={"ride": "XxXxXxXx", "snare": "..X...X.", "kick": "X.xxX.x."}),
    ),
    kits=("power", "room", "standard"),
    drums_gain_db=1,
    tune=Tune(
        rhythms=("x---x---", "x-x-x---", "x-xx.xx-", "xxx-xxx-"),
        scale="pentatonic",
        leap=0.25,
        rest=0.25,
        center=71,
    ),
    tune_chance=0.8,
    human_ms=8,
    sound=Sound(room_s=(0.4, 0.9), wet=(0.05, 0.12), drive=(0.2, 0.45)),
)

METAL = Style(
    name="metal",
    words=("metal", "heavy metal", "thrash metal", "hard rock"),
    tempo=(120, 190),
    modes={"minor": 4, "phrygian": 4, "harmonic minor": 2},
    minor=(
        "i5 | i5 | bVI5 | bVII5",
        "i5 | bII5 | i5 | bII5",
        "i5 | i5 | bIII5 | bII5",
        "i5 | bVI5 | bIII5 | bVII5",
    ),
    layers=(
        Layer(role="lead", instruments=("distorted guitar",), velocity=94, gain_db=-1),
        Layer(
            role="chords",
            instruments=("distorted guitar",),
            center=45,
            voices=2,
            velocity=96,
            gain_db=1,
            patterns=("C---C-C-", "CCC.CC.C", "C.CCC.CCC.CCC.CC", "CCCCCCCCCCCCCCCC"),
            gate=0.75,
        ),
        Layer(
            role="bass",
            instruments=("picked bass",),
            center=34,
            velocity=98,
            gain_db=1,
            patterns=("1-1-1-1-", "11111111", "1111111111111111"),
        ),
    ),
    grooves=(
        Groove(
            hits={
                "crash": "X.......|........",
                "hat": "X.X.X.X.",
                "snare": "..X...X.",
                "kick": "X..XX..X",
            }
        ),
        Groove(hits={"hat": "XxXxXxXx", "snare": "..X...X.", "kick": "XxxxXxxxXxxxXxxx"}),
        Groove(hits={"ride": "XxXxXxXx", "snare": ".X.X.X.X", "kick": "XxXxXxXx"}),
    ),
    kits=("power",),
    drums_gain_db=0,
    tune=Tune(
        rhythms=("x---x---", "x-x-x-x-", "xxxxx-x-", "xxxxxxxxxxxxxxxx"),
        leap=0.2,
        rest=0.3,
        center=74,
    ),
    tune_chance=0.6,
    human_ms=5,
    sound=Sound(room_s=(0.3, 0.6), wet=(0.04, 0.09), drive=(0.4, 0.7)),
)

FUNK = Style(
    name="funk",
    words=("funk", "funky", "groovy funk", "funk band"),
    tempo=(94, 124),
    swing=(0.5, 0.58),
    swing_unit=0.5,
    modes={"dorian": 5, "mixolydian": 4, "minor": 1},
    major=("I9 | I9 | IV9 | I9", "I7 | bVII | IV7 | I7"),
    minor=("i7 | IV7 | i7 | IV7", "i9 | i9 | iv7 | i9", "i7 | i7 | bIII | IV"),
    layers=(
        Layer(
            role="lead",
            instruments=("brass", "alto sax", "trumpet", "drawbar organ", "synth brass"),
            velocity=86,
            gain_db=-1,
            gate=0.6,
        ),
        Layer(
            role="chords",
            instruments=("clean guitar", "muted guitar"),
            center=64,
            voices=3,
            velocity=70,
            gain_db=-2,
            patterns=("..c...c...c...c.", "c.cc..c.c.cc..c.", "cc.cc.cc.cc.cc.c"),
            gate=0.4,
        ),
        Layer(
            role="arp",
            instruments=("clavinet", "electric piano", "drawbar organ"),
            center=57,
            voices=3,
            velocity=70,
            gain_db=-3,
            patterns=("C---....", "C..c..c...c.c...", "0.c.0..c..c.0.c."),
            gate=0.5,
            chance=0.75,
        ),
        Layer(
            role="bass",
            instruments=("slap bass", "bass guitar"),
            center=38,
            velocity=94,
            gain_db=2,
            patterns=("1...1.8...r.5.8.", "1.r8..1.r.8.5.1.", "1.18.r1..r8.5r78"),
            gate=0.7,
        ),
    ),
    grooves=(
        Groove(
            hits={
                "hat": "x.x.x.x.x.x.x.x.",
                "snare": "....X..o.o..X..o",
                "kick": "X.x.......x..x..",
            }
        ),
        Groove(
            hits={
                "hat": "xxxxxxxxxxxxxxxx",
                "snare": "....X..o.o.oX..o",
                "kick": "X..x..x...x..x..",
                "open": "..............x.",
            }
        ),
    ),
    kits=("standard", "room"),
    drums_gain_db=0,
    tune=Tune(
        rhythms=("x.x.....", "x..x..x.x.......", ".xx.x.x...x.x...", "x.xx.xx.x.x.xx.."),
        scale="pentatonic",
        rest=0.35,
        leap=0.25,
        center=70,
    ),
    tune_chance=0.75,
    human_ms=6,
    sound=CLUB,
)

REGGAE = Style(
    name="reggae",
    words=("reggae", "roots reggae", "dub reggae"),
    tempo=(68, 92),
    swing=(0.5, 0.6),
    swing_unit=0.5,
    modes={"major": 4, "minor": 4, "dorian": 1},
    major=("I | IV | I | V", "I | vi | IV | V", "I | ii | I | ii"),
    minor=("i | iv | i | bVII", "i | bVII | bVI | bVII", "i | iv | i | iv"),
    layers=(
        Layer(
            role="lead",
            instruments=("drawbar organ", "trombone", "harmonica", "clean guitar", "trumpet"),
            velocity=78,
        ),
        Layer(
            role="chords",
            instruments=("clean guitar", "muted guitar"),
            center=64,
            voices=3,
            velocity=84,
            gain_db=0,
            patterns=("..C...C.", "..Cc..Cc", "..C.c...C.c....."),
            gate=0.35,
        ),
        Layer(
            role="arp",
            instruments=("drawbar organ", "piano"),
            center=60,
            voices=3,
            velocity=64,
            gain_db=-5,
            patterns=("..c...c.", ".cc..cc..cc..cc."),
            gate=0.5,
            chance=0.7,
        ),
        Layer(
            role="bass",
            instruments=("bass guitar", "fretless bass"),
            center=36,
            velocity=96,
            gain_db=3,
            patterns=("1---..5-", "1-.15-3-", "1--1.35-..1-.5.3"),
        ),
    ),
    grooves=(
        Groove(hits={"hat": "x.x.x.x.", "rim": "....X...", "kick": "....X..."}),
        Groove(
            hits={
                "hat": "x.xxx.xxx.xxx.xx",
                "snare": "........X.......",
                "kick": "x.......X.......",
            }
        ),
    ),
    drums_gain_db=-1,
    tune=Tune(rhythms=("x---x-..", "x.x-x...", ".xx-x-x-"), leap=0.2, rest=0.35, center=70),
    tune_chance=0.7,
    human_ms=11,
    sound=Sound(room_s=(0.5, 1.2), wet=(0.08, 0.2), echo=0.18),
)

LATIN = Style(
    name="latin",
    words=("latin", "salsa", "afro-cuban", "latin jazz"),
    tempo=(92, 116),
    modes={"minor": 4, "major": 3, "dorian": 2},
    major=("I | IV | V7 | IV", "Imaj7 | ii7 | V7 | Imaj7", "I | vi | ii7 | V7"),
    minor=("i | iv | V7 | i", "i7 | IV7 | i7 | V7", "i | bVII | bVI | V7"),
    layers=(
        Layer(
            role="lead",
            instruments=("trumpet", "brass", "flute", "trombone", "piano"),
            velocity=88,
        ),
        Layer(
            role="chords",
            instruments=("piano", "nylon guitar"),
            center=64,
            voices=3,
            velocity=80,
            gain_db=0,
            patterns=("C.c.cc.c.c.c.cc.", "02.1.20.2.1.202.", "C.Cc.cC.c.C.cC.c"),
            gate=0.6,
        ),
        Layer(
            role="bass",
            instruments=("double bass", "fretless bass"),
            center=38,
            velocity=90,
            gain_db=2,
            patterns=("1-----5-----1---", "1..5--8-...5--A-"),
        ),
        Layer(
            role="counter",
            instruments=("trombone", "strings", "tenor sax"),
            center=58,
            velocity=70,
            gain_db=-4,
            chance=0.5,
            enters=2,
        ),
    ),
    grooves=(
        Groove(
            hits={
                "claves": "x.....x.....x...|....x...x.......",
                "conga_mute": "x...x...x...x...",
                "conga1": "..x.......x.....",
                "conga2": "............x.xx",
                "guiro": "x...x.x.x...x.x.",
            },
            fill="none",
        ),
        Groove(
            hits={
                "claves": "x.....x.....x...|....x...x.......",
                "cowbell": "x...x.x.x...x.x.",
                "conga_mute": "x..xx...x..xx...",
                "conga2": "............x.xx",
                "timbale1": "............?.??",
                "kick": "x.....x.x.....x.",
                "shaker": "xoxoxoxoxoxoxoxo",
            },
        ),
    ),
    drums_gain_db=-1,
    tune=Tune(
        rhythms=("x---x---", "x..x..x.", ".xx.x-x-", "x.xx.xx.x.xx.x.."),
        leap=0.25,
        rest=0.2,
        harmony=0.35,
    ),
    human_ms=8,
    sound=CLUB,
)

COUNTRY = Style(
    name="country",
    words=("country", "bluegrass", "country western"),
    tempo=(96, 156),
    modes={"major": 6, "mixolydian": 2},
    major=("I | I | IV | I", "I | IV | V7 | I", "I | V7 | V7 | I", "I | vi | IV | V"),
    layers=(
        Layer(
            role="lead",
            instruments=("banjo", "fiddle", "harmonica", "steel guitar", "clean guitar"),
            velocity=86,
        ),
        Layer(
            role="chords",
            instruments=("steel guitar",),
            center=57,
            voices=4,
            velocity=74,
            patterns=("..D...D.", "B.DUF.DU", "B.D.F.DU"),
            gate=0.7,
        ),
        Layer(
            role="arp",
            instruments=("banjo", "honky-tonk piano"),
            center=64,
            velocity=68,
            gain_db=-4,
            patterns=("0-2-1-2-", "0213021302130213"),
            chance=0.6,
            enters=1,
        ),
        Layer(
            role="bass",
            instruments=("double bass", "bass guitar"),
            center=40,
            velocity=84,
            gain_db=1,
            patterns=("1...L...", "1-..L-A-"),
        ),
    ),
    grooves=(
        Groove(hits={"kick": "x...x...", "rim": "..x...x.", "hat": "x.x.x.x."}, fill="soft"),
        Groove(hits={"snare": "oxoxoxox", "kick": "X...X...", "hat": "..x...x."}),
    ),
    kits=("brush", "standard"),
    drums_chance=0.75,
    drums_gain_db=-3,
    tune=Tune(
        rhythms=("x---x-x-", "x-x-xxx-", "xxx-xxxx", "xxxxxxxx"),
        scale="pentatonic",
        leap=0.22,
        ornament=0.2,
        harmony=0.25,
        center=72,
    ),
    human_ms=9,
    sound=Sound(room_s=(0.3, 0.7), wet=(0.05, 0.11)),
)

BAND_STYLES = (JAZZ, BOSSA, BLUES, ROCK, METAL, FUNK, REGGAE, LATIN, COUNTRY)
