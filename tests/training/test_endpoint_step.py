import pytest
import torch

from musicgen_rl.lm.condition import null_condition
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.training import advantages as adv
from musicgen_rl.training import losses
from musicgen_rl.training.adapters import Student
from musicgen_rl.training.critic import CriticTrainer, EmbeddingCritic
from musicgen_rl.training.endpoint_step import EndpointStep
from tests.training.endpoint_fakes import (
    LM,
    CodeSound,
    HashText,
    ShareEncoder,
    small_config,
    small_lm,
)

T, S = 10, 12


def make(config, student=None, **changes):
    teacher = small_lm(0)
    student = student or Student(LM, small_lm(1).state_dict())
    torch.manual_seed(5)
    critic = CriticTrainer(EmbeddingCritic(32, 8, width=16), 1e-2, 1)
    torch.nn.init.normal_(critic.critic.out.weight, std=0.3)
    parts = {"encoder": ShareEncoder(), "critic": critic, "bank": adv.EmbeddingBank(0.0)} | changes
    return EndpointStep(
        config, student, teacher, HashText(), CodeSound(), device=torch.device("cpu"), **parts
    )


def clips_of(stepper, prompts=2):
    batch = stepper.make_clips(
        list(range(prompts)), [f"p{i}" for i in range(prompts)], seed=1, first_clip=0, num_frames=T
    )
    stepper.hear(batch)
    return batch


def by_definition(stepper, batch, beta):
    """The whole objective per token by the readable functions and autograd, in one batch."""
    config, student, teacher = stepper.config, stepper.student.model, stepper.teacher
    targets = apply_delay(batch.codes, 40)
    inputs, aims = shift_right(targets, 40), targets.transpose(1, 2)
    given = batch.condition
    with torch.no_grad():
        hidden = teacher.hidden_states(inputs, given)
        conditional = teacher.logits(hidden).transpose(1, 2)
        null = teacher(inputs, null_condition(len(inputs), 384, "cpu")).transpose(1, 2)
        guided = losses.guided_teacher(conditional, null, config.guidance_scale)
    log_probs = (student(inputs, given).transpose(1, 2) / config.temperature).log_softmax(-1)
    weights = losses.token_weights(3, T)
    kl = (losses.reverse_kl(log_probs, guided) * weights).sum() / len(inputs)
    flat = batch.embeddings.flatten(0, 1)
    mu = adv.means_of_others(batch.embeddings).flatten(0, 1)
    with torch.no_grad():
        values = adv.cosine_values(mu, stepper.critic.critic(hidden))
    advantages = adv.gae(values, adv.cosine_values(mu, flat), config.gae_lambda)
    taken = (losses.chosen(log_probs, aims) * (aims < 40)).sum(2)
    loss = kl + beta * losses.policy_gradient_loss(taken, advantages)
    return loss / (3 * T), kl


@pytest.mark.parametrize("micro", [2, 6])
def test_a_steps_gradient_is_the_objectives(micro):
    config = small_config(micro_batch_size=micro, diversity_weight=7.0, temperature=0.8)
    stepper = make(config)
    batch = clips_of(stepper)
    loss, kl = by_definition(stepper, batch, 7.0)
    parameters = stepper.student.parameters
    expected = torch.autograd.grad(loss, list(parameters.values()))
    found, figures, states = stepper.gradients(
        batch, kl_weight=1.0, reward_weight=7.0, measure=False
    )
    for name, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(found.total[name], gradient, rtol=2e-3, atol=2e-6)
    assert figures["kl"] == pytest.approx(kl.item(), rel=1e-4)
    assert figures["kl_per_token"] == pytest.approx(kl.item() / (3 * T), rel=1e-4)
    assert states.shape == (6, S, 32)


def test_measured_parts_add_up_to_the_whole():
    stepper = make(small_config(diversity_weight=7.0))
    batch = clips_of(stepper)
    whole, _, _ = stepper.gradients(batch, kl_weight=1.0, reward_weight=7.0, measure=False)
    parts, _, _ = stepper.gradients(batch, kl_weight=1.0, reward_weight=7.0, measure=True)
    for name, total in whole.total.items():
        summed = parts.kl[name] + parts.halves[0][name] + parts.halves[1][name]
        torch.testing.assert_close(summed, total, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(parts.total[name], total, rtol=1e-3, atol=1e-6)


def test_weights_scale_their_own_part():
    stepper = make(small_config(diversity_weight=7.0))
    batch = clips_of(stepper)
    one, _, _ = stepper.gradients(batch, kl_weight=1.0, reward_weight=7.0, measure=True)
    two, _, _ = stepper.gradients(batch, kl_weight=2.0, reward_weight=21.0, measure=True)
    name = "blocks.0.ffn_in.weight"
    torch.testing.assert_close(two.kl[name], 2 * one.kl[name])
    torch.testing.assert_close(two.halves[0][name], 3 * one.halves[0][name])


def test_without_a_reward_the_teacher_is_all_and_the_student_at_the_teacher_rests():
    stepper = make(small_config(guidance_scale=1.0), Student(LM, small_lm(0).state_dict()))
    batch = clips_of(stepper)
    found, figures, _ = stepper.gradients(batch, kl_weight=1.0, reward_weight=0.0, measure=False)
    assert figures["kl"] == pytest.approx(0.0, abs=1e-3)
    assert max(float(t.abs().max()) for t in found.total.values()) < 1e-5


@pytest.mark.parametrize("kl_share", [1.0, 0.5])
def test_before_the_reward_is_paid_the_critic_alone_hears_of_it(kl_share):
    stepper = make(small_config(diversity_weight=7.0, kl_share=kl_share))
    batch = clips_of(stepper)
    found, figures, states = stepper.gradients(
        batch, kl_weight=1.0, reward_weight=0.0, measure=False
    )
    assert states.shape == (6, S, 32)
    assert figures["advantage_rms"] > 0
    other = make(small_config(kl_share=kl_share), stepper.student, critic=None)
    plain, _, none = other.gradients(batch, kl_weight=1.0, reward_weight=0.0, measure=False)
    assert none is None
    assert all(torch.equal(found.total[name], t) for name, t in plain.total.items())
    assert set(stepper.learn_values(batch, states, 0)) >= {"critic_start", "critic_error"}


@pytest.mark.parametrize("changes", [
    {"diversity_weight": 0.0}, {"diversity_weight": 7.0, "credit": "clip"},
])  # fmt: skip
def test_without_a_reward_to_come_or_a_critic_nothing_is_judged(changes):
    stepper = make(small_config(**changes))
    stepper.critic.critic.forward = None  # not to be called
    _, figures, states = stepper.gradients(
        clips_of(stepper), kl_weight=1.0, reward_weight=0.0, measure=False
    )
    assert states is None
    assert "advantage_rms" not in figures


@pytest.mark.parametrize("first_prompt", [0, 1])
def test_the_halves_of_the_reward_are_those_of_the_whole_step(first_prompt):
    stepper = make(small_config(diversity_weight=7.0))
    batch = stepper.make_clips(
        [4], ["p4"], seed=1, first_clip=3 * first_prompt, num_frames=T, first_prompt=first_prompt
    )
    stepper.hear(batch)
    found, _, _ = stepper.gradients(batch, kl_weight=1.0, reward_weight=7.0, measure=True)
    sizes = [sum(float(t.abs().sum()) for t in half.values()) for half in found.halves]
    assert sizes[first_prompt] > 0
    assert sizes[1 - first_prompt] == 0


def test_every_seed_that_the_config_allows_orders_the_clips():
    stepper = make(small_config(kl_share=0.5, seed=2**63 - 1))
    for seed in (7, 2**63 - 1):
        batch = stepper.make_clips([0, 1], ["a", "b"], seed=seed, first_clip=5, num_frames=2)
        generator = torch.Generator().manual_seed((seed * 1_000_003 + 5) % 2**63)
        assert batch.order.tolist() == torch.randperm(6, generator=generator).tolist()
    by_hand = torch.randperm(6, generator=torch.Generator().manual_seed(7 * 1_000_003 + 5))
    batch = stepper.make_clips([0, 1], ["a", "b"], seed=7, first_clip=5, num_frames=2)
    assert batch.order.tolist() == by_hand.tolist()


def test_a_share_of_the_kl_is_that_of_a_random_subset_of_clips():
    stepper = make(small_config(kl_share=0.5, clips_per_prompt=4, diversity_weight=1.0))
    batch = clips_of(stepper)
    assert sorted(batch.order.tolist()) == list(range(8))
    assert batch.order.tolist() != list(range(8))
    _, figures, _ = stepper.gradients(batch, kl_weight=1.0, reward_weight=0.0, measure=False)
    chosen = batch.order[:4]
    batch.codes, batch.condition = batch.codes[chosen], type(batch.condition)(
        batch.condition.hidden[chosen], batch.condition.mask[chosen]
    )  # fmt: skip
    batch.order = torch.arange(4)
    whole = make(small_config(clips_per_prompt=4, diversity_weight=1.0), stepper.student)
    _, expected, _ = whole.gradients(batch, kl_weight=1.0, reward_weight=0.0, measure=False)
    assert figures["kl"] == pytest.approx(expected["kl"], rel=1e-4)


def test_codebook_weights_reach_the_gradient():
    def gradient(weights):
        stepper = make(small_config(codebook_weights=weights))
        batch = clips_of(stepper)
        found, figures, _ = stepper.gradients(
            batch, kl_weight=1.0, reward_weight=0.0, measure=False
        )
        return found.total["heads.weight"].view(3, 40, 32).abs().sum((1, 2)), figures

    weighed, figures = gradient("1,0")
    assert weighed[0] > 0
    assert weighed[1:].tolist() == [0.0, 0.0]
    assert figures["kl"] == pytest.approx(gradient("")[1]["kl"])  # reported unweighted


def test_codes_that_are_not_paid_bring_no_gradient_of_the_reward():
    stepper = make(small_config(diversity_weight=7.0, reward_codebooks=2))
    found, _, _ = stepper.gradients(
        clips_of(stepper), kl_weight=1.0, reward_weight=7.0, measure=True
    )
    heads = [half["heads.weight"].view(3, 40, 32).abs().sum((1, 2)) for half in found.halves]
    assert all(h[2] == 0 and h[:2].min() > 0 for h in heads)
    assert found.kl["heads.weight"].view(3, 40, 32)[2].abs().sum() > 0


def test_a_negative_prompt_changes_the_teacher():
    plain, negative = make(small_config()), make(small_config(negative_prompt="bad sound"))
    batch = clips_of(plain)
    figures = [s.gradients(batch, kl_weight=1.0, reward_weight=0.0, measure=False)[1]["kl"]
               for s in (plain, negative)]  # fmt: skip
    assert figures[0] != pytest.approx(figures[1], rel=1e-3)


@pytest.mark.parametrize("changes", [
    {"credit": "clip", "baseline": "prompts"}, {"credit": "clip", "baseline": "pairs"},
    {"credit": "clip", "baseline": "none"}, {"reward": "determinant"},
])  # fmt: skip
def test_every_way_of_credit_makes_a_gradient_of_its_own(changes):
    usual, other = (make(small_config(diversity_weight=1.0, **c)) for c in ({}, changes))
    batch = clips_of(usual)
    found = [s.gradients(batch, kl_weight=0.0, reward_weight=1.0, measure=False)[0].total
             for s in (usual, other)]  # fmt: skip
    name = "blocks.1.ffn_out.weight"
    assert float(found[1][name].norm()) > 0
    assert not torch.allclose(found[0][name], found[1][name])
