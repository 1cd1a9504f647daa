import math

import pytest
import torch
import torch.nn.functional as F

from musicgen_rl.lm.delay import apply_delay
from musicgen_rl.training import losses

B, K, T, V = 3, 2, 4, 5
S = T + K - 1


def sample():
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(B, S, K, V, generator=generator, requires_grad=True)
    teacher = torch.randn(B, S, K, V, generator=generator).log_softmax(-1)
    codes = torch.randint(V, (B, K, T), generator=generator)
    tokens = apply_delay(codes, V).transpose(1, 2)  # [B, S, K]
    advantages = torch.randn(B, S, generator=generator)
    return logits, teacher, tokens, advantages


def test_guidance_three_by_hand():
    conditional, null = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 0.0])
    found = losses.guided_teacher(conditional, null, 3.0)  # logits 3 and 0
    assert found[0].item() == pytest.approx(3 - math.log(math.exp(3) + 1))
    assert losses.guided_teacher(conditional, null, 0.0).exp().tolist() == pytest.approx([0.5, 0.5])


def test_reverse_and_forward_kl_by_hand():
    student, teacher = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.9, 0.1]).log()
    reverse = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    forward = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert losses.reverse_kl(student, teacher).item() == pytest.approx(reverse)
    assert losses.forward_kl(student, teacher).item() == pytest.approx(forward)


def test_reverse_kl_equals_torchs():
    logits, teacher, _, _ = sample()
    student = logits.log_softmax(-1)
    other = F.kl_div(teacher, student, log_target=True, reduction="none").sum(-1)
    torch.testing.assert_close(losses.reverse_kl(student, teacher), other)


def test_padding_has_no_weight_and_codebooks_their_own():
    weights = losses.token_weights(2, 3, 1, torch.tensor([1.0, 0.5]))
    assert weights.tolist() == [[1.0, 0.0], [1.0, 0.5], [1.0, 0.5], [0.0, 0.5]]
    assert losses.token_weights(2, 3).sum() == 6


def readable_loss(logits, teacher, tokens, advantages, weights, temperature, share):
    """The same objective by the definitions, differentiated by torch."""
    student = (logits / temperature).log_softmax(-1)
    kl = (1 - share) * losses.reverse_kl(student, teacher)
    kl = kl + share * losses.forward_kl(student, teacher)
    by_kl = (kl * weights).sum()
    real = tokens < V
    log_probs = (losses.chosen(student, tokens) * real).sum(2)  # [B, S]
    by_reward = B * losses.policy_gradient_loss(log_probs, advantages)
    return by_kl, by_reward, log_probs


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_closed_form_is_the_gradient_of_the_definitions(temperature, share):
    logits, teacher, tokens, advantages = sample()
    weights = losses.token_weights(K, T, 1, torch.tensor([1.0, 0.5]))
    by_kl, by_reward, log_probs = readable_loss(
        logits, teacher, tokens, advantages, weights, temperature, share
    )
    found = losses.logit_gradients(
        logits.detach(), tokens, weights, teacher=teacher.clone(), advantages=advantages,
        temperature=temperature, forward_share=share,
    )  # fmt: skip
    for expected, ours in ((by_kl, found.by_kl), (by_reward, found.by_reward)):
        (gradient,) = torch.autograd.grad(expected, logits, retain_graph=True)
        torch.testing.assert_close(ours, gradient, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.log_probs, log_probs.detach())


def test_only_the_first_codebooks_are_paid_where_that_was_asked_for():
    logits, _, tokens, advantages = sample()
    weights = losses.token_weights(K, T)
    given = {"advantages": advantages}
    every = losses.logit_gradients(logits.detach(), tokens, weights, **given).by_reward
    first = losses.logit_gradients(logits.detach(), tokens, weights, paid_codebooks=1, **given)
    torch.testing.assert_close(first.by_reward[:, :, 0], every[:, :, 0])
    assert first.by_reward[:, :, 1:].abs().max() == 0
    assert every[:, :, 1:].abs().max() > 0


def test_figures_leave_the_padding_out():
    logits, teacher, tokens, _ = sample()
    weights = losses.token_weights(K, T)
    found = losses.logit_gradients(logits.detach(), tokens, weights, teacher=teacher.clone())
    student, real = logits.detach().log_softmax(-1), tokens < V
    expected = (losses.reverse_kl(student, teacher) * real).sum(1)
    torch.testing.assert_close(found.kl, expected)
    torch.testing.assert_close(found.entropy, (losses.entropy(student) * real).sum(1))
    assert found.by_reward.numel() == 0
    assert found.by_kl[~real].abs().max() == 0


def test_the_policy_gradient_by_hand():
    log_probs = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]], requires_grad=True)
    advantages = torch.tensor([[1.0, 0.0], [0.5, -1.0]])
    loss = losses.policy_gradient_loss(log_probs, advantages)
    assert loss.item() == pytest.approx(-(-1.0 - 1.5 + 4.0) / 2)
    loss.backward()
    assert log_probs.grad.tolist() == [[-0.5, -0.0], [-0.25, 0.5]]


def test_summed_kl_grows_with_the_clip_and_so_beta_weighs_the_same():
    """Beta stands against the sum over tokens: twice the tokens is twice the KL, not the mean."""
    logits, teacher, tokens, _ = sample()
    weights = losses.token_weights(K, T)
    once = losses.logit_gradients(logits.detach(), tokens, weights, teacher=teacher.clone())
    twice = losses.logit_gradients(
        torch.cat([logits.detach()] * 2, 1), torch.cat([tokens] * 2, 1),
        torch.cat([weights] * 2), teacher=torch.cat([teacher] * 2, 1),
    )  # fmt: skip
    torch.testing.assert_close(twice.kl, 2 * once.kl)
