"""The processes of one run, which accelerate starts; with a single one nothing is sent."""

from datetime import timedelta

import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor

PATIENCE = timedelta(days=1)
"""How long a process waits for another. The first encodes a corpus, reads all captions and writes
large models alone, which takes longer than the ten minutes that GPUs would wait for each other."""


def make_accelerator() -> Accelerator:
    """Join the processes of this run: the only place where an `Accelerator` is made.

    The first one of a process sets for all that come after it how long they wait.
    """
    return Accelerator(kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])


class Processes:
    """What a run asks of the processes beside it."""

    def __init__(self) -> None:
        self._accelerator = make_accelerator()
        self.device: torch.device = self._accelerator.device
        """Of this process."""
        self.count: int = self._accelerator.num_processes
        self.index: int = self._accelerator.process_index
        self.main: bool = self._accelerator.is_main_process
        """Whether this one writes and decides."""

    def mean(self, tensor: Tensor) -> Tensor:
        """Average a tensor over all processes."""
        if self.count == 1:
            return tensor
        reduced: Tensor = self._accelerator.reduce(tensor.contiguous(), "mean")
        return reduced

    def mean_number(self, value: float) -> float:
        """Average a number over all processes."""
        return float(self.mean(torch.tensor(value, device=self.device)))

    def average(self, tensors: dict[str, Tensor]) -> None:
        """Put the average over processes in the place of every tensor, all in one message."""
        if self.count == 1:
            return
        flat = self.mean(torch.cat([t.flatten() for t in tensors.values()]))
        start = 0
        for name, tensor in tensors.items():
            tensors[name] = flat[start : start + tensor.numel()].view(tensor.shape)
            start += tensor.numel()

    def gather(self, tensor: Tensor) -> Tensor:
        """Put the rows of all processes below each other, in their order."""
        if self.count == 1:
            return tensor
        rows: Tensor = self._accelerator.gather(tensor.to(self.device).contiguous())
        return rows

    def agree(self, mine: bool) -> bool:
        """Let the first process decide for all, or they would wait for each other forever."""
        return bool(self.from_main(float(mine)))

    def from_main(self, value: float) -> float:
        """Return the first process's number."""
        if self.count == 1:
            return value
        own = value if self.main else 0.0
        number = torch.tensor(own, dtype=torch.float64, device=self.device)
        return float(self._accelerator.reduce(number, "sum"))

    def wait(self) -> None:
        """Wait for the others."""
        self._accelerator.wait_for_everyone()
