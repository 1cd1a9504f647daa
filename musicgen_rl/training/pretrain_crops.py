"""What one process learns from at a step: crops and their prompts, drawn ahead where that pays."""

from dataclasses import dataclass

from torch import Tensor

from musicgen_rl.config import LMConfig
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.delay import apply_delay
from musicgen_rl.training.dataset import TextStates, TokenDataset
from musicgen_rl.training.pretrain_config import PretrainConfig


@dataclass(frozen=True)
class Drawn:
    """What one process learns from in one step, still on the CPU."""

    key: tuple[int, int, float]
    """Step, rows, share of loops: what it follows from."""
    targets: Tensor
    """Delayed codes [B, K, S]."""
    condition: Condition
    """Of B prompts."""


class Crops:
    """Draws a process's crops of every step; `share` is the share of the run done by then.

    Args:
        config: of the run.
        model: shape of the model.
        data: pieces to learn from.
        text: states of their captions.
        process: number of the process.
        processes: how many there are; they divide the batch.
    """

    def __init__(
        self,
        config: PretrainConfig,
        model: LMConfig,
        data: TokenDataset,
        text: TextStates,
        *,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.config, self.model, self.data, self.text = config, model, data, text
        self.process, self.each = process, config.batch_size // processes
        self.ahead: Drawn | None = None

    def rows(self, share: float) -> int:
        """Crops of this process in a step: more of them where they are short."""
        short = share < self.config.short_share
        return (self.config.short_factor if short else 1) * self.each

    def take(self, step: int, share: float) -> tuple[Tensor, Condition]:
        """Give a step's delayed codes and its prompts, drawn ahead where the plan still holds."""
        ahead, self.ahead = self.ahead, None
        if ahead is None or ahead.key != self._key(step, share):
            ahead = self._draw(step, share)
        return ahead.targets, ahead.condition

    def draw_ahead(self, step: int, share: float) -> None:
        """Draw what `take` will be asked for."""
        self.ahead = self._draw(step, share)

    def _key(self, step: int, share: float) -> tuple[int, int, float]:
        return step, self.rows(share), self.config.loops_at(share)

    def _draw(self, step: int, share: float) -> Drawn:
        """Draw a step's crops, on the CPU."""
        config, model = self.config, self.model
        _, rows, loops = key = self._key(step, share)
        # Every step owns the numbers of its shortest crops, so that no row comes twice.
        first = config.short_factor * step * config.batch_size + self.process * rows
        batch = self.data.draw(
            config.seed,
            range(first, first + rows),
            config.crop_frames * self.each // rows,
            config.caption_dropout,
            loops,
        )
        targets = apply_delay(batch.codes, model.pad_token, model.audio_channels)
        return Drawn(key, targets, self.text.condition(batch.captions))
