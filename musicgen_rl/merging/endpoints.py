"""The two ends of the slider, and the base they were tuned from, in memory."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from musicgen_rl.checkpoint import ModelInfo, load_state, read_info
from musicgen_rl.merging.check import check_mergeable, require_related
from musicgen_rl.merging.ops import require_alike


@dataclass(frozen=True, kw_only=True)
class Endpoints:
    """Two state dicts with the same names and shapes, finite, in any floating dtype.

    They are only read, tensor by tensor and again at each move, so sliders may share one of these,
    and an end may be any Mapping that makes its tensors when asked. A tensor that both ends have
    alike should be one object: it is then held once, and a slider writes it once.

    Raises:
        CheckpointError: a tensor is missing, extra, misshapen or not finite; it is named.
    """

    quality: Mapping[str, Tensor]
    """Weights at lam = 0."""
    diversity: Mapping[str, Tensor]
    """Weights at lam = 1."""
    base: Mapping[str, Tensor] | None = None
    """What both were tuned from; slerp and liti need it."""

    def __post_init__(self) -> None:
        """Check names, shapes and numbers."""
        states = {"quality": self.quality, "diversity": self.diversity}
        require_alike(states | ({"base": self.base} if self.base is not None else {}))

    @property
    def nbytes(self) -> int:
        """Bytes held, shared tensors counted once."""
        states = [self.quality, self.diversity] + ([self.base] if self.base is not None else [])
        sizes = {t.data_ptr(): t.nbytes for state in states for t in state.values()}
        return sum(sizes.values())

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "Endpoints":
        """Copy to a device, and to a dtype; itself where nothing changes.

        In the dtype of the running model (float32 for int8) a move is one pass over memory; from
        half precision it takes half the memory for the endpoints and two to three times the time.

        Args:
            device: where to.
            dtype: as stored if None.

        Returns:
            The copy; what was shared between the ends still is.
        """
        states = [dict(s) for s in (self.quality, self.diversity, self.base or {})]
        tensors = [t for state in states for t in state.values()]
        if all(t.device == device and dtype in (None, t.dtype) for t in tensors):
            return self
        moved = {id(t): t.to(device, dtype) for t in tensors}
        first, second, initial = ({n: moved[id(t)] for n, t in s.items()} for s in states)
        return Endpoints(
            quality=first, diversity=second, base=None if self.base is None else initial
        )


def load_endpoints(
    quality: ModelInfo, diversity: ModelInfo, base: ModelInfo | None = None
) -> Endpoints:
    """Load two models' weights as stored, after checking that they may be merged.

    Args:
        quality: the one at lam = 0.
        diversity: the one at lam = 1.
        base: what both were tuned from; slerp and liti need it.

    Raises:
        CheckpointError: they may not be merged, or a file is damaged; says what and why.
    """
    one_family = check_mergeable(quality, diversity, base)
    first = load_state(quality)
    second = _share(load_state(diversity), first)
    if not one_family:
        require_related(first, second, (quality.name, diversity.name))
    if base is None:
        return Endpoints(quality=first, diversity=second)
    initial = _share(load_state(base), first)
    if not one_family:
        require_related(first, initial, (quality.name, base.name))
    return Endpoints(quality=first, diversity=second, base=initial)


def load_model_endpoints(info: ModelInfo) -> Endpoints:
    """Load the two ends that a model folder holds beside its own weights, which are their base.

    Args:
        info: a model whose folder has `quality/` and `diversity/`.

    Raises:
        ModelError: an end is not there, damaged, or not an end of this model.
    """
    ends = [read_info(info.folder / end) for end in ("quality", "diversity")]
    return load_endpoints(ends[0], ends[1], info)


def endpoint_hash(folder: Path) -> str:
    """Hash the weight files of one end: sha256 over its safetensors, by name."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


def _share(state: dict[str, Tensor], other: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the other's tensor in place of each that is equal to it, so that it is held once."""
    return {
        name: other[name] if tensor.dtype == other[name].dtype and tensor.equal(other[name])
        else tensor
        for name, tensor in state.items()
    }  # fmt: skip
