"""What a visitor may ask for, and the checks at the door."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from musicgen_rl.audio.encoding import FORMATS
from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.config import SamplingConfig, require, require_number
from musicgen_rl.data.chords import AUTO_CHORDS
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.pipeline.dial import require_endpoints, sampling_at
from musicgen_rl.pipeline.holds import held_to, require_holds
from musicgen_rl.pipeline.request import GenerationConfig, check_prompts, draw_seed
from musicgen_rl.pipeline.takes import check_takes


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one service grants."""

    max_duration_s: float = 120.0
    """Longest clip, in seconds."""
    max_variations: int = 8
    """Most clips of one request."""
    max_takes: int = 8
    """Most takes of a clip, of which one is kept."""
    max_prompt_characters: int = 500
    """Longest prompt, and longest negative prompt."""
    max_waiting: int = 16
    """Jobs that may wait; the next visitor is told when to come back."""
    max_per_client: int = 2
    """Jobs one visitor may have waiting or in work."""
    keep_s: float = 3600.0
    """Age at which files nobody fetched are removed, in seconds."""
    keep_bytes: float = 2e9
    """Bytes of clips kept of all visitors together; beyond, those that ended first go."""
    requests_per_minute: int = 0
    """Requests one address may send a minute, after a first burst of as many; 0 does not count."""
    max_rows: int = 16
    """Most rows decoded side by side when jobs of several visitors are made together."""
    max_jams: int = 2
    """Jams that may play at a time."""
    max_jam_s: float = 3600.0
    """Longest jam, in seconds of music."""

    def __post_init__(self) -> None:
        """Check every field."""
        require_number("max_duration_s", self.max_duration_s, 0.5, 600.0, unit="s")
        require_number("keep_s", self.keep_s, 1.0, 1e7, unit="s")
        require_number("keep_bytes", self.keep_bytes, 0, 1e15)
        require_number("max_jam_s", self.max_jam_s, 1.0, 86400.0, unit="s")
        _require_whole("requests_per_minute", self.requests_per_minute, 0, 10_000)
        for name, high in (
            ("max_variations", 64),
            ("max_takes", 64),
            ("max_prompt_characters", 2000),
            ("max_waiting", 10_000),
            ("max_per_client", 10_000),
            ("max_rows", 256),
            ("max_jams", 64),
        ):
            _require_whole(name, getattr(self, name), 1, high)


@dataclass(frozen=True, kw_only=True)
class JobRequest:
    """One request as it came, unchecked."""

    prompt: str
    """What to play."""
    duration_s: float = GenerationConfig.duration_s
    """Length of every clip, in seconds."""
    tempo_bpm: float | None = None
    """Tempo to hold; the one that the prompt names where None, 0 holds none."""
    steady: bool = False
    """Hold a tempo that goes with the words where they name none."""
    key: str | None = None
    """Key to hold; the one that the prompt names where None, "auto" that one or one that goes with
    the words, "none" holds none."""
    chords: str | None = None
    """Chords to hold; those that the prompt names where None, "auto" those or some that go with
    the words, "none" holds none."""
    variations: int = GenerationConfig.clips_per_prompt
    """Clips of this prompt."""
    takes: int = GenerationConfig.takes
    """Times each clip is played, of which the one that answers best is kept."""
    seed: int | None = None
    """Same seed, same music; drawn where None."""
    first_index: int = 0
    """Which variation of the seed comes first."""
    diversity: float | None = None
    """Where the dial stands, 0 quality to 1 diversity; None is the base."""
    merge_method: str = GenerationConfig.merge_method
    """Way between the two ends."""
    continue_from: Path | None = None
    """A file of this service's own to go on from."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Fields of SamplingConfig the visitor set; the model's own where missing or None."""
    loudness: LoudnessConfig = field(default_factory=LoudnessConfig)
    """How loud clips come out."""
    format: str = "wav"
    """Of the files: wav, flac, ogg or mp3."""


@dataclass(frozen=True, kw_only=True)
class Admitted:
    """A request that has passed the door: nothing in it can be wrong any more."""

    prompt: str
    """Outer white space taken off."""
    generation: GenerationConfig
    """Its seed is set."""
    sampling: SamplingConfig
    """The model's defaults under what the visitor set."""
    format: str
    """wav, flac, ogg or mp3."""
    held: str = ""
    """What it is held to, in words."""
    continue_from: Path | None = None
    """What all clips go on from."""

    def goes_with(self, other: "Admitted") -> bool:
        """Tell whether two jobs can be decoded side by side: same weights, sampling and length."""
        mine, theirs = self.generation, other.generation
        return (
            self.sampling == other.sampling
            and mine.takes == theirs.takes == 1
            and self.continue_from is None
            and other.continue_from is None
            and all(getattr(mine, name) == getattr(theirs, name) for name in _SHARED)
        )

    @property
    def rows(self) -> int:
        """Rows decoded side by side at most; guidance doubles them."""
        takes, clips = self.generation.takes, self.generation.clips_per_prompt
        return (takes if takes > 1 else clips) * (2 if self.sampling.guided else 1)

    @property
    def usual_rows(self) -> int:
        """Rows decoded side by side for most of the time."""
        ends = 0.0 < self.sampling.guidance_s < self.generation.duration_s / 2
        return self.rows // 2 if self.sampling.guided and ends else self.rows

    @property
    def rounds(self) -> int:
        """Times that so many rows are decoded: clips of which takes are made come one by one."""
        return self.generation.clips_per_prompt if self.generation.takes > 1 else 1


_SHARED = (
    "duration_s", "tempo_bpm", "steady", "key", "chords", "diversity", "merge_method",
    "merge_strength", "max_batch",
)  # fmt: skip


def admit(request: JobRequest, limits: Limits, info: ModelInfo) -> Admitted:
    """Check a request before it may wait.

    Args:
        request: as it came.
        limits: of this service.
        info: the model.

    Returns:
        The same, checked, with a seed.

    Raises:
        InputError: an empty or overlong prompt.
        ConfigError: a number out of range, or a dial or something to be held that the model cannot
            have.
    """
    prompt = checked_text(request.prompt, "the prompt", limits.max_prompt_characters)
    require_endpoints(info, request.diversity)
    require_number("duration", request.duration_s, 0.5, limits.max_duration_s, unit="s")
    _require_whole("variations", request.variations, 1, limits.max_variations)
    _require_whole("takes", request.takes, 1, limits.max_takes)
    if request.format not in FORMATS:
        raise ConfigError(f"unknown format {request.format!r}: use {', '.join(FORMATS)}")
    chosen = dict(request.sampling)
    negative = chosen.get("negative_prompt")
    if negative:
        name = "the negative prompt"
        chosen["negative_prompt"] = checked_text(negative, name, limits.max_prompt_characters)
    generation = GenerationConfig(
        duration_s=request.duration_s,
        tempo_bpm=request.tempo_bpm,
        steady=request.steady,
        key=request.key,
        chords=request.chords,
        seed=draw_seed() if request.seed is None else request.seed,
        clips_per_prompt=request.variations,
        takes=request.takes,
        first_index=request.first_index,
        diversity=request.diversity,
        merge_method=request.merge_method,
        loudness=request.loudness,
    )
    require_holds(info, generation)
    check_takes(info, [prompt], generation)
    return Admitted(
        prompt=prompt,
        generation=generation,
        held=held_to(info, prompt, generation, goes_on=request.continue_from is not None),
        sampling=sampling_at(info, request.diversity, holds=generation.holds, **chosen),
        format=request.format,
        continue_from=request.continue_from,
    )


def on_the_beat(chords: str | None, tempo_bpm: float | None, *, steady: bool) -> str | None:
    """Take an order for chords; where no beat is to be held none are to be found.

    A page has them found by default, and whoever switches the beat off has not ordered chords.
    """
    beat = steady if tempo_bpm is None else tempo_bpm > 0.0
    return None if chords == AUTO_CHORDS and not beat else chords or None


def checked_text(text: str, name: str, most: int) -> str:
    """Check a text of a visitor's and take its outer white space off.

    Raises:
        InputError: it is empty, too long, or not text.
    """
    (checked,) = check_prompts(text)
    checked = checked.strip()
    if len(checked) > most:
        raise InputError(f"{name} has {len(checked)} characters, at most {most}: shorten it")
    return checked


def _require_whole(name: str, value: object, low: int, high: int) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    require(
        whole and low <= value <= high,  # type: ignore[operator]
        f"{name} must be a whole number from {low} to {high}, got {value!r}",
    )
