"""The decoding loop: text states in, codes out, as many frames as asked for.

`DecodeStream` decides one column of the delayed grid a step and hands out frames as they become
complete. It is the only place that doubles the batch for guidance. Beyond the model's window it
slides: the last frames become the start of a fresh window, so that memory stays flat and positions
stay in the range the model was trained on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from musicgen_rl.config import LMConfig, SamplingConfig
from musicgen_rl.errors import ConfigError
from musicgen_rl.lm.condition import Condition, null_condition
from musicgen_rl.lm.delay import delays, shift_right
from musicgen_rl.lm.told import Teller
from musicgen_rl.sampling.draw import Draw, draw_for
from musicgen_rl.sampling.randomness import ClipUniforms
from musicgen_rl.sampling.recall import Recall, Remembered
from musicgen_rl.sampling.runner import Runner, pad_condition


class MakeRunner(Protocol):
    """Makes the runner for so many rows, steps and text states."""

    def __call__(self, rows: int, max_steps: int, text_length: int) -> Runner:
        """Make it, or hand out one made before that is free again."""
        ...


@dataclass(frozen=True, kw_only=True)
class Window:
    """How much of the past the model sees."""

    frames: int
    """Longest context in frames; at most what the model was trained on."""
    keep_frames: int
    """Frames carried into the next window when this one is full."""

    def __post_init__(self) -> None:
        """Check that something is kept and something is gained."""
        if not 1 <= self.keep_frames < self.frames:
            raise ConfigError(
                f"keep_frames must be from 1 to frames - 1 = {self.frames - 1}, "
                f"got {self.keep_frames}"
            )


class DecodeStream:
    """Decoding of B clips side by side, pulled frame by frame.

    Args:
        config: shape of the model.
        make_runner: gives the runner; asked again when guidance is switched on or off.
        condition: text of B clips.
        sampling: how tokens are drawn; `negative_prompt` comes in as `null` states.
        seeds: one a clip, from `clip_seed`.
        guided_frames: frames of new music that guidance steers; 0 for all.
        window: how much of the past the model sees.
        num_frames: where the clip ends, in frames of new music; None for no end.
        prompt: codes [B, K, P] to go on from; they are not handed out again.
        null: what guidance steers away from; the null condition where None.
        teller: tells B clips their beats and keys; nothing is told where None. Guidance hears it in
            both rows, so that it steers by the words alone.
        recall: knows which earlier places of B clips are to come back; nothing is where None.
        returning: how strongly it does, 0 not at all.

    Source: arXiv:2306.05284 (delay pattern, guidance); sliding as in its released code, windows of
    our own length.
    """

    def __init__(
        self,
        config: LMConfig,
        make_runner: MakeRunner,
        condition: Condition,
        sampling: SamplingConfig,
        *,
        seeds: list[int],
        window: Window,
        guided_frames: int = 0,
        num_frames: int | None = None,
        prompt: Tensor | None = None,
        null: Condition | None = None,
        teller: Teller | None = None,
        recall: Recall | None = None,
        returning: float = 1.0,
    ) -> None:
        self._teller = teller
        self._remembered: Remembered | None = None
        if recall is not None and returning:
            self._remembered = Remembered(recall, returning, config.codebook_size)
        self.config, self.sampling, self.window = config, sampling, window
        self._unguided = sampling.unguided()
        self.guided_until = guided_frames or None
        """Frame of the new music at which guidance ends; None for never."""
        self._make_runner = make_runner
        self._condition, self._null = condition, null
        self._late = delays(config.num_codebooks, config.audio_channels)
        K = config.num_codebooks
        self.num_clips = len(seeds)
        if condition.mask.shape[0] != self.num_clips:
            raise ConfigError(
                f"{condition.mask.shape[0]} prompts and {self.num_clips} seeds: one each, please"
            )
        self._uniforms = ClipUniforms(seeds, K)
        # Columns of the delayed grid inside the present window: what was decided, all on the CPU.
        max_steps = window.frames + self._late[-1]
        self._grid = torch.full((self.num_clips, K, max_steps), config.pad_token)
        self._decided = 0  # columns
        self._first = 0  # frame of the new music in the grid's first column
        self._prompt_frames = 0  # frames of the grid that were given, not sampled
        self._handed_out = 0  # frames of the grid already returned or given
        self._end = num_frames  # frame of the grid where the clip ends
        self._logits: Tensor | None = None  # for the next column, once the runner is up to date
        self._runner: Runner | None = None
        self._draw: Draw
        if prompt is not None and prompt.shape[-1]:
            self._take_prompt(prompt)

    @property
    def rows(self) -> int:
        """Rows of the batch: two a clip under guidance."""
        return self.num_clips * (2 if self.guided else 1)

    @property
    def guided(self) -> bool:
        """Whether guidance steers the next column."""
        if not self.sampling.guided:
            return False
        return self.guided_until is None or self.now < self.guided_until

    @property
    def now(self) -> int:
        """Frame of the new music that the next column decides; negative before it."""
        return self._first + self._decided

    @property
    def finished(self) -> bool:
        """Whether all frames asked for were handed out."""
        return self._end is not None and self._handed_out >= self._end

    @torch.no_grad()
    def advance(self, num_frames: int, stop: Callable[[], bool] | None = None) -> Tensor:
        """Make the next frames.

        Args:
            num_frames: how many; fewer come at the clip's end.
            stop: asked before every step; when it says True, what is complete is returned.

        Returns:
            Codes, long [B, K, t], t <= num_frames, on the CPU.
        """
        done: list[Tensor] = []
        missing = num_frames if self._end is None else min(num_frames, self._end - self._handed_out)
        while missing > 0:
            ready = min(self._complete_frames() - self._handed_out, missing)
            if ready > 0:
                done.append(self._take(ready))
                missing -= ready
            elif stop is not None and stop():
                break
            else:
                self._step()
        empty = self._grid.new_empty(self.num_clips, self.config.num_codebooks, 0)
        return torch.cat(done, dim=-1) if done else empty

    def change(
        self,
        *,
        condition: Condition | None = None,
        sampling: SamplingConfig | None = None,
        null: Condition | None = None,
    ) -> None:
        """Go on with another prompt or other sampling from the next step; the past is kept.

        Where guidance ends is as before: set `guided_until` first.
        """
        rows = self.rows
        if sampling is not None:
            self.sampling, self._unguided = sampling, sampling.unguided()
        if condition is not None or null is not None or self.rows != rows:
            self._condition = condition or self._condition
            self._null = null or self._null
            self._runner = None

    def refresh(self) -> None:
        """Compute the window again before the next step, after the weights have changed."""
        self._logits = None
        if self._runner is not None:
            self._runner.reset()

    def forget(self, keep_frames: int) -> None:
        """Hear nothing but the last frames from the next step on; nothing older comes back either.

        Args:
            keep_frames: of those that were handed out, at least 1.
        """
        gone = min(self._decided - self._late[-1], self._handed_out) - max(keep_frames, 1)
        if gone > 0:
            self._slide(gone)
        if self._remembered is not None:
            self._remembered.forget()

    def _step(self) -> None:
        """Decide one more column of the grid."""
        if self._runner is not None and self._runner.rows != self.rows:
            self._runner = None  # guidance has ended
        if self._decided == self._grid.shape[-1]:
            self._slide()
        s = self._decided
        if self._runner is None:
            self._start_runner()
        assert self._runner is not None
        if self._logits is None:  # a new or a reset runner: give it all columns at once
            inputs = shift_right(self._grid[..., : s + 1], self.config.pad_token)
            self._logits = self._runner.prefill(self._double(inputs))
        self._grid[..., s] = self._column(s, self._logits)
        if self._remembered is not None:
            self._remembered.hear(self._grid[..., s])
        self._decided += 1
        ready = self._decided < self._grid.shape[-1] and self._runner.rows == self.rows
        if ready and not self._finished():
            self._logits = self._runner.step(self._double(self._grid[..., s]))

    def _column(self, s: int, logits: Tensor) -> Tensor:
        """Choose the tokens [B, K] of column s: given, drawn, or padding outside the pattern."""
        if self._remembered is not None:
            logits = self._remembered.favour(s, logits)
        sampling = self.sampling if self.guided else self._unguided
        drawn = self._draw(logits, self._uniforms.next(), sampling)
        ends = self._end is not None and s >= self._end
        if s - self._late[-1] >= self._prompt_frames and not ends:
            return drawn  # all inside the pattern and new: nearly every column
        for k, late in enumerate(self._late):
            frame = s - late
            if frame < 0 or (self._end is not None and frame >= self._end):
                drawn[:, k] = self.config.pad_token
            elif frame < self._prompt_frames:
                drawn[:, k] = self._grid[:, k, s]
        return drawn

    def _start_runner(self) -> None:
        """Get a runner for the present rows and give it the text."""
        condition = self._condition
        if self.guided:
            null = self._null or null_condition(self.num_clips, condition.hidden.shape[-1], "cpu")
            null = null.to(condition.hidden.device)  # text encoders may run on a GPU
            length = max(condition.mask.shape[1], null.mask.shape[1])
            pair = [pad_condition(c, length) for c in (condition, null)]
            condition = Condition(
                torch.cat([c.hidden for c in pair]), torch.cat([c.mask for c in pair])
            )
        self._runner = self._make_runner(
            rows=self.rows, max_steps=self._grid.shape[-1], text_length=condition.mask.shape[1]
        )
        self._runner.begin(condition)
        self._follow()
        self._draw = draw_for(self._runner, self.config, self.num_clips)
        self._logits = None

    def _follow(self) -> None:
        """Tell the runner what holds in the present window."""
        if self._teller is not None and self._runner is not None:
            told = self._teller.told(self._first, self._grid.shape[-1])
            self._runner.follow(told if self.rows == self.num_clips else torch.cat([told] * 2, 1))
        if self._remembered is not None:
            self._remembered.follow(self._first, self._grid.shape[-1])

    def _double(self, tokens: Tensor) -> Tensor:
        """Give guidance its second row for every clip: prompts first, nulls behind."""
        return tokens if self.rows == self.num_clips else torch.cat([tokens, tokens])

    def _slide(self, first: int | None = None) -> None:
        """Start a fresh window with the last frames of this one.

        Column `first` of the old grid becomes column 0. The codes of frames before it that still
        stand in the first columns become padding, as at the start of every sequence in training.
        """
        if first is None:
            first = self._decided - self._late[-1] - self.window.keep_frames
        kept = self._grid[..., first : self._decided].clone()
        for k, late in enumerate(self._late):
            kept[:, k, :late] = self.config.pad_token
        self._grid.fill_(self.config.pad_token)
        self._grid[..., : kept.shape[-1]] = kept
        self._decided = kept.shape[-1]
        self._prompt_frames = max(self._prompt_frames - first, 0)
        self._handed_out -= first
        if self._end is not None:
            self._end -= first
        self._first += first
        self.refresh()
        self._follow()

    def _take_prompt(self, prompt: Tensor) -> None:
        """Lay the last frames of the given codes [B, K, P] into the grid."""
        P = min(prompt.shape[-1], self.window.keep_frames)
        for k, late in enumerate(self._late):
            self._grid[:, k, late : late + P] = prompt[:, k, prompt.shape[-1] - P :]
        self._first = -P
        self._decided = P  # later columns still lack codes of the new frames
        self._prompt_frames = self._handed_out = P
        if self._end is not None:
            self._end += P
        if self._remembered is not None:
            for column in self._grid[..., :P].unbind(-1):
                self._remembered.hear(column)

    def _complete_frames(self) -> int:
        """Count the frames of the grid whose last codebook is decided."""
        return max(self._decided - self._late[-1], 0)

    def _finished(self) -> bool:
        return self._end is not None and self._complete_frames() >= self._end

    def _take(self, count: int) -> Tensor:
        """Hand out the next `count` complete frames, [B, K, count]."""
        a = self._handed_out
        self._handed_out += count
        rows = [self._grid[:, k, a + d : a + d + count] for k, d in enumerate(self._late)]
        return torch.stack(rows, dim=1)


def decode(
    stream: DecodeStream, chunk_frames: int, stop: Callable[[], bool] | None = None
) -> Iterator[Tensor]:
    """Run a stream to its end in chunks of codes [B, K, chunk_frames]; the last may be shorter."""
    while True:
        codes = stream.advance(chunk_frames, stop)
        if codes.shape[-1]:
            yield codes
        if codes.shape[-1] < chunk_frames:
            return
