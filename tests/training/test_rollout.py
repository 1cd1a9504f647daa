import pytest
import torch

from musicgen_rl.lm.condition import Condition
from musicgen_rl.sampling.runner import EagerRunner
from musicgen_rl.training.adapters import Student
from musicgen_rl.training.rollout import (
    decode_by,
    frames_of,
    narrowed,
    repeat_condition,
    repeated_share,
    rollout,
    silent_share,
    sound,
    take_rows,
)
from tests.training.endpoint_fakes import LM, CodeSound, HashText, small_lm


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


def test_a_clip_is_silent_where_both_its_halves_are() -> None:
    quiet, loud = torch.full((3,), 0.0009), torch.full((2,), 0.5)  # -61 dB and -6 dB
    clips = torch.stack(
        [torch.cat([quiet, quiet[:2]]), torch.cat([quiet, loud]), torch.cat([loud, quiet])]
    )  # five samples: the halves are of two, the last sample stands alone
    assert silent_share(clips) == pytest.approx(1 / 3)
    assert silent_share(clips, threshold_db=-62.0) == 0.0
    assert silent_share(clips, threshold_db=0.0) == 1.0
    # One loud sample of a thousand is heard in the mean power: 0.25 / 500 is -33 dB.
    click = torch.zeros(1, 1000)
    click[0, 700] = 0.5
    assert (silent_share(click, -34.0), silent_share(click, -32.0)) == (0.0, 1.0)


def test_a_frame_repeats_where_all_its_codebooks_do() -> None:
    codes = torch.tensor([[[1, 1, 1, 2], [5, 5, 6, 6]], [[3, 3, 3, 3], [4, 4, 4, 4]]])
    assert repeated_share(codes) == pytest.approx((1 + 3) / 6)
    assert repeated_share(codes[..., :1]) == 0.0
    assert repeated_share(codes[..., :2]) == 1.0


def test_a_duration_is_a_whole_number_of_frames_and_two_at_least() -> None:
    assert [frames_of(s, 50.0) for s in (0.0, 0.03, 0.049, 0.052, 1.0)] == [2, 2, 2, 3, 50]


def test_prompts_are_repeated_in_their_order_with_their_masks() -> None:
    hidden = torch.arange(4.0).view(2, 2, 1)
    mask = torch.tensor([[True, True], [True, False]])
    twice = repeat_condition(Condition(hidden, mask), 2)
    assert twice.hidden.flatten(1).tolist() == [[0.0, 1.0]] * 2 + [[2.0, 3.0]] * 2
    assert twice.mask.tolist() == [[True, True]] * 2 + [[True, False]] * 2
    last = take_rows(twice, torch.tensor([3, 0]))
    assert last.hidden.flatten(1).tolist() == [[2.0, 3.0], [0.0, 1.0]]
    assert last.mask.tolist() == [[True, False], [True, True]]


class Stereo(CodeSound):
    """Sounds its codes on the left and silence on the right."""

    def decode(self, codes: torch.Tensor) -> torch.Tensor:
        left = super().decode(codes)
        return torch.cat([left, torch.zeros_like(left)], dim=1)


def test_channels_are_averaged_and_parts_joined_in_order() -> None:
    codes = torch.arange(5).view(5, 1, 1).expand(5, 3, 2) * 8
    heard = sound(Stereo(), codes, torch.device("cpu"), rows=2)
    assert heard.shape == (5, 6)
    assert heard[:, 0].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


def test_a_model_narrower_than_its_norms_is_told() -> None:
    model = small_lm()
    assert not narrowed(model)
    model.heads.to(torch.bfloat16)
    assert narrowed(model)
