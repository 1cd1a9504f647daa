"""Make the clips of an evaluation and measure them; goes on where it was stopped.

All arms are one plan of the batch machinery, so a sound that two arms share is made once, and any
number of processes take its batches. What a batch came to is written as one file, whole or not at
all: whoever is killed loses the batches in hand and nothing else.
"""

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from musicgen_rl.batch import Plan, make_plan
from musicgen_rl.batch.local import run_here, run_processes
from musicgen_rl.batch.lock import only_run
from musicgen_rl.batch.plan import choose_workers
from musicgen_rl.batch.progress import spell_seconds
from musicgen_rl.batch.remembered import RememberedText
from musicgen_rl.batch.work import Done, jobs_of
from musicgen_rl.errors import ResourceError, StorageError
from musicgen_rl.evaluation.arms import Arm
from musicgen_rl.evaluation.features import stored_rows
from musicgen_rl.evaluation.instruments import Instruments
from musicgen_rl.evaluation.plan import EvaluationConfig, items_of
from musicgen_rl.evaluation.prompts import Prompt
from musicgen_rl.evaluation.table import Row, write_rows
from musicgen_rl.evaluation.weights import model_of
from musicgen_rl.evaluation.worker import Measured, MeasuringSetup
from musicgen_rl.pipeline import Pipeline

AUDIO, MEASURED, MODELS, SAMPLES = "audio", "measured", "models", "samples"
_SAMPLE_PROMPTS, _SAMPLE_CLIPS = 4, 2
_MEASURING = 0.4  # of a clip's own making, on a CPU; only for the time left
_MOST_WORKERS = 8  # that are chosen where nobody says; each holds a model and the instruments

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
        seconds = (time.monotonic() - self.start) / made * max(0, self.total - self.done)
        return f", {spell_seconds(seconds)} left"


@dataclass(frozen=True, kw_only=True)
class Place:
    """One clip of the evaluation: which of its arm and prompt, and where its sound is kept."""

    arm: Arm
    prompt: Prompt
    prompt_index: int
    index: int
    file: str
    """Relative to the evaluation's folder; "" where it is not kept."""

    @property
    def key(self) -> tuple[str, str, int]:
        """As the store knows it."""
        return self.arm.name, self.prompt.text, self.index

    def row(self, measured: Row, duration_s: float) -> Row:
        """Put in front of what was measured whose it is."""
        about = {
            "arm": self.arm.name, "prompt_index": self.prompt_index, "prompt": self.prompt.text,
            "index": self.index, "file": self.file, "duration_s": duration_s,
        }  # fmt: skip
        return about | measured


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
    place: Path,
    clap: str = "",
    workers: int = 0,
    sound: bool = True,
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
        folder: of the evaluation.
        date: of the clips' tags, the same when it goes on.
        place: where the instruments came from, for workers that load their own.
        clap: the same.
        workers: processes; 1 is this one, 0 takes one for each CPU thread, 8 at most and as far
            as free memory and the work go.
        sound: keep samples for listening.
        keep_audio: keep all clips.
        say: called with a line after every arm.
        progress: called with units of work done and to do.
        stop: asked between batches.

    Returns:
        A row a clip, by arm, prompt and index; None after a stop.

    Raises:
        ResourceError: clips that could not be made; says the first cause.
        ConfigError: another run works on the folder, other instruments measured what it holds, or
            a mixture in it is of other weights.
        AudioFileError: an arm's model has another sample rate.
        StorageError: the folder cannot be written.
    """
    plan, places = _plan(arms, prompts, config, pipeline, model, folder, date, sound, keep_audio)
    store = folder / MEASURED
    rows = dict(stored_rows(store, instruments.identities())) if store.is_dir() else {}
    missing = frozenset(
        clip.id for clip in plan.clips if any(p.key not in rows for p in places[clip.id])
    )
    tally = _Tally(plan, places, missing, progress, say)
    if missing:
        kept = [id for id in missing if any(p.file for p in places[id])]
        crew = workers or _workers(plan, missing)
        setup = MeasuringSetup(
            device=plan.device, dtype=plan.dtype, format="flac" if keep_audio else "ogg",
            date=plan.date, models={m.name: m for m in plan.models},
            threads=0 if crew == 1 else max(1, torch.get_num_threads() // crew),
            prompts={p.text: p for p in prompts}, kept=frozenset(kept),
            sample_rate=pipeline.sample_rate, duration_s=config.duration_s, place=place,
            clap=clap, loaded=instruments if crew == 1 else None,
        )  # fmt: skip
        part = 1 + max((int(p.stem) for p in store.glob("*.parquet")), default=-1)
        loaded = {model: pipeline} if crew == 1 else None
        results = _results(jobs_of(plan.clips, missing), setup, crew, stop, loaded)
        with only_run(folder), _remembered_text(pipeline), closing(results):
            for done in results:
                assert isinstance(done, Measured)
                _refuse_failures(done, places)
                _keep_files(done, places, folder)
                new = [
                    p.row(row, config.duration_s)
                    for id, row in done.measured.items() for p in places[id]
                ]  # fmt: skip
                write_rows(new, store / f"{part:06d}.parquet", instruments.identities())
                part += 1
                rows |= {(r["arm"], r["prompt"], r["index"]): r for r in new}
                tally.count(done.measured)
    wanted = [place.key for id in dict.fromkeys(plan.ids) for place in places[id]]
    if any(key not in rows for key in wanted):
        return None
    order = {arm.name: i for i, arm in enumerate(arms)}
    return sorted(
        (rows[key] for key in wanted),
        key=lambda r: (order[r["arm"]], r["prompt_index"], r["index"]),
    )


def _plan(
    arms: Sequence[Arm],
    prompts: Sequence[Prompt],
    config: EvaluationConfig,
    pipeline: Pipeline,
    model: str,
    folder: Path,
    date: str,
    sound: bool,
    keep_audio: bool,
) -> tuple[Plan, dict[str, list[Place]]]:
    """Plan all arms at once: the batches, and id -> the places of the evaluation it fills."""
    items, wanted = [], []
    for arm in arms:
        items += items_of(arm, model_of(arm, model, folder / MODELS), prompts, config)
        for p, prompt in enumerate(prompts):
            for i in range(config.clips_per_prompt):
                file = ""
                if keep_audio:
                    file = f"{AUDIO}/{arm.slug}/{p:04d}-{i:03d}.flac"
                elif sound and p < _SAMPLE_PROMPTS and i < _SAMPLE_CLIPS:
                    file = f"{SAMPLES}/{arm.slug}/{p:03d}-{i:02d}.ogg"
                wanted.append(Place(arm=arm, prompt=prompt, prompt_index=p, index=i, file=file))
    plan = make_plan(items, device=str(pipeline.device.type), dtype=pipeline.dtype, date=date)
    places: dict[str, list[Place]] = {}
    for id, place in zip(plan.ids, wanted, strict=True):
        places.setdefault(id, []).append(place)
    return plan, places


def _workers(plan: Plan, missing: frozenset[str]) -> int:
    """Choose the processes as a batch does, by threads, work and free memory, but fewer."""
    return min(choose_workers(plan, missing), _MOST_WORKERS)


@contextmanager
def _remembered_text(pipeline: Pipeline) -> Iterator[None]:
    """Encode each prompt once, not once for every arm."""
    plain = pipeline.text
    pipeline.text = RememberedText(plain)
    try:
        yield
    finally:
        pipeline.text = plain


def _results(
    jobs: Any, setup: MeasuringSetup, workers: int, stop: Stop, loaded: Any
) -> Generator[Done, None, None]:
    if workers == 1:
        yield from run_here(jobs, setup, stop=stop, pipelines=loaded)
    else:
        yield from run_processes(jobs, setup, workers=workers, stop=stop)


def _refuse_failures(done: Measured, places: Mapping[str, list[Place]]) -> None:
    """End at the first clip that could not be made: an arm with holes is no arm."""
    for id, cause in done.failed.items():
        first = places[id][0]
        raise ResourceError(
            f"arm {first.arm.name!r}: clip {first.index} of {first.prompt.text!r:.60} could not be "
            f"made: {cause}"
        )


def _keep_files(done: Measured, places: Mapping[str, list[Place]], folder: Path) -> None:
    """Write the sounds that are kept, before the rows that name them."""
    for made in done.made:
        for path in (folder / p.file for p in places[made.id] if p.file):
            temporary = path.with_name(f".{path.name}.tmp")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporary.write_bytes(made.data)
                temporary.replace(path)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


class _Tally:
    """Counts clips, and says when an arm is whole."""

    def __init__(
        self,
        plan: Plan,
        places: Mapping[str, list[Place]],
        missing: frozenset[str],
        progress: Callable[[int, int], None],
        say: Say,
    ) -> None:
        self._places, self._say = places, say
        self._costs = {
            clip.id: (2.0 if clip.sampling.guided else 1.0) + _MEASURING for clip in plan.clips
        }
        total = sum(self._costs.values())
        kept = total - sum(self._costs[id] for id in missing)
        self.clock = Clock(total=total, report=progress, kept=kept, done=kept)
        arms = {p.arm.name: 0 for own in places.values() for p in own}
        self._left = dict(arms)
        self._clips = dict(arms)
        for id, own in places.items():
            for p in own:
                self._clips[p.arm.name] += 1
                self._left[p.arm.name] += id in missing
        self._whole = 0
        for arm in arms:
            self._tell(arm)

    def count(self, made: Mapping[str, Row]) -> None:
        """Take what a batch came to."""
        self.clock.at(self.clock.done + sum(self._costs[id] for id in made))
        touched = {}
        for id in made:
            for p in self._places[id]:
                self._left[p.arm.name] -= 1
                touched[p.arm.name] = True
        for arm in touched:
            self._tell(arm)

    def _tell(self, arm: str) -> None:
        if self._left[arm] == 0:
            self._whole += 1
            clips = f"{self._clips[arm]} clips{self.clock.left()}"
            self._say(f"{arm}: {clips} ({self._whole} of {len(self._clips)} arms)")
