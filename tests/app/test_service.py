"""The service on a tiny model: nobody's job touches another's, and every job ends."""

import threading
import time
import weakref
from dataclasses import replace

import numpy as np
import pytest

from app.service import Job, JobRequest, Limits, QueueFullError, ServiceClosedError, State, core
from app.service.core import give_memory_back
from app.service.metrics import Metrics, together
from musicgen_rl.audio.io import read_audio, read_tags
from musicgen_rl.audio.loudness import LoudnessConfig
from musicgen_rl.audio.same_sound import first_other_sound
from musicgen_rl.errors import MemoryLimitError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.provenance import codes_hash
from musicgen_rl.pipeline.replay import read_recipe, remake
from tests.app.conftest import finish, finished_files

LONG = JobRequest(prompt="for ever", duration_s=110.0)
SHORT = JobRequest(prompt="drums", duration_s=0.6, seed=5)


def wait_until(true, seconds=10.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


def begin_long(service, client="long"):
    job = service.submit(LONG, client)
    wait_until(lambda: service.poll(job).fraction > 0)
    return job


def test_a_job_is_heard_while_it_is_made_and_then_lies_there_as_files(start):
    service = start()
    request = JobRequest(prompt="drums", duration_s=1.7, variations=2, seed=5, format="flac")
    updates = finish(service, service.submit(request))
    last = updates[-1]
    assert (last.state, last.fraction, last.seconds_left, last.error) == (State.DONE, 1.0, None, "")
    files = [path for update in updates for path in update.files]
    assert [read_tags(path)["index"] for path in files] == [0, 1]
    assert {path.suffix for path in files} == {".flac"}
    assert [read_audio(path).num_samples for path in files] == [13600, 13600]
    heard = np.concatenate([part for update in updates for part in update.parts], axis=1)
    assert heard.shape == (1, 13600)
    first_part = next(i for i, update in enumerate(updates) if update.parts)
    first_file = next(i for i, update in enumerate(updates) if update.files)
    assert first_part <= first_file


def test_sound_waits_for_who_takes_it_but_not_for_ever(start):
    now = [0.0]
    service = start(clock=lambda: now[0])
    first, second = (service.submit(SHORT, client) for client in ("a", "b"))
    wait_until(lambda: State.DONE is first.state is second.state)
    assert service.find(first.id) is first
    assert service.find("guess") is None
    assert service.poll(first, sound=False).parts == []
    assert sum(part.shape[1] for part in service.poll(first).parts) == 4800
    now[0] += 31.0
    third = service.submit(SHORT, "c")  # what is left over goes when the next job is taken
    wait_until(lambda: third.state is State.DONE)
    assert service.poll(second).parts == []
    assert second.files[0].is_file()


def test_what_is_heard_is_the_first_variation(start):
    service = start()
    raw = LoudnessConfig(enabled=False)
    request = JobRequest(prompt="drums", duration_s=1.2, variations=3, seed=5, loudness=raw)
    updates = finish(service, service.submit(request))
    heard = np.concatenate([part for update in updates for part in update.parts], axis=1)
    files = [read_audio(path).samples for update in updates for path in update.files]

    def difference(samples):  # after the best gain, which the ceiling may have changed
        gain = float((heard * samples).sum() / np.square(samples).sum())
        return np.abs(heard - gain * samples).max()

    assert difference(files[0]) < 1e-3
    assert min(difference(samples) for samples in files[1:]) > 0.01


def test_two_jobs_get_what_each_would_have_got_alone(start, pipeline):
    wanted = [
        JobRequest(prompt="slow sad piano", duration_s=0.8, seed=1),
        JobRequest(prompt="drums", duration_s=1.1, seed=2, sampling={"temperature": 2.0}),
    ]
    alone = [
        pipeline.generate(r.prompt, duration_s=r.duration_s, seed=r.seed, **r.sampling)[0]
        for r in wanted
    ]
    service, results = start(), {}

    def visit(number):
        job = service.submit(wanted[number], f"visitor {number}")
        results[number] = finished_files(service, job)[0]

    threads = [threading.Thread(target=visit, args=(n,)) for n in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    for number, clip in enumerate(alone):
        made = read_tags(results[number])
        assert made["codes_sha256"] == clip.settings["codes_sha256"]
        assert (made["prompt"], made["seed"]) == (wanted[number].prompt, wanted[number].seed)
        assert np.abs(read_audio(results[number]).samples - clip.samples).max() < 1e-3


def test_stopping_one_leaves_the_others_result_bit_equal(start):
    service = start()
    undisturbed = read_audio(finished_files(service, service.submit(SHORT))[0])
    long = begin_long(service, "a")
    other = service.submit(SHORT, "b")
    service.stop(long)
    again = read_audio(finished_files(service, other)[0])
    assert np.array_equal(again.samples, undisturbed.samples)
    assert long.state is State.STOPPED
    assert other.state is State.DONE


def test_stop_ends_within_a_fifth_of_a_second_and_keeps_what_was_made(start):
    service, took = start(), []
    for _ in range(3):  # the best of three: a busy machine may take its time once
        job = begin_long(service)
        heard = []
        while not heard:
            heard += service.poll(job).parts
        began = time.monotonic()
        service.stop(job)
        wait_until(lambda job=job: job.state is State.STOPPED, 5.0)
        took.append(time.monotonic() - began)
        update = service.poll(job)
        (path,) = update.files
        assert path.stem.endswith("-stopped")
        kept = read_audio(path)  # exactly what was heard
        assert np.abs(kept.samples - np.concatenate(heard + update.parts, 1)).max() < 1e-4
        tags = read_tags(path)
        assert (tags["complete"], tags["seed"]) == (False, job.seed)
        if took[-1] < 0.2:
            break
    assert min(took) < 0.2


def test_stop_ends_takes_as_fast(start):
    service, took = start(), []
    wanted = replace(LONG, prompt="for ever at 124 bpm", takes=4)
    for number in range(3):  # the best of three: a busy machine may take its time once
        job = service.submit(wanted, f"takes{number}")
        wait_until(lambda job=job: service.poll(job).fraction > 0)
        began = time.monotonic()
        service.stop(job)
        wait_until(lambda job=job: job.state is State.STOPPED, 30.0)
        took.append(time.monotonic() - began)
        assert not job.files
        if took[-1] < 0.2:
            break
    assert min(took) < 0.2


def test_codes_in_the_tags_of_a_stopped_file_are_those_of_its_sound(start, pipeline):
    service = start()
    job = begin_long(service)
    while not service.poll(job).parts:
        time.sleep(0.005)
    service.stop(job)
    path = finished_files(service, job)[0]
    kept, tags = read_audio(path), read_tags(path)
    frames = kept.num_samples // 160
    service.close()  # which gives the pipeline back
    (whole,) = pipeline.generate(LONG.prompt, duration_s=frames / 50 + 1, seed=job.seed)
    assert tags["codes_sha256"] == codes_hash(whole.codes[:, :frames])
    made = remake(pipeline, read_recipe(tags))
    assert first_other_sound(kept, made, "wav") is None


def test_nothing_is_kept_of_a_job_stopped_before_its_first_sound(start, monkeypatch):
    service = start()
    monkeypatch.setattr("app.service.making.part_frames", lambda pipeline: [100_000])
    job = begin_long(service)
    service.stop(job)
    assert [u.files for u in finish(service, job)][-1] == []
    assert job.state is State.STOPPED


def test_a_waiting_job_that_is_stopped_leaves_the_queue_at_once(start):
    service = start()
    long = begin_long(service)
    second, third = service.submit(SHORT, "b"), service.submit(SHORT, "c")
    assert [service.poll(job).position for job in (long, second, third)] == [0, 1, 2]
    service.stop(second)
    assert second.state is State.STOPPED
    assert [service.poll(job).position for job in (second, third)] == [0, 1]
    assert long.state is State.RUNNING


def test_a_watcher_that_leaves_frees_its_job_and_its_files(start):
    service = start()
    job = service.submit(LONG, "a")
    watching = service.watch(job)
    wait_until(lambda: next(watching).fraction > 0)
    watching.close()
    wait_until(lambda: job.state is State.STOPPED, 2.0)
    wait_until(lambda: not job.folder.exists(), 2.0)
    assert service.poll(job).parts == []
    assert finish(service, service.submit(SHORT, "b"))[-1].state is State.DONE


def test_a_full_queue_says_when_to_come_back(start):
    service = start(limits=Limits(max_waiting=2))
    finish(service, service.submit(SHORT))  # so that the pace is known
    long = begin_long(service)
    for client in "ab":
        service.submit(SHORT, client)
    with pytest.raises(QueueFullError, match=r"2 jobs are waiting.*try again in \d+ (s|min)") as e:
        service.submit(SHORT, "c")
    assert e.value.retry_s > 1
    service.stop(long)
    wait_until(lambda: service.load[0] < 2)
    service.submit(SHORT, "c")


def test_one_visitor_cannot_take_the_whole_queue(start):
    service = start(limits=Limits(max_per_client=1))
    job = begin_long(service, "a")
    with pytest.raises(QueueFullError, match="you have 1 jobs here"):
        service.submit(SHORT, "a")
    assert service.jobs_of("a") == [job]
    assert service.jobs_of("b") == []
    service.submit(SHORT, "b")


def test_time_left_counts_the_jobs_before(start):
    service = start()
    finish(service, service.submit(JobRequest(prompt="a", duration_s=2.0)))
    long = begin_long(service, "a")
    wait_until(lambda: (long.running_seconds()[1] or 0) > 0, 30)
    later = service.submit(JobRequest(prompt="b", duration_s=20.0), "b")
    mine, theirs = service.poll(later).seconds_left, service.poll(long).seconds_left
    assert mine > theirs > 0
    assert mine - theirs == pytest.approx(service.seconds_for(later.request), rel=0.5)


def test_the_warm_up_measures_the_pace(start):
    service = start(warm_up=True)
    updates = finish(service, service.submit(JobRequest(prompt="a", duration_s=5.0)))
    assert updates[-1].state is State.DONE
    job = service.submit(LONG)
    assert service.seconds_for(job.request) > 0


def test_the_worker_survives_whatever_a_job_raises(start, monkeypatch, caplog):
    service, real = start(), Pipeline.plan
    raised = [RuntimeError("a bug"), MemoryLimitError("no room: make it shorter"), MemoryError()]

    def plan(self, *arguments):
        if raised:
            raise raised.pop(0)
        return real(self, *arguments)

    monkeypatch.setattr(Pipeline, "plan", plan)
    ends = [finish(service, service.submit(SHORT))[-1] for _ in range(4)]
    assert [end.state for end in ends] == [State.FAILED] * 3 + [State.DONE]
    assert "unexpected" in ends[0].error
    assert "RuntimeError" in ends[0].error
    assert "a bug" not in ends[0].error  # that is for the log
    assert "a bug" in caplog.text
    assert ends[1].error == "no room: make it shorter"
    assert "not enough memory" in ends[2].error


def test_no_error_outside_of_a_jobs_own_work_ends_the_worker(start, monkeypatch, caplog):
    service, real, failed = start(), core.make, []

    def make(pipeline, jobs):
        if not failed:
            failed.append(jobs)
            raise RuntimeError("a bug")
        real(pipeline, jobs)

    monkeypatch.setattr(core, "make", make)
    first = finish(service, service.submit(SHORT))[-1]
    assert (first.state, "unexpected" in first.error) == (State.FAILED, True)
    assert "a bug" in caplog.text
    assert finish(service, service.submit(SHORT))[-1].state is State.DONE


def test_a_visitor_who_stops_while_old_files_are_put_away_harms_nobody(start, monkeypatch):
    service = start()
    finish(service, service.submit(SHORT, "a"))
    long, second = begin_long(service, "b"), service.submit(SHORT, "c")
    third = service.submit(JobRequest(prompt="flute", duration_s=0.8, seed=5), "d")
    real = Job.file_bytes.fget

    def stopped_meanwhile(job):
        service.stop(third)
        return real(job)

    monkeypatch.setattr(Job, "file_bytes", property(stopped_meanwhile))
    service.stop(long)
    wait_until(lambda: second.state is State.DONE)
    assert third.state is State.STOPPED


def test_sound_made_twice_after_running_out_of_memory_is_heard_once(start, monkeypatch):
    service, real, failed = start(), Pipeline.chunks, []

    def tight(self, batch, *arguments, **more):
        for part in real(self, batch, *arguments, **more):
            yield part
            if len(batch.prompts) > 1:
                failed.append(len(batch.prompts))
                raise RuntimeError("[enforce fail at alloc_cpu.cpp] not enough memory")

    monkeypatch.setattr(Pipeline, "chunks", tight)
    request = JobRequest(prompt="drums", duration_s=1.3, variations=2, seed=1)
    updates = finish(service, service.submit(request))
    assert failed == [2]
    assert updates[-1].state is State.DONE
    assert sum(part.shape[1] for update in updates for part in update.parts) == 10400


def test_files_nobody_fetched_go_when_they_are_old(start):
    now = [0.0]
    service = start(limits=Limits(keep_s=100.0), clock=lambda: now[0])
    old = service.submit(SHORT)
    (path,) = [p for update in finish(service, old) for p in update.files]
    now[0] = 99.0
    finish(service, service.submit(SHORT))
    assert path.exists()
    now[0] = 101.0
    finish(service, service.submit(SHORT))
    assert not path.exists()


def test_clips_that_are_too_many_go_oldest_first(start):
    service = start()
    finish(service, first := service.submit(SHORT))
    service = start(limits=Limits(keep_bytes=2.5 * first.file_bytes))
    jobs = []
    for _ in range(4):
        finish(service, job := service.submit(SHORT))
        jobs.append(job)
    assert jobs[-1].file_bytes == pytest.approx(9600, rel=0.3)
    finish(service, service.submit(SHORT))  # old files go before the next job is taken up
    assert [bool(job.file_bytes) for job in jobs] == [False, False, True, True]


def test_released_jobs_leave_no_file_and_close_leaves_no_folder(start):
    service = start()
    job = service.submit(SHORT)
    (path,) = [p for update in finish(service, job) for p in update.files]
    service.release(job)
    assert not path.parent.exists()
    assert service.folder.stat().st_mode & 0o077 == 0  # nobody else's to read
    service.submit(LONG)
    service.close()
    assert not service.folder.exists()
    with pytest.raises(ServiceClosedError):
        service.submit(SHORT)


def test_nothing_of_a_job_stays_in_memory(start):
    service = start()
    job = service.submit(JobRequest(prompt="a", duration_s=2.0, variations=2))
    updates = finish(service, job)
    kept = [weakref.ref(part) for update in updates for part in update.parts]
    assert kept
    service.release(job)
    del updates
    wait_until(lambda: service.load == (0, 0))
    give_memory_back()
    assert [ref() for ref in kept] == [None] * len(kept)


def test_metrics_of_two_models_explain_every_name_once_and_keep_their_numbers():
    one, two = Metrics(), Metrics()
    one.ended("done")
    two.ended("done")
    two.ended("failed")
    texts = {
        name: metrics.render(waiting=waiting, running=0, jams=0, model=name)
        for name, metrics, waiting in (("a", one, 3), ('b"', two, 0))
    }
    text = together(texts)
    rows = text.splitlines()
    names = [row.split()[2] for row in rows if row.startswith("# TYPE")]
    assert len(names) == len(set(names)) == len(texts["a"].split("# TYPE")) - 1
    assert 'musicgen_rl_queue_jobs{model="a"} 3' in rows
    assert 'musicgen_rl_jobs_total{model="b\\"",state="failed"} 1' in rows
    assert 'musicgen_rl_model_info{model="a"} 1' in rows
    samples = [row for row in rows if not row.startswith("#")]
    assert len(samples) == len(set(samples))
    assert len(samples) == sum(
        not row.startswith("#") for own in texts.values() for row in own.splitlines()
    )
    for family in text.split("# HELP ")[1:]:  # samples stand below their own name
        name = family.split()[0]
        assert all(
            row.startswith(name) for row in family.splitlines()[1:] if not row.startswith("#")
        )
    assert together({"a": texts["a"]}) == texts["a"]
