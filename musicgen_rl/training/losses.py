"""The objective of diversity-rewarded guidance distillation, as pure functions of tensors.

    maximise  -E sum_n KL(student_n || teacher_n) + beta * E[1 - cos(E(y1), E(y2))]

These are the readable definitions, differentiated by torch. A training step uses
`logit_gradients`, which writes the same gradient down in closed form (and is tested against these).

Source: arXiv:2410.06084, equations for the distillation and the diversity objective.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from musicgen_rl.lm.delay import delay_mask
from musicgen_rl.sampling.guidance import guide


def guided_teacher(conditional: Tensor, null: Tensor, guidance_scale: float) -> Tensor:
    """Make the teacher's log-probabilities: guidance on logits, then softmax.

    Args:
        conditional: the frozen base's logits under the prompt, [..., V].
        null: under the null or the negative prompt, [..., V].
        guidance_scale: the paper's is 3.

    Returns:
        Log-probabilities, float32 [..., V].

    Source: arXiv:2410.06084, the guided teacher.
    """
    return guide(conditional.float(), null.float(), guidance_scale).log_softmax(-1)


def token_weights(
    num_codebooks: int,
    num_frames: int,
    audio_channels: int = 1,
    codebook_weights: Tensor | None = None,
) -> Tensor:
    """Weigh each place of the delayed grid: 0 where the pattern pads, else its codebook's weight.

    Args:
        num_codebooks: K.
        num_frames: T.
        audio_channels: of the model.
        codebook_weights: [K]; all 1 where None, as in the paper.

    Returns:
        float32 [S, K].
    """
    mask = delay_mask(num_codebooks, num_frames, audio_channels).float()  # [K, S]
    if codebook_weights is not None:
        mask = mask * codebook_weights.unsqueeze(1)
    return mask.T.contiguous()


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute KL(student || teacher) at each place, over the whole vocabulary.

    Args:
        student: log-probabilities [..., V].
        teacher: log-probabilities [..., V].

    Returns:
        Nats, [...].

    Source: arXiv:2410.06084 (reverse KL, closed form at every generated token).
    """
    return (student.exp() * (student - teacher)).sum(-1)


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Compute KL(teacher || student) at each place; arguments as `reverse_kl`.

    Source: arXiv:2408.00118 (distillation by the teacher's distribution), as an arm to compare.
    """
    return (teacher.exp() * (teacher - student)).sum(-1)


def chosen(log_probs: Tensor, tokens: Tensor) -> Tensor:
    """Take the log-probability of each token: [..., V] and long [...] to [...].

    Tokens outside the vocabulary (padding) give that of token 0: weigh them with zero.
    """
    inside = torch.where(tokens < log_probs.shape[-1], tokens, 0)
    return log_probs.gather(-1, inside.unsqueeze(-1)).squeeze(-1)


def policy_gradient_loss(log_probs: Tensor, advantages: Tensor) -> Tensor:
    """Return the loss whose gradient is minus the policy gradient.

    Args:
        log_probs: of each step's tokens, summed over its codebooks, [B, S].
        advantages: [B, S], no gradient.

    Returns:
        -mean over clips of sum over steps of advantage times log-probability, a scalar.

    Source: REINFORCE (Williams, 1992); arXiv:2410.06084 for the diversity reward.
    """
    return -(advantages.detach() * log_probs).sum(1).mean()


def entropy(log_probs: Tensor) -> Tensor:
    """Compute the entropy of [..., V] log-probabilities, nats [...]."""
    return -(log_probs.exp() * log_probs).sum(-1)


@dataclass(frozen=True)
class LogitGradients:
    """The loss of a micro-batch and its gradient at the student's logits."""

    kl: Tensor
    """Reverse KL of each codebook, summed over steps, unweighted, [b, K]."""
    forward: Tensor
    """Forward KL likewise; zeros unless it is part of the loss, [b, K]."""
    entropy: Tensor
    """Nats, summed over steps, [b, K]."""
    log_probs: Tensor
    """Of the chosen tokens, summed over a step's codebooks, [b, S]."""
    by_kl: Tensor
    """Gradient of the summed and weighted KL, [b, S, K, V]; empty where there is no teacher."""
    by_reward: Tensor
    """Gradient of the policy-gradient term, [b, S, K, V]; empty where there are no advantages."""


@torch.no_grad()
def logit_gradients(
    logits: Tensor,
    tokens: Tensor,
    weights: Tensor,
    *,
    teacher: Tensor | None = None,
    advantages: Tensor | None = None,
    temperature: float = 1.0,
    forward_share: float = 0.0,
    paid_codebooks: int = 0,
) -> LogitGradients:
    """Write the gradients of both terms at the logits down, without autograd's detours.

    With p = softmax(l / t) and d = log p - log q: the reverse KL's is p (d - KL) / t, the forward
    KL's (p - q) / t, the policy gradient's -A (onehot - p) / t.

    Args:
        logits: of the student, [b, S, K, V]; float32.
        tokens: what was drawn, delayed, [b, S, K]; padding has the value V.
        weights: of each place for the KL, [S, K]; zero outside the delay pattern.
        teacher: log-probabilities [b, S, K, V]; overwritten. None leaves the KL out.
        advantages: of each step, [b, S]; None leaves the reward out.
        temperature: the student's at sampling.
        forward_share: weight of the forward KL, 0 to 1; the reverse KL has the rest.
        paid_codebooks: whose codes the advantages pay, from the first on; 0 is all.

    Returns:
        Figures and gradients of sums over clips, steps and codebooks.
    """
    real = (tokens < logits.shape[-1]).float()  # [b, S, K]
    student = (logits if temperature == 1.0 else logits / temperature).log_softmax(-1)
    taken = chosen(student, tokens) * real
    p = student.exp()
    entropy_each = -torch.einsum("bskv,bskv->bsk", p, student) * real
    none = logits.new_empty(0)
    kl = forward = torch.zeros_like(entropy_each)
    by_kl = by_reward = none
    if teacher is not None:
        if forward_share:
            q = teacher.exp()
            forward = torch.einsum("bskv,bskv->bsk", q, teacher - student) * real
            pull = (p - q).mul_(forward_share)
        d = torch.sub(student, teacher, out=teacher)
        kl = torch.einsum("bskv,bskv->bsk", p, d)
        by_kl = d.sub_(kl.unsqueeze(-1)).mul_(p)
        if forward_share:
            by_kl.mul_(1 - forward_share).add_(pull)
        by_kl.mul_((weights * real / temperature).unsqueeze(-1))
        kl = kl * real
    if advantages is not None:
        scale = advantages.unsqueeze(-1) * real / temperature  # [b, S, K]
        if paid_codebooks:
            scale[..., paid_codebooks:] = 0.0
        by_reward = p.mul_(scale.unsqueeze(-1))
        index = torch.where(tokens < logits.shape[-1], tokens, 0).unsqueeze(-1)
        by_reward.scatter_add_(-1, index, -scale.unsqueeze(-1))
    return LogitGradients(
        kl=kl.sum(1),
        forward=forward.sum(1),
        entropy=entropy_each.sum(1),
        log_probs=taken.sum(2),
        by_kl=by_kl,
        by_reward=by_reward,
    )
