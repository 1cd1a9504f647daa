"""All that a visitor sets, as one value: what history keeps, a link carries, and a job needs."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from app.service import JobRequest, Limits, Service
from musicgen_rl.audio.encoding import FORMATS
from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.merging.recipe import METHODS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The state of the controls; defaults are a fresh page's."""

    prompt: str = ""
    diversity: float = 0.5
    base: bool = False
    duration: float = 10.0
    variations: int = 2
    seed: int | None = None
    locked: bool = False
    first: int = 1
    format: str = "wav"
    levelled: bool = True
    loudness: float = LoudnessConfig.target_lufs
    method: str = "lerp"
    guidance: float = 1.0
    negative: str = ""
    temperature: float = 1.0
    top_k: int | None = 250
    model: str = ""

    def request(self, service: Service, continue_from: Path | None = None) -> JobRequest:
        """Make what the service takes."""
        dialled = service.has_dial and not self.base
        return JobRequest(
            prompt=self.prompt or "",
            duration_s=self.duration,
            variations=self.variations,
            seed=self.seed if self.locked else None,
            first_index=max(0, int(self.first or 1) - 1),
            diversity=self.diversity if dialled else None,
            merge_method=self.method,
            format=self.format,
            loudness=LoudnessConfig(enabled=self.levelled, target_lufs=self.loudness),
            sampling={
                "guidance_scale": self.guidance,
                "negative_prompt": self.negative or None,
                "temperature": self.temperature,
                "top_k": self.top_k,
            },
            continue_from=continue_from,
        )

    def query(self) -> str:
        """Write them for a link: only what differs from a fresh page."""
        fresh = asdict(Settings())
        found = {n: v for n, v in asdict(self).items() if v != fresh[n] and v not in (None, "")}
        if "seed" in found and not self.locked:
            del found["seed"]
        return "?" + urlencode({n: int(v) if v is True else v for n, v in found.items()})


def fresh_settings(service: Service) -> Settings:
    """Take what a page of this service starts with: the model's own way of drawing."""
    own = service.info.sampling
    return Settings(
        guidance=1.0 if service.has_dial else own.guidance_scale,
        negative="" if service.has_dial else own.negative_prompt,
        temperature=own.temperature,
        top_k=own.top_k,
        model=service.info.name,
    )


def read_query(
    given: Mapping[str, str], fresh: Settings, limits: Limits, models: list[str]
) -> Settings:
    """Read a link's settings; what cannot be is left as on a fresh page.

    Args:
        given: the link's parameters, from anybody.
        fresh: what the page starts with.
        limits: of the service.
        models: which there are.
    """
    bounds: dict[str, tuple[float, float]] = {
        "diversity": (0, 1), "duration": (1, limits.max_duration_s),
        "variations": (1, limits.max_variations), "seed": (0, 2**53), "first": (1, 2**31),
        "loudness": (-40, -6), "guidance": (1, 10), "temperature": (0.1, 2), "top_k": (0, 100_000),
    }  # fmt: skip
    choices = {"format": list(FORMATS), "method": list(METHODS), "model": models}
    found: dict[str, Any] = {}
    for name in (field.name for field in fields(Settings)):
        text = str(given.get(name, ""))[: limits.max_prompt_characters]
        if not text:
            continue
        if name in bounds:
            value = _number(text)
            if value is not None and bounds[name][0] <= value <= bounds[name][1]:
                whole = name in ("variations", "seed", "first", "top_k")
                found[name] = int(value) if whole else value
        elif name in choices:
            if text in choices[name]:
                found[name] = text
        elif name in ("base", "locked", "levelled"):
            found[name] = text.lower() in ("1", "true", "yes")
        else:
            found[name] = text
    if "seed" in found:
        found["locked"] = True
    return replace(fresh, **found)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
