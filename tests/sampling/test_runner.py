import threading
from contextlib import nullcontext

import pytest
import torch

from musicgen_rl.config import SamplingConfig
from musicgen_rl.lm.condition import Condition
from musicgen_rl.sampling.decode import DecodeStream, Window
from musicgen_rl.sampling.randomness import clip_seed
from musicgen_rl.sampling.runner import EagerRunner, GraphRunner, pad_condition
from tests.equivalence.shapes import SHAPES, build_pair, text_states
from tests.pretended_gpu import (
    CaptureError,
    MixedDevicesError,
    Pretence,
    PretendedGraph,
    pretended_gpus,
)

MONO = SHAPES["mono"]


@pytest.fixture(params=["pretended", pytest.param("real", marks=pytest.mark.gpu)])
def gpu(request):
    with pretended_gpus() if request.param == "pretended" else nullcontext():
        yield


def test_padding_hides_what_it_adds():
    hidden, mask = text_states(MONO)
    padded = pad_condition(Condition(hidden, mask), 9)
    assert padded.hidden.shape == (3, 9, 32)
    assert torch.equal(padded.mask[:, :5], mask)
    assert not padded.mask[:, 5:].any()
    assert not padded.hidden[:, 5:].any()
    assert pad_condition(padded, 4) is padded


@torch.no_grad()
def test_padded_text_gives_the_same_logits():
    ours, _ = build_pair(MONO)
    condition = Condition(*text_states(MONO))
    tokens = torch.full((3, 4, 1), MONO.pad_token)
    padded = ours(tokens, pad_condition(condition, 32))
    assert torch.allclose(ours(tokens, condition), padded, atol=1e-5)


def test_reset_forgets_the_steps_and_keeps_the_text():
    ours, _ = build_pair(MONO)
    runner = EagerRunner(ours, 3, 20)
    runner.begin(Condition(*text_states(MONO)))
    first = runner.prefill(torch.full((3, 4, 3), 5)).clone()
    runner.step(torch.full((3, 4), 7))
    runner.reset()
    assert torch.equal(runner.prefill(torch.full((3, 4, 3), 5)), first)


def decoded(make, sampling, frames=40):
    ours_condition = Condition(*text_states(MONO))
    stream = DecodeStream(
        MONO, make, ours_condition, sampling, seeds=[clip_seed(1, i) for i in range(3)],
        window=Window(frames=24, keep_frames=8), num_frames=frames,
    )  # fmt: skip
    return stream.advance(frames)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
def test_a_captured_graph_decodes_what_eager_decodes(gpu, guidance, device):
    if torch.cuda.device_count() <= torch.device(device).index:
        pytest.skip("needs a second GPU")
    ours, _ = build_pair(MONO)
    ours.to(device)
    sampling = SamplingConfig(temperature=0.0, guidance_scale=guidance)

    def graph(rows, max_steps, text_length):
        return GraphRunner(ours, rows, max_steps, text_length)

    def eager(rows, max_steps, text_length):
        return EagerRunner(ours, rows, max_steps)

    assert torch.equal(decoded(graph, sampling), decoded(eager, sampling))


@torch.inference_mode()
def test_a_captured_graph_follows_weights_written_in_place(gpu):
    ours, _ = build_pair(MONO)
    ours.cuda()
    condition = Condition(*text_states(MONO))
    graph, eager = GraphRunner(ours, 3, 20, 5), EagerRunner(ours, 3, 20)
    tokens = torch.full((3, 4), 5)
    for scale in (1.0, -0.5):
        ours.blocks[0].ffn_in.weight.mul_(scale)
        logits = []
        for runner in (graph, eager):
            runner.begin(condition)
            runner.prefill(torch.full((3, 4, 3), 5))
            logits.append(runner.step(tokens.cuda()).clone())
        assert torch.allclose(logits[0], logits[1], atol=1e-4)


def test_a_graph_serves_another_prompt_without_a_new_capture(gpu):
    ours, _ = build_pair(MONO)
    ours.cuda()
    a = Condition(*text_states(MONO))
    b = Condition(*text_states(MONO, seed=9))
    graph, eager = GraphRunner(ours, 3, 20, 5), EagerRunner(ours, 3, 20)
    tokens = torch.full((3, 4), 5, device="cuda")
    for condition in (a, b):
        logits = []
        for runner in (graph, eager):
            runner.begin(condition)
            runner.prefill(torch.full((3, 4, 3), 5))
            logits.append(runner.step(tokens).clone())
        assert torch.allclose(logits[0], logits[1], atol=1e-4)


def test_the_text_may_be_encoded_on_the_gpu(gpu):
    ours, _ = build_pair(MONO)
    sampling = SamplingConfig(temperature=0.0, guidance_scale=3.0)
    streams = []
    for device in ("cpu", "cuda"):
        stream = DecodeStream(
            MONO, lambda rows, max_steps, text_length: EagerRunner(ours, rows, max_steps),
            Condition(*text_states(MONO)).to(device), sampling, seeds=[1, 2, 3],
            window=Window(frames=24, keep_frames=8), num_frames=10,
        )  # fmt: skip
        streams.append(stream.advance(10))
    assert torch.equal(*streams)


def started(ours):
    """A runner whose next step captures."""
    runner = GraphRunner(ours, 3, 20, 5)
    runner.begin(Condition(*text_states(MONO)))
    runner.prefill(torch.full((3, 4, 3), 5))
    return runner


def test_after_a_failed_capture_the_next_step_captures_again(gpu, monkeypatch):
    ours, _ = build_pair(MONO)
    ours.cuda()
    runner, tokens = started(ours), torch.full((3, 4), 5)
    real, calls = ours.step_static, []

    def fails_in_the_graph(*args):
        calls.append(1)
        if len(calls) == 4:  # after three to warm up
            raise torch.OutOfMemoryError("no room for the graph")
        return real(*args)

    monkeypatch.setattr(ours, "step_static", fails_in_the_graph)
    with pytest.raises(torch.OutOfMemoryError):
        runner.step(tokens)
    assert torch.equal(runner.step(tokens), started(ours).step(tokens))


def test_a_second_thread_waits_for_the_capture_of_the_first(gpu, monkeypatch):
    ours, _ = build_pair(MONO)
    ours.cuda()
    first, second = started(ours), started(ours)
    real, inside, failures = ours.step_static, threading.Event(), []

    def slow(*args):
        inside.set()
        threading.Event().wait(0.1)  # long enough for the other to come in between
        return real(*args)

    def capture():
        inside.wait(10)
        try:
            with Pretence() if PretendedGraph is torch.cuda.CUDAGraph else nullcontext():
                second.step(torch.full((3, 4), 5))
        except RuntimeError as error:
            failures.append(error)

    monkeypatch.setattr(ours, "step_static", slow)
    thread = threading.Thread(target=capture)
    thread.start()
    expected = first.step(torch.full((3, 4), 5))
    thread.join()
    assert not failures
    assert torch.equal(second._logits, expected)


def test_the_pretence_refuses_what_a_gpu_refuses():
    with pretended_gpus():
        here, there, other = torch.ones(2), torch.ones(2).to("cuda"), torch.ones(2).to("cuda:1")
        for pair in ([here, there], [there, other]):
            with pytest.raises(MixedDevicesError):
                torch.cat(pair)
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        there.cpu().add_(1)
        assert there.tolist() == [1, 1]
        assert (there * torch.tensor(2.0)).device == torch.device("cuda:0")
        with torch.cuda.graph(torch.cuda.CUDAGraph()), pytest.raises(CaptureError):
            there.sum().item()
    assert not torch.cuda.is_available()


def test_a_pretended_graph_runs_only_when_it_is_replayed():
    with pretended_gpus():
        count = torch.zeros(1, device="cuda")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            doubled = count.add_(1) * 2
        assert count.item() == 0
        graph.replay()
        graph.replay()
        assert (count.item(), doubled.item()) == (2, 4)
        with torch.cuda.graph(empty := torch.cuda.CUDAGraph()):  # on a stream of the first GPU
            torch.zeros(1, device="cuda:1").add_(1)
        assert not empty.calls


def test_a_graph_follows_a_beat_and_forgets_it(gpu):
    ours, _ = build_pair(MONO)
    ours.cuda()
    condition = Condition(*text_states(MONO))
    graph, eager = GraphRunner(ours, 3, 20, 5), EagerRunner(ours, 3, 20)
    tokens = torch.full((3, 4), 5, device="cuda")
    shape = (MONO.num_layers, 3, 20, MONO.hidden_size)
    seen = []
    for beat in (None, torch.randn(shape) * 0.3, torch.randn(shape) * 0.3, None):
        logits = []
        for runner in (graph, eager):
            runner.begin(condition)
            runner.follow(beat)
            runner.prefill(torch.full((3, 4, 3), 5))
            runner.step(tokens)
            logits.append(runner.step(tokens).clone())
        assert torch.allclose(logits[0], logits[1], atol=1e-4)
        seen.append(logits[0])
    assert torch.equal(seen[0], seen[3])
    assert (seen[0] - seen[1]).abs().max() > 0.01 < (seen[1] - seen[2]).abs().max()
