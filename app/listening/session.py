"""One rater's session: what is shown next, under names that tell nothing."""

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.errors import InputError
from musicgen_rl.listening.answers import check_plays, check_time, check_values
from musicgen_rl.listening.assignment import Stimulus, Trial
from musicgen_rl.listening.clips import ClipStore, dithered, wav_bytes
from musicgen_rl.listening.plan import Plan
from musicgen_rl.listening.store import Answer, Rater, Store

HEADPHONE_ROUNDS = 3
HEADPHONES_PASS = 2
_TONE_HZ, _TONE_S, _GAP_S, _RATE = 200.0, 0.8, 0.35, 32000
_SINE_LUFS = -4.01
"""Loudness of a sine of full scale at that pitch on one channel (ITU-R BS.1770)."""
_LONGEST_SUBMISSION = 64
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Context:
    """What every request needs."""

    plan: Plan
    store: Store
    clips: ClipStore


def state(context: Context, rater: Rater) -> dict[str, Any]:
    """Say what the page shows now: everything the browser learns, and nothing about arms."""
    study, store = context.plan.study, context.store
    session = context.plan.assignment.sessions[rater.slot]
    done = store.last_revisions(rater)
    common = {
        "code": rater.code,
        "contact": study.contact,
        "done": len(done),
        "total": len(session),
        "break_every": study.raters.break_every,
    }
    if store.stopped_at is not None:
        return common | {"stage": "stopped"}
    if study.raters.headphones and rater.headphones is None:
        return common | {"stage": "headphones", "rounds": HEADPHONE_ROUNDS}
    position = next((trial.position for trial in session if trial.position not in done), None)
    if position is None:
        return common | {"stage": "done"}
    return common | {"stage": "trial", "trial": show_trial(context, rater, position)}


def show_trial(context: Context, rater: Rater, position: int) -> dict[str, Any]:
    """Describe a page, and note that it was shown.

    Args:
        context: of the study.
        rater: whose session.
        position: at most one after the last answered trial.

    Raises:
        InputError: the trial's turn has not come.
    """
    study, store = context.plan.study, context.store
    session = context.plan.assignment.sessions[rater.slot]
    answered = store.last_revisions(rater)
    if not 0 <= position < len(session) or any(p not in answered for p in range(position)):
        raise InputError("this trial's turn has not come")
    trial = session[position]
    question = study.question(trial.question)
    store.show(rater, position)
    revision = answered.get(position)
    values = None
    if revision is not None:
        last = [a for a in store.answers(rater) if a.position == position][-1]
        values = last.values
    allowed = question.kind in ("pair", "sets") and question.ties
    return {
        "id": trial_id(store, rater, position),
        "position": position,
        "practice": trial.kind == "practice",
        "kind": question.kind,
        "prompt": study.all_prompts[trial.prompt] if question.show_prompt else None,
        "items": [{"id": i.id, "ask": i.ask, "words": list(i.words)} for i in question.items],
        "ties": allowed,
        "players": [sound_id(store, rater, position, n) for n in range(len(trial.stimuli))],
        "reference": (
            None
            if trial.open_reference is None
            else sound_id(store, rater, position, len(trial.stimuli))
        ),
        "parts": question.clips,
        "minimum_s": study.minimum_s(question),
        "revision": revision,
        "values": values,
    }


def answer(context: Context, rater: Rater, body: dict[str, Any]) -> Answer:
    """Check an answer and store it.

    Args:
        context: of the study.
        rater: who sends it.
        body: trial (its id), submission, values, plays, corrects (a revision, or nothing).

    Raises:
        InputError: anything is missing, out of range or forged; nothing is stored then.
    """
    store, study = context.store, context.plan.study
    session = context.plan.assignment.sessions[rater.slot]
    ids = {trial_id(store, rater, trial.position): trial for trial in session}
    trial = ids.get(str(body.get("trial")))
    if trial is None:
        raise InputError("this trial is not yours: reload the page")
    submission = body.get("submission")
    ok = isinstance(submission, str) and 8 <= len(submission) <= _LONGEST_SUBMISSION
    if not ok or not str(submission).isascii() or not str(submission).isprintable():
        raise InputError("the answer has no proper number of its own: reload the page")
    corrects = body.get("corrects")
    if corrects is not None and (not isinstance(corrects, int) or isinstance(corrects, bool)):
        raise InputError("corrects must be the number of a revision")
    question = study.question(trial.question)
    values = check_values(question, trial, body.get("values"))
    plays = check_plays(study, trial, body.get("plays"))
    at = store.shown_at(rater, trial.position)
    if at is None:
        raise InputError("this trial was not shown yet: reload the page")
    check_time(study, trial, store.clock() - at)
    return store.add(
        rater, trial.position, str(submission), values, [vars(play) for play in plays],
        [_hashes(context, stimulus) for stimulus in players(trial)], corrects=corrects,
    )  # fmt: skip


def sound(context: Context, rater: Rater, name: str) -> bytes:
    """Make the bytes that a player plays: its clips joined without a gap, dithered anew.

    Args:
        context: of the study.
        rater: whose session.
        name: as `show_trial` gave it.

    Raises:
        InputError: it is no sound of a page this rater was shown; or its clips are gone, as when
            they were made anew beside a running server.
    """
    study, store = context.plan.study, context.store
    for trial in context.plan.assignment.sessions[rater.slot]:
        for player, stimulus in enumerate(players(trial)):
            if sound_id(store, rater, trial.position, player) == name:
                if store.shown_at(rater, trial.position) is None:
                    raise InputError("there is no such sound")
                joined = dithered(np.concatenate(_samples(context, stimulus)), name)  # [M, C]
                return wav_bytes(joined, study.clips.sample_rate)
    raise InputError("there is no such sound")


def _samples(context: Context, stimulus: Stimulus) -> list[NDArray[np.int16]]:
    """Read the clips of a stimulus; why one cannot be read is for those who run the study."""
    try:
        return [context.clips.samples(key) for key in stimulus.clips]
    except InputError as error:
        log.error("a rater could not be played a sound: %s", error)
        raise InputError(
            "this sound cannot be played now: reload the page, and if that does not help, tell "
            "those who run the study"
        ) from error


def players(trial: Trial) -> list[Stimulus]:
    """List what a page plays: the stimuli, then the open reference."""
    return [*trial.stimuli, *([trial.open_reference] if trial.open_reference else [])]


def trial_id(store: Store, rater: Rater, position: int) -> str:
    """Name a trial for one rater."""
    return store.mac("trial", rater.id, position)


def sound_id(store: Store, rater: Rater, position: int, player: int) -> str:
    """Name a sound for one rater and page: the same clip has another name elsewhere."""
    return store.mac("sound", rater.id, position, player)


def quiet_tone(store: Store, rater: Rater, number: int) -> int:
    """Choose which of three tones is quieter in a round of the headphone check."""
    return int(store.mac("headphones", rater.id, number), 16) % 3


def headphone_sound(context: Context, rater: Rater, number: int) -> bytes:
    """Make three tones, one 6 dB quieter, another with its sides in opposite phase.

    Over loudspeakers opposite phases cancel, and that tone seems the quietest; over headphones
    they do not. The two louder ones are as loud as the study's clips, so that the volume somebody
    sets here is right for what follows.

    Source: Woods, Siegel, Traer and McDermott (2017), Headphone screening to facilitate web-based
    auditory experiments.
    """
    store, channels = context.store, context.plan.study.clips.channels
    # A sine's power is half its square; a mono clip sounds on both sides, but counts once.
    power = 10 ** ((context.clips.lufs - _SINE_LUFS) / 10) / channels
    quiet = quiet_tone(store, rater, number)
    turned = (quiet + 1 + int(store.mac("phase", rater.id, number), 16) % 2) % 3
    time = np.arange(int(_TONE_S * _RATE)) / _RATE
    ramp = np.minimum(1.0, np.minimum(time, time[::-1]) / 0.05)
    tone = np.sqrt(power) * np.sin(2 * np.pi * _TONE_HZ * time) * ramp  # [M]
    gap = np.zeros((int(_GAP_S * _RATE), 2))
    parts: list[np.ndarray[Any, Any]] = []
    for place in range(3):
        level = 0.5 if place == quiet else 1.0
        sides = np.array([1.0, -1.0 if place == turned else 1.0])
        parts += [level * tone[:, None] * sides, gap]
    return wav_bytes((np.concatenate(parts) * 32767).astype(np.int16), _RATE)


def check_headphones(store: Store, rater: Rater, body: dict[str, Any]) -> str:
    """Store the headphone check's result.

    Returns:
        passed, failed or skipped; whoever fails takes part all the same.

    Raises:
        InputError: it was done before, or the answers are malformed.
    """
    if rater.headphones is not None:
        return rater.headphones
    given = body.get("answers")
    if given is None:
        result = "skipped"
    else:
        ok = isinstance(given, list) and len(given) == HEADPHONE_ROUNDS
        if not ok or not all(value in (0, 1, 2) for value in given):
            raise InputError(f"answers must be {HEADPHONE_ROUNDS} numbers from 0 to 2")
        right = sum(quiet_tone(store, rater, n) == value for n, value in enumerate(given))
        result = "passed" if right >= HEADPHONES_PASS else "failed"
    store.set_headphones(rater, result)
    return result


def _hashes(context: Context, stimulus: Stimulus) -> list[str]:
    return [context.clips.by_key[key].sha256 for key in stimulus.clips]
