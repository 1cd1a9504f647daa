"""What a language model's codes cost: each of them, and those of held-out crops."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from musicgen_rl.config import LMConfig
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.training.cross_entropy import cross_entropy
from musicgen_rl.training.dataset import TextStates, TokenDataset

EVAL_SEED = 20_240
"""Held-out crops are drawn with this seed in every run, so that runs can be compared."""


def token_losses(logits: Tensor, targets: Tensor, pad: int) -> Tensor:
    """Compute the cross-entropy of each code.

    Args:
        logits: [B, K, S, V], any float dtype.
        targets: delayed tokens [B, K, S]; `pad` marks places that do not count.
        pad: the padding token, V.

    Returns:
        Nats, float32 [B, K, S], zero where the target is `pad`.
    """
    # The heads' order in memory is [B, S, K, V]: no copy of the logits is made in it.
    return cross_entropy(logits.transpose(1, 2), targets.transpose(1, 2), pad).transpose(1, 2)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    config: LMConfig,
    data: TokenDataset,
    text: TextStates,
    *,
    rows: int,
    crop_frames: int,
    micro_batch_size: int,
    device: torch.device,
) -> dict[str, Any]:
    """Measure the loss on fixed held-out crops, with their prompts and without.

    Args:
        model: gives logits; left in the mode it was in.
        config: its shape.
        data: held-out pieces.
        text: states of their captions.
        rows: crops.
        crop_frames: T.
        micro_batch_size: crops at once.
        device: of the model.

    Returns:
        loss and loss_null in nats a code, and both per codebook.
    """
    was_training = model.training
    model.eval()
    totals = torch.zeros(2, config.num_codebooks, dtype=torch.float64)
    count = torch.zeros(config.num_codebooks, dtype=torch.float64)
    for chunk in chunks_of(range(rows), micro_batch_size):
        batch = data.draw(EVAL_SEED, chunk, crop_frames)
        targets = apply_delay(batch.codes, config.pad_token, config.audio_channels).to(device)
        count += (targets != config.pad_token).sum((0, 2)).cpu()
        for which, captions in enumerate((batch.captions, (-1,) * len(chunk))):
            condition = text.condition(captions).to(device)
            logits = model(shift_right(targets, config.pad_token), condition)
            totals[which] += token_losses(logits, targets, config.pad_token).sum((0, 2)).cpu()
    model.train(was_training)
    given, null = totals / count
    overall = totals.sum(1) / count.sum()
    return {
        "loss": overall[0].item(),
        "loss_null": overall[1].item(),
        "loss_per_codebook": given.tolist(),
        "loss_null_per_codebook": null.tolist(),
    }


def chunks_of(rows: range, size: int) -> Iterator[range]:
    """Cut rows into runs of `size`; the last may be shorter."""
    for first in range(rows.start, rows.stop, size):
        yield range(first, min(rows.stop, first + size))
