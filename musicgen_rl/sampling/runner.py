"""Runners: what takes one decoding step on a given machine.

All have the same few methods. `EagerRunner` is plain torch and the reference. `GraphRunner`
replays a captured CUDA graph. On a CPU in int8, `musicgen_rl.lm.compiled` has one of its own.
"""

import threading
from functools import cache
from typing import Protocol

import torch
from torch import Tensor

from musicgen_rl.lm.cache import CrossStates, DecodeCache
from musicgen_rl.lm.condition import Condition
from musicgen_rl.lm.transformer import MusicLM

CAPTURING = threading.Lock()
"""Held while a graph is captured. Torch allows one capture at a time in a process, and what waits
for a whole device meanwhile, or empties torch's cache, breaks it."""


class Runner(Protocol):
    """Decodes `rows` sequences side by side, at most `max_steps` steps before a reset."""

    rows: int
    max_steps: int
    native: bool
    """Whether its steps are native code on the CPU, so that drawing should be too."""

    def begin(self, condition: Condition) -> None:
        """Take the text of all rows and forget what was decoded."""
        ...

    def follow(self, beat: Tensor | None) -> None:
        """Take what is added before each block at every step, [L, rows, max_steps, D].

        None adds nothing, as after `begin`. What was decoded must be reset, or be none.
        """
        ...

    def prefill(self, tokens: Tensor) -> Tensor:
        """Run S input steps [rows, K, S]; logits of the last one, [rows, K, V]."""
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Run one input step [rows, K]; logits [rows, K, V]."""
        ...

    def reset(self) -> None:
        """Forget what was decoded, keep the text."""
        ...


class EagerRunner:
    """Plain torch, any device.

    Args:
        model: in the dtype it runs in.
        rows: sequences side by side; guidance needs two for each clip.
        max_steps: room of the cache.
        cache_dtype: of keys and values.
    """

    native = False

    def __init__(
        self, model: MusicLM, rows: int, max_steps: int, cache_dtype: torch.dtype | None = None
    ) -> None:
        self.model, self.rows, self.max_steps = model, rows, max_steps
        weight = model.norm.weight
        dtype = cache_dtype or (torch.float32 if weight.device.type == "cpu" else weight.dtype)
        self.cache = DecodeCache(model.config, rows, max_steps, weight.device, dtype)
        self._beat: Tensor | None = None

    @torch.inference_mode()
    def begin(self, condition: Condition) -> None:
        """Take the text of all rows and forget what was decoded."""
        device = self.model.norm.weight.device
        self.cache.cross = self.model.cross_states(condition.to(device), self.cache.dtype)
        self.follow(None)
        self.reset()

    @torch.inference_mode()
    def follow(self, beat: Tensor | None) -> None:
        """Take what is added before each block at every step, [L, rows, max_steps, D]."""
        weight = self.model.norm.weight
        self._beat = None if beat is None else beat.to(weight.device, weight.dtype)

    @torch.inference_mode()
    def prefill(self, tokens: Tensor) -> Tensor:
        """Run S input steps [rows, K, S]; logits of the last one, [rows, K, V]."""
        tokens = tokens.to(self.model.norm.weight.device)
        return self.model.prefill(tokens, self.cache, self._beat).float()

    def step(self, tokens: Tensor) -> Tensor:
        """Run one input step [rows, K]; logits [rows, K, V]."""
        return self.prefill(tokens.unsqueeze(-1))

    def reset(self) -> None:
        """Forget what was decoded, keep the text."""
        self.cache.reset()


class GraphRunner(EagerRunner):
    """A CUDA graph of one step, captured once and replayed: no launch gaps between kernels.

    The graph reads and writes fixed addresses: weights (a slider may overwrite them in place), the
    cache, the text's keys and values, the step's tokens. The text is therefore padded to
    `text_length` states.

    Args:
        model: on a CUDA device.
        rows: sequences side by side.
        max_steps: room of the cache; attention reads all of it at every step.
        text_length: most text states of any prompt.
        cache_dtype: of keys and values.
    """

    def __init__(
        self,
        model: MusicLM,
        rows: int,
        max_steps: int,
        text_length: int,
        cache_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(model, rows, max_steps, cache_dtype)
        self.text_length = text_length
        K, device = model.config.num_codebooks, model.norm.weight.device
        self._tokens = torch.zeros(rows, K, 1, dtype=torch.long, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        self._logits = torch.empty(0)

    @torch.inference_mode()
    def begin(self, condition: Condition) -> None:
        """Take the text of all rows and forget what was decoded."""
        states = self.model.cross_states(
            pad_condition(condition, self.text_length).to(self.model.norm.weight.device),
            self.cache.dtype,
        )
        if self.cache.cross:
            _overwrite(self.cache.cross, states)
        else:
            self.cache.cross = states
        self.follow(None)
        self.reset()

    @torch.inference_mode()
    def follow(self, beat: Tensor | None) -> None:
        """Take what is added before each block at every step; from the first time on in one place.

        Before that the graph adds nothing, and models without a beat never pay for it.
        """
        if self._beat is None:
            super().follow(beat)
            if beat is not None:
                self._graph = None
        elif beat is None:
            self._beat.zero_()
        else:
            self._beat.copy_(beat)

    @torch.inference_mode()
    def prefill(self, tokens: Tensor) -> Tensor:
        """Run S input steps [rows, K, S]; logits of the last one, [rows, K, V]."""
        logits = super().prefill(tokens)
        self.cache.position.fill_(self.cache.length)
        return logits

    @torch.inference_mode()
    def step(self, tokens: Tensor) -> Tensor:
        """Run one input step [rows, K]; logits [rows, K, V]."""
        self._tokens.copy_(tokens.unsqueeze(-1))
        if self._graph is None:
            self._capture()
        assert self._graph is not None
        self._graph.replay()
        self.cache.length += 1
        return self._logits

    def _capture(self) -> None:
        """Capture one step; warming up writes only the cache at `position`, as replay will."""
        device, graph = self._tokens.device, torch.cuda.CUDAGraph()
        # Left alone, torch captures on a stream of the current device, whatever the model's is.
        stream, before = capture_stream(device), torch.cuda.current_stream(device)
        with CAPTURING, torch.cuda.device(device), torch.cuda.stream(stream):
            stream.wait_stream(before)
            for _ in range(3):
                self.model.step_static(self._tokens, self.cache, self._beat)
            # Other threads (a jam, another model) may use the GPU meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                logits = self.model.step_static(self._tokens, self.cache, self._beat).float()
                self.cache.position.add_(1)
        self._graph, self._logits = graph, logits  # only now: a capture may fail


@cache
def capture_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the stream that graphs of a device are captured on.

    One serves all: captures wait for one another, graphs are replayed elsewhere, and cuBLAS keeps
    memory for every stream that it has seen.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def pad_condition(condition: Condition, length: int) -> Condition:
    """Pad text states with hidden ones up to `length`: [B, L, D] to [B, max(L, length), D]."""
    missing = length - condition.mask.shape[1]
    if missing <= 0:
        return condition
    pad = torch.nn.functional.pad
    return Condition(
        pad(condition.hidden, (0, 0, 0, missing)), pad(condition.mask, (0, missing), value=False)
    )


def _overwrite(old: list[CrossStates], new: list[CrossStates]) -> None:
    """Copy new text states to where the old ones lie."""
    for target, source in zip(old, new, strict=True):
        target.keys.copy_(source.keys)
        target.values.copy_(source.values)
        target.mask.copy_(source.mask)
