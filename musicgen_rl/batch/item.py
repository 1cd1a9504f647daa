"""One clip to make, as it is asked for."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.config import SamplingConfig, require
from musicgen_rl.data.chords import NO_CHORDS
from musicgen_rl.data.keys import NO_KEY
from musicgen_rl.data.manifest import SPLITS
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.pipeline.request import GenerationConfig, check_alone, check_prompts

SAMPLING_FIELDS = tuple(f.name for f in fields(SamplingConfig))
FACT_FIELDS = ("name", "split", "attributes")
"""What stands in the manifest beside a clip, and is no part of its sound."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One clip to make.

    Raises:
        InputError: the prompt cannot be used.
        ConfigError: a value that cannot work.
    """

    prompt: str
    """What to play."""
    seed: int = 0
    """With `index` it decides the noise, as in `Pipeline.generate`."""
    index: int = 0
    """Which variation of the seed."""
    takes: int = 1
    """Play it so often, as variations index x takes and those after it of the seed, and keep the
    one that answers its words best, of those at the tempo asked for."""
    duration_s: float = 10.0
    """Length in seconds, to the sample."""
    tempo_bpm: float | None = 0.0
    """Tempo to hold, in beats a minute; None holds the one that the prompt names, 0 none."""
    steady: bool = False
    """Hold a tempo that goes with the words where they name none; needs `tempo_bpm` None."""
    key: str | None = NO_KEY
    """Key to hold, such as "D minor"; None holds the one that the prompt names, "auto" that one or
    one that goes with the words, "none" none."""
    chords: str | None = NO_CHORDS
    """Chords to hold, such as "Am F C G"; None holds those that the prompt names, "auto" those or
    some that go with the words, "none" none. They change on beats: a tempo is held too, and
    `tempo_bpm` must be None or one."""
    beats_per_bar: int | None = None
    """Of the chords' bars; as the prompt has it where None."""
    returning: float = 1.0
    """How strongly what was played over the chords before comes back."""
    diversity: float | None = None
    """Where the dial stands, 0 quality to 1 diversity; None plays the base."""
    merge_method: str = "lerp"
    """lerp, slerp or liti."""
    merge_strength: float = 0.5
    """Of liti."""
    guidance_scale: float | None = None
    """Classifier-free guidance; the model's own where None."""
    guidance_s: float | None = None
    """Seconds of new music that guidance steers, 0 for all. Where None, all of it beside a
    guidance_scale that is given, else the model's own."""
    temperature: float | None = None
    """The model's own where None."""
    top_k: int | None = None
    """The model's own where None."""
    top_p: float | None = None
    """The model's own where None."""
    negative_prompt: str | None = None
    """What guidance steers away from; the model's own where None."""
    loudness: LoudnessConfig = field(default_factory=LoudnessConfig)
    """How loud it comes out."""
    model: str = "pocket"
    """Name, folder or hub id of the model."""
    name: str = ""
    """The user's own id of the prompt; for the manifest, no part of the sound."""
    split: str = "train"
    """train, valid or test, for the manifest."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Facts for the manifest, JSON values."""

    def __post_init__(self) -> None:
        """Check every field that can be checked before the model is known."""
        check_prompts(self.prompt)
        request = self.request()
        for name in ("key", "chords"):  # written in one way
            object.__setattr__(self, name, getattr(request, name))
        named = self.named_sampling()
        check_alone(**{k: v for k, v in named.items() if k != "negative_prompt"})
        if self.negative_prompt:
            check_prompts(self.negative_prompt)
        require(bool(self.model), "the model's name is empty: name a folder, or pocket")
        require(self.split in SPLITS, f"unknown split {self.split!r}: use {', '.join(SPLITS)}")
        if self.attributes:
            try:
                json.dumps(dict(self.attributes), allow_nan=False)
            except (TypeError, ValueError) as error:
                raise InputError(f"attributes must be plain JSON values: {error}") from error

    def request(self) -> GenerationConfig:
        """Say it as the pipeline takes it."""
        return GenerationConfig(
            duration_s=self.duration_s,
            seed=self.seed,
            first_index=self.index * self.takes if isinstance(self.takes, int) else 0,
            takes=self.takes,
            tempo_bpm=self.tempo_bpm,
            steady=self.steady,
            key=self.key,
            chords=self.chords,
            beats_per_bar=self.beats_per_bar,
            returning=self.returning,
            loudness=self.loudness,
            diversity=self.diversity,
            merge_method=self.merge_method,
            merge_strength=self.merge_strength,
        )

    def named_sampling(self) -> dict[str, Any]:
        """Collect the sampling options that were set."""
        return {n: v for n in SAMPLING_FIELDS if (v := getattr(self, n)) is not None}

    def merge(self) -> tuple[str, float] | None:
        """Return the merge's method and strength as far as they matter to the sound."""
        if self.diversity is None:
            return None
        return self.merge_method, self.merge_strength if self.merge_method == "liti" else 0.0

    def sound(self) -> tuple[Any, ...]:
        """Collect what was asked of the sound, hashable: equal for equal clips."""
        return tuple(getattr(self, f.name) for f in fields(self) if f.name not in FACT_FIELDS)

    def with_facts_of(self, other: "Item") -> "Item":
        """Return it with another one's name, split and attributes; itself if they are the same."""
        mine, given = ([getattr(item, n) for n in FACT_FIELDS] for item in (self, other))
        # Compared as they are stored: Python takes 1 and true for equal, (1,) and [1] not.
        if _packed(mine) == _packed(given):
            return self
        return replace(self, **dict(zip(FACT_FIELDS, given, strict=True)))

    def to_json(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults."""
        default = Item(prompt=self.prompt)
        changed = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if getattr(self, f.name) != getattr(default, f.name)
        }
        if "loudness" in changed:
            changed["loudness"] = asdict(self.loudness)
        if "attributes" in changed:
            changed["attributes"] = dict(self.attributes)
        return {"prompt": self.prompt} | changed

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Item":
        """Read what `to_json` returned.

        Raises:
            ConfigError: a field that this version does not know.
        """
        given = dict(content)
        unknown = sorted(set(given) - {f.name for f in fields(cls)})
        if unknown:
            raise ConfigError(f"the plan holds {unknown[0]!r}, which this version does not know")
        if "loudness" in given:
            given["loudness"] = LoudnessConfig(**given["loudness"])
        return cls(**given)


def _packed(facts: list[Any]) -> str:
    *plain, attributes = facts
    return json.dumps([*plain, dict(attributes)])
