"""Captions of one piece that differ in a single fact: the true one, and rivals that are wrong.

What a language model saves under the true one is what it knows of such words. A training that asks
for the difference (training/contrast.py) teaches words that the plain loss passes over: a tempo
shows only in where notes begin, and a key only in which ones.
"""

import math
import random
import re
from collections.abc import Sequence
from typing import Any

from musicgen_rl.data.keys import KEY_NAMES
from musicgen_rl.data.pocket.captions import (
    SAYS_PACE,
    TEMPO_FORMS,
    TEMPO_WORDS,
    instrument_word,
    key_name,
)
from musicgen_rl.data.pocket.instruments import INSTRUMENTS

RIVALS = 2
"""Wrong captions beside each true one."""
SHARES = {"tempo": 0.4, "pace": 0.25, "key": 0.15, "lead": 0.15, "drums": 0.05}
"""What is asked -> how often."""
NEAREST, FARTHEST = 0.08, 0.6
"""How far a wrong tempo lies from the true one, in nats of their ratio; half and double (.69) lie
beyond, because a listener may hear them as the same."""

_KEY = re.compile(r"\b(?:major|minor)\b")
_FORMS = {
    "tempo": TEMPO_FORMS,
    "pace": ("{w} {c}", "{w} {c}", "{c}, {w}", "{c}. The tempo is {w}."),
    "key": ("{c} in {w}", "{c}, {w}", "{c}, in {w}", "{c}. It is in {w}."),
    "lead": ("{c} with {w}", "{w}, {c}", "{c}, played on {w}", "{c} led by the {w}"),
}


def write_contrast(facts: dict[str, Any], captions: Sequence[str], rng: random.Random) -> list[str]:
    """Draw a fact, and write the caption that is right about it and `RIVALS` that are not.

    Args:
        facts: attributes as `describe` returns them.
        captions: of the piece; one that is silent about the fact is built on, or only its style.
        rng: source of chance.

    Returns:
        The true caption, then the rivals; they differ in the one fact.
    """
    what = rng.choices(list(SHARES), list(SHARES.values()))[0]
    style = str(facts["style"])
    if what == "drums":
        right, wrong = ("with drums", "without drums")[:: 1 if facts["drums"] else -1]
        other = {"without drums": "no drums", "with drums": "drums"}[wrong]
        return [f"{style} {right}", f"{style} {wrong}", f"{style}, {other}"]
    words = {"tempo": _tempi, "pace": _paces, "key": _keys, "lead": _leads}[what](facts, rng)
    silent = {"tempo": SAYS_PACE, "pace": SAYS_PACE, "key": _KEY}.get(what)
    kept = [c.rstrip(".") for c in captions if silent is not None and not silent.search(c)]
    caption = rng.choice(kept) if kept and rng.random() < 0.65 else style
    form = rng.choice(_FORMS[what])
    return [form.format(c=caption, w=word) for word in words]


def _tempi(facts: dict[str, Any], rng: random.Random) -> list[str]:
    """Write the tempo, one far from it and one near it, one of them faster and one slower."""
    true = int(facts["tempo_bpm"])
    way = rng.choice((-1, 1))
    far = way * rng.uniform(2 * NEAREST, FARTHEST)
    near = -way * rng.uniform(NEAREST, 3 * NEAREST)
    return [str(round(true * math.exp(shift))) for shift in (0.0, far, near)]


def _paces(facts: dict[str, Any], rng: random.Random) -> list[str]:
    true = facts["tempo_band"]
    place = rng.randrange(len(TEMPO_WORDS[true]))
    return [TEMPO_WORDS[band][place] for band in (true, *(b for b in TEMPO_WORDS if b != true))]


def _keys(facts: dict[str, Any], rng: random.Random) -> list[str]:
    """Write the key and two others, mostly of its mode: the tonic is what is hard."""
    true = key_name(facts)
    modes = [facts["mode"]] * 4 + ["major", "minor"]
    names = {
        key_name({"key": key, "mode": mode}) for key in KEY_NAMES for mode in ("major", "minor")
    }
    found = [true]
    while len(found) <= RIVALS:
        mode = rng.choice(modes)
        found.append(rng.choice(sorted(n for n in names if n.endswith(mode) and n not in found)))
    return found


def _leads(facts: dict[str, Any], rng: random.Random) -> list[str]:
    """Write the lead and two instruments that do not play."""
    others = sorted(set(INSTRUMENTS) - set(facts["instruments"]))
    found = [instrument_word(rng, facts["lead"])]
    while len(found) <= RIVALS:
        word = instrument_word(rng, rng.choice(others))
        if word not in found:
            found.append(word)
    return found
