"""A prompt may be anything: reading what it names takes no time that grows out of hand."""

import time
from collections.abc import Callable

import pytest

from musicgen_rl.audio.tempo import (
    has_no_beat,
    named_beats_per_bar,
    named_tempo,
    without_tempo,
)
from musicgen_rl.data.chords import named_chords
from musicgen_rl.data.keys import named_key
from musicgen_rl.pipeline.request import MAX_PROMPT_CHARACTERS

READERS: tuple[Callable[[str], object], ...] = (
    has_no_beat, named_beats_per_bar, named_tempo, without_tempo, named_chords, named_key,
)  # fmt: skip
UNITS = (
    "1", "A", "A1", "A-", "A--", "A - ", "A, ", "A | ", "A; ", "A x1 ", "A and ", "A, B and ", "Ab",
    "A#", "(", "(1", "A(1)", "A7b5", "#", "b", "-", "|", ";", ",", " ", "\t ", " , ", "a ", "4/",
    "12", "12.", "12 ", "1.", "at ", "at 1", "with ", "no ", "free ", "in A ", "key of ", "minor ",
    "A minor ", "sharp ", "bpm ", "é", "\n",
)  # fmt: skip


@pytest.mark.parametrize("read", READERS)
def test_the_longest_prompt_is_read_at_once(read: Callable[[str], object]) -> None:
    for unit in UNITS:
        for begin, end in (("", "x"), ("chords A", "x"), ("chords ", ""), ("piano in A ", "bp")):
            room = MAX_PROMPT_CHARACTERS - len(begin) - len(end)
            prompt = begin + (unit * room)[:room] + end
            began = time.process_time()
            read(prompt)
            assert time.process_time() - began < 0.5, (unit, begin, end)
