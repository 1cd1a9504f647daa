"""A worker: batches of the plan in, finished files as bytes out.

It writes nothing. So any number of them may die at any moment, on any machine, and nothing is lost
or half there: the one writer (writer.py) is the only one that touches the folder.
"""

import gc
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from musicgen_rl.audio.clip import Clip
from musicgen_rl.audio.io import encode_clip
from musicgen_rl.audio.loudness import level
from musicgen_rl.batch.identity import ModelIdentity, identify
from musicgen_rl.batch.plan import Plan, PlannedClip
from musicgen_rl.batch.remembered import RememberedText
from musicgen_rl.batch.work import Done, Job, Made, Stop, Works, side_by_side
from musicgen_rl.errors import CheckpointError, ConfigError, MusicgenRLError
from musicgen_rl.pipeline import devices
from musicgen_rl.pipeline.asked import asked_tempo
from musicgen_rl.pipeline.core import Pipeline
from musicgen_rl.pipeline.provenance import describe_codes
from musicgen_rl.pipeline.takes import choose
from musicgen_rl.pipeline.work import Batch
from musicgen_rl.rewards import Scorer


@dataclass(frozen=True)
class _Decoded:
    """Rows of a batch before they are levelled and encoded; the takes of each stand together."""

    rows: range
    codes: NDArray[np.int64]  # [B, K, T], B rows x takes
    samples: NDArray[np.float32]  # [B, C, M]
    sample_rate: int
    settings: dict[str, Any]
    held: list[dict[str, Any]]  # [B]: what the settings say of tempo and key
    scorer: Scorer | None  # chooses among takes


@dataclass(frozen=True, kw_only=True)
class Sound:
    """One clip as it was decoded and levelled, before it is a file."""

    planned: PlannedClip
    """What was asked for."""
    codes: NDArray[np.int64]
    """[K, T]."""
    samples: NDArray[np.float32]
    """[C, M]."""
    sample_rate: int
    """Hz."""
    settings: dict[str, Any]
    """Of its tags."""

    def encode(self, format: str) -> Made:
        """Write it as a file's bytes."""
        data = encode_clip(Clip(self.samples, self.sample_rate, self.settings), format)
        return Made(
            id=self.planned.id,
            data=data,
            sha256=hashlib.sha256(data).hexdigest(),
            codes_sha256=self.settings["codes_sha256"],
            num_frames=int(self.codes.shape[-1]),
            duration_s=self.samples.shape[-1] / self.sample_rate,
            settings={k: v for k, v in self.settings.items() if k != "codes_checks"},
        )


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all workers of a run are told once."""

    device: str
    """auto, cpu or cuda."""
    dtype: str
    """Of the plan."""
    format: str
    """wav, flac, ogg or mp3."""
    date: str
    """For the tags."""
    models: Mapping[str, ModelIdentity]
    """By name: a worker with another model must say so, not make other clips."""
    threads: int = 0
    """Torch threads of each worker; 0 leaves them."""

    @classmethod
    def of(cls, plan: Plan, format: str, threads: int = 0) -> "Setup":
        """Take what a plan says."""
        models = {model.name: model for model in plan.models}
        return cls(
            device=plan.device, dtype=plan.dtype, format=format, date=plan.date, models=models,
            threads=threads,
        )  # fmt: skip

    def worker(self, pipelines: Mapping[str, Pipeline] | None = None) -> Works:
        """Make what does the jobs: in this process, or in one beside it.

        Args:
            pipelines: models that are loaded already.
        """
        return Worker(self, pipelines)


class Stopped(Exception):  # noqa: N818  (nothing went wrong)
    """The run was stopped while a batch was being decoded."""


class Worker:
    """Makes one job after another; `make` may be called by two threads.

    One of them decodes while the other levels and encodes what it decoded before: that is how
    encoding is overlapped with decoding.

    Args:
        setup: what the run is.
        pipelines: models that are loaded already, by the name that the items have for them.
    """

    def __init__(self, setup: Setup, pipelines: Mapping[str, Pipeline] | None = None) -> None:
        self.setup = setup
        self._given = dict(pipelines or {})
        self._loaded: tuple[str, Pipeline] | None = None
        self._decoding = Lock()
        self._most_rows = 0  # what memory allowed, once it has been short
        if setup.threads:
            torch.set_num_threads(setup.threads)
        for name, pipeline in self._given.items():
            self._require_model(name, pipeline)

    def make(self, job: Job, stop: Stop | None = None) -> Done:
        """Make the wanted clips of a batch.

        Args:
            job: the batch.
            stop: asked at every step.

        Returns:
            Its clips, and why some could not be made.

        Raises:
            Stopped: `stop` said so.
            ModelError, ConfigError, MemoryLimitError: nothing of this run can be made here.
        """
        failed: dict[str, str] = {}
        made: list[Made] = []
        sounds, rows = self.sounds(job, failed, stop)
        for sound in sounds:
            try:
                made.append(sound.encode(self.setup.format))
            except (MusicgenRLError, ValueError, ArithmeticError) as error:
                failed[sound.planned.id] = _cause(error)
        return Done(number=job.number, made=tuple(made), failed=failed, rows=rows)

    def sounds(
        self, job: Job, failed: dict[str, str], stop: Stop | None = None
    ) -> tuple[Iterator[Sound], int]:
        """Decode a batch; its wanted clips come levelled, one by one, when they are asked for.

        Args:
            job: the batch.
            failed: gets id -> why, for clips that could not be made.
            stop: asked at every step.

        Returns:
            The sounds, and the most clips that were decoded side by side.

        Raises:
            As `make`.
        """
        with self._decoding:
            parts = self._decode(job, stop, failed)
        return self._levelled(job, parts, failed), max((len(p.rows) for p in parts), default=0)

    def _levelled(self, job: Job, parts: list[_Decoded], failed: dict[str, str]) -> Iterator[Sound]:
        for part in parts:
            for row in part.rows:
                id = job.clips[row].id
                if id not in job.wanted:
                    continue
                try:
                    yield self._sound(job, part, row)
                except (MusicgenRLError, ValueError, ArithmeticError) as error:
                    failed[id] = _cause(error)

    def _decode(self, job: Job, stop: Stop | None, failed: dict[str, str]) -> list[_Decoded]:
        """Decode all rows, in the batch's own shape where that can be done."""
        pipeline = self._pipeline(job.clips[0].item.model)
        most = len(job.clips) if job.attempt < 2 else -(-len(job.clips) // 2)
        most = min(most, self._most_rows or most)
        queue = [range(i, min(i + most, len(job.clips))) for i in range(0, len(job.clips), most)]
        parts: list[_Decoded] = []
        while queue:
            rows = queue.pop(0)
            try:
                parts.append(self._decode_rows(pipeline, job, rows, stop))
            except (MusicgenRLError, Stopped):
                raise
            except (MemoryError, RuntimeError, ValueError, ArithmeticError) as error:
                short = devices.is_out_of_memory(error)
                if len(rows) == 1:
                    takes = job.clips[rows[0]].item.takes
                    what = "one clip" if takes == 1 else f"one clip in {takes} takes"
                    why = f"{what} does not fit in memory: make it shorter" if short else None
                    failed[job.clips[rows[0]].id] = why or _cause(error)
                    continue
                middle = rows.start + len(rows) // 2
                queue[:0] = [range(rows.start, middle), range(middle, rows.stop)]
                if short:
                    pipeline.halve(_batch(job, rows), error)  # gives back what it held
                    self._most_rows = len(rows) // 2
        return parts

    def _decode_rows(
        self, pipeline: Pipeline, job: Job, rows: range, stop: Stop | None
    ) -> _Decoded:
        first = job.clips[rows[0]]
        request, sampling, batch = first.item.request(), first.sampling, _batch(job, rows)
        codes: list[NDArray[np.int64]] = []
        samples: list[NDArray[np.float32]] = []
        for part in pipeline.chunks(batch, request, sampling, stop=stop):
            codes.append(part.codes)
            samples.append(part.samples)
        joined = np.concatenate(codes, axis=-1)
        if joined.shape[-1] < pipeline.frames_of(request):
            raise Stopped
        settings = pipeline.settings(batch, 0, request, sampling, None)
        sound = np.concatenate(samples, axis=-1)
        held = pipeline.holds.describe(batch, request, None)
        scorer = pipeline.chooser if first.item.takes > 1 else None
        return _Decoded(rows, joined, sound, pipeline.sample_rate, settings, held, scorer)

    def _sound(self, job: Job, part: _Decoded, row: int) -> Sound:
        planned = job.clips[row]
        item = planned.item
        first = (row - part.rows.start) * item.takes
        takes = [self._take(part, planned, first, take) for take in range(item.takes)]
        kept = takes[0]
        if item.takes > 1:
            asked = asked_tempo(item.prompt, item.request())
            kept = choose(takes, asked, item.duration_s, part.scorer)
        assert kept.codes is not None
        return Sound(
            planned=planned, codes=kept.codes, samples=kept.samples, sample_rate=part.sample_rate,
            settings=kept.settings,
        )  # fmt: skip

    def _take(self, part: _Decoded, planned: PlannedClip, first: int, take: int) -> Clip:
        """Level one take of a clip, and say what made it."""
        at, item = first + take, planned.item
        codes = part.codes[at]
        settings = part.settings | {
            "prompt": item.prompt,
            "seed": item.seed,
            "index": item.index * item.takes + take,
            "date": self.setup.date,
            "batch": part.settings["batch"] | {"position": at},
            "item": planned.id,
        }
        settings |= part.held[at] | describe_codes(codes, codes.shape[-1])
        samples = level(part.samples[at], part.sample_rate, item.loudness)
        return Clip(samples, part.sample_rate, settings, codes)

    def _pipeline(self, name: str) -> Pipeline:
        """Return a model, loaded when it is first needed; the one before it goes."""
        if name in self._given:
            return self._given[name]
        if self._loaded is None or self._loaded[0] != name:
            self._loaded = None
            gc.collect()
            pipeline = Pipeline.load(name, device=self.setup.device, dtype=self.setup.dtype)
            self._require_model(name, pipeline)
            self._require_parts(name)
            self._leave_out_new_holds(name, pipeline)
            pipeline.text = RememberedText(pipeline.text)
            self._loaded = (name, pipeline)
        return self._loaded[1]

    def _require_parts(self, name: str) -> None:
        """Refuse another codec, text encoder or end of the dial than the plan's, read from disk."""
        if (wanted := self.setup.models.get(name)) is not None:
            _, identity = identify(
                name, on_dial=bool(wanted.ends), holds=wanted.holds(), takes=bool(wanted.scorer)
            )
            found = identity.hashes()
            for part, sha256 in wanted.hashes().items():
                if found.get(part, "none") != sha256:
                    raise _another(name, part, sha256, found.get(part, "none"))

    def _leave_out_new_holds(self, name: str, pipeline: Pipeline) -> None:
        """Take out what holds clips and is not in the plan: the model got it since, or none asks.

        The orders stay as they are, so that clips are what a model without it makes of them.
        """
        if (wanted := self.setup.models.get(name)) is not None:
            holds = pipeline.holds
            if not wanted.beat:
                holds.tempo.adapter = None
            if not wanted.key:
                holds.key.adapter = None
            if not wanted.chords:
                holds.chords.adapter = None

    def _require_model(self, name: str, pipeline: Pipeline) -> None:
        wanted = self.setup.models.get(name)
        if wanted is not None and pipeline.model_sha256 != wanted.sha256:
            raise _another(name, "decoder", wanted.sha256, pipeline.model_sha256)
        if pipeline.dtype != self.setup.dtype:
            raise ConfigError(
                f"the plan is for {self.setup.dtype}, model {name!r} was loaded in "
                f"{pipeline.dtype}: load it in the plan's precision"
            )


def _another(name: str, part: str, wanted: str, found: str) -> CheckpointError:
    return CheckpointError(
        f"the plan was made with model {name!r} whose {part} has sha256 {wanted:.12}, here it has "
        f"{found:.12}: use the same files on every machine, and leave them until the run has ended"
    )


def _batch(job: Job, rows: range) -> Batch:
    return side_by_side([job.clips[row].item for row in rows])


def _cause(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return text if isinstance(error, MusicgenRLError) else f"{type(error).__name__}: {text}"
