"""A study as data: arms, prompts, questions, raters, and the analysis that is planned.

`study.yaml` is read by `reading.py` into these classes; they are the only home of the defaults.
"""

import dataclasses
import hashlib
import json
import re
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from musicgen_rl.config import require, require_number

VERSION = 1
"""Of the file's format."""
KINDS = ("rating", "pair", "sets", "mushra", "abx")
CHOICE_KINDS = ("pair", "sets", "abx")
"""Kinds whose trials hold two things to choose between."""
NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
ANCHORS = {"low": 3500.0, "mid": 7000.0}
"""Anchors of a mushra question and where they are cut off, Hz (ITU-R BS.1534-3)."""
CHECKS = ("quality", "variety")
"""What an attention check can know: damaged sound is worse, one piece repeated is less varied."""
FIVE_WORDS = ("bad", "poor", "fair", "good", "excellent")


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One thing that is compared: a model with settings, or a folder of finished audio."""

    name: str
    """How the study file calls it; raters never see it."""
    model: str | None = None
    """pocket, a folder, or a hub id; None where `audio` is given."""
    audio: str | None = None
    """Folder of files named PROMPT-CLIP.wav, both counted from 1, for example 012-3.wav."""
    settings: dict[str, float] = field(default_factory=dict)
    """diversity, guidance_scale, guidance_s, temperature, top_k, top_p, where they are not the
    model's own."""

    def __post_init__(self) -> None:
        """Check every field."""
        _require_name("arm", self.name)
        for key in ("model", "audio"):
            if (value := getattr(self, key)) is not None:
                _require_text(f"{key} of arm {self.name!r}", value)
        require(
            (self.model is None) != (self.audio is None),
            f"arm {self.name!r} needs either a model or an audio folder, and not both",
        )
        known = ("diversity", "guidance_scale", "guidance_s", "temperature", "top_k", "top_p")
        for key, value in self.settings.items():
            require(key in known, f"arm {self.name!r}: unknown setting {key!r}: {', '.join(known)}")
            require_number(f"{key} of arm {self.name!r}", value, 0.0, 1_000_000.0)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing asked in a trial."""

    id: str
    """Name of the column in tables."""
    ask: str
    """The sentence a rater reads."""
    words: tuple[str, ...] = ()
    """Words under the points of a scale, from lowest to highest."""
    check: str = ""
    """Which attention check has a known right answer to it: quality (damaged sound gets a low
    answer), variety (one piece repeated is less varied than several); empty where none has."""

    def __post_init__(self) -> None:
        """Check every field."""
        _require_name("item", self.id)
        _require_text(f"ask of item {self.id!r}", self.ask)
        require(bool(self.ask.strip()), f"item {self.id!r} asks nothing: give it an `ask`")
        require(
            self.check in ("", *CHECKS),
            f"item {self.id!r}: unknown check {self.check!r}: {', '.join(CHECKS)}, or none",
        )


@dataclass(frozen=True, kw_only=True)
class Question:
    """A kind of trial, and how often it is asked."""

    id: str
    """Name of the question in tables."""
    kind: str
    """rating, pair, sets, mushra or abx."""
    items: tuple[Item, ...]
    """What is asked of each trial."""
    prompts: int
    """How many prompts, from the first of the list on."""
    raters_per_prompt: int = 3
    """How many people judge each prompt."""
    clips_per_set: int = 4
    """Clips in a group, for sets: 2 to 4."""
    ties: bool = True
    """Whether "no difference" may be answered, for pair and sets."""
    show_prompt: bool = True
    """Whether the text is shown beside the sound."""

    def __post_init__(self) -> None:
        """Check every field."""
        _require_name("question", self.id)
        name = f"question {self.id!r}"
        require(self.kind in KINDS, f"{name}: unknown kind {self.kind!r}: {', '.join(KINDS)}")
        require(bool(self.items), f"{name} asks nothing: give it items")
        _require_distinct(f"items of {name}", [item.id for item in self.items])
        _require_whole(f"prompts of {name}", self.prompts, 1, 100_000)
        _require_whole(f"raters_per_prompt of {name}", self.raters_per_prompt, 1, 10_000)
        _require_whole(f"clips_per_set of {name}", self.clips_per_set, 2, 4)
        _require_bool(f"ties of {name}", self.ties)
        _require_bool(f"show_prompt of {name}", self.show_prompt)
        judged = self.prompts * self.raters_per_prompt
        require(
            self.kind not in CHOICE_KINDS or judged % 2 == 0,
            f"{name}: {self.prompts} prompts x {self.raters_per_prompt} raters is {judged}, an odd "
            "number: both orders of a pair cannot be heard equally often; make one of them even",
        )
        for item in self.items:
            require(
                self.kind != "rating" or 2 <= len(item.words) <= 11,
                f"{name}: scale {item.id!r} needs 2 to 11 words, got {len(item.words)}",
            )
            require(
                item.check != "variety" or self.kind == "sets",
                f"{name}: item {item.id!r} has `check: variety`, but only groups of clips (kind "
                "sets) are more or less varied: take quality, or none",
            )
        require(
            self.kind not in ("mushra", "abx") or len(self.items) == 1,
            f"{name}: a {self.kind} question asks one item, got {len(self.items)}",
        )

    @property
    def clips(self) -> int:
        """How many clips of one prompt and arm it plays."""
        return self.clips_per_set if self.kind == "sets" else 1

    @property
    def checked(self) -> tuple[Item, ...]:
        """The items an attention check may ask; mushra and abx have a known answer by nature."""
        known = self.kind in ("mushra", "abx")
        return tuple(item for item in self.items if known or item.check)


@dataclass(frozen=True, kw_only=True)
class ClipRules:
    """What every clip is brought to before anybody hears it."""

    duration_s: float = 8.0
    """Length; longer audio is cut to it, shorter audio is refused."""
    sample_rate: int = 32000
    """Hz."""
    channels: int = 1
    """1 mono, 2 stereo."""
    target_lufs: float = -20.0
    """Loudness of all clips; lowered for all alike where one would pass the ceiling."""
    seed: int = 1
    """From which the seeds of generated clips are derived, the same for every arm."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("clips.duration_s", self.duration_s, 0.5, 120.0, unit="s")
        _require_whole("clips.sample_rate", self.sample_rate, 8000, 48000)
        _require_whole("clips.channels", self.channels, 1, 2)
        require_number("clips.target_lufs", self.target_lufs, -50.0, -10.0, unit="LUFS")
        _require_whole("clips.seed", self.seed, 0, 2**63 - 1)


@dataclass(frozen=True, kw_only=True)
class Raters:
    """Who listens, and how a session goes."""

    count: int = 12
    """How many people are invited."""
    practice: int = 2
    """Trials before the first that counts."""
    attention_checks: int = 3
    """Trials with a known answer, for each rater."""
    repeats: int = 3
    """Trials asked again, groups exchanged, for each rater."""
    minimum_listening_s: float = 4.0
    """How long each clip must be heard before an answer is taken, a group of n clips n times as
    long; at most a clip's length."""
    break_every: int = 20
    """Trials between two offers of a pause; 0 offers none."""
    headphones: bool = True
    """Whether the headphone check stands at the beginning. It is recorded, nobody is sent away."""

    def __post_init__(self) -> None:
        """Check every field."""
        _require_whole("raters.count", self.count, 1, 10_000)
        for name in ("practice", "attention_checks", "repeats", "break_every"):
            _require_whole(f"raters.{name}", getattr(self, name), 0, 1000)
        _require_bool("raters.headphones", self.headphones)
        require_number("raters.minimum_listening_s", self.minimum_listening_s, 0.0, 120.0, unit="s")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One comparison that the study was made for."""

    question: str
    item: str
    arms: tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What will be computed; frozen with the plan."""

    level: float = 0.05
    """Chance of any false finding among the planned comparisons (Holm)."""
    resamples: int = 2000
    """Draws of the crossed bootstrap."""
    max_attention_failures: int = 1
    """A rater with more failures is left out of the main analysis."""
    planned: tuple[Planned, ...] = ()
    """Planned comparisons; all others are reported as exploratory."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("analysis.level", self.level, 0.0001, 0.5)
        _require_whole("analysis.resamples", self.resamples, 200, 1_000_000)
        _require_whole("analysis.max_attention_failures", self.max_attention_failures, 0, 1000)


@dataclass(frozen=True, kw_only=True)
class Study:
    """A whole study."""

    title: str
    """What raters read at the top."""
    arms: tuple[Arm, ...]
    """What is compared."""
    prompts: tuple[str, ...]
    """Texts the clips were made from."""
    questions: tuple[Question, ...]
    """What is asked, in this order unless a Latin square says otherwise."""
    consent: str
    """What a rater agrees to before anything is stored."""
    reference: str | None = None
    """The arm that is the open and hidden reference of mushra questions."""
    practice_prompts: tuple[str, ...] = ()
    """Texts of the practice trials; the first prompts again where there are none."""
    contact: str = ""
    """Whom a rater may ask."""
    retention_days: int = 365
    """How many days after a rater began all that is stored about that person is deleted."""
    seed: int = 1
    """From which the assignment is derived."""
    clips: ClipRules = field(default_factory=ClipRules)
    raters: Raters = field(default_factory=Raters)
    analysis: Analysis = field(default_factory=Analysis)
    version: int = VERSION

    def __post_init__(self) -> None:
        """Check what belongs together."""
        require(
            self.version == VERSION,
            f"version must be {VERSION}, got {self.version!r}: this program reads no other",
        )
        _require_text("title", self.title)
        _require_text("consent", self.consent)
        if self.contact is not None:  # `contact:` with nothing behind it is none
            _require_text("contact", self.contact)
        require(bool(self.title.strip()), "the study needs a title")
        require(bool(self.consent.strip()), "the study needs a consent text")
        require(bool(self.questions), "the study asks nothing: give it questions")
        names = [arm.name for arm in self.arms]
        require(len(names) >= 2, f"a study compares at least two arms, got {len(names)}")
        _require_distinct("arms", names)
        _require_distinct("questions", [question.id for question in self.questions])
        _require_whole("seed", self.seed, 0, 2**63 - 1)
        _require_whole("retention_days", self.retention_days, 1, 36500)
        require(
            self.reference is None or self.reference in names,
            f"reference {self.reference!r} is no arm: the arms are {', '.join(names)}",
        )
        for position, prompt in enumerate((*self.prompts, *self.practice_prompts), start=1):
            require(bool(prompt.strip()), f"prompt {position} is empty")
        _require_distinct("prompts", list(self.prompts))
        least, length = self.raters.minimum_listening_s, self.clips.duration_s
        require(
            least <= length,
            f"raters.minimum_listening_s {least:g} is longer than a clip, {length:g} s",
        )
        checks = self.raters.attention_checks
        require(
            checks == 0 or any(question.checked for question in self.questions),
            f"raters.attention_checks is {checks}, but no item has an answer that is known: give "
            "one `check: quality` (damaged sound is worse) or `check: variety` (one piece repeated "
            "is less varied), or set attention_checks to 0",
        )
        for question in self.questions:
            self._check_question(question)
        for planned in self.analysis.planned:
            self._check_planned(planned)

    def _check_question(self, question: Question) -> None:
        name = f"question {question.id!r}"
        require(
            question.prompts <= len(self.prompts),
            f"{name} asks for {question.prompts} prompts, but there are {len(self.prompts)}",
        )
        require(
            question.raters_per_prompt <= self.raters.count,
            f"{name} wants {question.raters_per_prompt} raters a prompt, but raters.count is "
            f"{self.raters.count}",
        )
        require(
            question.prompts >= 2 or all(item.check != "variety" for item in question.items),
            f"{name}: `check: variety` needs at least two prompts, got {question.prompts}",
        )
        require(
            question.kind != "mushra" or self.reference is not None,
            f"{name}: a mushra question needs `reference`, the arm that is the ideal",
        )

    def _check_planned(self, planned: Planned) -> None:
        name = f"planned comparison {planned.question}/{planned.item}"
        question = next((q for q in self.questions if q.id == planned.question), None)
        require(question is not None, f"{name}: there is no question {planned.question!r}")
        assert question is not None
        items = [item.id for item in question.items]
        require(planned.item in items, f"{name}: the items are {', '.join(items)}")
        names = self.compared(question)
        for arm in planned.arms:
            require(arm in names, f"{name}: unknown arm {arm!r}: the arms are {', '.join(names)}")
        require(planned.arms[0] != planned.arms[1], f"{name} compares an arm with itself")

    def question(self, id: str) -> Question:
        """Find a question by its id."""
        return next(question for question in self.questions if question.id == id)

    def minimum_s(self, question: Question) -> float:
        """Tell how long each player of a question must be heard, in seconds."""
        return self.raters.minimum_listening_s * question.clips

    def compared(self, question: Question) -> tuple[str, ...]:
        """List the arms a question compares; a mushra question's reference is not one of them."""
        names = (arm.name for arm in self.arms)
        hidden = self.reference if question.kind == "mushra" else None
        return tuple(name for name in names if name != hidden)

    def pairs(self, question: Question) -> tuple[tuple[str, str], ...]:
        """List the pairs of arms a question compares."""
        return tuple(combinations(self.compared(question), 2))

    @property
    def all_prompts(self) -> tuple[str, ...]:
        """The prompts, then those of practice: what prompt numbers count."""
        return (*self.prompts, *self.practice_prompts)

    def to_dict(self) -> dict[str, Any]:
        """Bring it to JSON-able values."""
        return dataclasses.asdict(self)

    def digest(self) -> str:
        """Hash all that matters: the same study has the same hash, however its file is laid out."""
        return digest(self.to_dict())

    def clip_digests(self) -> dict[str, str]:
        """Hash what decides the clips, part by part; texts and what is asked are none of it.

        Returns:
            The hashes of "arms", in whatever order they stand, "prompts" and "clip rules".
        """
        arms = {
            arm.name: [arm.model, arm.audio, {k: float(v) for k, v in arm.settings.items()}]
            for arm in self.arms
        }
        rules = dataclasses.asdict(self.clips) | {  # 8 and 8.0 are one length
            "duration_s": float(self.clips.duration_s),
            "target_lufs": float(self.clips.target_lufs),
        }
        parts = {"arms": arms, "prompts": self.all_prompts, "clip rules": rules}
        return {name: digest(part) for name, part in parts.items()}


def digest(content: Any) -> str:
    """Hash JSON-able content, sha256 in hex."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _require_name(what: str, name: object) -> None:
    require(
        isinstance(name, str) and NAME.fullmatch(name) is not None,
        f"{what} {name!r}: names are lower-case letters, digits, - and _, a letter first",
    )


def _require_text(name: str, value: object) -> None:
    require(isinstance(value, str), f"{name} must be text, got {value!r:.60}: put it in quotes")


def _require_bool(name: str, value: object) -> None:
    require(value in (True, False), f"{name} must be true or false, got {value!r:.60}")


def _require_distinct(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    require(not twice, f"{what}: {', '.join(map(repr, twice))} stands there twice")


def _require_whole(name: str, value: object, low: int, high: int) -> None:
    require(
        isinstance(value, int) and not isinstance(value, bool) and low <= value <= high,
        f"{name} must be a whole number from {low} to {high}, got {value!r}",
    )
