"""What makes and measures in one go: batches in, rows out; only what is kept becomes files."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from musicgen_rl.batch.work import Done, Job, Stop
from musicgen_rl.batch.worker import Setup, Sound, Worker
from musicgen_rl.errors import AudioFileError
from musicgen_rl.evaluation.features import fit_length, measure
from musicgen_rl.evaluation.instruments import Instruments, load_instruments
from musicgen_rl.evaluation.prompts import Prompt
from musicgen_rl.evaluation.table import Row

if TYPE_CHECKING:
    from musicgen_rl.pipeline.core import Pipeline


@dataclass(frozen=True, kw_only=True)
class Measured(Done):
    """What came of a job: files of the clips that are kept, and rows of all."""

    measured: Mapping[str, Row] = field(default_factory=dict)
    """Id of the clip -> what was measured."""


@dataclass(frozen=True, kw_only=True)
class MeasuringSetup(Setup):
    """What workers of an evaluation are told once."""

    prompts: Mapping[str, Prompt]
    """Text -> prompt."""
    kept: frozenset[str]
    """Ids of the clips whose sound is kept."""
    sample_rate: int
    """Hz that every clip must have."""
    duration_s: float
    """Length that every clip must have."""
    place: Path
    """Folder of the instruments."""
    clap: str = ""
    """CLAP checkpoint to use beside them."""
    loaded: Instruments | None = None
    """The same, loaded already, for a worker in this process."""

    def worker(self, pipelines: "Mapping[str, Pipeline] | None" = None) -> "MeasuringWorker":
        """Make the worker."""
        return MeasuringWorker(self, pipelines)


class MeasuringWorker:
    """Makes clips and measures them; `make` may be called by two threads.

    One of them decodes while the other measures what it decoded before.

    Args:
        setup: what the run is.
        pipelines: models that are loaded already.
    """

    def __init__(
        self, setup: MeasuringSetup, pipelines: "Mapping[str, Pipeline] | None" = None
    ) -> None:
        self.setup = setup
        self._worker = Worker(setup, pipelines)
        found = setup.loaded or load_instruments(setup.place, clap=setup.clap, device=setup.device)
        self._instruments = replace(found, codec=None)  # the codes are those that were drawn
        self._measuring = Lock()

    def make(self, job: Job, stop: Stop | None = None) -> Measured:
        """Make and measure the wanted clips of a batch; arguments as for `Worker.make`."""
        failed: dict[str, str] = {}
        sounds, rows = self._worker.sounds(job, failed, stop)
        with self._measuring:
            heard = list(sounds)
            measured = self._measure(heard)
            kept = [sound for sound in heard if sound.planned.id in self.setup.kept]
            made = [sound.encode(self.setup.format) for sound in kept]
        return Measured(
            number=job.number, made=tuple(made), failed=failed, rows=rows, measured=measured
        )

    def _measure(self, sounds: list[Sound]) -> dict[str, Row]:
        """Measure clips as they are, each once."""
        if not sounds:
            return {}
        setup = self.setup
        odd = next((s for s in sounds if s.sample_rate != setup.sample_rate), None)
        if odd is not None:
            raise AudioFileError(
                f"model {odd.planned.item.model!r} makes {odd.sample_rate} Hz, the others "
                f"{setup.sample_rate} Hz: the comparison would hear the difference of the rates"
            )
        wanted = round(setup.sample_rate * setup.duration_s)
        samples = np.stack([fit_length(s.samples.mean(axis=0), wanted) for s in sounds])
        prompts = [setup.prompts[s.planned.item.prompt] for s in sounds]
        rows = measure(samples, setup.sample_rate, prompts, self._instruments)
        for row, sound in zip(rows, sounds, strict=True):
            row["codes"] = sound.codes[0]
        return {s.planned.id: row for s, row in zip(sounds, rows, strict=True)}
