from dataclasses import replace

import pytest
import torch

from musicgen_rl.lm.condition import null_condition
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.training import advantages as adv
from musicgen_rl.training import losses
from musicgen_rl.training.adapters import Student
from musicgen_rl.training.critic import CriticTrainer, EmbeddingCritic
from musicgen_rl.training.endpoint_step import Clock, EndpointStep
from musicgen_rl.training.rollout import repeat_condition, rollout, take_rows
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


def test_a_batch_knows_its_prompts_and_holds_their_clips_one_after_the_other():
    stepper = make(small_config())
    batch = stepper.make_clips(
        [7, 3], ["b", "a"], seed=1, first_clip=12, num_frames=T, first_prompt=4
    )
    assert (batch.prompts, batch.texts, batch.first_prompt) == ([7, 3], ["b", "a"], 4)
    assert batch.order.tolist() == [0, 1, 2, 3, 4, 5]
    words = HashText().encode(["b", "a"])
    assert torch.equal(batch.condition.hidden, words.hidden[[0, 0, 0, 1, 1, 1]])
    again = rollout(
        stepper.student.actor, repeat_condition(words, 3), seed=1, first_clip=12, num_frames=T,
        temperature=1.0,
    )  # fmt: skip
    assert torch.equal(batch.codes, again)


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


def by_definition_of_clips(stepper, batch, pay):
    """The gradient of minus what each clip is paid times all its log-probabilities, per token."""
    targets = apply_delay(batch.codes, 40)
    inputs, aims = shift_right(targets, 40), targets.transpose(1, 2)
    log_probs = stepper.student.model(inputs, batch.condition).transpose(1, 2).log_softmax(-1)
    taken = (losses.chosen(log_probs, aims) * (aims < 40)).sum(2)
    loss = losses.policy_gradient_loss(taken, pay.unsqueeze(1).expand(-1, S)) / (3 * T)
    return torch.autograd.grad(loss, list(stepper.student.parameters.values()))


@pytest.mark.parametrize("kl_share", [1.0, 0.5])
@pytest.mark.parametrize("baseline", ["none", "prompts", "pairs"])
def test_each_clip_is_paid_its_own_worth_less_the_baseline(baseline, kl_share):
    config = small_config(diversity_weight=1.0, credit="clip", baseline=baseline, kl_share=kl_share)
    stepper = make(config)
    batch = clips_of(stepper)
    e = batch.embeddings
    pay = adv.cosine_values(adv.means_of_others(e).flatten(0, 1), e.flatten(0, 1)).view(2, 3)
    less = {
        "none": torch.zeros(2, 3),
        "prompts": pay.mean(1, keepdim=True).flip(0).expand(2, 3),
        "pairs": -2 * (e @ e.mT)[:, [1, 0, 0], [2, 2, 1]],  # of three clips: the one other pair
    }[baseline]
    expected = by_definition_of_clips(stepper, batch, (pay - less).flatten())
    found, figures, states = stepper.gradients(
        batch, kl_weight=0.0, reward_weight=1.0, measure=False
    )
    for name, gradient in zip(stepper.student.parameters, expected, strict=True):
        torch.testing.assert_close(found.total[name], gradient, rtol=2e-3, atol=2e-6)
    assert figures["advantage_mean"] == pytest.approx((pay - less).mean().item(), abs=1e-6)
    rms = (pay - less).square().mean().sqrt().item()
    assert figures["advantage_rms"] == pytest.approx(rms, rel=1e-4)
    assert states is None


@pytest.mark.parametrize("reward", ["determinant", "answered"])
def test_other_rewards_pay_by_their_own_values(reward):
    stepper = make(small_config(
        diversity_weight=1.0, credit="clip", baseline="none", reward=reward, ridge=0.3,
    ))  # fmt: skip
    batch = clips_of(stepper)
    e = batch.embeddings
    others, mu = adv.others_of(e).flatten(0, 1), adv.means_of_others(e).flatten(0, 1)
    pay = (
        adv.determinant_values(others, e.flatten(0, 1), 0.3)
        if reward == "determinant"
        else adv.answered_values(mu, e.flatten(0, 1))
    )
    expected = by_definition_of_clips(stepper, batch, pay)
    found, _, _ = stepper.gradients(batch, kl_weight=0.0, reward_weight=1.0, measure=False)
    for name, gradient in zip(stepper.student.parameters, expected, strict=True):
        torch.testing.assert_close(found.total[name], gradient, rtol=2e-3, atol=2e-6)


@pytest.mark.parametrize("micro", [2, 6])
def test_figures_are_means_over_clips_and_sums_over_their_tokens(micro):
    stepper = make(small_config(micro_batch_size=micro, forward_share=0.3, temperature=0.8))
    batch = clips_of(stepper)
    _, figures, _ = stepper.gradients(batch, kl_weight=1.0, reward_weight=0.0, measure=False)
    targets = apply_delay(batch.codes, 40)
    inputs, real = shift_right(targets, 40), (targets < 40).transpose(1, 2)
    with torch.no_grad():
        student = (stepper.student.model(inputs, batch.condition) / 0.8).log_softmax(-1)
        student = student.transpose(1, 2)
        conditional = stepper.teacher(inputs, batch.condition).transpose(1, 2)
        null = stepper.teacher(inputs, null_condition(6, 384, "cpu")).transpose(1, 2)
    teacher = losses.guided_teacher(conditional, null, 3.0)
    reverse, forward, entropy = (
        (each * real).sum(1).mean(0)
        for each in (
            losses.reverse_kl(student, teacher), losses.forward_kl(student, teacher),
            losses.entropy(student),
        )
    )  # fmt: skip
    assert figures["kl"] == pytest.approx(reverse.sum().item(), rel=1e-4)
    assert figures["kl_per_codebook"] == pytest.approx((reverse / T).tolist(), rel=1e-4)
    assert figures["forward_kl"] == pytest.approx(forward.sum().item(), rel=1e-4)
    assert figures["entropy"] == pytest.approx(entropy.sum().item() / (3 * T), rel=1e-4)
    assert figures["tokens_per_clip"] == 3 * T


def test_the_kl_of_each_clip_is_told_by_clip_and_unweighted():
    stepper = make(small_config(micro_batch_size=4, codebook_weights="1,0", kl_share=0.5))
    batch = clips_of(stepper)
    each = stepper.kl_of(batch)
    whole = make(small_config(), stepper.student)
    _, figures, _ = whole.gradients(batch, kl_weight=1.0, reward_weight=0.0, measure=False)
    assert each.shape == (6,)
    assert figures["kl"] == pytest.approx(each.mean().item(), rel=1e-4)
    last = take_rows(batch.condition, slice(5, 6))
    alone = replace(
        batch, codes=batch.codes[5:], condition=last, order=torch.zeros(1, dtype=torch.long)
    )
    assert stepper.kl_of(alone).item() == pytest.approx(each[5].item(), rel=1e-4)


def test_the_critic_learns_each_states_own_clip():
    """States come by row, embeddings by clip: a share of the KL puts rows in another order."""
    stepper = make(small_config(kl_share=0.5, diversity_weight=1.0))
    batch = clips_of(stepper)
    given = []
    stepper.critic.update = lambda states, flat, seed: given.append((states, flat, seed)) or {}
    states = torch.randn(6, S, 32)
    stepper.learn_values(batch, states, 9)
    ((seen, flat, seed),) = given
    assert torch.equal(seen, states)
    assert seed == 9
    for row, clip in enumerate(batch.order.tolist()):
        assert torch.equal(flat[row], batch.embeddings[clip // 3, clip % 3])


def test_seconds_of_a_part_add_up():
    times = iter([1.0, 4.0, 10.0, 10.5, 20.0, 22.0])
    clock = Clock(torch.device("cpu"), lambda: next(times))
    for part in ("student", "teacher", "student"):
        with clock(part):
            pass
    assert clock.seconds == {"student": 5.0, "teacher": 0.5}


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


def test_in_16_bits_logits_are_narrow_and_distributions_are_not():
    """The student at the teacher has the teacher's logits, and next to no KL."""
    config = small_config(guidance_scale=1.0)
    student = Student(LM, small_lm(0).state_dict())
    stepper = make(config, student, autocast=lambda: torch.autocast("cpu", torch.bfloat16))
    batch = clips_of(stepper)
    _, figures, _ = stepper.gradients(batch, kl_weight=1.0, reward_weight=0.0, measure=False)
    assert figures["kl"] == pytest.approx(0.0, abs=1e-2)
    assert stepper.kl_of(batch).abs().max() < 1e-2
    _, wide, _ = make(config, student).gradients(
        batch, kl_weight=1.0, reward_weight=0.0, measure=False
    )
    assert figures["entropy"] != wide["entropy"]  # the logits were narrow
    assert figures["entropy"] == pytest.approx(wide["entropy"], rel=0.02)


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
