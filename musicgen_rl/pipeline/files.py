"""Clips straight to files, memory flat however long they are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from musicgen_rl.audio.files import file_name, prepare_folder
from musicgen_rl.audio.spool import Spool
from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import ConfigError
from musicgen_rl.pipeline.core import CHUNK_FRAMES, Pipeline, Progress, Stop
from musicgen_rl.pipeline.provenance import describe_codes
from musicgen_rl.pipeline.request import GenerationConfig, check_clips, draw_seed
from musicgen_rl.pipeline.source import Source
from musicgen_rl.pipeline.takes import best_takes, check_takes
from musicgen_rl.pipeline.work import Batch, Chunk


def generate_files(
    pipeline: Pipeline,
    prompts: list[str],
    request: GenerationConfig,
    sampling: SamplingConfig,
    *,
    folder: Path,
    format: str = "wav",
    name: str | None = None,
    source: Source | None = None,
    stop: Stop | None = None,
    progress: Progress | None = None,
    part_frames: int | Sequence[int] = CHUNK_FRAMES,
    heard: Callable[[Batch, Chunk], None] | None = None,
) -> Iterator[Path]:
    """Generate clips into a folder, each complete the moment its path is handed out.

    Args:
        pipeline: the loaded model.
        prompts: checked by `check_prompts`.
        request: length, seed, variations, loudness.
        sampling: how tokens are drawn.
        folder: where to; made if it is not there.
        format: wav, flac, ogg or mp3.
        name: the file's name, for a single clip; made of prompt and seed where None.
        source: what all clips go on from.
        stop: asked at every step; what is there then is written, names ending in `-stopped`.
        progress: called at every step with frames made and frames to make.
        part_frames: codes decoded to sound at once, as `frames` of `Pipeline.chunks`.
        heard: called with every part of a batch as soon as it is sound, before it is levelled; a
            batch that ran out of memory is made again in halves, and so heard again. Takes are
            not heard: most of them are not kept.

    Returns:
        Paths, in the order of the prompts.

    Raises:
        StorageError: the folder cannot be written, or the disk is full.
        ConfigError: too many clips, or one name for several.
        MemoryLimitError: not even one clip fits.
    """
    request = replace(request, seed=draw_seed() if request.seed is None else request.seed)
    check_clips(len(prompts), request.clips_per_prompt)
    if name is not None and len(prompts) * request.clips_per_prompt > 1:
        raise ConfigError(f"{name!r} names one file, but there are more clips: name a folder")
    check_takes(pipeline.info, prompts, request)
    prepare_folder(folder)
    if request.takes > 1:
        for clip in best_takes(
            pipeline, prompts, request, sampling, source=source, stop=stop, progress=progress
        ):
            yield clip.save(folder / _name(clip.settings, format, name))
        return
    queue = pipeline.plan(prompts, request, sampling)
    total = sum(len(b.prompts) for b in queue) * pipeline.frames_of(request)
    made, steps, rows, channels = 0, 0, 0, pipeline.codec.audio_channels

    def ask() -> bool:
        nonlocal steps
        steps += 1
        if progress is not None:  # a step decides about one frame of every row
            progress(made + min(steps, pipeline.frames_of(request)) * rows, total)
        return stop is not None and stop()

    while queue and not (stop is not None and stop()):
        batch = queue.pop(0)
        steps, rows = 0, len(batch.prompts)
        handed_out = False
        try:
            with ExitStack() as stack:
                spools = [
                    stack.enter_context(
                        Spool(folder, pipeline.sample_rate, channels, request.loudness)
                    )
                    for _ in batch.prompts
                ]
                codes: list[NDArray[np.int64]] = []
                for part in pipeline.chunks(
                    batch, request, sampling, source=source, stop=ask, frames=part_frames
                ):
                    codes.append(part.codes)
                    if heard is not None:
                        heard(batch, part)
                    for spool, samples in zip(spools, part.samples, strict=True):
                        spool.push(samples)
                joined = np.concatenate(codes, axis=-1)  # [B, K, T]
                made += joined.shape[-1] * rows
                steps = 0
                if progress is not None:
                    progress(made, total)
                for b, spool in enumerate(spools):
                    if not joined.shape[-1]:
                        continue
                    settings = pipeline.settings(batch, b, request, sampling, source)
                    settings |= describe_codes(joined[b], pipeline.frames_of(request))
                    written = spool.finish(folder / _name(settings, format, name), format, settings)
                    handed_out = True
                    yield written
        except (MemoryError, RuntimeError) as error:
            if handed_out:  # their files are there: making them again would write them twice
                raise
            queue = pipeline.halve(batch, error) + queue


def _name(settings: Mapping[str, Any], format: str, name: str | None) -> str:
    """Name a clip's file: as wished, or by its prompt, seed and index; a stop shows."""
    path = Path(name or file_name(settings["prompt"], settings["seed"], settings["index"], format))
    return str(path if settings["complete"] else path.with_stem(f"{path.stem}-stopped"))
