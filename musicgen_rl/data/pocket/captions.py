"""Captions from facts: a small grammar that writes as people do.

Every caption draws which facts to mention, a form (tags, fragment, one sentence, two sentences) and
words for each fact. Nothing is claimed that the attributes do not hold.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from musicgen_rl.data.keys import KEY_NAMES, Key
from musicgen_rl.data.pocket.instruments import INSTRUMENTS
from musicgen_rl.data.pocket.styles import BROADER, STYLES

MOOD_WORDS: dict[str, tuple[str, ...]] = {
    "happy": ("happy", "joyful", "cheery", "feel-good", "sunny"),
    "cheerful": ("cheerful", "bright", "light-hearted", "pleasant", "positive"),
    "peaceful": ("peaceful", "serene", "gentle", "soothing", "tranquil"),
    "warm": ("warm", "tender", "intimate", "soft-hearted"),
    "uplifting": ("uplifting", "triumphant", "optimistic", "hopeful", "inspiring"),
    "sad": ("sad", "sorrowful", "mournful", "gloomy", "somber"),
    "melancholic": ("melancholic", "wistful", "nostalgic", "bittersweet", "moody"),
    "tense": ("tense", "urgent", "driving", "suspenseful", "restless"),
    "dark": ("dark", "ominous", "menacing", "dramatic"),
    "brooding": ("brooding", "heavy", "shadowy", "mysterious"),
    "energetic": ("energetic", "lively", "upbeat", "vigorous", "dynamic"),
    "aggressive": ("aggressive", "fierce", "intense", "furious"),
    "exciting": ("exciting", "exhilarating", "thrilling", "high-energy"),
    "calm": ("calm", "relaxing", "quiet", "laid-back", "chilled"),
    "dreamy": ("dreamy", "ethereal", "floating", "hypnotic", "meditative"),
    "powerful": ("powerful", "epic", "big", "bold", "grand"),
    "danceable": ("danceable", "groovy", "catchy", "toe-tapping"),
    "delicate": ("delicate", "fragile", "sparkling", "graceful"),
}
"""Mood -> words for it."""

TEMPO_WORDS: dict[str, tuple[str, ...]] = {
    "slow": ("slow", "slow-paced", "unhurried", "downtempo"),
    "medium": ("mid-tempo", "medium-paced", "moderately paced", "steady"),
    "fast": ("fast", "fast-paced", "quick", "up-tempo"),
}
"""Tempo band -> words for it."""

SAYS_PACE = re.compile(
    r"\bbpm\b|" + "|".join(word for words in TEMPO_WORDS.values() for word in words), re.I
)
"""Finds whether a caption says how fast a piece is."""

TEMPO_FORMS = (
    "{c}, {w} bpm", "{c}, {w} BPM", "{c} at {w} bpm", "{w} bpm {c}", "{c}, around {w} bpm",
    "{c}. It runs at {w} bpm.",
)  # fmt: skip
"""Ways to add the tempo w to the caption c; it stands first before a few words, not a sentence."""

PIECE_WORDS = ("track", "piece", "tune", "song", "instrumental", "composition", "music")
USES: dict[str, tuple[str, ...]] = {
    "calm": ("studying", "relaxing", "falling asleep", "meditation", "a quiet evening"),
    "peaceful": ("a sunrise scene", "a nature film", "relaxing"),
    "sad": ("a sad film scene", "a rainy day", "a farewell scene"),
    "melancholic": ("a lonely night drive", "a rainy afternoon", "looking back on old times"),
    "energetic": ("working out", "a sports video", "a chase scene", "a road trip"),
    "happy": ("a holiday video", "a children's show", "an advert", "a sunny day"),
    "cheerful": ("a picnic", "a cooking video", "a morning walk"),
    "tense": ("a thriller", "a car chase", "a boss fight"),
    "dark": ("a horror game", "a villain's entrance", "a thriller"),
    "powerful": ("a trailer", "a battle scene", "a stadium"),
    "danceable": ("dancing", "a party", "a club night"),
    "dreamy": ("stargazing", "daydreaming", "a dream sequence"),
    "aggressive": ("a fight scene", "heavy training"),
}


def instrument_word(rng: random.Random, name: str) -> str:
    """Name an instrument, mostly by its usual name."""
    words = INSTRUMENTS[name].words
    return rng.choice(words) if words and rng.random() < 0.4 else name


def join(words: list[str]) -> str:
    """Write a list as prose: `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def article(phrase: str) -> str:
    """Put `a` or `an` before a phrase."""
    spoken = phrase[:1].lower() in "aeiou" or phrase.startswith(("808", "8-", "80s"))
    return f"{'an' if spoken else 'a'} {phrase}"


def write_captions(facts: dict[str, Any], rng: random.Random, *, count: int) -> list[str]:
    """Write several captions of one piece.

    Args:
        facts: attributes as `describe` returns them.
        rng: source of chance.
        count: how many, all different.

    Returns:
        Captions; the first names style and instruments, the others leave out what people leave out.
    """
    found = [_fragment(facts, rng, full=True)]
    forms: list[Callable[[dict[str, Any], random.Random], str]]
    forms = [_tags, _fragment, _sentence, _two_sentences, _short, _use]
    turn = 0
    while len(found) < count:
        form = forms[turn % len(forms)] if turn < len(forms) else rng.choice(forms)
        turn += 1
        text = " ".join(form(facts, rng).split())
        if rng.random() < 0.12:
            text = text.lower()
        if text and text not in found:
            found.append(text)
    return found


def name_tempo(
    captions: Sequence[str], tempo_bpm: float, rng: random.Random, *, share: float
) -> list[str]:
    """Add the tempo as a number to some captions that do not say how fast a piece is.

    Args:
        captions: of one piece.
        tempo_bpm: its tempo.
        rng: source of chance.
        share: of those captions, 0 to 1.

    Returns:
        As many captions, in the same order.
    """
    found = []
    for caption in captions:
        if not SAYS_PACE.search(caption) and rng.random() < share:
            short = len(caption.split()) <= 4
            forms = [form for form in TEMPO_FORMS if short or form.startswith("{c}")]
            caption = rng.choice(forms).format(c=caption.rstrip("."), w=round(tempo_bpm))
        found.append(caption)
    return found


def _style(facts: dict[str, Any], rng: random.Random) -> str:
    words = STYLES[facts["style"]].words
    broader = [word for word, styles in BROADER.items() if facts["style"] in styles]
    if broader and rng.random() < 0.15:
        return rng.choice(broader)
    return words[0] if rng.random() < 0.45 else rng.choice(words)


def _mood(facts: dict[str, Any], rng: random.Random, most: int = 2) -> list[str]:
    names = rng.sample(facts["moods"], min(len(facts["moods"]), rng.randint(1, most)))
    return [rng.choice(MOOD_WORDS[name]) for name in names]


def _players(facts: dict[str, Any], rng: random.Random, most: int = 3) -> list[str]:
    names = list(facts["instruments"])
    kept = names[:1] + rng.sample(names[1:], min(len(names) - 1, rng.randint(0, most - 1)))
    words = list(dict.fromkeys(instrument_word(rng, n) for n in kept))
    if facts["drums"] and rng.random() < 0.6:
        words.append(facts["kit"] if rng.random() < 0.5 else "drums")
    return words


def _tempo(facts: dict[str, Any], rng: random.Random) -> str:
    if rng.random() < 0.35:
        return rng.choice(("{} bpm", "{} BPM", "around {} bpm")).format(facts["tempo_bpm"])
    return rng.choice(TEMPO_WORDS[facts["tempo_band"]])


def _key(facts: dict[str, Any], rng: random.Random) -> str:
    if rng.random() < 0.3:
        return f"{facts['mode']} key"
    return key_name(facts)


def key_name(facts: Mapping[str, Any]) -> str:
    """Spell the key of a piece as musicians do."""
    return key_of(facts).name


def key_of(facts: Mapping[str, Any]) -> Key:
    """Read the key of a piece from its facts, major or minor."""
    return Key(KEY_NAMES.index(facts["key"]), facts["mode"])


def _tags(facts: dict[str, Any], rng: random.Random) -> str:
    tags = [_style(facts, rng)] if rng.random() < 0.9 else []
    tags += _mood(facts, rng, 3) if facts["moods"] and rng.random() < 0.8 else []
    tags += _players(facts, rng) if rng.random() < 0.8 or not tags else []
    tags += [_tempo(facts, rng)] if rng.random() < 0.5 else []
    tags += [_key(facts, rng)] if rng.random() < 0.2 else []
    tags += ["waltz time" if facts["meter"] == "3/4" else "4/4"] if rng.random() < 0.08 else []
    tags += ["no drums"] if not facts["drums"] and rng.random() < 0.12 else []
    tags += ["instrumental"] if rng.random() < 0.12 else []
    if rng.random() < 0.5:
        rng.shuffle(tags)
    return ", ".join(dict.fromkeys(tags))


def _subject(facts: dict[str, Any], rng: random.Random, *, style: bool) -> str:
    words: list[str] = []
    if facts["moods"] and rng.random() < 0.65:
        words.append(" ".join(_mood(facts, rng, 2)) if rng.random() < 0.4 else _mood(facts, rng)[0])
    if rng.random() < 0.3:
        words.append(rng.choice(TEMPO_WORDS[facts["tempo_band"]]))
    if style:
        words.append(_style(facts, rng))
    noun = rng.choice(PIECE_WORDS)
    if words and words[-1].endswith(
        ("march", "waltz", "hymn", "beat", "parade", "soundtrack", "ballad", "tango")
    ):
        return " ".join(words)
    return " ".join([*words, noun])


def _fragment(facts: dict[str, Any], rng: random.Random, *, full: bool = False) -> str:
    text = _subject(facts, rng, style=full or rng.random() < 0.85)
    if full or rng.random() < 0.75:
        text += rng.choice((" with ", " with ", " featuring ", " for ")) + join(
            _players(facts, rng)
        )
    if rng.random() < 0.3:
        text += f", {_tempo(facts, rng)}"
    if rng.random() < 0.12:
        text += f", in {_key(facts, rng)}" if rng.random() < 0.7 else f", {facts['meter']}"
    return text if rng.random() < 0.4 else text[0].upper() + text[1:]


def _sentence(facts: dict[str, Any], rng: random.Random) -> str:
    subject = _subject(facts, rng, style=rng.random() < 0.85)
    uncountable = subject.endswith("music")
    lead = instrument_word(rng, facts["lead"])
    start = rng.choice(("This is {}", "{}", "Here is {}", "It is {}"))
    body = subject if uncountable else article(subject)
    text = start.format(body)
    others = [n for n in facts["instruments"] if n != facts["lead"]]
    backing = [instrument_word(rng, n) for n in rng.sample(others, min(len(others), 2))]
    ways = [
        f", played on {lead}",
        f" with {article(lead)} melody",
        f" led by the {lead}",
        f" with the main tune on {lead}",
    ]
    text += rng.choice(ways) if rng.random() < 0.75 else f" with {lead}"
    if backing and rng.random() < 0.6:
        text += rng.choice((" over {}", " accompanied by {}", " backed by {}")).format(
            join(backing)
        )
    if facts["drums"] and rng.random() < 0.35:
        text += rng.choice((" and {}", " with {} keeping the beat", " plus {}")).format(
            facts["kit"]
        )
    return text[0].upper() + text[1:] + rng.choice((".", ".", ""))


def _two_sentences(facts: dict[str, Any], rng: random.Random) -> str:
    first = _sentence(facts, rng).rstrip(".")
    feel = join(_mood(facts, rng, 2)) if facts["moods"] else TEMPO_WORDS[facts["tempo_band"]][0]
    mood = rng.choice(
        (
            "The vibe is {}.",
            "The mood is {}.",
            "It feels {}.",
            "The atmosphere is {}.",
            "It sounds {}.",
        )
    )
    bpm = facts["tempo_bpm"]
    options = [mood.format(feel)] * 3 + [
        f"The tempo is {rng.choice(TEMPO_WORDS[facts['tempo_band']])}.",
        f"It runs at {bpm} bpm.",
        f"It is in {key_name(facts)}.",
        "There are no drums." if not facts["drums"] else "The drums keep a steady beat.",
    ]
    options += [f"The melody is on {instrument_word(rng, facts['lead'])}."]
    options += ["The rhythm swings."] if facts["swing"] else []
    options += ["It is in three-four time."] if facts["meter"] == "3/4" else []
    options += ["The texture is sparse."] if facts["density_band"] == "sparse" else []
    options += ["A lot is going on."] if facts["density_band"] == "busy" else []
    return f"{first}. {rng.choice(options)}"


def _short(facts: dict[str, Any], rng: random.Random) -> str:
    choice = rng.random()
    if choice < 0.12 and facts["moods"]:
        feel = rng.choice(("vibe", "feel", "mood", "atmosphere"))
        return f"{_style(facts, rng)} with {article(_mood(facts, rng, 1)[0])} {feel}"
    if choice < 0.35:
        return f"{_mood(facts, rng, 1)[0] if facts['moods'] else ''} {_style(facts, rng)}"
    if choice < 0.6:
        word = _mood(facts, rng, 1)[0] if facts["moods"] else _tempo(facts, rng)
        return f"{word} {instrument_word(rng, facts['lead'])}"
    if choice < 0.8:
        return f"{_style(facts, rng)} {rng.choice(PIECE_WORDS)}"
    return f"{_tempo(facts, rng)} {_style(facts, rng)}"


def _use(facts: dict[str, Any], rng: random.Random) -> str:
    known = [m for m in facts["moods"] if m in USES]
    if not known:
        return _fragment(facts, rng)
    use = rng.choice(USES[rng.choice(known)])
    subject = _subject(facts, rng, style=rng.random() < 0.7)
    way = rng.choice(("{} for {}", "{}, good for {}", "{} that would fit {}", "{} made for {}"))
    text = way.format(subject, use)
    return text[0].upper() + text[1:]
