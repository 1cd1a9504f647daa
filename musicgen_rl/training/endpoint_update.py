"""What a gradient changes: the weights, their moving average, the reward's signal to noise."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from musicgen_rl.errors import ConfigError
from musicgen_rl.training.adapters import ParameterAverage
from musicgen_rl.training.endpoint_config import EndpointConfig
from musicgen_rl.training.endpoint_gradients import Gradients
from musicgen_rl.training.optim import rate_factor
from musicgen_rl.training.processes import Processes

_KEEP = 0.9  # of the smoothed signal and noise, at each measurement


class Updater:
    """Takes optimiser steps on an endpoint's parameters.

    Args:
        config: of the run.
        parameters: what is trained.
        processes: whose gradients are averaged.
    """

    def __init__(
        self, config: EndpointConfig, parameters: Mapping[str, nn.Parameter], processes: Processes
    ) -> None:
        self.config, self.parameters, self.processes = config, parameters, processes
        self.optimizer = torch.optim.AdamW(
            list(parameters.values()), lr=config.learning_rate,
            betas=(config.beta1, config.beta2), weight_decay=config.weight_decay,
        )  # fmt: skip
        self.average = ParameterAverage(parameters, config.ema_decay)
        self.signal = [0.0, 0.0, 0.0]  # sums of signal and of noise, and their weight

    def take(
        self, gradients: Gradients, *, step: int, progress: float, tokens: float, measured: bool
    ) -> dict[str, float]:
        """Average the gradient over processes, clip it and take the optimiser's step.

        Args:
            gradients: of the loss per token; those of both terms too where `measured`.
            step: its number.
            progress: share of the run that is done.
            tokens: of a clip, which brings the terms' norms back to the sum over a clip.
            measured: whether the terms were kept apart.

        Returns:
            Figures for the metrics.

        Raises:
            ConfigError: the gradient is not finite.
        """
        config, row = self.config, {}
        self.processes.average(gradients.total)
        if measured:
            for part in (gradients.kl, *gradients.halves):
                self.processes.average(part)
            row = self._measure(gradients, tokens)
        for name, parameter in self.parameters.items():
            parameter.grad = gradients.total[name]
        norm = float(nn.utils.clip_grad_norm_(self.parameters.values(), config.grad_clip))
        if not math.isfinite(norm):
            raise ConfigError(
                f"the gradient is {norm} at step {step}: the last save is intact, go on from it "
                f"with a lower learning_rate ({config.learning_rate:g}), or begin again in a new "
                f"folder with a lower diversity_weight ({config.diversity_weight:g})"
            )
        factor = rate_factor(step, progress, config.warmup_steps, config.final_rate)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * config.learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.parameters, step + 1)
        return {"grad_norm": norm, "rate": factor, **row}

    def _measure(self, gradients: Gradients, tokens: float) -> dict[str, float]:
        """Compare the terms' gradients, and the reward's signal with its noise.

        Both halves of the prompts have half the true gradient as their mean, so four times their
        product is its squared norm without bias, and the square of their difference is the noise
        of the whole.
        """
        even, odd = gradients.halves
        product = sum(float((even[n] * odd[n]).sum()) for n in even)
        noise = sum(float((even[n] - odd[n]).pow(2).sum()) for n in even)
        signal = 4.0 * product * tokens**2
        noise *= tokens**2
        self.signal = [
            _KEEP * old + (1 - _KEEP) * new
            for old, new in zip(self.signal, (signal, noise, 1.0), strict=True)
        ]
        return {
            "grad_norm_kl": tokens * _norm(gradients.kl),
            "grad_norm_reward": tokens * _norm({n: even[n] + odd[n] for n in even}),
            "reward_signal": signal,
            "reward_noise": noise,
            "reward_snr": self.signal[0] / max(self.signal[1], 1e-30),
        }


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return math.sqrt(sum(float(t.double().pow(2).sum()) for t in tensors.values()))
