"""Teach a language model words that it passes over: the true caption against wrong ones.

The plain loss of a caption's music hardly sees a tempo or a key, and a model can learn for days
without taking notice of either. What it costs to say 5 s of music under the true caption, less what
it costs under one that is wrong in a single fact, has nothing in it but that fact. So

    loss = -log softmax(-costs)[true] + anchor * KL(model as it was || model)

where costs are the nats of a crop's codes under its true caption and under M - 1 rivals. The first
term is the likelihood of the caption given the music when the model is turned round by Bayes' rule:
discriminative training of a generative model, "maximum mutual information" in speech recognition
(Bahl et al., ICASSP 1986), and for guidance-free image models condition contrastive alignment
(arXiv:2410.09347). The second, under the true caption, holds everything else as it was, the heat
of the heads too.
"""

import random
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from musicgen_rl.config import LMConfig
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.delay import apply_delay, shift_right
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.text.base import TextEncoder
from musicgen_rl.training.dataset import Batch, TextStates, TokenDataset, TokenPiece
from musicgen_rl.training.lm_loss import EVAL_SEED, token_losses
from musicgen_rl.training.metrics import MetricsLog
from musicgen_rl.training.pretrain import Trainer
from musicgen_rl.training.pretrain_config import ContrastConfig

Rivals: TypeAlias = Callable[[TokenPiece, random.Random], list[str]]
"""Writes M captions of a piece, the true one first; M is always the same."""


def contrast_loss(costs: Tensor) -> Tensor:
    """Turn costs [B, M] in nats, the true caption first, into -log of its share, [B]."""
    return -(-costs).log_softmax(1)[:, 0]


def divergence(before: Tensor, now: Tensor, real: Tensor) -> Tensor:
    """Sum KL(before || now) over the codes of a batch.

    Args:
        before: logits [B, K, S, V].
        now: logits of the same shape.
        real: which codes count, bool [B, K, S].

    Returns:
        Nats, float32 [B].
    """
    old, new = before.float().log_softmax(-1), now.float().log_softmax(-1)
    each = (old.exp() * (old - new)).sum(-1)
    return (each * real).sum((1, 2))


class ContrastTrainer(Trainer):
    """A run of `train contrast`: as the language model's own, with another loss.

    Dropout is off: rivals are compared under the same weights.
    """

    kind = "contrast"
    note = "contrast"

    def __init__(
        self,
        model_config: LMConfig,
        config: ContrastConfig,
        train_data: TokenDataset,
        valid_data: TokenDataset,
        text: TextStates,
        folder: Path,
        start: Mapping[str, Tensor],
        *,
        encoder: TextEncoder,
        rivals: Rivals,
        codec_hash: str | None = None,
        text_hash: str | None = None,
        manifest_hash: str | None = None,
    ) -> None:
        """Prepare; arguments as `pretrain`, and who writes and who reads the rivals."""
        super().__init__(
            model_config, config, train_data, valid_data, text, folder, start,
            codec_hash=codec_hash, text_hash=text_hash, manifest_hash=manifest_hash,
        )  # fmt: skip
        self.contrast, self.encoder, self.rivals = config, encoder, rivals
        self.before = MusicLM(model_config).to(self.accelerator.device)
        self.before.load_state_dict(dict(start))
        self.before.requires_grad_(False).eval()

    def _train_step(self, model: nn.Module) -> dict[str, Any]:
        config, accelerator = self.contrast, self.accelerator
        rows = config.batch_size // accelerator.num_processes
        first = self.progress.step * config.batch_size + accelerator.process_index * rows
        batch = self.train_data.draw(config.seed, range(first, first + rows), config.crop_frames)
        model.eval()
        sums = torch.zeros(3, device=accelerator.device)
        for index in range(0, rows, config.micro_batch_size):
            part = range(index, min(rows, index + config.micro_batch_size))
            waits = part.stop < rows and accelerator.num_processes > 1
            with accelerator.no_sync(model) if waits else nullcontext():
                loss, found = self._compare(model, self.train_data, batch, part, first)
                accelerator.backward(loss / rows)
            sums += found
        taken = self._update()
        contrast, kl, known = (accelerator.reduce(sums, "sum") / config.batch_size).tolist()
        return {
            "loss": contrast + config.anchor * kl, "contrast": contrast, "kl": kl, "known": known,
            **taken,
        }  # fmt: skip

    def _compare(
        self, model: nn.Module, data: TokenDataset, batch: Batch, part: range, first: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Compute the loss of some rows, and the sums of contrast, divergence and right guesses."""
        pad, device = self.model_config.pad_token, self.accelerator.device
        captions = [
            self.rivals(
                data.pieces[batch.pieces[row]], random.Random(f"{self.config.seed}-{first + row}")
            )
            for row in part
        ]
        M = len(captions[0])
        with torch.no_grad():
            text = self.encoder.encode([c for each in captions for c in each]).to(device)
        codes = batch.codes[part.start : part.stop]
        targets = apply_delay(codes, pad, self.model_config.audio_channels).to(device)
        each = targets.repeat_interleave(M, 0)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            logits = model(shift_right(each, pad), text)
        costs = token_losses(logits, each, pad).sum((1, 2)).view(-1, M)
        true = slice(None, None, M)
        with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            given = Condition(text.hidden[true], text.mask[true])
            old = self.before(shift_right(targets, pad), given)
        kl = divergence(old, logits[true], targets != pad)
        contrast = contrast_loss(costs)
        known = (costs[:, 0] <= costs.min(1).values).float()
        sums = torch.stack([contrast.sum(), kl.sum(), known.sum()]).detach()
        return (contrast + self.contrast.anchor * kl).sum(), sums

    def _evaluate(self, log: MetricsLog) -> None:
        """Compare on held-out crops too, always the same ones."""
        super()._evaluate(log)
        if not self.accelerator.is_main_process:
            return
        config = self.contrast
        rows = config.eval_rows
        batch = self.valid_data.draw(EVAL_SEED, range(rows), config.crop_frames)
        self.average.swap(self.model)
        self.model.eval()
        sums = torch.zeros(3, device=self.accelerator.device)
        with torch.no_grad():
            for index in range(0, rows, config.micro_batch_size):
                part = range(index, min(rows, index + config.micro_batch_size))
                sums += self._compare(self.model, self.valid_data, batch, part)[1]
        self.average.swap(self.model)
        contrast, kl, known = (sums / rows).tolist()
        now = self.progress
        now.last |= {"contrast": contrast, "kl": kl, "known": known}
        log.write("held_out", now.step, contrast=contrast, kl=kl, known=known)
        log.show(
            f"step {now.step}: held out {known:.0%} right, {contrast:.3f} nats, "
            f"{kl:.1f} from the start", force=True,
        )  # fmt: skip

    def _live_line(self, row: dict[str, Any], frames_per_s: float) -> str:
        line = super()._live_line(row, frames_per_s)
        return f"{line}  known {row['known']:.0%}  kl {row['kl']:.1f}"
