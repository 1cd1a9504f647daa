import pytest
import torch

from musicgen_rl.config import SamplingConfig
from musicgen_rl.lm.condition import Condition
from musicgen_rl.sampling.decode import DecodeStream, Window
from musicgen_rl.sampling.randomness import clip_seed
from musicgen_rl.sampling.runner import EagerRunner, GraphRunner, pad_condition
from tests.equivalence.shapes import SHAPES, build_pair, text_states

MONO = SHAPES["mono"]


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


@pytest.mark.gpu
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_captured_graph_decodes_what_eager_decodes(guidance):
    ours, _ = build_pair(MONO)
    ours.cuda()
    sampling = SamplingConfig(temperature=0.0, guidance_scale=guidance)

    def graph(rows, max_steps, text_length):
        return GraphRunner(ours, rows, max_steps, text_length)

    def eager(rows, max_steps, text_length):
        return EagerRunner(ours, rows, max_steps)

    assert torch.equal(decoded(graph, sampling), decoded(eager, sampling))


@pytest.mark.gpu
@torch.inference_mode()
def test_a_captured_graph_follows_weights_written_in_place():
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


@pytest.mark.gpu
def test_a_graph_serves_another_prompt_without_a_new_capture():
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
