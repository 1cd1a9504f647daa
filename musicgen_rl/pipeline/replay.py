"""Make a clip again from the settings in its tags, and hold the result against them."""

from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.loudness import level
from musicgen_rl.checkpoint import ModelInfo
from musicgen_rl.checkpoint.holds import HOLDS, has_hold, hold_hash
from musicgen_rl.errors import CheckpointError, ConfigError, InputError
from musicgen_rl.merging.endpoints import endpoint_hash
from musicgen_rl.pipeline import devices
from musicgen_rl.pipeline.core import Pipeline, Progress, Stop
from musicgen_rl.pipeline.dial import require_endpoints
from musicgen_rl.pipeline.holds import MovingHolds
from musicgen_rl.pipeline.jam import decode_codes, play_again
from musicgen_rl.pipeline.provenance import codes_hash, describe_codes, first_difference, versions
from musicgen_rl.pipeline.recipe import Recipe, read_recipe
from musicgen_rl.pipeline.source import Source

__all__ = [
    "Recipe",
    "Verdict",
    "check_endpoints",
    "check_holds",
    "check_model",
    "check_source",
    "compare",
    "read_recipe",
    "remake",
]

_CHUNK_FRAMES = 1000


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


def check_endpoints(recipe: Recipe, info: ModelInfo) -> None:
    """Refuse a dial with other ends than those that made the clip.

    Raises:
        ConfigError: the model has no dial.
        CheckpointError: an end has other weights than the tags say.
    """
    if not recipe.endpoints:
        return
    require_endpoints(info, recipe.request.diversity)
    for end, stated in recipe.endpoints.items():
        sha256 = endpoint_hash(info.folder / end)
        if sha256 != stated:
            raise CheckpointError(
                f"the clip was made between ends of which {end} has sha256 {stated[:12]}, in "
                f"{info.name!r} here it has {sha256[:12]}: name the model that made it with --model"
            )


def check_holds(recipe: Recipe, info: ModelInfo) -> None:
    """Refuse to hold a clip to something by another adapter than the one that held it.

    Raises:
        ConfigError: the model cannot hold it.
        CheckpointError: its adapter has other weights than the tags say.
    """
    for hold in HOLDS:
        stated = recipe.held.get(hold.name, "")
        if not stated:
            continue
        if not has_hold(info, hold):
            raise ConfigError(
                f"{info.name} cannot hold {hold.held}, as the one that made the clip could: "
                "name that model with --model"
            )
        sha256 = hold_hash(info, hold)
        if sha256 != stated:
            raise CheckpointError(
                f"the clip's {hold.holds} was held by {hold.file} of sha256 {stated[:12]}, in "
                f"{info.name!r} here it has {sha256[:12]}: name the model that made it with --model"
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
    if recipe.moves:
        return _remake_jam(pipeline, recipe, stop, progress)
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


def _remake_jam(
    pipeline: Pipeline, recipe: Recipe, stop: Stop | None, progress: Progress | None
) -> Clip:
    """Make a jam again from its moves."""
    assert recipe.request.seed is not None
    parts: list[NDArray[np.int64]] = []
    for part in play_again(
        pipeline,
        list(recipe.moves),
        recipe.request.seed,
        recipe.frames,
        merge_method=recipe.request.merge_method,
        policy=recipe.policy,
        begins=recipe.begins,
        keeps_s=recipe.keeps_s,
    ):
        parts.append(part)
        if progress is not None:
            progress(sum(p.shape[-1] for p in parts), recipe.frames)
        if stop is not None and stop():
            break
    codes = np.concatenate(parts, axis=-1)
    sound = np.concatenate(list(decode_codes(pipeline, codes)), axis=-1)
    settings = pipeline.settings(recipe.batch, 0, recipe.request, recipe.sampling, None)
    settings |= MovingHolds(pipeline.holds, recipe.moves[0].prompt, recipe.begins).describe(
        [move.prompt for move in recipe.moves]
    )
    settings |= {
        "moves": [move.described() for move in recipe.moves],
        "frames": recipe.frames,
        "policy": recipe.policy,
        "keeps_s": recipe.keeps_s,
        "duration_s": sound.shape[1] / pipeline.sample_rate,
    }
    return Clip(
        level(sound, pipeline.sample_rate, recipe.request.loudness),
        pipeline.sample_rate,
        settings | describe_codes(codes, recipe.frames),
        codes,
    )


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
    known = 0 if source is None else source.samples.shape[1]  # what it goes on from comes first
    new = min(
        codes.shape[-1] * pipeline.codec.hop_length,
        round(recipe.request.duration_s * pipeline.sample_rate),
    )
    sound = np.concatenate(samples, axis=-1)[:, : known + new]
    settings = pipeline.settings(
        recipe.batch, recipe.position, recipe.request, recipe.sampling, source
    )
    return Clip(
        level(sound, pipeline.sample_rate, recipe.request.loudness),
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
        "the text encoder or the processor is another one, or, with T5, the program that made it "
        "was started with another number of threads (OMP_NUM_THREADS), which rounds otherwise"
    ]


def _cut_length(codes: NDArray[np.int64], recipe: Recipe) -> int:
    """Find how many frames a clip cut short had: the check bytes tell only to a few."""
    frames = int(codes.shape[-1])
    if recipe.complete:
        return frames
    fewest = max(0, recipe.most_frames - int(recipe.codes_checks["every"]))
    for count in range(frames, fewest, -1):
        if codes_hash(codes[:, :count]) == recipe.codes_sha256:
            return count
    return frames
