"""Make the clips of an evaluation, arm by arm, and measure them; goes on where it was stopped."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from musicgen_rl.audio.io import read_audio, write_clip
from musicgen_rl.batch import make_plan, read_results, run_batch
from musicgen_rl.batch.progress import Status, spell_seconds
from musicgen_rl.errors import ResourceError
from musicgen_rl.evaluation.arms import Arm
from musicgen_rl.evaluation.features import ClipRef, measure_files, stored_rows
from musicgen_rl.evaluation.instruments import Instruments
from musicgen_rl.evaluation.plan import EvaluationConfig, items_of
from musicgen_rl.evaluation.prompts import Prompt
from musicgen_rl.evaluation.table import Row
from musicgen_rl.evaluation.weights import model_of
from musicgen_rl.pipeline import Pipeline

AUDIO, MEASURED, MODELS, SAMPLES = "audio", "measured", "models", "samples"
_SAMPLE_PROMPTS, _SAMPLE_CLIPS = 4, 2
_MEASURING = 0.4  # of a clip's own making, on a CPU; only for the time left

Say = Callable[[str], None]
Stop = Callable[[], bool]


@dataclass(kw_only=True)
class Clock:
    """Tells how much is done and how long the rest will take."""

    total: float
    """Units of work: clips, guided ones twice, and some for measuring."""
    report: Callable[[int, int], None]
    """Called with units done and to do."""
    kept: float = 0.0
    """Units that an earlier run did."""
    done: float = 0.0
    """Units by now, those kept among them."""
    start: float = field(default_factory=time.monotonic)
    """When this run began to work."""

    def at(self, units: float) -> None:
        """Say how far it is."""
        self.done = units
        self.report(round(10 * units), round(10 * self.total))

    def part(self, before: float, cost: float, share: float) -> None:
        """Say that a share of something is done that began at `before` and costs `cost`."""
        self.at(before + cost * share)

    def left(self) -> str:
        """Say how long the rest will take at this run's pace."""
        made = self.done - self.kept
        if made <= 0:
            return ""
        seconds = (time.monotonic() - self.start) / made * (self.total - self.done)
        return f", {spell_seconds(seconds)} left"


def make_and_measure(
    arms: Sequence[Arm],
    prompts: Sequence[Prompt],
    config: EvaluationConfig,
    instruments: Instruments,
    *,
    pipeline: Pipeline,
    model: str,
    folder: Path,
    date: str,
    keep_audio: bool = False,
    say: Say = lambda _: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    stop: Stop = lambda: False,
) -> list[Row] | None:
    """Make every arm's clips and measure them.

    Args:
        arms: checked.
        prompts: those of the evaluation.
        config: how many and how long.
        instruments: what to measure with.
        pipeline: the evaluated model, loaded.
        model: what it was loaded by.
        folder: of the evaluation; clips go below it and, measured, are deleted but for samples.
        date: of the clips' tags, the same when it goes on.
        keep_audio: keep all clips.
        say: called with a line after every arm.
        progress: called with units of work done and to do.
        stop: asked between batches.

    Returns:
        A row a clip; None after a stop.

    Raises:
        ResourceError: clips that could not be made; says the first cause.
    """
    clips = len(prompts) * config.clips_per_prompt
    costs = [clips * ((2.0 if a.guidance_scale != 1.0 else 1.0) + _MEASURING) for a in arms]
    clock = Clock(total=sum(costs), report=progress)
    rows: list[Row] = []
    for number, (arm, cost) in enumerate(zip(arms, costs, strict=True), 1):
        before = clock.done
        own = _stored(folder, arm)
        if len(own) < clips:
            made = _one_arm(
                arm, prompts, config, instruments, pipeline=pipeline, model=model, folder=folder,
                date=date, keep_audio=keep_audio, stop=stop,
                share=partial(clock.part, before, cost),
            )  # fmt: skip
            if made is None:
                return None
            own = made
        else:
            clock.kept += cost
        clock.at(before + cost)
        rows += own
        say(f"arm {number} of {len(arms)}, {arm.name}: {len(own)} clips{clock.left()}")
    return rows


def _stored(folder: Path, arm: Arm) -> list[Row]:
    return [row for _, row in stored_rows(folder / MEASURED / arm.slug)]


def _one_arm(
    arm: Arm,
    prompts: Sequence[Prompt],
    config: EvaluationConfig,
    instruments: Instruments,
    *,
    pipeline: Pipeline,
    model: str,
    folder: Path,
    date: str,
    keep_audio: bool,
    stop: Stop,
    share: Callable[[float], None],
) -> list[Row] | None:
    """Make and measure one arm; None after a stop."""
    player = model_of(arm, model, folder / MODELS)
    items = items_of(arm, player, prompts, config)
    plan = make_plan(items, device=str(pipeline.device.type), dtype=pipeline.dtype, date=date)
    audio = folder / AUDIO / arm.slug
    making = 1.0 - _MEASURING / (_MEASURING + (2.0 if arm.guidance_scale != 1.0 else 1.0))

    def made(status: Status) -> None:
        share(making * status.done / max(1, status.total))

    loaded = {player: pipeline} if player == model else None
    summary = run_batch(plan, audio, stop=stop, progress=made, pipelines=loaded)
    if summary.failures:
        first = summary.failures[0]
        raise ResourceError(
            f"arm {arm.name!r}: {len(summary.failures)} clips could not be made, the first "
            f"({first.name}): {first.cause}"
        )
    if not summary.complete:
        return None
    results = read_results(audio)
    N = config.clips_per_prompt
    clips = [
        ClipRef(
            arm=arm.name, prompt=prompts[n // N], prompt_index=n // N, index=n % N,
            path=results[plan.ids[n]].path,
        )
        for n in range(len(items))
    ]  # fmt: skip
    measured = 0

    def count(more: int) -> None:
        nonlocal measured
        measured += more
        share(making + (1.0 - making) * measured / len(clips))

    samples = {(c.prompt_index, c.index): _sample_path(folder, arm, c) for c in clips}
    rows = measure_files(
        clips, instruments, folder / MEASURED / arm.slug,
        sample_rate=pipeline.sample_rate, duration_s=config.duration_s, progress=count, stop=stop,
        named=lambda c: samples[c.prompt_index, c.index] if not keep_audio else str(
            c.path.relative_to(folder)),
    )  # fmt: skip
    if len(rows) < len(clips):
        return None
    if not keep_audio:
        for clip in clips:
            name = samples[clip.prompt_index, clip.index]
            if name and not (folder / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                write_clip(read_audio(clip.path), folder / name)
        shutil.rmtree(audio, ignore_errors=True)
    return rows


def _sample_path(folder: Path, arm: Arm, clip: ClipRef) -> str:
    """Name where a clip is kept for listening, relative to the folder; "" where it is not."""
    if clip.prompt_index >= _SAMPLE_PROMPTS or clip.index >= _SAMPLE_CLIPS:
        return ""
    return f"{SAMPLES}/{arm.slug}/{clip.prompt_index:03d}-{clip.index:02d}.ogg"
