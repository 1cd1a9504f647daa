"""The dial between quality and diversity: which weights a running model has."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import ConfigError
from musicgen_rl.merging.endpoints import Endpoints, endpoint_hash, load_model_endpoints
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.merging.slider import Slider
from musicgen_rl.merging.targets import target_of
from musicgen_rl.pipeline import devices
from musicgen_rl.pipeline.request import override_sampling
from musicgen_rl.pipeline.runners import Prepared

ENDS = ("quality", "diversity")


def has_endpoints(folder: Path) -> bool:
    """Tell whether a model folder holds the two ends of the dial."""
    return all((folder / end).is_dir() for end in ENDS)


def require_endpoints(info: ModelInfo, diversity: float | None) -> None:
    """Refuse a position of the dial where the model has none, before any work.

    Raises:
        ConfigError: the folder lacks `quality/` or `diversity/`.
    """
    if diversity is None or has_endpoints(info.folder):
        return
    missing = " and ".join(f"{end}/" for end in ENDS if not (info.folder / end).is_dir())
    raise ConfigError(
        f"{info.name} has no dial, so diversity {diversity:g} cannot be set: its folder lacks "
        f"{missing}; leave the option out, or use a model with both ends such as pocket"
    )


def sampling_at(
    info: ModelInfo, diversity: float | None, *, holds: bool = False, **named: Any
) -> SamplingConfig:
    """Take the defaults for a position of the dial and what the user named.

    Both ends learned from guided clips, so what guidance brings is in their weights: on the dial it
    is off unless the user names a scale, which saves the second row of every clip. Only where
    clips begin that are held to something it is on, if the model says so (`LeadConfig`).

    Args:
        info: the model.
        diversity: where the dial stands; None is the base, with the model's own guidance.
        holds: whether something is to be held (`GenerationConfig.holds`).
        named: fields of SamplingConfig; None means not set.

    Raises:
        ConfigError: an unknown name or an impossible value.
    """
    defaults = info.sampling
    if diversity is not None:
        defaults = defaults.unguided()
        scale = info.lead.scale_at(diversity) if holds and info.lead is not None else 1.0
        if info.lead is not None and scale != 1.0 and not named.get("negative_prompt"):
            seconds = info.lead.guidance_s
            defaults = replace(defaults, guidance_scale=scale, guidance_s=seconds)
    return override_sampling(defaults, **named)


class _Ends:
    """The two ends and the base, loaded once for all dials of a model."""

    def __init__(self, info: ModelInfo) -> None:
        self._info = info
        self._lock = threading.Lock()
        self._loaded: Endpoints | None = None
        self._hashes: dict[str, str] = {}

    def load(self, device: torch.device) -> Endpoints:
        """Load them, or return them."""
        with self._lock:
            if self._loaded is None:
                what, way_out = f"the ends of {self._info.name}", "close other programs"
                with devices.memory_errors_named(what, way_out):
                    loaded = load_model_endpoints(self._info)
                    free = devices.available_bytes(device)
                    roomy = device.type == "cpu" and (free is None or 4 * loaded.nbytes < free)
                    self._loaded = loaded.to(device, torch.float32 if roomy else None)
            return self._loaded

    def hashes(self) -> dict[str, str]:
        """Hash the two ends' files."""
        with self._lock:
            if not self._hashes:
                self._hashes = {
                    f"{end}_sha256": endpoint_hash(self._info.folder / end) for end in ENDS
                }
            return self._hashes


class Dial:
    """Moves one running model between its base and any point between its two ends.

    The ends are loaded when they are first needed, and held in float32 where there is room: from
    half precision every move would take two to three times as long.

    Args:
        info: the model.
        model: what runs; nobody else may write its weights.
    """

    def __init__(self, info: ModelInfo, model: Prepared) -> None:
        self._info, self._model = info, model
        self._shared = _Ends(info)
        self._sliders: dict[MergeConfig | None, Slider] = {}
        # Where the weights stand: the way (None: the base) and lam; unknown if a move failed.
        self._stands: tuple[MergeConfig | None, float] | None = (None, 0.0)

    def of(self, model: Prepared) -> "Dial":
        """Make the dial of another running model, with the same ends; its weights may be any."""
        other = Dial(self._info, model)
        other._shared = self._shared
        other._stands = None if self.available else self._stands
        return other

    @property
    def available(self) -> bool:
        """Whether the model has two ends."""
        return has_endpoints(self._info.folder)

    def ends(self) -> Endpoints:
        """Load the ends and the base, or return them.

        Raises:
            CheckpointError: they are not two ends of this model; says why.
            MemoryLimitError: they do not fit.
        """
        return self._shared.load(target_of(self._model).device)

    def move(self, diversity: float | None, method: str = "lerp", strength: float = 0.5) -> float:
        """Write the weights of a position; nothing where they stand there already.

        Args:
            diversity: 0 quality, 1 diversity, None the base.
            method: lerp, slerp or liti.
            strength: of liti.

        Returns:
            Seconds it took, loading at the first time included.

        Raises:
            ConfigError: no dial here, or a value out of range; the weights are as they were.
            CheckpointError: the ends are not of this model.
        """
        start = time.perf_counter()
        require_endpoints(self._info, diversity)
        way, lam = None, 0.0
        if diversity is not None:
            way = MergeConfig(lam=diversity, method=method, strength=strength)
            way, lam = replace(way, lam=0.0), float(diversity)
        if (way, lam) != self._stands:
            slider = self._slider(way)
            if self._stands is None or way != self._stands[0]:
                slider.forget()  # another one has written since
            self._stands = None
            slider.move(lam)
            self._stands = (way, lam)
        return time.perf_counter() - start

    def describe(self, diversity: float | None, method: str, strength: float) -> dict[str, Any]:
        """Say for a clip's settings which weights made it."""
        if diversity is None:
            return {"diversity": None, "merge": None}
        return {
            "diversity": diversity,
            "merge": {"method": method, "strength": strength} | self._shared.hashes(),
        }

    def _slider(self, way: MergeConfig | None) -> Slider:
        if way not in self._sliders:
            ends = self.ends()
            if way is None:
                assert ends.base is not None
                ends = Endpoints(quality=ends.base, diversity=ends.base)
            self._stands = None  # a slider writes when it is made; sharing the ends, it is small
            self._sliders[way] = Slider(ends, self._model, way or MergeConfig(lam=0.0))
        return self._sliders[way]
