"""Jobs made side by side, limits of an address, and what the metrics count."""

import time

import numpy as np
import pytest

from app.service import JobRequest, Limits, QueueFullError, Service, State
from app.service.metrics import Metrics
from app.service.rate import RateLimit
from musicgen_rl.audio.io import read_audio, read_tags
from musicgen_rl.errors import ConfigError
from musicgen_rl.pipeline import Pipeline
from musicgen_rl.pipeline.replay import compare, read_recipe, remake
from tests.app.conftest import finish


@pytest.fixture(scope="module")
def dialled(dial_folder):
    return Pipeline.load(dial_folder, device="cpu", dtype="fp32")


@pytest.fixture
def begin(dialled):
    services = []

    def start(**options):
        services.append(Service(dialled, **({"warm_up": False} | options)))
        return services[-1]

    yield start
    for service in services:
        service.close()


def request(prompt, seed, **changes):
    return JobRequest(**({"prompt": prompt, "seed": seed, "duration_s": 0.8} | changes))


def queue_up(service, requests):
    """Have jobs wait together: a first one holds the worker until all are there."""
    blocker = service.submit(JobRequest(prompt="for ever", duration_s=100.0), "blocker")
    while service.poll(blocker).fraction == 0:
        time.sleep(0.005)
    jobs = [service.submit(r, f"client {i}") for i, r in enumerate(requests)]
    service.release(blocker)
    return jobs


def together(service, monkeypatch):
    """Note how many jobs each batch held."""
    from app.service import core

    sizes, real = [], core.make

    def make(pipeline, jobs):
        sizes.append([job.client for job in jobs])
        real(pipeline, jobs)

    monkeypatch.setattr(core, "make", make)
    return sizes


def test_jobs_of_one_position_are_made_side_by_side_and_sound_as_if_alone(
    begin, dialled, monkeypatch
):
    service = begin()
    sizes = together(service, monkeypatch)
    wanted = [
        request("drums", 1, diversity=0.4, variations=2),
        request("flute", 2, diversity=0.4, first_index=3, format="flac"),
        request("piano", 3, diversity=0.9),
        request("horn", 4, diversity=0.4),
    ]
    jobs = queue_up(service, wanted)
    updates = [finish(service, job) for job in jobs]
    assert [u[-1].state for u in updates] == [State.DONE] * 4
    assert sizes[-2:] == [["client 0", "client 1", "client 3"], ["client 2"]]
    for job, one in zip(jobs, wanted, strict=True):
        expected = dialled.generate(
            one.prompt, duration_s=0.8, seed=one.seed, diversity=one.diversity,
            clips_per_prompt=one.first_index + one.variations,
        )[one.first_index :]  # fmt: skip
        made = [read_tags(path) for path in job.files]
        assert [t["codes_sha256"] for t in made] == [c.settings["codes_sha256"] for c in expected]
        assert [(t["seed"], t["diversity"]) for t in made] == [(one.seed, one.diversity)] * len(
            made
        )
    assert jobs[1].files[0].suffix == ".flac"
    tags = read_tags(jobs[1].files[0])
    assert (tags["index"], tags["batch"]["clips"], tags["batch"]["position"]) == (3, 4, 2)
    recipe = read_recipe(tags)
    assert compare(recipe, remake(dialled, recipe).codes, dialled).identical


@pytest.mark.parametrize(
    "change",
    [{"diversity": 0.5}, {"merge_method": "slerp"}, {"duration_s": 0.9},
     {"sampling": {"temperature": 0.7}}],
)  # fmt: skip
def test_jobs_that_differ_are_made_one_after_the_other(begin, monkeypatch, change):
    service = begin()
    sizes = together(service, monkeypatch)
    same = {"diversity": 0.4}
    jobs = queue_up(service, [request("a", 1, **same), request("b", 2, **(same | change))])
    assert all(finish(service, job)[-1].state is State.DONE for job in jobs)
    assert sizes[-2:] == [["client 0"], ["client 1"]]


def test_rows_side_by_side_are_bounded(begin, monkeypatch):
    service = begin(limits=Limits(max_rows=4))
    sizes = together(service, monkeypatch)
    jobs = queue_up(service, [request("a", i, variations=2, diversity=0.4) for i in range(3)])
    for job in jobs:
        finish(service, job)
    assert [len(group) for group in sizes[-2:]] == [2, 1]


def test_one_of_several_stops_alone_and_keeps_what_was_heard(begin, monkeypatch):
    service = begin()
    sizes = together(service, monkeypatch)
    both = {"duration_s": 40.0, "diversity": 0.4}
    one, two = queue_up(service, [request("a", 1, **both), request("b", 2, **both)])
    while not service.poll(one).parts:
        time.sleep(0.01)
    began = time.monotonic()
    service.stop(one)
    while one.state is not State.STOPPED:
        time.sleep(0.002)
    assert time.monotonic() - began < 5  # seconds of a busy machine; a step is milliseconds
    assert two.state is State.RUNNING
    (path,) = one.files
    assert path.stem.endswith("-stopped")
    assert 0 < read_audio(path).duration_s < 40
    service.release(two)
    finish(service, two)
    end = time.monotonic() + 10
    while two.folder.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    assert sizes[-1] == ["client 0", "client 1"]


def test_without_room_for_all_each_is_made_alone(begin, dialled, monkeypatch):
    service, real = begin(), Pipeline.chunks

    def tight(self, batch, *arguments, **more):
        for part in real(self, batch, *arguments, **more):
            yield part
            if len(batch.prompts) > 1:
                raise RuntimeError("[enforce fail at alloc_cpu.cpp] not enough memory")

    cleared = []
    monkeypatch.setattr(Pipeline, "chunks", tight)
    monkeypatch.setattr(Pipeline, "clear_runners", lambda self: cleared.append(self))
    jobs = queue_up(service, [request("a", i, duration_s=1.3) for i in (1, 2)])
    for job in jobs:
        updates = finish(service, job)
        assert updates[-1].state is State.DONE
        assert sum(p.shape[1] for u in updates for p in u.parts) == 10400  # heard once
    assert cleared == [dialled]  # before the first is made alone


def test_a_clip_goes_on_from_another(begin, dialled):
    service = begin()
    first = service.submit(request("drums", 1))
    finish(service, first)
    job = service.submit(request("drums", 2, continue_from=first.files[0]))
    updates = finish(service, job)
    assert updates[-1].state is State.DONE
    assert read_audio(job.files[0]).num_samples == 2 * 6400
    assert read_tags(job.files[0])["continued_from"]["file"] == first.files[0].name
    assert sum(p.shape[1] for u in updates for p in u.parts) == 2 * 6400


def test_the_dial_of_a_model_without_one_is_refused_at_the_door(start):
    service = start()
    with pytest.raises(ConfigError, match="no dial"):
        service.submit(request("a", 1, diversity=0.5))
    assert 'refused_total{reason="mistake"} 1' in service.rendered_metrics()


def test_an_address_may_ask_so_often(start):
    now = [0.0]
    service = start(limits=Limits(requests_per_minute=2, max_per_client=50), clock=lambda: now[0])
    for _ in range(2):
        finish(service, service.submit(request("a", 1), "x", "10.0.0.1"))
    with pytest.raises(QueueFullError, match="try again in 30 s") as refused:
        service.submit(request("a", 1), "y", "10.0.0.1")
    assert refused.value.retry_s == 30.0
    finish(service, service.submit(request("a", 1), "y", "10.0.0.2"))
    now[0] += 30
    finish(service, service.submit(request("a", 1), "y", "10.0.0.1"))


def test_the_bucket_fills_slowly_and_never_over():
    now = [0.0]
    limit = RateLimit(60, lambda: now[0])
    assert [limit.wait_s("a") for _ in range(60)] == [0.0] * 60
    assert limit.wait_s("a") == 1.0
    assert limit.wait_s("b") == 0.0
    now[0] = 1.5
    assert limit.wait_s("a") == 0.0
    assert limit.wait_s("a") == 0.5
    now[0] = 1e6
    assert [limit.wait_s("a") for _ in range(61)][-1] == 1.0
    assert RateLimit(0).wait_s("a") == 0.0


def test_metrics_say_what_was_done(start):
    service = start()
    finish(service, service.submit(request("a", 1, variations=2)))
    text = service.rendered_metrics()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values['musicgen_rl_jobs_total{state="done"}'] == "1"
    assert float(values["musicgen_rl_audio_seconds_total"]) == pytest.approx(1.6)
    assert values["musicgen_rl_first_sound_seconds_count"] == "1"
    assert values['musicgen_rl_first_sound_seconds_bucket{le="+Inf"}'] == "1"
    assert values["musicgen_rl_queue_jobs"] == "0"
    assert values['musicgen_rl_model_info{model="tiny"}'] == "1"
    assert float(values["musicgen_rl_realtime_factor"]) > 0
    for name in {line.split("{")[0].split(" ")[0] for line in values}:
        family = name.removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
        assert f"# TYPE {family} " in text or f"# TYPE {name} " in text


def test_a_histogram_counts_up_to_each_bound():
    metrics = Metrics()
    for seconds in (0.1, 0.5, 0.6, 99.0):
        metrics.first_sound(seconds)
    text = metrics.render(waiting=0, running=0, jams=0, model='a"b\\c')
    counts = [line.rsplit(" ", 1)[1] for line in text.splitlines() if "_bucket" in line]
    assert counts == ["1", "2", "3", "3", "3", "3", "3", "3", "4"]
    assert 'model="a\\"b\\\\c"' in text
    assert np.isclose(float(text.split("first_sound_seconds_sum ")[1].split()[0]), 100.2)
