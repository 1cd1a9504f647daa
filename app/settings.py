"""All that a visitor sets, as one value: what history keeps, a link carries, and a job needs."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from app.service import JobRequest, Limits, Service
from app.service.request import on_the_beat
from musicgen_rl.audio.encoding import FORMATS
from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import BEAT, CHORDS, KEY, can_find, has_hold
from musicgen_rl.checkpoint.scorer import find_scorer
from musicgen_rl.data.chords import AUTO_CHORDS, chords_order
from musicgen_rl.data.keys import AUTO_KEY, NO_KEY, Key
from musicgen_rl.errors import ConfigError
from musicgen_rl.merging.recipe import METHODS
from musicgen_rl.pipeline.request import MAX_TEMPO_BPM, MIN_TEMPO_BPM


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The state of the controls; defaults are a fresh page's."""

    prompt: str = ""
    diversity: float = 0.5
    base: bool = False
    duration: float = 10.0
    tempo: float | None = None
    steady: bool = False
    key: str = ""
    chords: str = ""
    variations: int = 2
    takes: int = 1
    seed: int | None = None
    locked: bool = False
    first: int = 1
    format: str = "wav"
    levelled: bool = True
    loudness: float = LoudnessConfig.target_lufs
    method: str = "lerp"
    lead: bool = False
    guidance: float = 1.0
    guided_s: float = 0.0
    negative: str = ""
    temperature: float = 1.0
    top_k: int | None = 250
    model: str = ""

    def request(self, service: Service, continue_from: Path | None = None) -> JobRequest:
        """Make what the service takes."""
        dialled = service.has_dial and not self.base
        lead = dialled and self.lead and self.guidance == 1.0  # as the model begins by itself
        return JobRequest(
            prompt=self.prompt or "",
            duration_s=self.duration,
            tempo_bpm=self.tempo,
            steady=self.steady and self.tempo is None,
            key=self.key or None,
            chords=on_the_beat(self.chords, self.tempo, steady=self.steady),
            variations=self.variations,
            takes=self.takes,
            seed=self.seed if self.locked else None,
            first_index=max(0, int(self.first or 1) - 1) * self.takes,
            diversity=self.diversity if dialled else None,
            merge_method=self.method,
            format=self.format,
            loudness=LoudnessConfig(enabled=self.levelled, target_lufs=self.loudness),
            sampling={
                "guidance_scale": None if lead else self.guidance,
                "guidance_s": self.guided_s if self.guidance != 1.0 else None,
                "negative_prompt": self.negative or None,
                "temperature": self.temperature,
                "top_k": self.top_k,
            },
            continue_from=continue_from,
        )

    def query(self, fresh: "Settings") -> str:
        """Write them for a link: which model, and what differs from a fresh page of it.

        Args:
            fresh: what `read_query` will fill in, see `fresh_settings`.
        """
        plain, found = asdict(replace(fresh, base=False, model="")), {}
        for name, value in asdict(self).items():
            value = "" if value is None else value
            left_out = plain[name] if plain[name] is not None else ""
            # An empty box means the same as none, except where a fresh page has words in it.
            if value != left_out and (value != "" or name in ("negative", "key", "chords")):
                found[name] = int(value) if isinstance(value, bool) else value
        if not self.locked:
            found.pop("seed", None)
        return "?" + urlencode(found)


KEYS = [Key(tonic, scale).name for scale in ("major", "minor") for tonic in range(12)]
"""The keys that can be chosen; a prompt may name others."""
CHORD_ROWS = (
    "C G Am F", "Am F C G", "C Am F G", "Am G F E", "Em C G D", "G D C G", "Dm7 G7 Cmaj7 Cmaj7",
    "Cmaj7 Am7 Dm7 G7", "Am Dm E7 Am", "Bm G D A", "Dm Bb F C",
    "A7 D7 A7 A7 D7 D7 A7 A7 E7 D7 A7 E7",
)  # fmt: skip
"""Chords that can be chosen; any others can be written."""
LOUDNESS, GUIDANCE, TEMPERATURE = (-30.0, -8.0), (1.0, 10.0), (0.1, 2.0)
GUIDED_S = (0.0, 10.0)
"""From where to where these controls go; a link's numbers too."""
OWN = (
    "steady",
    "key",
    "chords",
    "lead",
    "guidance",
    "guided_s",
    "negative",
    "temperature",
    "top_k",
)
"""The settings for which each model has defaults of its own."""


def fresh_settings(service: Service, *, base: bool = False) -> Settings:
    """Take what a page of this service starts with: the model's own way of drawing.

    Args:
        service: of the model.
        base: whether its base plays, instead of the dial where it has one.
    """
    own, dialled = service.info.sampling, service.has_dial and not base
    return Settings(
        base=base,
        steady=can_find(service.info, BEAT),
        key=AUTO_KEY if can_find(service.info, KEY) else "",
        chords=AUTO_CHORDS if can_find(service.info, CHORDS) else "",
        lead=dialled and service.info.lead is not None,
        guidance=1.0 if dialled else min(max(own.guidance_scale, GUIDANCE[0]), GUIDANCE[1]),
        guided_s=0.0 if dialled else min(own.guidance_s, GUIDED_S[1]),
        negative="" if dialled else own.negative_prompt,
        temperature=min(max(own.temperature, TEMPERATURE[0]), TEMPERATURE[1]),
        top_k=own.top_k,
        model=service.info.name,
    )


def carried_over(settings: Settings, before: Settings, after: Settings) -> Settings:
    """Put one model's own way of drawing in place of another's; what a visitor changed stays.

    Args:
        settings: of the page.
        before: fresh ones of what it played.
        after: fresh ones of what it plays now.
    """
    left = [name for name in OWN if (getattr(settings, name) or 0) == (getattr(before, name) or 0)]
    return replace(settings, **{name: getattr(after, name) for name in left})


def read_query(
    given: Mapping[str, str], services: Mapping[str, Service], limits: Limits
) -> Settings:
    """Read a link's settings; what is left out or cannot be is as on a fresh page of its model.

    Args:
        given: the link's parameters, from anybody.
        services: by the name of their model, the first one is the default.
        limits: of the service.
    """
    service = services.get(str(given.get("model", "")), next(iter(services.values())))
    fresh = fresh_settings(service, base=_yes(str(given.get("base", ""))))
    bounds: dict[str, tuple[float, float]] = {
        "diversity": (0, 1), "duration": (1, limits.max_duration_s),
        "variations": (1, limits.max_variations), "takes": (1, limits.max_takes),
        "seed": (0, 2**53), "first": (1, 2**31), "loudness": LOUDNESS, "guidance": GUIDANCE,
        "guided_s": GUIDED_S, "temperature": TEMPERATURE, "top_k": (0, 100_000),
        "tempo": (0, MAX_TEMPO_BPM),
    }  # fmt: skip
    choices = {
        "format": list(FORMATS), "method": list(METHODS), "key": ["", AUTO_KEY, NO_KEY, *KEYS],
    }  # fmt: skip
    found: dict[str, Any] = {}
    for name in given.keys() & {field.name for field in fields(Settings)} - {"model", "base"}:
        text = str(given[name])[: limits.max_prompt_characters]
        if name in bounds:
            value = _number(text)
            if value is not None and bounds[name][0] <= value <= bounds[name][1]:
                whole = name in ("variations", "takes", "seed", "first", "top_k")
                found[name] = int(value) if whole else value
        elif name in choices:
            if text in choices[name]:
                found[name] = text
        elif name == "chords":
            try:
                found[name] = text and chords_order(text)
            except ConfigError:  # as on a fresh page
                continue
        elif name in ("locked", "levelled", "steady", "lead"):
            if text:
                found[name] = _yes(text)
        else:
            found[name] = text
    if "seed" in found:
        found["locked"] = True
    return replace(fresh, **_possible(found, service.info))


def _possible(found: dict[str, Any], info: ModelInfo) -> dict[str, Any]:
    """Leave out what a model cannot do: its page has no control to take it back."""
    cannot = {
        "tempo": not has_hold(info, BEAT) or 0 < (found.get("tempo") or 0) < MIN_TEMPO_BPM,
        "steady": not can_find(info, BEAT),
        "key": not (can_find if found.get("key") == AUTO_KEY else has_hold)(info, KEY),
        "chords": not (can_find if found.get("chords") == AUTO_CHORDS else has_hold)(info, CHORDS)
        or not has_hold(info, BEAT),
        "takes": find_scorer(info) is None,
        "lead": info.lead is None,
    }
    return {name: value for name, value in found.items() if not cannot.get(name)}


def _yes(text: str) -> bool:
    return text.lower() in ("1", "true", "yes")


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
