"""Decoding on a CPU with one native call a step.

At one clip a step is bound by the bytes of the weights, and in eager torch by the fixed cost of
its hundred-odd operations. Here weights, keys and values are int8 and the whole model is a program
of a few dozen lines that one compiled function (`compiled_kernels.run`) walks through. Prefill runs
the same program over more tokens, so cached and uncached agree to the bit, and a row gives the same
numbers whatever the other rows are and however many threads there are.
"""

from collections.abc import Callable
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from musicgen_rl.config import LMConfig
from musicgen_rl.errors import ConfigError, InputError
from musicgen_rl.lm import compiled_layout as layout
from musicgen_rl.lm.compiled_native import Block, NativeFunction, native_function
from musicgen_rl.lm.compiled_program import projection_program, step_program, text_program
from musicgen_rl.lm.compiled_threads import run_threads
from musicgen_rl.lm.compiled_weights import CompiledWeights, aligned
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.transformer import MusicLM, sinusoids

RUN = "musicgen_rl.lm.compiled_kernels", "run"
"""Where the native code of a step is."""
_BLOCK = 128
"""Tokens that prefill runs at once: enough for speed, little memory, no change of results."""


def int8_available() -> bool:
    """Tell whether int8 decoding can run: numba compiles its kernels."""
    return find_spec("numba") is not None


class CompiledRunner:
    """Decode `rows` sequences side by side.

    Not for use by several threads at once; several runners may share one CompiledWeights.

    Args:
        model: a model (its weights are quantized) or weights quantized before.
        rows: sequences; guidance has two a clip.
        max_steps: longest sequence between two `begin` or `reset`.
    """

    native = True

    def __init__(self, model: MusicLM | CompiledWeights, rows: int, max_steps: int) -> None:
        if rows < 1 or max_steps < 1:
            raise ConfigError(f"rows and max_steps must be >= 1, got {rows} and {max_steps}")
        self.weights = CompiledWeights.from_model(model) if isinstance(model, MusicLM) else model
        self.config = self.weights.config
        self.rows, self.max_steps, self.length = rows, max_steps, 0
        config = self.config
        D, K, V = config.hidden_size, config.num_codebooks, config.codebook_size
        N = max(rows, _BLOCK)
        self._positions = sinusoids(max(config.max_frames, max_steps) + K, D).numpy()
        self._counts = np.zeros(rows, np.int64)
        self._picks = np.zeros(rows, np.int64)
        self._row, self._place = np.zeros(N, np.int64), np.zeros(N, np.int64)
        self._tokens = np.zeros((N, K), np.int64)
        widest_out = max(3 * D, config.ffn_size)
        widest_in = max(at.width for at in self.weights.places.values())
        self._x = aligned((N, D), np.float32)
        self._z = aligned((N, max(D, config.text_hidden_size)), np.float32)
        self._y = aligned((N, widest_out), np.float32)
        self._out, self._out_scale = aligned((N, widest_in), np.int16), aligned((N,), np.float32)
        self._logits = aligned((rows, K * V), np.float32)
        self._beat = aligned((1, 1, 1, D), np.float32)  # as large as it must be once there is one
        self._follows = False
        self._result = torch.from_numpy(self._logits).view(rows, K, V)
        self._rows = np.arange(rows)
        self._self = _Memory(config, rows, max_steps)
        self._cross = _Memory(config, rows, 1)
        self._step_program = step_program(self.weights)
        self._text_program = text_program(self.weights)
        self._projection = projection_program(self.weights)
        self._native = _on_block(native_function(*RUN))
        self._ready = False

    @torch.no_grad()
    def begin(self, condition: Condition) -> None:
        """Take the prompts and forget what was decoded.

        Args:
            condition: text states of `rows` prompts; a row whose mask is all False is the null
                prompt, whose cross-attention is exactly zero.

        Raises:
            InputError: another number of prompts, or another width.
        """
        hidden, mask = condition.hidden.detach().float().cpu(), condition.mask.cpu()
        expected = self.config.text_hidden_size
        if hidden.shape[0] != self.rows or hidden.shape[2] != expected:
            raise InputError(
                f"the text states have shape {tuple(hidden.shape)}, this runner takes "
                f"{self.rows} prompts of width {expected}"
            )
        if mask.shape[1] > self._cross.steps:
            self._cross = _Memory(self.config, self.rows, mask.shape[1])
        self._follows = False
        # Only real states are kept, side by side, so padding has no influence at all.
        self._counts[:] = mask.sum(1).numpy()
        row, place = mask.nonzero(as_tuple=True)
        place = (mask.cumsum(1) - 1)[row, place]
        text = hidden[mask].numpy()  # [M, text D]
        block = len(self._row)
        self._bind()
        for start in range(0, len(text), block):
            count = min(block, len(text) - start)
            self._z[:count, : text.shape[1]] = text[start : start + count]
            self._row[:count] = row[start : start + count].numpy()
            self._place[:count] = place[start : start + count].numpy()
            if len(self._projection):
                self._run(self._projection, count, 0)
                D = self.config.hidden_size
                self._z[:count, :D] = self._y[:count, :D] + self.weights.text_bias
            self._run(self._text_program, count, 0)
        self.reset()
        self._ready = True

    def follow(self, beat: Tensor | None) -> None:
        """Take what is added before each block at every step, [L, rows, max_steps, D]."""
        self._follows = beat is not None
        if beat is None:
            return
        if self._beat.shape != tuple(beat.shape):
            self._beat = aligned(tuple(beat.shape), np.float32)
            self._bind()
        self._beat[:] = beat.numpy()

    def reset(self) -> None:
        """Forget the decoded steps, keep the text."""
        self.length = 0

    def prefill(self, tokens: Tensor) -> Tensor:
        """Run S steps at once on top of what is held.

        Args:
            tokens: long [rows, K, S], in [0, V].

        Returns:
            Logits of the last step, float32 [rows, K, V]; the next call overwrites them.

        Raises:
            InputError: a token out of range, a wrong shape, or more steps than `max_steps`.
            ConfigError: `begin` was not called.
        """
        S = tokens.shape[-1]
        self._check(tuple(tokens.shape), S)
        block = max(1, len(self._row) // self.rows)
        for start in range(0, S, block):
            part = tokens[:, :, start : start + block]
            steps = part.shape[2]
            N = self.rows * steps
            self._tokens[:N] = part.transpose(1, 2).reshape(N, -1).numpy()
            self._row[:N] = np.repeat(np.arange(self.rows), steps)
            self._place[:N] = np.tile(np.arange(self.length, self.length + steps), self.rows)
            self._picks[:] = np.arange(self.rows) * steps + steps - 1
            self._run(self._step_program, N, self.rows if start + steps == S else 0)
            self.length += steps
        return self._result

    def step(self, tokens: Tensor) -> Tensor:
        """Run one step.

        Args:
            tokens: long [rows, K], in [0, V].

        Returns:
            Logits, float32 [rows, K, V]; the next call overwrites them.

        Raises:
            InputError, ConfigError: as `prefill`.
        """
        # As prefill of one step, without its bookkeeping, which would take a third of the time.
        self._check((*tokens.shape, 1), 1)
        N = self.rows
        self._tokens[:N] = tokens.numpy()
        self._row[:N] = self._picks[:] = self._rows
        self._place[:N] = self.length
        self._run(self._step_program, N, N)
        self.length += 1
        return self._result

    def _check(self, shape: tuple[int, ...], steps: int) -> None:
        if not self._ready:
            raise ConfigError("this runner has no prompts yet: call begin first")
        if len(shape) != 3 or shape[:2] != (self.rows, self.config.num_codebooks) or steps < 1:
            raise InputError(
                f"tokens have shape {shape}, this runner takes {self.rows} rows of "
                f"{self.config.num_codebooks} codebooks"
            )
        if self.length + steps > self.max_steps:
            raise InputError(
                f"{self.length} + {steps} steps are more than this runner's {self.max_steps}: "
                "make it with a larger max_steps"
            )

    def _bind(self) -> None:
        """Collect the arguments that stay the same from step to step."""
        w, own, cross = self.weights, self._self, self._cross
        threads = torch.get_num_threads()
        self._threads = threads
        self._job = aligned((layout.JOB_SIZE,), np.int64)
        scores = aligned((threads, max(own.steps, cross.steps) + own.width), np.float32)
        query = aligned((threads, own.width), np.int16)
        # A helper that comes late must not join another program: each has its own control.
        self._blocks: dict[int, Block] = {}
        for program in (self._step_program, self._text_program, self._projection):
            control = aligned((layout.PHASES + 2 * len(program),), np.int64)
            control[layout.CLOSED] = 1
            self._blocks[id(program)] = Block(
                control, program, self._job, self._tokens, self._row, self._place, self._picks,
                self._counts, w.numbers, w.scales, w.norms, w.embed, self._positions,
                own.keys, own.key_scales, own.values, own.value_scales,
                cross.keys, cross.key_scales, cross.values, cross.value_scales,
                self._x, self._y, self._z, self._out, self._out_scale, query, scores,
                self._logits, self._beat,
            )  # fmt: skip

    def _run(self, program: NDArray[np.int64], tokens: int, picked: int) -> None:
        if torch.get_num_threads() != self._threads:
            self._bind()
        job, block = self._job, self._blocks[id(program)]
        job[layout.TOKENS], job[layout.PICKED], job[layout.BAD_TOKEN] = tokens, picked, 0
        job[layout.BEAT] = int(self._follows)
        run_threads(self._native, self._threads, block)
        if job[layout.BAD_TOKEN]:
            raise InputError(f"a token lies outside 0..{self.config.codebook_size}")


def _on_block(function: NativeFunction) -> Callable[[int, Block], None]:
    """Let a call hold its block, so that a helper that comes late finds it still there."""
    return lambda thread, block: function(thread, block.address)


class _Memory:
    """Keys and values of all layers, [layers, rows, heads, steps, head], and their scales."""

    def __init__(self, config: LMConfig, rows: int, steps: int) -> None:
        self.steps = -(-steps // layout.KEYS) * layout.KEYS
        self.width = -(-config.head_size // layout.HEAD_WIDTH) * layout.HEAD_WIDTH
        shape = config.num_layers, rows, config.num_heads, self.steps
        self.keys = aligned((*shape, self.width), layout.CACHE_DTYPE)
        self.values = aligned((*shape, self.width), layout.CACHE_DTYPE)
        self.key_scales = aligned(shape, np.float32)
        self.value_scales = aligned(shape, np.float32)
