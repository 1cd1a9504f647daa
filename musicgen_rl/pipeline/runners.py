"""Which runner decodes on which machine, and one place that keeps those worth keeping."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from musicgen_rl.lm.compiled import CompiledRunner
from musicgen_rl.lm.compiled_weights import CompiledWeights
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.pipeline import devices
from musicgen_rl.sampling.decode import MakeRunner
from musicgen_rl.sampling.draw import link_native
from musicgen_rl.sampling.runner import CAPTURING, EagerRunner, GraphRunner, Runner

Prepared = MusicLM | CompiledWeights
"""A model as it runs: a module, or for int8 on a CPU the weights of the compiled runner."""


def prepare_model(model: MusicLM, device: torch.device, dtype: str) -> Prepared:
    """Bring a float32 model to where and how it runs; a module is changed in place."""
    if dtype == "int8":
        link_native()
        return CompiledWeights.from_model(model)
    precision = torch.bfloat16 if dtype == "bf16" else torch.float32
    positions = model.positions
    model = model.to(device, precision)
    model.positions = positions.to(device)  # positions in bf16 would blur late frames
    return model


def copy_prepared(model: Prepared) -> Prepared:
    """Make a second model with weights of its own, as they are now."""
    if isinstance(model, CompiledWeights):
        return model.copy()
    return copy.deepcopy(model)


class RunnerPool:
    """Makes runners, and on a GPU keeps those of the last stream, whose capture took time.

    A stream has two where guidance ends before it does.

    Args:
        model: prepared by `prepare_model`.
        device: where it is.
        dtype: how it runs.
    """

    def __init__(self, model: Prepared, device: torch.device, dtype: str) -> None:
        self.model, self.device, self.dtype = model, device, dtype
        self._kept: dict[tuple[int, int, int], Runner] = {}

    @contextmanager
    def lease(self) -> Iterator[MakeRunner]:
        """Lend the making of runners to one stream; what it made comes back at the end."""
        lent: dict[tuple[int, int, int], Runner] = {}

        def make(rows: int, max_steps: int, text_length: int) -> Runner:
            key = (rows, max_steps, text_length)
            if key not in lent:
                if self._kept and key not in self._kept:
                    self.clear()  # first: there may not be room for both
                lent[key] = self._kept.pop(key) if key in self._kept else self._new(*key)
            return lent[key]

        try:
            yield make
        except Exception:
            lent.clear()  # one that has failed may be half made
            raise
        finally:
            if self.device.type == "cuda" and lent:
                self._kept = dict(list(lent.items())[-2:])

    def clear(self) -> None:
        """Give the memory of kept runners back."""
        if self.device.type == "cuda":  # elsewhere none is kept
            with CAPTURING:
                self._kept.clear()
                torch.cuda.empty_cache()

    @property
    def kept_bytes(self) -> int:
        """Count the bytes of kept runners' caches: the next runner has them, or their room."""
        lm, dtype, device = self.model.config, self.dtype, self.device
        return sum(devices.cache_bytes(lm, r, steps, dtype, device) for r, steps, _ in self._kept)

    def _new(self, rows: int, max_steps: int, text_length: int) -> Runner:
        if isinstance(self.model, CompiledWeights):
            return CompiledRunner(self.model, rows, max_steps)
        if self.device.type == "cuda":
            return GraphRunner(self.model, rows, max_steps, text_length)
        return EagerRunner(self.model, rows, max_steps)
