"""Prompts to items: what the file says, filled up with what the command line says."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.batch.item import Item
from musicgen_rl.batch.prompts import Row
from musicgen_rl.config import require
from musicgen_rl.data.chords import NO_CHORDS
from musicgen_rl.errors import ConfigError, InputError

MOST_PER_PROMPT = 100_000


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """What holds for prompts that do not say otherwise."""

    clips: int = 1
    """Variations of each prompt, at each position of the dial."""
    diversity: tuple[float | None, ...] = (None,)
    """Positions of the dial; None is the base."""
    loudness: LoudnessConfig = field(default_factory=LoudnessConfig)
    """How loud clips come out."""
    values: dict[str, Any] = field(default_factory=dict)
    """Other fields of Item, by name."""


def expand(rows: Iterable[Row], defaults: Defaults) -> list[Item]:
    """Make the items: every prompt at every position of the dial, several variations of each.

    The variations of one prompt have the same noise at every position, so that positions can be
    compared. A prompt that stands in the file twice with the same settings gets further variations,
    not the same ones again.

    Args:
        rows: from `read_prompts`.
        defaults: from the command line.

    Raises:
        InputError, ConfigError: naming the line whose values cannot work.
    """
    items: list[Item] = []
    used: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        try:
            items += _items(row, defaults, used)
        except (InputError, ConfigError) as error:
            raise type(error)(f"{row.where}: {error}") from error
    return items


def _needs_beat(row: Row) -> bool:
    """Tell whether a row itself orders what a tempo of 0 would rule out."""
    chords = row.values.get("chords", NO_CHORDS)
    return bool(row.values.get("steady")) or chords != NO_CHORDS


def _items(row: Row, defaults: Defaults, used: Counter[tuple[Any, ...]]) -> list[Item]:
    values = defaults.values | row.values
    count = values.pop("clips", defaults.clips)
    require(
        1 <= count <= MOST_PER_PROMPT,
        f"clips_per_prompt must be between 1 and {MOST_PER_PROMPT}, got {count}",
    )
    if row.values.get("tempo_bpm") == 0.0:  # no tempo, whatever holds for the others
        values |= {"steady": False, "chords": NO_CHORDS} | row.values
    elif values.get("tempo_bpm", 0.0) == 0.0 and _needs_beat(row):
        values["tempo_bpm"] = None  # the row's word, over a tempo of 0 for the others
    positions = values.pop("diversity", defaults.diversity)
    made = []
    for position in dict.fromkeys(positions):
        one = Item(
            diversity=position, loudness=defaults.loudness, attributes=row.attributes, **values
        )
        first = used[one.sound()]
        used[one.sound()] += count
        made += [replace(one, index=first + i) for i in range(count)]
    return made
