"""Who hears what, in which order: drawn once from the study's seed, then frozen.

Every prompt and pair is judged equally often and heard in both orders; each rater meets both
orders, each arm first equally often, and every prompt once before any comes back.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from musicgen_rl.config import require
from musicgen_rl.listening.design import allocate, apart, split_evenly, williams
from musicgen_rl.listening.study import ANCHORS, CHOICE_KINDS, Item, Question, Study

DAMAGED = "damaged"
"""Treatment of a clip in an attention check: plainly broken sound."""
_LOWEST = min(ANCHORS, key=lambda name: ANCHORS[name])


@dataclass(frozen=True)
class ClipKey:
    """Which clip: what made it and what was done to it."""

    arm: str
    prompt: int
    index: int = 0
    treatment: str = ""
    """"" as made, "damaged", "low" or "mid"."""


@dataclass(frozen=True)
class Stimulus:
    """What one player of a trial plays: a clip, or a group of clips one after the other."""

    label: str
    """The arm's name, "reference", "low", "mid", or in a check "good" or "bad" for what its rule
    compares."""
    clips: tuple[ClipKey, ...]


@dataclass(frozen=True)
class Trial:
    """One page of a rater's session."""

    question: str
    kind: str
    """practice, main, repeat or check."""
    prompt: int
    stimuli: tuple[Stimulus, ...]
    """In the order they stand on the page; of abx: A, B, X."""
    open_reference: Stimulus | None = None
    """The reference of a mushra trial, shown as such."""
    position: int = 0
    """Place in the session, from 0, practice included."""
    repeat_of: int | None = None
    """Position of the trial that is asked again."""
    asks: str = ""
    """Of a check: the item whose right answer is known."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What stands at each position."""
        return tuple(stimulus.label for stimulus in self.stimuli)


@dataclass(frozen=True)
class Assignment:
    """All sessions of a study, one a slot; a slot is taken by one invited person."""

    sessions: tuple[tuple[Trial, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Bring it to JSON-able values."""
        return {"sessions": [[asdict(trial) for trial in session] for session in self.sessions]}


def assign(study: Study) -> Assignment:
    """Draw all sessions.

    Args:
        study: checked.

    Returns:
        The same for the same study, on every machine.
    """
    # Not hash(): that differs between processes.
    rng = random.Random(int.from_bytes(hashlib.sha256(f"{study.seed}".encode()).digest()[:8]))
    sessions: list[list[list[Trial]]] = [[] for _ in range(study.raters.count)]
    for question in study.questions:
        for slot, trials in enumerate(_main_trials(study, question, rng)):
            sessions[slot].append(trials)
    order = williams(len(study.questions))
    built = []
    for slot, by_question in enumerate(sessions):
        parts = [by_question[index] for index in order[slot % len(order)]]
        main = [trial for part in parts for trial in part]
        main = _with_repeats(main, study.raters.repeats, rng)
        main = _with_checks(main, _checks(study, rng), rng)
        session = [*_practice(study, order[slot % len(order)], rng), *main]
        built.append(_numbered(session))
    return Assignment(tuple(built))


def required_clips(assignment: Assignment) -> list[ClipKey]:
    """List every clip that some session plays, sorted."""
    keys = {
        key
        for session in assignment.sessions
        for trial in session
        for stimulus in _all_stimuli(trial)
        for key in stimulus.clips
    }
    return sorted(keys, key=lambda key: (key.arm, key.prompt, key.index, key.treatment))


def _main_trials(study: Study, question: Question, rng: random.Random) -> list[list[Trial]]:
    """Draw one question's trials for every slot."""
    count = study.raters.count
    raters = allocate(question.prompts, question.raters_per_prompt, count, rng)
    prompts: list[list[int]] = [[] for _ in range(count)]
    for prompt, slots in enumerate(raters):
        for slot in slots:
            prompts[slot].append(prompt)
    if question.kind == "rating":
        return [_ratings(study, question, mine, slot, rng) for slot, mine in enumerate(prompts)]
    if question.kind == "mushra":
        return [_mushras(study, question, mine, slot, rng) for slot, mine in enumerate(prompts)]
    return _choices(study, question, prompts, rng)


def _ratings(
    study: Study, question: Question, prompts: list[int], slot: int, rng: random.Random
) -> list[Trial]:
    """Order single clips: each prompt once in every pass, its arms by a Williams square."""
    arms = study.compared(question)
    rows = williams(len(arms))
    mine = rng.sample(prompts, len(prompts))
    row = {prompt: rows[(slot + place) % len(rows)] for place, prompt in enumerate(mine)}
    trials: list[Trial] = []
    for turn in range(len(arms)):
        order = rng.sample(mine, len(mine))
        if len(order) > 1 and trials and order[0] == trials[-1].prompt:
            order.append(order.pop(0))
        for prompt in order:
            name = arms[row[prompt][turn]]
            trials.append(Trial(question.id, "main", prompt, (_plain(question, name, prompt),)))
    return trials


def _mushras(
    study: Study, question: Question, prompts: list[int], slot: int, rng: random.Random
) -> list[Trial]:
    trials = []
    for place, prompt in enumerate(rng.sample(prompts, len(prompts))):
        shown, sounds = _graded(study, question, prompt)
        rows = williams(len(sounds))
        row = rows[(slot * len(prompts) + place) % len(rows)]
        ordered = tuple(sounds[index] for index in row)
        trials.append(Trial(question.id, "main", prompt, ordered, shown))
    return trials


def _graded(study: Study, question: Question, prompt: int) -> tuple[Stimulus, list[Stimulus]]:
    """List what a mushra page plays: the open reference, then all that is graded."""
    assert study.reference is not None  # Study checks it
    ideal = ClipKey(study.reference, prompt)
    shown = Stimulus("reference", (ideal,))
    anchors = [Stimulus(name, (replace(ideal, treatment=name),)) for name in ANCHORS]
    arms = [_plain(question, arm, prompt) for arm in study.compared(question)]
    return shown, [shown, *arms, *anchors]


def _choices(
    study: Study, question: Question, prompts: list[list[int]], rng: random.Random
) -> list[list[Trial]]:
    """Order pairs, groups and abx: both orders equally often by prompt and by rater."""
    found: list[list[Trial]] = [[] for _ in prompts]
    edges = [(slot, prompt) for slot, mine in enumerate(prompts) for prompt in mine]
    for pair in study.pairs(question):
        swapped = split_evenly(edges, rng)
        # X of abx is A or B: balanced apart within each order, so that the two do not go together.
        second = [False] * len(edges)
        for side in (False, True):
            within = [index for index in range(len(edges)) if swapped[index] is side]
            for index, is_b in zip(
                within, split_evenly([edges[i] for i in within], rng), strict=True
            ):
                second[index] = is_b
        for (slot, prompt), swap, is_b in zip(edges, swapped, second, strict=True):
            names = pair[::-1] if swap else pair
            stimuli = tuple(_plain(question, name, prompt) for name in names)
            if question.kind == "abx":
                stimuli = (*stimuli, stimuli[int(is_b)])
            found[slot].append(Trial(question.id, "main", prompt, stimuli))
    return [[trials[i] for i in apart([t.prompt for t in trials], rng)] for trials in found]


def _plain(question: Question, arm: str, prompt: int) -> Stimulus:
    return Stimulus(arm, tuple(ClipKey(arm, prompt, index) for index in range(question.clips)))


def _with_repeats(trials: list[Trial], count: int, rng: random.Random) -> list[Trial]:
    """Ask some of the first half again in the second, the other way round where there is one."""
    half = len(trials) // 2
    again = sorted(rng.sample(range(half), min(count, half)))
    end = len(trials)
    places = {index: rng.randint(min(max(half, index + 3), end), end) for index in again}
    out: list[Trial] = []
    for index in range(len(trials) + 1):
        for first, place in places.items():
            if place == index:
                old = trials[first]
                swaps = old.kind == "main" and len(old.stimuli) == 2
                stimuli = old.stimuli[::-1] if swaps else old.stimuli
                out.append(replace(old, kind="repeat", stimuli=stimuli, repeat_of=first))
        if index < len(trials):
            # Its own index, until `_numbered` knows the place it ends up at.
            out.append(replace(trials[index], position=index))
    return out


def _checks(study: Study, rng: random.Random) -> list[Trial]:
    """Draw one rater's attention checks, from the questions that can have one in turn."""
    questions = [question for question in study.questions if question.checked]
    out = []
    for number in range(study.raters.attention_checks):
        question = questions[number % len(questions)]
        item = question.checked[number // len(questions) % len(question.checked)]
        prompt = rng.randrange(question.prompts)
        out.append(_check(study, question, item, prompt, rng))
    return out


def _check(
    study: Study, question: Question, item: Item, prompt: int, rng: random.Random
) -> Trial:  # fmt: skip
    """Make a page that looks like any other of its question, with a known answer to one item."""
    arm = study.reference or study.arms[0].name
    clean = _plain(question, arm, prompt).clips
    broken = tuple(replace(key, treatment=DAMAGED) for key in clean)
    good, bad = Stimulus("good", clean), Stimulus("bad", broken)
    shown = None
    if question.kind == "mushra":
        # A whole page, with damaged sound where the lower anchor would be.
        shown, sounds = _graded(study, question, prompt)
        rest = [sound for sound in sounds if sound.label not in ("reference", _LOWEST)]
        stimuli = rng.sample([good, bad, *rest], len(sounds))
    elif question.kind == "rating":
        stimuli = [bad]
    else:
        if item.check == "variety":
            # Several different pieces against one piece several times.
            several = range(prompt, prompt + question.clips)
            clips = tuple(ClipKey(arm, number % question.prompts) for number in several)
            good, bad = Stimulus("good", clips), Stimulus("bad", clips[:1] * question.clips)
        stimuli = rng.sample([good, bad], 2)
    if question.kind == "abx":
        stimuli.append(stimuli[rng.randrange(2)])
    return Trial(question.id, "check", prompt, tuple(stimuli), shown, asks=item.id)


def _with_checks(trials: list[Trial], checks: list[Trial], rng: random.Random) -> list[Trial]:
    """Spread checks over the session, each somewhere within its own stretch."""
    out: list[Trial] = []
    stretch = len(trials) / (len(checks) + 1)
    places = [round((n + 0.5 + rng.random()) * stretch) for n in range(len(checks))]
    for index in range(len(trials) + 1):
        out += [check for check, place in zip(checks, places, strict=True) if place == index]
        out += trials[index : index + 1]
    return out


def _practice(study: Study, order: list[int], rng: random.Random) -> list[Trial]:
    """Show every kind of page first, on prompts of their own where the study has some."""
    out = []
    for number in range(study.raters.practice):
        question = study.questions[order[number % len(order)]]
        prompt = number % question.prompts
        if study.practice_prompts:
            prompt = len(study.prompts) + number % len(study.practice_prompts)
        shown = None
        if question.kind == "mushra":
            shown, sounds = _graded(study, question, prompt)
            stimuli = rng.sample(sounds, len(sounds))
        else:
            arms = rng.sample(study.compared(question), 1 if question.kind == "rating" else 2)
            stimuli = [_plain(question, arm, prompt) for arm in arms]
        if question.kind == "abx":
            stimuli.append(stimuli[rng.randrange(2)])
        out.append(Trial(question.id, "practice", prompt, tuple(stimuli), shown))
    return out


def _numbered(session: list[Trial]) -> tuple[Trial, ...]:
    place = {trial.position: index for index, trial in enumerate(session) if trial.kind == "main"}
    return tuple(
        replace(
            trial,
            position=index,
            repeat_of=None if trial.repeat_of is None else place[trial.repeat_of],
        )
        for index, trial in enumerate(session)
    )


def _all_stimuli(trial: Trial) -> Iterator[Stimulus]:
    yield from trial.stimuli
    if trial.open_reference is not None:
        yield trial.open_reference


def expected_minutes(study: Study, session: tuple[Trial, ...]) -> float:
    """Estimate how long a session takes: everything heard once, a third again, time to answer."""
    seconds = 0.0
    for trial in session:
        heard = sum(len(stimulus.clips) for stimulus in _all_stimuli(trial))
        question = study.question(trial.question)
        asked = len(trial.stimuli) if question.kind == "mushra" else len(question.items)
        seconds += 1.33 * heard * study.clips.duration_s + 4.0 * asked
    return seconds / 60


def describe_balance(study: Study, assignment: Assignment) -> dict[str, Any]:
    """Count what balance promises, for the plan and for tests.

    Returns:
        For each question of two things to choose between: how often each prompt and pair was
        given in each order, and each rater's surplus of one order.
    """
    found: dict[str, Any] = {}
    for question in study.questions:
        if question.kind not in CHOICE_KINDS:
            continue
        orders: dict[tuple[int, str], list[int]] = {}
        surplus = []
        for session in assignment.sessions:
            mine = 0
            for trial in session:
                if trial.question == question.id and trial.kind == "main":
                    names = trial.labels[:2]
                    side = int(study.compared(question).index(names[0]) > study.compared(
                        question).index(names[1]))  # fmt: skip
                    orders.setdefault((trial.prompt, "/".join(sorted(names))), [0, 0])[side] += 1
                    mine += 1 if side else -1
            surplus.append(abs(mine))
        require(bool(orders), f"question {question.id!r} is asked of nobody")
        totals = [sum(counts) for counts in orders.values()]
        found[question.id] = {
            "judgements_per_prompt_and_pair": [min(totals), max(totals)],
            "first_in_order": sum(c[0] for c in orders.values()),
            "second_in_order": sum(c[1] for c in orders.values()),
            "largest_surplus_of_one_order_for_a_rater": max(surplus),
            "largest_surplus_of_one_order_for_a_prompt": max(
                abs(a - b) for a, b in orders.values()
            ),
        }
    return found
