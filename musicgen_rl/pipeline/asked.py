"""What a prompt and its orders ask a clip to be held to: a tempo, a key, chords."""

from musicgen_rl.audio.tempo import has_no_beat, named_beats_per_bar, named_tempo
from musicgen_rl.data.chords import (
    AUTO_CHORDS,
    NO_CHORDS,
    Progression,
    named_chords,
    read_progression,
)
from musicgen_rl.data.keys import AUTO_KEY, NO_KEY, Key, named_key, read_key
from musicgen_rl.pipeline.request import GenerationConfig

BEATS_PER_BAR = 4
"""Where neither the prompt nor an order says otherwise."""


def asked_tempo(prompt: str, request: GenerationConfig) -> float | None:
    """Tell which tempo is asked for, in beats a minute; None where none is."""
    if request.tempo_bpm is None:
        return named_tempo(prompt)
    return request.tempo_bpm or None


def wants_no_beat(prompt: str) -> bool:
    """Tell whether no tempo is to be found for words: they want no beat, or one in threes.

    A beat is told in twos, and music in threes loses its style to it
    (docs/experiments/2026-11-30-chords.md).
    """
    return has_no_beat(prompt) or named_beats_per_bar(prompt) == 3


def finds_tempo(prompt: str, request: GenerationConfig) -> bool:
    """Tell whether a model is to find a tempo: it is to be steady, and the words leave it open.

    They do where no tempo is asked for and they are not of music without a beat or in threes.
    Chords change on beats, so those that are asked for need a tempo whatever the words say.
    """
    if request.tempo_bpm == 0.0 or asked_tempo(prompt, request) is not None:
        return False
    if asked_chords(prompt, request) is not None:
        return True
    return (request.steady or request.chords == AUTO_CHORDS) and not wants_no_beat(prompt)


def asked_key(prompt: str, request: GenerationConfig) -> Key | None:
    """Tell which key is asked for; None where none is."""
    if request.key in (None, AUTO_KEY):
        return named_key(prompt)
    return None if request.key == NO_KEY else read_key(str(request.key))


def finds_key(prompt: str, request: GenerationConfig) -> bool:
    """Tell whether a model is to find a key: none is named, and one is to be held."""
    return request.key == AUTO_KEY and named_key(prompt) is None


def asked_chords(prompt: str, request: GenerationConfig) -> Progression | None:
    """Tell which chords are asked for; None where none are."""
    if request.chords in (None, AUTO_CHORDS):
        return named_chords(prompt) if request.tempo_bpm != 0.0 else None
    return None if request.chords == NO_CHORDS else read_progression(str(request.chords))


def finds_chords(prompt: str, request: GenerationConfig) -> bool:
    """Tell whether a model is to find chords: none are named, and some are to be held.

    Where no tempo is asked for and none is to be found there is no beat for chords to change on.
    """
    unnamed = request.chords == AUTO_CHORDS and named_chords(prompt) is None
    return unnamed and not (asked_tempo(prompt, request) is None and wants_no_beat(prompt))


def asks_for_chords(prompt: str, request: GenerationConfig) -> bool:
    """Tell whether a clip is to be held to chords, by a model that can."""
    return asked_chords(prompt, request) is not None or finds_chords(prompt, request)


def beats_per_bar(prompt: str, request: GenerationConfig) -> int:
    """Count the beats of a bar of chords: as ordered, or as the prompt has it, or four."""
    return request.beats_per_bar or named_beats_per_bar(prompt) or BEATS_PER_BAR
