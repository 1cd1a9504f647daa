"""What may be asked for: limits and checks before any work starts."""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.config import SamplingConfig, plain_numbers, require, require_number
from musicgen_rl.data.chords import NO_CHORDS, chords_order
from musicgen_rl.data.keys import NO_KEY, key_order
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.merging.recipe import MergeConfig

MAX_DURATION_S = 600.0
MAX_CLIPS = 1000
MAX_TAKES = 64
MAX_RETURNING = 4.0
MAX_PROMPT_CHARACTERS = 2000
MAX_SEED = 2**63 - 1
MIN_TEMPO_BPM, MAX_TEMPO_BPM = 20.0, 400.0


@dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """One request: everything but the prompts and the way tokens are drawn."""

    duration_s: float = 10.0
    """Length of the music to make, in seconds, to the sample."""
    seed: int | None = None
    """Same seed, same music; a random one is drawn and shown where none is given."""
    clips_per_prompt: int = 1
    """Variations of each prompt."""
    first_index: int = 0
    """Index of the first variation: 2 makes the third clip of the seed without the first two."""
    takes: int = 1
    """Play each clip so often and keep the one that answers its words best, of those at the tempo
    that is asked for; models without a scorer, such as facebook/musicgen-*, choose by the tempo
    alone."""
    tempo_bpm: float | None = None
    """Tempo to hold, in beats a minute. Without it the one that the prompt names ("124 bpm") is
    held, by models that can, such as pocket; 0 holds none."""
    steady: bool = False
    """Hold a tempo that goes with the words where they name none, by models that can, such as
    pocket; each variation finds its own."""
    first_beat_s: float | None = None
    """Seconds from the beginning of the new music to a beat; found by itself where None."""
    key: str | None = None
    """Key to hold, such as "D minor", "F# major" or "Bb dorian". Without it the one that the prompt
    names ("in D minor") is held, by models that can, such as pocket; "auto" holds one that goes
    with the words where they name none, each variation its own, and "none" holds none."""
    chords: str | None = None
    """Chords to hold, a bar each, over and over, such as "Am F C G", or bars parted by "|", such as
    "Am | F G | C"; sections are parted by ";" and may come several times, such as
    "Am F C G x4; F G Em Am x2". Without it those that the prompt names ("chords Am F C G") are
    held, by models that can, such as pocket; "auto" holds some that go with the words where they
    name none, each variation its own, often in two sections, and "none" holds none. They change on
    beats, so a tempo is held too; and they say which notes to play, so no key is found beside
    them. Those found are in the key named."""
    beats_per_bar: int | None = None
    """Beats of a bar of chords; three where the prompt is of a waltz or of 3/4, four for others."""
    returning: float = 1.0
    """Where chords are held, how strongly what was played when they came before comes back; 0
    leaves it free."""
    max_batch: int = 0
    """Most clips decoded side by side; 0 lets the machine decide."""
    loudness: LoudnessConfig = field(default_factory=LoudnessConfig)
    """How loud clips come out."""
    diversity: float | None = None
    """Where the dial stands: 0 is quality (safer, more alike), 1 diversity (more varied); without
    it the model's base weights play."""
    merge_method: str = "lerp"
    """Way between the two ends: lerp (straight), slerp (along the arc) or liti (slerp, then back
    towards the base)."""
    merge_strength: float = 0.5
    """For liti: share of the way from the base; 1 is slerp, 0 the base."""

    @property
    def holds(self) -> bool:
        """Whether a beat, a key or chords are asked for, apart from what prompts name."""
        asked = self.key not in (None, NO_KEY) or self.chords not in (None, NO_CHORDS)
        return asked or bool(self.tempo_bpm) or self.steady

    def __post_init__(self) -> None:
        """Check every field."""
        plain_numbers(self)
        require(
            isinstance(self.loudness, LoudnessConfig),
            f"loudness must be a LoudnessConfig, got {self.loudness!r:.60}: for a level in LUFS, "
            "LoudnessConfig(target_lufs=-16)",
        )
        require_number("duration", self.duration_s, 0.05, MAX_DURATION_S, unit="s")
        for name, low, high in (
            ("clips_per_prompt", 1, MAX_CLIPS),
            ("first_index", 0, 2**31),
            ("takes", 1, MAX_TAKES),
            ("max_batch", 0, 4096),
        ):
            _require_whole(name, getattr(self, name), low, high)
        if self.tempo_bpm:
            require_number("tempo", self.tempo_bpm, MIN_TEMPO_BPM, MAX_TEMPO_BPM, unit="bpm")
        elif self.tempo_bpm is not None:
            require_number("tempo", self.tempo_bpm, 0.0, 0.0)
        require(
            self.steady in (True, False), f"steady must be True or False, got {self.steady!r:.40}"
        )
        require(
            not self.steady or self.tempo_bpm != 0.0,
            "steady holds a tempo, and a tempo of 0 holds none: leave one of them out",
        )
        if self.first_beat_s is not None:
            require_number("first_beat_s", self.first_beat_s, -60.0, 60.0, unit="s")
        if self.key is not None:
            object.__setattr__(self, "key", key_order(self.key))
        if self.chords is not None:
            object.__setattr__(self, "chords", chords_order(self.chords))
        require(
            self.chords in (None, NO_CHORDS) or self.tempo_bpm != 0.0,
            f"chords ({self.chords}) change on beats, and a tempo of 0 holds none: leave one of "
            "them out",
        )
        if self.beats_per_bar is not None:
            _require_whole("beats_per_bar", self.beats_per_bar, 1, 16)
        require_number("returning", self.returning, 0.0, MAX_RETURNING)
        if self.diversity is not None:
            require_number("diversity", self.diversity, 0.0, 1.0)
        MergeConfig(method=self.merge_method, strength=self.merge_strength)
        if self.seed is not None:
            _require_whole("seed", self.seed, 0, MAX_SEED)


def draw_seed() -> int:
    """Draw a seed short enough to type again."""
    return secrets.randbelow(2**31)


def check_prompts(prompts: str | Sequence[str]) -> list[str]:
    """Take one prompt or several; a string is one prompt, never its characters.

    Raises:
        InputError: nothing is there, a prompt is empty, not text, or absurdly long.
    """
    if not isinstance(prompts, Iterable):
        raise InputError(
            f"the prompt is not text but {type(prompts).__name__}: {prompts!r:.60}; say what to "
            "play, for example 'slow sad piano'"
        )
    listed = [prompts] if isinstance(prompts, str) else list(prompts)
    if not listed:
        raise InputError("no prompt: say what to play, for example 'slow sad piano'")
    for number, prompt in enumerate(listed, 1):
        which = f"prompt {number} of {len(listed)}" if len(listed) > 1 else "the prompt"
        if not isinstance(prompt, str):
            raise InputError(f"{which} is not text but {type(prompt).__name__}: {prompt!r:.60}")
        if not prompt.strip():
            raise InputError(f"{which} is empty: say what to play, for example 'slow sad piano'")
        if len(prompt) > MAX_PROMPT_CHARACTERS:
            raise InputError(
                f"{which} has {len(prompt)} characters, at most {MAX_PROMPT_CHARACTERS} are read: "
                "shorten it"
            )
        if any(0xD800 <= ord(c) <= 0xDFFF for c in prompt) or "\0" in prompt:
            raise InputError(f"{which} holds characters that are not text: {prompt!r:.60}")
    return listed


def check_clips(num_prompts: int, clips_per_prompt: int) -> None:
    """Refuse more clips than one request should hold.

    Raises:
        ConfigError: too many.
    """
    total = num_prompts * clips_per_prompt
    if total > MAX_CLIPS:
        raise ConfigError(
            f"{num_prompts} prompts x {clips_per_prompt} are {total} clips, at most {MAX_CLIPS} in "
            "one request: ask for fewer at a time"
        )


def override_sampling(defaults: SamplingConfig, **overrides: Any) -> SamplingConfig:
    """Take a model's sampling defaults and what the user set; None means not set.

    Raises:
        ConfigError: an unknown name or an impossible value.
    """
    known = {f.name for f in fields(SamplingConfig)}
    for name in overrides:
        if name not in known:
            raise ConfigError(f"unknown option {name!r}: there are {', '.join(sorted(known))}")
    given = {name: value for name, value in overrides.items() if value is not None}
    merged = {name: getattr(defaults, name) for name in known} | given
    if "guidance_scale" in given and "guidance_s" not in given:
        merged["guidance_s"] = 0.0  # another's end is not this one's
    if given.get("guidance_scale") == 1.0 and "negative_prompt" not in given:
        merged["negative_prompt"] = ""
    return SamplingConfig(**merged)


def check_alone(**named: Any) -> None:
    """Check options of `SamplingConfig` while the model's own are not known yet.

    Args:
        named: all but negative_prompt, which may need guidance of the model's own.

    Raises:
        ConfigError: an impossible value.
    """
    own = {"guidance_scale": 2.0} if "guidance_s" in named else {}  # some guidance, for its end
    override_sampling(SamplingConfig(), **(own | named))


def _require_whole(name: str, value: object, low: int, high: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(
        whole and low <= value <= high,  # type: ignore[operator]
        f"{name} must be a whole number from {low} to {high}, got {value!r}",
    )
