"""Reading the rhythm strings of styles."""

from dataclasses import dataclass

CONTROL = ".-"
GRID_S = 0.04
"""Two beats are a whole number of these: a frame of pocket's codec. A bar that comes back falls on
the frames as it did before and gets nearly the same codes, so a language model can find it."""


@dataclass(frozen=True)
class Hit:
    """One sounding symbol of a rhythm string."""

    start: float
    """Beats from the beginning of the bar."""
    duration: float
    """Beats until the next symbol that is not `-`."""
    symbol: str
    """The character."""


def bars_of(pattern: str) -> list[str]:
    """Split a rhythm string into its bars, spaces removed."""
    return pattern.replace(" ", "").split("|")


def fit_bar(bar: str, beats: int) -> str:
    """Cut a bar written for four beats down to three; a bar of twelfths or three stays."""
    if beats == 3 and len(bar) % 3 != 0:
        return bar[: max(1, len(bar) * 3 // 4)]
    return bar


def read_bar(bar: str, beats: int) -> list[Hit]:
    """Turn one bar of a rhythm string into hits.

    Args:
        bar: characters, one a step.
        beats: length of the bar in beats.

    Returns:
        Hits in order of time; a `-` prolongs the hit before it, at most to the end of the bar.
    """
    bar = fit_bar(bar, beats)
    step = beats / len(bar)
    hits = []
    for i, symbol in enumerate(bar):
        if symbol in CONTROL:
            continue
        end = i + 1
        while end < len(bar) and bar[end] == "-":
            end += 1
        hits.append(Hit(i * step, (end - i) * step, symbol))
    return hits


def swing_beat(beat: float, position: float, unit: float) -> float:
    """Move a beat to where a swinging player puts it.

    Args:
        beat: straight position in beats.
        position: where the middle of a pair falls, 0.5 straight to 0.667 triplets.
        unit: length of the pair in beats.

    Returns:
        The swung position; pairs keep their boundaries.
    """
    whole, part = divmod(beat / unit, 1.0)
    bent = part * 2 * position if part < 0.5 else position + (part - 0.5) * 2 * (1 - position)
    return (whole + bent) * unit


def on_grid(tempo_bpm: float) -> float:
    """Find the nearest tempo at which two beats last a whole number of `GRID_S`."""
    return 120.0 / (GRID_S * max(1, round(120.0 / (GRID_S * tempo_bpm))))
