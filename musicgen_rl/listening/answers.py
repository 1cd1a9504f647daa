"""What an answer may be: checked here, whatever sent it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from musicgen_rl.errors import InputError
from musicgen_rl.listening.assignment import Trial
from musicgen_rl.listening.study import Question, Study

CHOICES = ("first", "second", "tie")
MOST_PLAYS = 500
_ROUNDING_S = 0.25  # players report tenths of a second


@dataclass(frozen=True)
class Play:
    """One start of a player."""

    player: int
    """Which one, from 0 in the order of the page; the open reference comes last."""
    seconds: float
    """How long it sounded."""
    at_s: float
    """Seconds after the page was shown."""


def check_values(question: Question, trial: Trial, values: object) -> dict[str, Any]:
    """Check the answer to each item.

    Args:
        question: what was asked.
        trial: of it.
        values: item -> 1 to the number of words (rating), "first", "second" or "tie" (pair,
            sets, abx), or a list of 0 to 100 for each player (mushra).

    Returns:
        The same, in the order of the items.

    Raises:
        InputError: an item is missing, unknown, or out of range.
    """
    if not isinstance(values, Mapping):
        raise InputError("the answer must name a value for each item")
    wanted = [item.id for item in question.items]
    unknown = [str(name)[:40] for name in values if name not in wanted]
    if unknown:
        raise InputError(f"nothing called {unknown[0]!r} was asked")
    missing = [item for item in wanted if values.get(item) is None]
    if missing:
        raise InputError(f"an answer is missing: {missing[0]}")
    return {item.id: _check_value(question, trial, item.id, values[item.id], len(item.words))
            for item in question.items}  # fmt: skip


def _check_value(question: Question, trial: Trial, item: str, value: object, points: int) -> Any:
    if question.kind == "rating":
        if not _is_whole(value) or not 1 <= value <= points:  # type: ignore[operator]
            raise InputError(f"{item} must be a whole number from 1 to {points}, got {value!r}")
        return value
    if question.kind == "mushra":
        ok = isinstance(value, list) and len(value) == len(trial.stimuli)
        if not ok or not all(_is_whole(v) and 0 <= v <= 100 for v in value):  # type: ignore[attr-defined]
            raise InputError(f"{item} must be {len(trial.stimuli)} whole numbers from 0 to 100")
        return value
    allowed = CHOICES if question.ties and question.kind != "abx" else CHOICES[:2]
    if value not in allowed:
        raise InputError(f"{item} must be one of {', '.join(allowed)}, got {str(value)[:40]!r}")
    return value


def check_plays(study: Study, trial: Trial, plays: object) -> list[Play]:
    """Check what was played, and that every player was heard long enough.

    Args:
        study: says how long.
        trial: which players there are.
        plays: [{"player", "seconds", "at_s"}, ...].

    Raises:
        InputError: the list is malformed, or a player was not heard long enough.
    """
    if not isinstance(plays, list) or len(plays) > MOST_PLAYS:
        raise InputError(f"plays must be a list of at most {MOST_PLAYS}")
    players = len(trial.stimuli) + (trial.open_reference is not None)
    found = []
    for play in plays:
        if not isinstance(play, Mapping):
            raise InputError("a play must name player, seconds and at_s")
        player, seconds, at_s = (play.get(name) for name in ("player", "seconds", "at_s"))
        if not _is_whole(player) or not 0 <= player < players:  # type: ignore[operator]
            raise InputError(f"there is no player {player!r}")
        if not all(_is_number(value) and 0 <= value <= 1e7 for value in (seconds, at_s)):  # type: ignore[operator]
            raise InputError("seconds and at_s of a play must be numbers from 0 on")
        found.append(Play(player, round(float(seconds), 2), round(float(at_s), 2)))  # type: ignore[arg-type]
    heard = [sum(play.seconds for play in found if play.player == p) for p in range(players)]
    need = study.minimum_s(study.question(trial.question))
    short = [p for p in range(players) if heard[p] + _ROUNDING_S < need]
    if short and need > 0:
        raise InputError(
            f"player {short[0] + 1} was heard for {heard[short[0]]:.1f} s: please listen for at "
            f"least {need:g} s"
        )
    return found


def check_time(study: Study, trial: Trial, seconds: float) -> None:
    """Refuse an answer that came sooner after its page than the players can sound.

    Args:
        study: how long each must be heard.
        trial: which players there are.
        seconds: from showing the page to the answer, by the server's clock.

    Raises:
        InputError: it is too soon.
    """
    players = len(trial.stimuli) + (trial.open_reference is not None)
    minimum = study.minimum_s(study.question(trial.question))
    need = players * max(0.0, minimum - _ROUNDING_S)
    if seconds < need:
        raise InputError(
            f"the answer came {seconds:.1f} s after the page, but listening takes {need:.1f} s"
        )


def attention_failed(question: Question, trial: Trial, values: Mapping[str, Any]) -> bool:
    """Tell whether a check was answered wrongly, by the frozen rule (plan.ANALYSIS)."""
    value = values[trial.asks]
    if question.kind == "rating":
        item = next(item for item in question.items if item.id == trial.asks)
        return bool(value > (len(item.words) + 1) / 2)
    if question.kind == "mushra":
        good, bad = (value[trial.labels.index(name)] for name in ("good", "bad"))
        return bool(bad >= good)
    if question.kind == "abx":
        return bool(value != CHOICES[trial.labels.index(trial.labels[2])])
    return bool(value != CHOICES[trial.labels.index("good")])


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, int) or math.isfinite(value)  # a whole number may be too large for it
