import pytest
import torch

from musicgen_rl.sampling.runner import EagerRunner
from musicgen_rl.training.adapters import Student
from musicgen_rl.training.rollout import decode_by, repeat_condition, rollout
from tests.training.endpoint_fakes import LM, HashText, small_lm


def test_the_rollout_draws_from_the_distribution_of_the_loss():
    """Frequencies of the first step's tokens against the student's probabilities there."""
    model, B, temperature = small_lm(2), 4000, 0.7
    condition = HashText().encode(["a"])
    codes = rollout(
        model, repeat_condition(condition, B), seed=3, first_clip=0, num_frames=2,
        temperature=temperature,
    )  # fmt: skip
    first = model(torch.full((1, 3, 1), 40), condition)[0, 0, 0] / temperature
    found = torch.bincount(codes[:, 0, 0], minlength=40) / B
    p = first.softmax(-1)
    assert float((found - p).abs().max()) < 4 * float((p * (1 - p) / B).sqrt().max())
    assert bool((found > 0)[p > 3e-3].all())  # the tail, which top-k would cut, is drawn too


def test_each_clip_of_a_run_hears_numbers_of_its_own():
    condition = repeat_condition(HashText().encode(["a"]), 2)
    first = rollout(small_lm(), condition, seed=3, first_clip=0, num_frames=4, temperature=1.0)
    later = rollout(small_lm(), condition, seed=3, first_clip=1, num_frames=4, temperature=1.0)
    assert torch.equal(first[1], later[0])
    assert not torch.equal(first[0], first[1])


@pytest.mark.gpu
def test_a_narrow_actor_in_a_captured_graph_decodes_what_eager_decodes():
    student = Student(LM, small_lm(1).state_dict(), device="cuda", actor_dtype=torch.bfloat16)
    condition = repeat_condition(HashText().encode(["a", "b"]), 8)
    tokens = torch.zeros(16, LM.num_codebooks, dtype=torch.long)
    logits = []
    for make in (decode_by(student.actor), lambda rows, steps, text: EagerRunner(
        student.actor, rows, steps, torch.bfloat16
    )):  # fmt: skip
        with torch.no_grad(), torch.autocast("cuda", torch.bfloat16):
            runner = make(16, 8, condition.mask.shape[1])
            runner.begin(condition)
            runner.prefill(tokens.unsqueeze(-1))
            logits.append(torch.stack([runner.step(tokens.cuda()).clone() for _ in range(3)]))
    torch.testing.assert_close(logits[0], logits[1], rtol=0, atol=0.05)
    codes = rollout(
        student.actor, condition, seed=3, first_clip=0, num_frames=4, temperature=1.0,
        autocast=lambda: torch.autocast("cuda", torch.bfloat16),
    )  # fmt: skip
    assert codes.shape == (16, LM.num_codebooks, 4)
