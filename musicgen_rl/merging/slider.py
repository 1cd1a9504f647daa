"""The slider: a running model's weights, written in place from two endpoints."""

import threading
import time
from functools import partial

import torch

from musicgen_rl.config import require_number
from musicgen_rl.errors import CheckpointError, ConfigError
from musicgen_rl.lm.compiled_weights import CompiledWeights
from musicgen_rl.lm.transformer import MusicLM
from musicgen_rl.merging import ops
from musicgen_rl.merging.endpoints import Endpoints
from musicgen_rl.merging.recipe import MergeConfig
from musicgen_rl.merging.targets import Target, target_of


class Slider:
    """Sets a running model to any point between two endpoints.

    Every move computes from the endpoints, never from where the weights stand, so moves do not
    drift: after any number of them the weights are a fresh merge, to the bit. Addresses do not
    change, so a captured CUDA graph goes on with new weights.

    Memory: the endpoints as stored, shared between all sliders made of one `Endpoints` (on a GPU:
    a copy there), a tensor that both ends have alike held once. `nbytes` tells.

    Threads: moves wait for one another. A decoding step that runs at the same time in another
    thread may see some tensors old and some new; so move between two steps, from the thread that
    decodes or under its lock. What a runner computed from the weights before stays as it was: the
    text's keys and values until its `begin`, the cache until it is filled again.

    Args:
        endpoints: the two ends; with a base for slerp and liti.
        model: what runs: a MusicLM prepared for its device and dtype, compiled weights, or any
            other `Target`. It is at `config.lam` when the slider is made.
        config: method, strength, and where to start.

    Raises:
        ConfigError: the method needs a base and there is none.
        CheckpointError: the endpoints are not of this model; names the tensor.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        model: MusicLM | CompiledWeights | Target,
        config: MergeConfig | None = None,
    ) -> None:
        self.config = config or MergeConfig()
        if self.config.needs_base and endpoints.base is None:
            raise ConfigError(
                f"method {self.config.method!r} needs the base that both models were tuned from"
            )
        self._target = target_of(model)
        _require_fit(endpoints, self._target)
        self._ends = endpoints.to(self._target.device)
        self._angles = _angles(self._ends) if self.config.needs_base else {}
        self._lock = threading.Lock()
        self._lam: float | None = None
        self._constant_written = False
        self.move(self.config.lam)

    @property
    def lam(self) -> float:
        """Where it stands: 0 quality, 1 diversity."""
        if self._lam is None:
            raise ConfigError("the last move did not finish: move the slider again")
        return self._lam

    @property
    def nbytes(self) -> int:
        """Bytes of the endpoints, shared tensors counted once."""
        return self._ends.nbytes

    def move(self, lam: float) -> float:
        """Write the weights for `lam`; where it stands there already, do nothing.

        Args:
            lam: 0 is quality, 1 diversity.

        Returns:
            Seconds it took, the device's work included.

        Raises:
            ConfigError: lam is not in [0, 1]; the weights are as they were.
        """
        require_number("lam", lam, 0.0, 1.0)
        start = time.perf_counter()
        with self._lock:
            if lam != self._lam:
                self._lam = None  # until all is written
                for name in self._ends.quality:
                    self._write(name, float(lam))
                if self._target.device.type == "cuda":
                    # Not the whole device: another thread may capture a graph on it.
                    torch.cuda.current_stream(self._target.device).synchronize()
                self._constant_written = True
                self._lam = float(lam)
        return time.perf_counter() - start

    def forget(self) -> None:
        """Take nothing for granted: something else has written to the model since the last move."""
        with self._lock:
            self._lam = None
            self._constant_written = False

    def _write(self, name: str, lam: float) -> None:
        quality, diversity = self._ends.quality[name], self._ends.diversity[name]
        method = self.config.method
        straight = method == "slerp" and ops.is_straight(self._angles[name])
        if method == "lerp" or straight:
            if quality is not diversity or not self._constant_written:  # else nothing would change
                self._target.lerp_(name, quality, diversity, lam)
            return
        assert self._ends.base is not None
        mix = partial(
            ops.merge,
            lam=lam,
            method=method,
            radians=self._angles[name],
            strength=self.config.strength,
        )
        self._target.mix_(name, mix, quality, diversity, self._ends.base[name])


def _angles(ends: Endpoints) -> dict[str, float]:
    """Measure the angle between the task vectors, tensor by tensor; it does not depend on lam."""
    assert ends.base is not None
    return {
        name: ops.angle(
            ops.task_vector(quality, ends.base[name]),
            ops.task_vector(ends.diversity[name], ends.base[name]),
        )
        for name, quality in ends.quality.items()
    }


def _require_fit(endpoints: Endpoints, target: Target) -> None:
    """Check that the endpoints have exactly the tensors of the model."""
    wanted = target.shapes()
    for name in [*wanted, *endpoints.quality]:
        if name not in wanted or name not in endpoints.quality:
            without = "the running model" if name not in wanted else "the endpoint"
            raise CheckpointError(f"{without} lacks the tensor {name!r}: they are not of one model")
        if tuple(endpoints.quality[name].shape) != wanted[name]:
            raise CheckpointError(
                f"tensor {name!r} has shape {tuple(endpoints.quality[name].shape)} in the endpoint "
                f"and {wanted[name]} in the running model: they are not of one model"
            )
