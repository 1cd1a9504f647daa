"""The pool of runners on a pretended GPU: which is kept, and when its memory is free again."""

import threading

import pytest
import torch

from musicgen_rl.config import SamplingConfig
from musicgen_rl.errors import MemoryLimitError
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.pipeline import GenerationConfig, Pipeline, devices
from musicgen_rl.pipeline.runners import RunnerPool, prepare_model
from musicgen_rl.sampling.runner import CAPTURING
from tests.models import TINY_LM
from tests.pretended_gpu import pretended_gpus

SHAPE = {"rows": 2, "max_steps": 50, "text_length": 32}


@pytest.fixture
def pool():
    with pretended_gpus():
        gpu = torch.device("cuda:0")
        yield RunnerPool(prepare_model(MusicLM(TINY_LM), gpu, "fp32"), gpu, "fp32")


def made(pool, **changes):
    with pool.lease() as make:
        return make(**(SHAPE | changes))


def test_the_last_runner_is_kept_for_its_shape(pool):
    assert pool.kept_bytes == 0
    runner = made(pool)
    assert made(pool) is runner
    assert pool.kept_bytes == 2 * TINY_LM.num_layers * 2 * 50 * TINY_LM.hidden_size * 4


def test_the_kept_runner_goes_before_one_of_another_shape_is_built(pool, monkeypatch):
    first, seen, real = made(pool), [], RunnerPool._new

    def new(self, *key):
        seen.append(self.kept_bytes)
        return real(self, *key)

    monkeypatch.setattr(RunnerPool, "_new", new)
    assert made(pool, rows=3) is not first
    assert seen == [0]
    assert made(pool) is not first


def test_both_runners_of_a_stream_whose_guidance_ends_are_kept(pool):
    def both():
        with pool.lease() as make:
            return make(**SHAPE), make(**(SHAPE | {"rows": 1}))

    first = both()
    assert both() == first
    assert pool.kept_bytes == 3 * TINY_LM.num_layers * 2 * 50 * TINY_LM.hidden_size * 4


def test_a_runner_that_was_in_use_when_something_failed_is_not_kept(pool):
    def fail():
        with pool.lease() as make:
            make(**SHAPE)
            raise torch.OutOfMemoryError("while capturing")

    with pytest.raises(torch.OutOfMemoryError):
        fail()
    assert pool.kept_bytes == 0


def test_a_loop_that_is_left_early_gives_its_runner_back(pool):
    def loop():
        with pool.lease() as make:
            yield make(**SHAPE)

    parts = loop()
    runner = next(parts)
    parts.close()
    assert made(pool) is runner


def test_memory_is_given_back_only_when_nobody_captures(pool):
    made(pool)
    with CAPTURING:
        thread = threading.Thread(target=pool.clear)
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
    thread.join(10)
    assert not thread.is_alive()
    assert pool.kept_bytes == 0


def test_what_a_kept_runner_has_counts_as_room_for_the_next_clip(tiny_folder, monkeypatch):
    with pretended_gpus():
        pipeline = Pipeline.load(tiny_folder, device="cuda", dtype="fp32")
    request, sampling = GenerationConfig(duration_s=1.0, clips_per_prompt=8), SamplingConfig()
    one = pipeline._clip_bytes(request, sampling)
    monkeypatch.setattr(devices, "available_bytes", lambda device: one - 1)
    with pytest.raises(MemoryLimitError):
        pipeline.plan(["drums"], request, sampling)
    monkeypatch.setattr(RunnerPool, "kept_bytes", 4 * one)
    assert [len(b.prompts) for b in pipeline.plan(["drums"], request, sampling)] == [3, 3, 2]
