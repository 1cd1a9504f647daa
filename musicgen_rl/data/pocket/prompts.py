"""Prompts to judge a model by: captions of held-out pieces, and what each of them asks for."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from musicgen_rl.data.manifest import Entry, read_manifest
from musicgen_rl.data.pocket.captions import MOOD_WORDS, TEMPO_WORDS
from musicgen_rl.data.pocket.corpus import OPTIONS
from musicgen_rl.data.pocket.instruments import INSTRUMENTS
from musicgen_rl.data.pocket.styles import STYLES
from musicgen_rl.errors import InputError
from musicgen_rl.storage import read_json

Wish = tuple[Path, Entry, str, dict[str, Any]]
"""Audio file, the piece, one of its captions, and what that caption asks for."""


def asks(caption: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Tell which of a piece's attributes its caption names, in the grammar's words for them.

    Args:
        caption: of a piece of the pocket corpus.
        attributes: of that piece, as in the manifest.

    Returns:
        The part of the attributes that the caption speaks of.
    """

    def names(words: Sequence[str]) -> bool:
        found = (re.search(rf"(?<!\w){re.escape(w.lower())}(?!\w)", caption.lower()) for w in words)
        return any(found)

    style = attributes["style"]
    wish: dict[str, Any] = {}
    if names((style, *STYLES[style].words)):
        wish["style"] = style
    band = attributes["tempo_band"]
    if names(TEMPO_WORDS[band]) or re.search(r"\d bpm", caption.lower()):
        wish["tempo_band"] = band
    if names((attributes["mode"],)):
        wish["mode"] = attributes["mode"]
    if names(("drums", "drum machine", "percussion", "beat", "beats")) and attributes["drums"]:
        wish["drums"] = True
    heard = [i for i in attributes["instruments"] if names((i, *INSTRUMENTS[i].words))]
    moods = [m for m in attributes["moods"] if names((m, *MOOD_WORDS.get(m, ())))]
    return wish | ({"instruments": heard} if heard else {}) | ({"moods": moods} if moods else {})


def corpora_of(manifests: Sequence[Path]) -> list[dict[str, Any]]:
    """Tell what `data make` made the pieces of manifests with, so that results can name it.

    Args:
        manifests: of corpora.

    Returns:
        Seed, lengths, shares and so on, for each that has `corpus.json` beside it.
    """
    told = (manifest.parent / OPTIONS for manifest in manifests)
    return [read_json(path) for path in told if path.is_file()]


def corpora_words(corpora: Sequence[Mapping[str, Any]]) -> str:
    """Say what `corpora_of` found in a sentence; empty where it found nothing."""
    told = [f"seed {c['seed']}, --valid {c['valid']:g} --test {c['test']:g}" for c in corpora]
    return f"Pieces: `musicgen-rl data make` with {'; '.join(told)}." if told else ""


def choose_captions(
    manifests: Sequence[Path],
    count: int,
    *,
    splits: Sequence[str] = ("valid", "test"),
    seed: int = 0,
) -> list[Wish]:
    """Take a caption that names the style of each of `count` pieces, styles in turn.

    Args:
        manifests: of the pocket corpus.
        count: how many at most.
        splits: only pieces of these.
        seed: which of a piece's captions.

    Returns:
        Fewer than `count` where there are not as many.

    Raises:
        InputError: a manifest is broken, has other attributes than ours, or nothing to choose.
    """
    rng = np.random.default_rng(seed)
    by_style: dict[str, list[Wish]] = {}
    taken: set[str] = set()
    for manifest in manifests:
        for entry in read_manifest(manifest):
            if entry.split not in splits or entry.piece in taken:
                continue
            if entry.attributes.get("style") not in STYLES:
                raise InputError(
                    f"{manifest}: {entry.audio} has no style of the pocket corpus: write the "
                    'prompts by hand, one {"prompt": ..., "attributes": {...}} a line'
                )
            wishes = [(c, asks(c, entry.attributes)) for c in entry.captions]
            named = [(c, w) for c, w in wishes if "style" in w]
            if named:
                caption, wish = named[int(rng.integers(len(named)))]
                by_style.setdefault(wish["style"], []).append(
                    (manifest.parent / entry.audio, entry, caption, wish)
                )
                taken.add(entry.piece)
    if not by_style:
        raise InputError(
            f"{', '.join(map(str, manifests))}: no piece of split {' or '.join(splits)} has a "
            "caption that names its style"
        )
    queues = [by_style[name] for name in sorted(by_style)]
    turns = [queue[i] for i in range(max(map(len, queues))) for queue in queues if i < len(queue)]
    return turns[:count]
