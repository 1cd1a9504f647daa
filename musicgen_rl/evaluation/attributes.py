"""What the rows of a prompts file ask for, held against what the probe can hear.

A row that names attributes says what is measured, so a slip of the pen in it would leave that out
without a word. A manifest's line says what is true of a piece, heard or not: it is left alone.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from musicgen_rl.errors import InputError
from musicgen_rl.evaluation.prompts import Prompt
from musicgen_rl.rewards.probe import MANY

Classes = Mapping[str, Sequence[str]]
_NEAREST = 8  # names in a message
_MOST_LISTED = 12  # words in a note


def require_askable(prompts: Sequence[Prompt], classes: Classes | None, where: str) -> None:
    """Refuse attributes and values that no probe of ours could know.

    What the pocket corpus calls its styles, instruments and moods is no mistake where this probe
    has no class for it: `musicgen-rl data prompts` writes such words, and `unheard` tells of them.

    Args:
        prompts: as read.
        classes: attribute -> class names, from the probe; None, where there is none, refuses none.
        where: names the file in the message.

    Raises:
        InputError: naming the first such prompt, the value, and the nearest names there are.
    """
    if classes is None:
        return
    corpus = _corpus_words()
    faulty = [(prompt, fault) for prompt in prompts if (fault := _fault(prompt, classes, corpus))]
    if faulty:
        prompt, fault = faulty[0]
        more = f" ({len(faulty) - 1} more prompts have such a fault)" if len(faulty) > 1 else ""
        raise InputError(f"{where}: the prompt {prompt.text!r:.60} asks for {fault}{more}")


def unheard(prompts: Sequence[Prompt], classes: Classes) -> Counter[str]:
    """Count what rows ask for that the probe has no class for.

    Args:
        prompts: those of the evaluation.
        classes: attribute -> class names, from the probe.

    Returns:
        "instruments koto", or the attribute's name alone where the probe lacks it -> prompts.
    """
    found: Counter[str] = Counter()
    for prompt in prompts:
        for name, value in _asked(prompt).items():
            if name not in classes:
                found[name] += 1
            else:
                found.update({f"{name} {v}" for v in _values(value) if v not in classes[name]})
    return found


def tell_unheard(
    prompts: Sequence[Prompt], classes: Classes | None, say: Callable[[str], None]
) -> None:
    """Say in a line what rows ask for and nothing measures; nothing where all of it is measured.

    Args:
        prompts: those of the evaluation.
        classes: from the probe; None where there is no probe.
        say: called with the line.
    """
    if classes is None:
        if count := sum(1 for prompt in prompts if _asked(prompt)):
            say(f"there is no probe, so the attributes of {count} prompts are not measured")
    elif counts := unheard(prompts, classes):
        listed = [f"{what} ({count})" for what, count in counts.most_common(_MOST_LISTED)]
        more = f" and {len(counts) - _MOST_LISTED} more" if len(counts) > _MOST_LISTED else ""
        say(
            f"not measured, since the probe has no class for it: {', '.join(listed)}{more} (in "
            f"how many of {len(prompts)} prompts)"
        )


def _asked(prompt: Prompt) -> dict[str, Any]:
    """Take what a row asks for; null and "" ask for nothing, and a manifest's line is none."""
    given = {} if prompt.from_words else prompt.attributes
    return {name: value for name, value in given.items() if value not in (None, "", [])}


def _fault(prompt: Prompt, classes: Classes, corpus: Mapping[str, Collection[str]]) -> str:
    """Say what is wrong with a row's attributes; "" where nothing is."""
    for name, value in _asked(prompt).items():
        if name not in classes:
            if name in corpus:
                continue
            return (
                f"the attribute {name!r}, which the probe does not have: use one of "
                f"{', '.join(classes)}, or leave it out"
            )
        if isinstance(value, list) and name not in MANY:
            return f"{name} {value!r:.60}: a clip has only one: give one value, without brackets"
        for one in _values(value):
            if one not in classes[name] and one not in corpus.get(name, ()):
                known = _nearest_first(one, classes[name])
                return (
                    f"{name} {one!r:.60}, which the probe has no class for: use {known}, or leave "
                    "it out"
                )
    return ""


def _nearest_first(value: str, names: Sequence[str]) -> str:
    """List a probe's classes of one attribute, the nearest to a value first, as far as fits."""
    nearest = get_close_matches(value, names, _NEAREST, cutoff=0.0)
    rest = len(names) - len(nearest)
    return ", ".join(nearest) + (f", or one of {rest} others" if rest else "")


def _values(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else [str(value)]


def _corpus_words() -> dict[str, Collection[str]]:
    """Collect the words that prompts of the pocket corpus ask in: attribute -> values."""
    from musicgen_rl.data.pocket.captions import MOOD_WORDS, TEMPO_WORDS
    from musicgen_rl.data.pocket.instruments import INSTRUMENTS
    from musicgen_rl.data.pocket.styles import STYLES

    return {
        "style": STYLES, "tempo_band": TEMPO_WORDS, "mode": ("major", "minor"),
        "drums": ("True", "False"), "instruments": INSTRUMENTS,
        "families": {i.family for i in INSTRUMENTS.values()}, "moods": MOOD_WORDS,
    }  # fmt: skip
