import hashlib
import io
import shutil
from dataclasses import replace

import pytest
import soundfile

from musicgen_rl.batch import Item, make_plan
from musicgen_rl.batch.cluster import _Actor
from musicgen_rl.batch.remembered import RememberedText
from musicgen_rl.batch.work import jobs_of
from musicgen_rl.batch.worker import Setup, Stopped, Worker
from musicgen_rl.errors import CheckpointError
from musicgen_rl.pipeline import Pipeline
from tests.batch.conftest import DATE


def job_of(plan, number=0, missing=None):
    every = frozenset(c.id for c in plan.clips)
    jobs = list(jobs_of(plan.clips, every if missing is None else missing))
    return next(j for j in jobs if j.number == number)


@pytest.fixture
def worker(plan, pipelines):
    return Worker(Setup.of(plan, "wav"), pipelines)


def test_jobs_are_whole_batches_that_lack_a_clip(plan):
    missing = frozenset({plan.clips[5].id, plan.clips[9].id})
    jobs = list(jobs_of(plan.clips, missing))
    assert [(j.number, len(j.clips), j.wanted) for j in jobs] == [
        (1, 2, {plan.clips[5].id}), (2, 4, {plan.clips[9].id})
    ]  # fmt: skip
    assert list(jobs_of(plan.clips, frozenset())) == []


def test_only_wanted_rows_come_and_they_do_not_depend_on_what_is_wanted(worker, plan):
    whole = worker.make(job_of(plan))
    part = worker.make(job_of(plan, missing=frozenset({plan.clips[2].id})))
    assert [m.id for m in whole.made] == [c.id for c in plan.clips[:4]]
    assert part.made == whole.made[2:3]
    assert whole.rows == part.rows == 4


def test_what_comes_back_is_a_file_and_what_is_known_of_it(worker, plan):
    made = worker.make(job_of(plan)).made[1]
    assert made.sha256 == hashlib.sha256(made.data).hexdigest()
    with soundfile.SoundFile(io.BytesIO(made.data)) as file:
        assert (file.format, file.frames) == ("WAV", 2400)
    assert (made.num_frames, made.duration_s) == (15, 0.3)
    assert made.settings["index"] == 1
    assert made.settings["batch"] == {"clips": 4, "position": 1, "text_length": 32}


def test_a_batch_that_does_not_fit_is_halved_and_the_next_one_starts_small(
    worker, plan, pipelines, model, monkeypatch
):
    whole = worker.make(job_of(plan))
    real, sizes = Pipeline.chunks, []

    def short(self, batch, *arguments, **named):
        sizes.append(len(batch.prompts))
        if len(batch.prompts) > 2:
            raise MemoryError
        return real(self, batch, *arguments, **named)

    monkeypatch.setattr(Pipeline, "chunks", short)
    done = worker.make(job_of(plan))
    assert [m.id for m in done.made] == [m.id for m in whole.made]
    assert done.rows == 2
    assert done.made[3].settings["batch"]["clips"] == 2
    worker.make(job_of(plan, 2))
    assert sizes == [4, 2, 2, 2, 2]


def test_one_clip_that_breaks_does_not_take_its_neighbours_along(worker, plan, monkeypatch):
    real = Pipeline.chunks
    poison = plan.clips[2].item

    def broken(self, batch, *arguments, **named):
        if (poison.prompt, poison.seed, poison.index) in zip(
            batch.prompts, batch.seeds, batch.indices, strict=True
        ):
            raise RuntimeError("index out of range")
        return real(self, batch, *arguments, **named)

    monkeypatch.setattr(Pipeline, "chunks", broken)
    done = worker.make(job_of(plan))
    assert done.failed == {plan.clips[2].id: "RuntimeError: index out of range"}
    assert len(done.made) == 3


def test_a_clip_that_fits_nowhere_is_a_failure_not_the_end(worker, plan, monkeypatch):
    def never(self, *arguments, **named):
        raise MemoryError

    monkeypatch.setattr(Pipeline, "chunks", never)
    done = worker.make(job_of(plan))
    assert set(done.failed.values()) == {"one clip does not fit in memory: make it shorter"}
    assert len(done.failed) == 4


def test_a_stop_in_the_middle_of_a_batch_leaves_it_unmade(worker, plan):
    asked = iter(range(10**6))
    with pytest.raises(Stopped):
        worker.make(job_of(plan), stop=lambda: next(asked) > 3)


def test_a_job_that_killed_workers_is_decoded_in_halves(worker, plan):
    assert worker.make(replace(job_of(plan), attempt=1)).rows == 4
    assert worker.make(replace(job_of(plan), attempt=2)).rows == 2


def test_another_model_behind_the_name_is_refused(plan, pipelines, model):
    setup = Setup.of(plan, "wav")
    setup = replace(setup, models={model: replace(setup.models[model], sha256="0" * 64)})
    with pytest.raises(CheckpointError, match="whose decoder has sha256 000000000000, here it has"):
        Worker(setup, pipelines)


@pytest.mark.parametrize(
    ("part", "place"),
    [("quality end", "quality"), ("diversity end", "diversity"), ("codec", "codec")],
)
def test_another_part_of_a_model_behind_the_name_is_refused(part, place, dial_folder, tmp_path):
    mine = tmp_path / "mine"
    shutil.copytree(dial_folder, mine)
    items = [Item(prompt="a", duration_s=0.2, model=str(mine), diversity=0.5)]
    plan = make_plan(items, device="cpu", dtype="fp32", date=DATE)
    weights = mine / place / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\x80\x3f")  # its last number is 1
    with pytest.raises(CheckpointError, match=f"whose {part} has sha256 .*, here it has"):
        Worker(Setup.of(plan, "wav")).make(job_of(plan))


def test_a_worker_of_a_cluster_takes_the_gpu_that_it_is_shown(plan):
    actor = _Actor(replace(Setup.of(plan, "wav"), device="cuda:3"))
    assert actor._worker.setup.device == "cuda"


def test_int8_rows_do_not_depend_on_the_batch(model):
    items = [Item(prompt=f"p{i}", duration_s=0.2, model=model) for i in range(3)]
    hashes = []
    for size in (1, 3):
        plan = make_plan(items, device="cpu", dtype="int8", batch_size=size, date=DATE)
        worker = Worker(Setup.of(plan, "flac"))
        every = frozenset(plan.ids)
        hashes.append(
            [m.codes_sha256 for j in jobs_of(plan.clips, every) for m in worker.make(j).made]
        )
    assert hashes[0] == hashes[1]


class CountingText:
    def __init__(self, encoder):
        self.encoder, self.asked, self.hidden_size = encoder, [], encoder.hidden_size

    def encode(self, prompts):
        self.asked += prompts
        return self.encoder.encode(prompts)


@pytest.mark.parametrize(("room", "asked"), [(1 << 20, 2), (0, 4)])
def test_text_is_encoded_once_and_is_the_same(pipelines, model, room, asked):
    text = pipelines[model].text
    counting = CountingText(text)
    remembered = RememberedText(counting, room)
    for _ in range(2):
        both = remembered.encode(["slow piano", "a much longer prompt with drums"])
    expected = text.encode(["slow piano", "a much longer prompt with drums"])
    assert both.hidden.equal(expected.hidden)
    assert both.mask.equal(expected.mask)
    assert len(counting.asked) == asked
