"""Make a clip again from the settings in its tags, and hold the result against them."""

import base64
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.loudness import LoudnessConfig, level
from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.pipeline import devices
from musicgen_rl.pipeline.core import Pipeline, Progress, Stop
from musicgen_rl.pipeline.provenance import codes_hash, describe_codes, first_difference, versions
from musicgen_rl.pipeline.request import GenerationConfig, check_prompts, override_sampling
from musicgen_rl.pipeline.source import Source
from musicgen_rl.pipeline.work import Batch

T = TypeVar("T")

FORMAT = 1
_MOST_ROWS = 4096
_LONGEST_TEXT = 65536
_CHUNK_FRAMES = 1000


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the tags of a file say of its making, checked."""

    request: GenerationConfig
    """Length, seed, loudness; one clip."""
    sampling: SamplingConfig
    """How tokens were drawn."""
    batch: Batch
    """As many rows as stood side by side then, all with this clip's prompt and index."""
    position: int
    """Row of this clip."""
    source_name: str
    """File it went on from; empty if it did not."""
    source_sha256: str
    """Hash of that file's codes; empty if it did not go on from any."""
    model: str
    """Name of the model."""
    model_sha256: str
    """Hash of its weights."""
    window: Mapping[str, Any]
    """Context of generation."""
    device: str
    """Where it was made."""
    dtype: str
    """In which precision."""
    versions: Mapping[str, str]
    """With which software."""
    complete: bool
    """False where it was cut short by a stop."""
    codes_sha256: str
    """Hash of the codes that came out."""
    codes_checks: Mapping[str, Any]
    """A check byte for every few frames."""

    @property
    def most_frames(self) -> int:
        """Upper bound of the frames that the check bytes stand for."""
        count = len(base64.b64decode(self.codes_checks["bytes"]))
        return count * int(self.codes_checks["every"])


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a clip made again compares with its tags."""

    identical: bool
    """Whether all codes are the same."""
    frames: int
    """Frames compared."""
    first_frame: int | None
    """First frame that differs, where the check bytes show one."""
    at_s: float | None
    """Its time in the new music, seconds."""
    reasons: tuple[str, ...]
    """What differs between then and now."""


def read_recipe(settings: Mapping[str, Any]) -> Recipe:
    """Check a file's settings and bring them to a form that can be made again.

    Args:
        settings: from `read_tags`.

    Returns:
        The recipe.

    Raises:
        InputError: a field is missing or cannot be; the tags were edited, or are of a newer format.
    """
    if settings.get("format") != FORMAT:
        raise InputError(
            f"its settings are of format {settings.get('format')!r}, this version reads {FORMAT}: "
            "update musicgen-rl"
        )
    batch = _take(settings, "batch", dict)
    rows = _whole(batch, "clips", 1, _MOST_ROWS)
    source = settings.get("continued_from") or {}
    if not isinstance(source, dict):
        raise _edited("continued_from", source)
    index = _whole(settings, "index", 0, 2**31)
    prompt = _take(settings, "prompt", str)
    checks = _take(settings, "codes_checks", dict)
    _whole(checks, "every", 1, 1_000_000)
    try:
        request = GenerationConfig(
            duration_s=_number(settings, "duration_s"),
            seed=_whole(settings, "seed", 0, 2**63 - 1),
            first_index=index,
            loudness=_config(LoudnessConfig, _take(settings, "loudness", dict)),
        )
        recipe = Recipe(
            request=request,
            sampling=override_sampling(SamplingConfig(), **_sampling(settings)),
            batch=Batch(
                check_prompts(prompt) * rows,
                [index] * rows,
                _whole(batch, "text_length", 0, _LONGEST_TEXT),
            ),
            position=_whole(batch, "position", 0, rows - 1),
            source_name=str(source.get("file", "")),
            source_sha256=str(source.get("codes_sha256", "")),
            model=_take(settings, "model", str),
            model_sha256=_take(settings, "model_sha256", str),
            window=_take(settings, "window", dict),
            device=_take(settings, "device", str),
            dtype=_take(settings, "dtype", str),
            versions=_take(settings, "versions", dict),
            complete=_take(settings, "complete", bool),
            codes_sha256=_take(settings, "codes_sha256", str),
            codes_checks=checks,
        )
        if not recipe.most_frames:
            raise _edited("codes_checks", checks)
    except (ConfigError, InputError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"its settings were edited and cannot be: {error}") from error
    return recipe


def check_model(recipe: Recipe, info: ModelInfo, model_sha256: str) -> None:
    """Refuse a model other than the one that made the clip.

    Raises:
        CheckpointError: its weights or its window are not those of the tags.
    """
    if model_sha256 != recipe.model_sha256:
        raise CheckpointError(
            f"the clip was made by model {recipe.model!r} with weights of sha256 "
            f"{recipe.model_sha256[:12]}, {info.name!r} here has {model_sha256[:12]}: the model "
            "has changed or is another one; name the one that made it with --model"
        )
    window = asdict(info.window)
    if dict(recipe.window) != window:
        raise CheckpointError(
            f"the clip was made with the window {dict(recipe.window)}, {info.name!r} here has "
            f"{window}: its card has changed; name the model that made it with --model"
        )


def check_source(recipe: Recipe, source: Source | None) -> None:
    """Refuse a source other than the one that the clip went on from.

    Raises:
        InputError: there is none where there should be one, or the other way round, or its codes
            are not those of the tags.
    """
    if source is None:
        if recipe.source_sha256:
            raise InputError(
                f"the clip goes on from {recipe.source_name or 'another clip'!r}: give that file "
                "with --continue-from"
            )
        return
    if not recipe.source_sha256:
        raise InputError("the clip does not go on from a file: leave --continue-from out")
    if source.described()["codes_sha256"] != recipe.source_sha256:
        raise InputError(
            f"{source.name!r} gives other codes than what the clip went on from "
            f"({recipe.source_name!r}): it is another file, or this machine's codec differs"
        )


def remake(
    pipeline: Pipeline,
    recipe: Recipe,
    *,
    source: Source | None = None,
    stop: Stop | None = None,
    progress: Progress | None = None,
) -> Clip:
    """Make the clip again, in a batch of the same shape.

    Args:
        pipeline: the model that made it, see `check_model`.
        recipe: from `read_recipe`.
        source: what it goes on from, see `check_source`.
        stop: asked at every step.
        progress: called with frames made and frames to make.

    Returns:
        The clip with its codes; as short as the first one if that was cut short by a stop.
    """
    wanted = pipeline.frames_of(recipe.request)
    if not recipe.complete:
        wanted = min(wanted, recipe.most_frames)
    asked = 0

    def ask() -> bool:
        nonlocal asked
        asked += 1
        if progress is not None:
            progress(min(asked, wanted), wanted)
        return stop is not None and stop()

    # The codec sees a little of what follows a frame, so a clip cut short needs that little too.
    enough = wanted + pipeline.codec.context_frames[1]
    codes: list[NDArray[np.int64]] = []
    samples: list[NDArray[np.float32]] = []
    with devices.memory_errors_named("the clip", "close other programs"):
        for part in pipeline.chunks(
            recipe.batch, recipe.request, recipe.sampling, source=source, stop=ask,
            frames=min(_CHUNK_FRAMES, enough),
        ):  # fmt: skip
            codes.append(part.codes[recipe.position].copy())  # the other rows only make the shape
            samples.append(part.samples[recipe.position].copy())
            if sum(c.shape[-1] for c in codes) >= enough:
                break
    return _join(pipeline, recipe, codes, samples, wanted, source)


def compare(recipe: Recipe, codes: NDArray[np.int64], pipeline: Pipeline) -> Verdict:
    """Hold codes made again against the tags.

    Args:
        recipe: from `read_recipe`.
        codes: [K, T] of the clip made again.
        pipeline: what made them.

    Returns:
        The verdict, with the reasons a difference can have.
    """
    frames = codes.shape[-1]
    if codes_hash(codes) == recipe.codes_sha256:
        return Verdict(identical=True, frames=frames, first_frame=None, at_s=None, reasons=())
    first = first_difference(codes, dict(recipe.codes_checks))
    return Verdict(
        identical=False,
        frames=frames,
        first_frame=first,
        at_s=None if first is None else first / pipeline.info.frame_rate,
        reasons=tuple(_reasons(recipe, pipeline, first)),
    )


def _join(
    pipeline: Pipeline,
    recipe: Recipe,
    parts: list[NDArray[np.int64]],
    samples: list[NDArray[np.float32]],
    wanted: int,
    source: Source | None,
) -> Clip:
    """Put the parts of the one clip together, cut where it was cut, and level it."""
    codes = np.concatenate(parts, axis=-1)[:, :wanted]  # [K, T]
    codes = codes[:, : _cut_length(codes, recipe)]
    fade = 0 if source is None else source.fade
    new = min(
        codes.shape[-1] * pipeline.codec.hop_length,
        round(recipe.request.duration_s * pipeline.sample_rate),
    )
    sound = np.concatenate(samples, axis=-1)[:, : fade + new]
    settings = pipeline.settings(
        recipe.batch, recipe.position, recipe.request, recipe.sampling, source
    )
    return Clip(
        level(
            sound if source is None else source.join(sound),
            pipeline.sample_rate,
            recipe.request.loudness,
        ),
        pipeline.sample_rate,
        settings | describe_codes(codes, pipeline.frames_of(recipe.request)),
        codes,
    )


def _reasons(recipe: Recipe, pipeline: Pipeline, first: int | None) -> list[str]:
    """List what differs between then and now, or what else can be behind it."""
    here = versions() | {"device": str(pipeline.device), "dtype": pipeline.dtype}
    then = {str(k): str(v) for k, v in recipe.versions.items()}
    then |= {"device": recipe.device, "dtype": recipe.dtype}
    found = [
        f"{name} was {then.get(name, 'unknown')}, here it is {here.get(name, 'unknown')}"
        for name in (*here, *(n for n in then if n not in here))
        if then.get(name) != here.get(name)
    ]
    if found:
        return found
    if first is None:
        return ["the tags contradict themselves: the hash or the check bytes were edited"]
    return [
        "model, versions, device, dtype and batch shape are the same: the tags were edited, or "
        "the text encoder or the processor is another one"
    ]


def _cut_length(codes: NDArray[np.int64], recipe: Recipe) -> int:
    """Find how many frames a clip cut short had: the check bytes tell only to a few."""
    frames = codes.shape[-1]
    if recipe.complete:
        return frames
    fewest = max(0, recipe.most_frames - int(recipe.codes_checks["every"]))
    for count in range(frames, fewest, -1):
        if codes_hash(codes[:, :count]) == recipe.codes_sha256:
            return count
    return frames


def _sampling(settings: Mapping[str, Any]) -> dict[str, Any]:
    given = _take(settings, "sampling", dict)
    missing = {f.name for f in fields(SamplingConfig)} - set(given)
    if missing:
        raise InputError(f"its settings lack sampling {min(missing)!r}: they were edited")
    if not isinstance(given["negative_prompt"], str):
        raise _edited("negative_prompt", given["negative_prompt"])
    return given


def _config(kind: type[LoudnessConfig], given: dict[str, Any]) -> LoudnessConfig:
    unknown = set(given) - {f.name for f in fields(kind)}
    if unknown:
        raise _edited("loudness", min(unknown))
    return kind(**given)


def _take(settings: Mapping[str, Any], name: str, kind: type[T]) -> T:
    if name not in settings:
        raise InputError(f"its settings lack {name!r}: they were edited")
    value = settings[name]
    if not isinstance(value, kind):
        raise _edited(name, value)
    return value


def _whole(settings: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value: int = _take(settings, name, int)
    if isinstance(value, bool) or not low <= value <= high:
        raise _edited(name, value)
    return value


def _number(settings: Mapping[str, Any], name: str) -> float:
    value: object = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _edited(name, value)
    return float(value)


def _edited(name: str, value: object) -> InputError:
    return InputError(f"its settings say {name} = {value!r:.60}, which cannot be: they were edited")
