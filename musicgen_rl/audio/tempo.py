"""Tempo: the one that a text names, and the one that is heard."""

import math
import re

import librosa
import numpy as np
from librosa.onset import onset_strength
from numpy.typing import NDArray

TOLERANCE = 0.04
"""A tempo so near to another counts as the same."""
OCTAVES = (0.5, 1.0, 2.0)
"""Half and double a tempo count too: people tap either."""
SLOWEST, FASTEST = 20.0, 400.0
_NAMED = re.compile(r"(?<![\d.])(\d{2,3}(?:\.\d+)?)\s?-?bpm\b", re.IGNORECASE)
_NO_BEAT = re.compile(
    r"\b(?:no|without(?: an?| any)?|free of)[ -](?:(?:steady|clear|regular|strong)[ -])?"
    r"(?:beats?|pulse|rhythm(?! guitar| section)|tempo|metre|meter)\b"
    r"|\bbeatless\b|\bfree[ -](?:time|rhythm|tempo)\b|\brubato\b"
    r"|\b(?:drones?|soundscapes?|ambient)\b"
    r"(?! (?:techno|house|dub|trance|metal|rock|pop|beats?)\b)",
    re.IGNORECASE,
)
_IN_THREE = re.compile(
    r"\bwalt(?:z|zes)\b|(?<![\d/])3/4\b|\bthree[ -](?:four|quarter)\b"
    r"|\btriple (?:time|metre|meter)\b",
    re.IGNORECASE,
)
_IN_FOUR = re.compile(
    r"(?<![\d/])4/4\b|\bfour[ -]four\b|\bfour[ -]on[ -]the[ -]floor\b", re.IGNORECASE
)
_HOP_S = 0.008  # at 125 bpm a beat is 60 of them, so tempi are told apart to 1.7 %
_SHORTEST_S, _LONGEST_S = 1.0, 8.0
_LISTEN_S = 8.0  # of what a clip goes on from
_WINDOW_S = 0.032


def named_tempo(text: str) -> float | None:
    """Read the tempo that a text names, such as "124 bpm".

    Returns:
        Beats a minute; None where it names none, or several.
    """
    found = {float(number) for number in _NAMED.findall(text)}
    found = {bpm for bpm in found if SLOWEST <= bpm <= FASTEST}
    return found.pop() if len(found) == 1 else None


def without_tempo(text: str) -> str:
    """Take the tempo out of a text, such as ", 124 bpm"; a text that says nothing else stays."""
    rest = re.sub(
        r" ?[,;:]? ?(?:\b(?:at|around|about|with) )?" + _NAMED.pattern, " ",
        re.sub(r"\s+", " ", text), flags=re.I,
    )  # fmt: skip
    rest = re.sub(r"\s+([.,;:!?])", r"\1", re.sub(r"\s+", " ", rest))
    rest = re.sub(r"([,;:])(?=[,;:.])", "", rest).strip(" ,;:")
    return rest if re.search(r"[^\W\d_]", rest) else text


def has_no_beat(text: str) -> bool:
    """Tell whether a text leaves no room for an even beat: "no beat", "rubato", "ambient"."""
    return _NO_BEAT.search(text) is not None


def hear_tempo(samples: NDArray[np.float32], sample_rate: int) -> float:
    """Estimate the tempo of samples [C, M], in beats a minute; 0 where none can be heard.

    librosa's estimate, but from one autocorrelation over all of it: its own default takes one for
    every frame, and several times as long.
    """
    if samples.shape[-1] < _SHORTEST_S * sample_rate:
        return 0.0
    hop = max(1, round(_HOP_S * sample_rate))
    strength = onset_strength(y=samples.mean(axis=0), sr=sample_rate, hop_length=hop)
    echo = librosa.autocorrelate(strength, max_size=round(_LONGEST_S * sample_rate / hop))
    if echo[0] <= 0:
        return 0.0
    heard = librosa.feature.tempo(tg=(echo / echo[0])[:, None], sr=sample_rate, hop_length=hop)
    return float(np.atleast_1d(heard)[0])


def next_beat(samples: NDArray[np.float32], sample_rate: int, bpm: float) -> float | None:
    """Find how long after the end of samples [C, M] the next beat of a tempo falls.

    The place is taken at which, over the last seconds, most begins on the beats.

    Returns:
        Seconds, from 0 to a beat; None where the samples are too short or too even to tell.
    """
    beat = 60.0 / bpm
    heard = samples[:, -round(_LISTEN_S * sample_rate) :].mean(axis=0)
    if len(heard) < 2 * beat * sample_rate:
        return None
    hop = max(1, round(_HOP_S * sample_rate))
    window = 1 << round(math.log2(_WINDOW_S * sample_rate))  # a longer one hears onsets early
    strength = onset_strength(y=heard, sr=sample_rate, hop_length=hop, n_fft=window, n_mels=40)
    if strength.max() <= 0:
        return None
    back_s = len(heard) / sample_rate - np.arange(len(strength)) * hop / sample_rate
    turns = np.exp(2j * np.pi * back_s / beat)  # of a beat before the end: 1 on beats
    place = float(np.angle((strength * turns).sum())) / (2 * np.pi)  # where they fall before it
    return (-place % 1.0) * beat


def named_beats_per_bar(text: str) -> int | None:
    """Read the beats of a bar that a text names: three for a waltz or 3/4, four for 4/4.

    Returns:
        Quarter notes; None where it names none, or both.
    """
    three, four = (met.search(text) is not None for met in (_IN_THREE, _IN_FOUR))
    return None if three == four else (3 if three else 4)


def tempo_gap(heard: float, named: float) -> float:
    """Tell how far a tempo is from another, its half or its double.

    Args:
        heard: beats a minute; 0 is infinitely far.
        named: beats a minute.

    Returns:
        The share by which it is off, from 0: .04 is 4 %.
    """
    if heard <= 0:
        return math.inf
    return min(abs(heard / (named * octave) - 1.0) for octave in OCTAVES)


def tempo_fits(heard: float, named: float) -> bool:
    """Say whether a tempo is another one, its half or its double, within 4 %."""
    return tempo_gap(heard, named) <= TOLERANCE
