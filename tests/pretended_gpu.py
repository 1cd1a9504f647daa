"""Pretend that there are GPUs: tensors that say cuda, and refuse what CUDA refuses.

A pretended tensor is a CPU tensor under another name. Every torch function called with one is
looked at first: tensors of two devices in one call raise, as do numpy on a GPU's tensor and
whatever must not happen while a graph is captured. Then it runs on the CPU. A captured graph is
the list of calls made on its stream's device; a replay makes them again, into the same memory.
So mistakes of place (a tensor left on the CPU, a graph of the wrong device, two captures at once)
are found without a GPU.

Not covered: rounding, speed, kernels that a GPU lacks; backward passes, autocast, generators on a
GPU; weights that are tied and then moved, which part; a scalar of the CPU where CUDA wants none;
indexing by a mask inside a graph, which CUDA refuses; how much memory is used. Streams keep no
order: everything has happened at once. Another thread is under the pretence inside `Pretence()`
only.
"""

import copy
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

GIB = 1 << 30
_CPU = torch.device("cpu")
_MOVES = {"to", "cpu", "cuda", "copy_", "__set__", "_has_compatible_shallow_copy_type"}
"""Calls that may see tensors of several devices."""
_WAITS = {"item", "tolist", "nonzero", "equal", "__bool__", "__float__", "__int__", "__index__"}
"""Calls that bring numbers to Python, and so wait for the GPU."""


class MixedDevicesError(RuntimeError):
    """Tensors of several devices met where CUDA wants one."""


class CaptureError(RuntimeError):
    """Something happened that must not while a graph is captured."""


class PretendedTensor(Tensor):
    """A CPU tensor, `plain`, that says it is on a GPU, `place`."""

    plain: Tensor
    place: torch.device

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a torch function on pretended tensors."""
        return _run(func, args, kwargs or {})

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where it says it is."""
        return self.place

    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __iter__(self) -> Iterator[Tensor]:
        """Hand out what stays on the GPU."""
        return iter(self.unbind(0))

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """Copy it, as a parameter where it is one."""
        if id(self) not in memo:
            copied = _pretend(copy.deepcopy(self.plain, memo), self.place)
            copied.__dict__ |= {k: v for k, v in vars(self).items() if k == "_is_param"}
            memo[id(self)] = copied
        found: Tensor = memo[id(self)]
        return found


class Pretence(TorchFunctionMode):
    """Catches what makes or moves tensors to a GPU, in the thread that enters it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run a torch function."""
        return _run(func, args, kwargs or {})


class PretendedStream:
    """A stream: a name and a device."""

    def __init__(self, device: Any = None, priority: int = 0) -> None:
        self.device = _gpu(device)

    def wait_stream(self, other: "PretendedStream") -> None:
        """Wait for nothing: all has happened."""

    def synchronize(self) -> None:
        """Refuse to wait for what is only captured."""
        graph = PretendedGraph.underway
        if graph is not None and graph.stream is self:
            raise CaptureError("a stream was synchronised while it captures")


class PretendedGraph:
    """A captured graph: calls to make again."""

    underway: "PretendedGraph | None" = None
    """The one capture of the process."""

    def __init__(self, keep_graph: bool = False) -> None:
        self.calls: list[tuple[partial[Any], list[Tensor]]] = []
        self.device: torch.device | None = None
        self.stream: PretendedStream | None = None
        self._ended = False

    def capture_begin(self, *pool: Any, **options: Any) -> None:
        """Begin to note calls of this thread on the current stream's device."""
        if PretendedGraph.underway is not None:
            raise CaptureError("two captures at once in one process")
        PretendedGraph.underway = _here.graph = self
        self.stream = _current_stream()
        self.device = self.stream.device

    def capture_end(self) -> None:
        """Note no more."""
        PretendedGraph.underway = _here.graph = None
        self._ended = True

    def note(self, call: "partial[Any]") -> Any:
        """Keep a call; a capture does not run it, so what it writes is put back."""
        given = list(_tensors((call.args, call.keywords)))
        before = [t.clone() for t in given]
        made = call()
        for t, b in zip(given, before, strict=True):
            if not torch.equal(t, b):
                t.copy_(b)
        self.calls.append((call, list(_tensors(made))))
        return made

    def replay(self) -> None:
        """Make the calls again and put their results where the first ones lay."""
        if not self._ended:
            raise CaptureError("a graph was replayed that was not captured")
        with torch._C.DisableTorchFunction():
            for call, made in self.calls:
                for old, new in zip(made, _tensors(call()), strict=True):
                    if old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class _Here(threading.local):
    """What each thread has of its own: the current device, streams, what it captures."""

    def __init__(self) -> None:
        self.device = 0
        self.streams: dict[int, PretendedStream] = {}
        self.graph: PretendedGraph | None = None


_here = _Here()


@contextmanager
def pretended_gpus(count: int = 2, free: int = 100 * GIB, total: int = 141 * GIB) -> Iterator[None]:
    """Pretend that this machine has GPUs, until the context ends.

    Args:
        count: how many.
        free: bytes that each says are free.
        total: bytes each has.
    """
    from musicgen_rl.sampling import runner

    cuda: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: count,
        "current_device": lambda: _here.device,
        "get_device_capability": lambda device=None: (9, 0),
        "mem_get_info": lambda device=None: (free, total),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "empty_cache": _refuse_while_capturing,
        "synchronize": _refuse_while_capturing,
        "device": _on_device,
        "Stream": PretendedStream,
        "stream": _on_stream,
        "current_stream": _current_stream,
        "CUDAGraph": PretendedGraph,
    }
    conversion = torch.__future__.get_overwrite_module_params_on_conversion()
    with ExitStack() as stack:
        enter, patch = stack.enter_context, mock.patch.object
        enter(mock.patch.multiple(torch.cuda, **cuda))
        enter(patch(torch.cuda.graph, "default_capture_stream", None))
        enter(patch(torch._C, "_host_emptyCache", create=True))
        enter(patch(torch.backends.cudnn, "is_acceptable", return_value=False))
        # Streams are remembered by device, and neither kind is the other's.
        runner.capture_stream.cache_clear()
        stack.callback(runner.capture_stream.cache_clear)
        stack.callback(_here.__init__)  # type: ignore[misc]
        # Else a module that moves keeps its parameters, which are not pretended.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, conversion)
        enter(Pretence())
        yield


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Check the places of a call's tensors, run it on the CPU, and give the result its place."""
    name = getattr(func, "__name__", "")
    kwargs = {k: v for k, v in kwargs.items() if k != "pin_memory"}  # the CPU's build has none
    if name in ("_parse_to", "__deepcopy__"):
        return func(*args, **kwargs)
    tensors = list(_tensors((args, kwargs)))
    target = _target(name, args, kwargs, tensors)
    on_gpu = any(isinstance(t, PretendedTensor) for t in tensors)
    if target.type != "cuda" and not on_gpu:
        return func(*args, **kwargs)
    _require_one_place(name, args, tensors)
    call = _on_cpu(func, name, args, kwargs)
    graph = _here.graph
    if graph is None or name == "__get__":  # a view needs no replay
        return _placed(call(), target, tensors)
    _require_capturable(name, graph, target, tensors)
    return _placed(graph.note(call) if graph.device == target else call(), target, tensors)


def _target(name: str, args: Any, kwargs: dict[str, Any], tensors: list[Tensor]) -> torch.device:
    """Find where a call's result lies."""
    asked = kwargs.get("device")
    if name == "to" and tensors:
        named = {k: v for k, v in kwargs.items() if k != "copy"}
        asked = torch._C._nn._parse_to(*args[1:], **named)[0]
        asked = tensors[-1].device if asked is None or len(tensors) > 1 else asked
    elif name in ("cpu", "cuda"):
        asked = "cpu" if name == "cpu" else _gpu(*args[1:])
    elif name in ("copy_", "__setitem__"):
        asked = args[0].device
    if asked is None:
        return next((t.place for t in tensors if isinstance(t, PretendedTensor)), _CPU)
    device = torch.device(asked)
    return _gpu(device) if device.type == "cuda" else device


def _require_one_place(name: str, args: Any, tensors: list[Tensor]) -> None:
    """Refuse tensors of several devices where CUDA does; a scalar of the CPU may stand by."""
    if name in ("numpy", "__array__"):
        raise TypeError(f"can't convert {args[0].device} device type tensor to numpy")
    if name in _MOVES:
        return
    if name in ("__getitem__", "__setitem__"):
        index = list(_tensors(args[1]))
        values = [t for t in args[2:] if isinstance(t, Tensor) and index]  # a slice takes any
        tensors = [args[0], *values, *(t for t in index if isinstance(t, PretendedTensor))]
    places = {t.device for t in tensors if isinstance(t, PretendedTensor) or t.dim()}
    if len(places) > 1:
        shapes = [(str(t.device), tuple(t.shape)) for t in tensors]
        raise MixedDevicesError(f"{name} of tensors on several devices: {shapes}")


def _require_capturable(
    name: str, graph: PretendedGraph, target: torch.device, tensors: list[Tensor]
) -> None:
    """Refuse what waits for the GPU, or reads the CPU's memory, while a graph is captured."""
    places = {t.device for t in tensors if isinstance(t, PretendedTensor) or t.dim()}
    if graph.device in {*places, target} and (
        name in _WAITS or target != graph.device or places - {graph.device}
    ):
        raise CaptureError(f"{name} cannot be captured: it waits for the GPU or reads the CPU's")


def _on_cpu(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> "partial[Any]":
    """Make the same call on the CPU."""
    if name in ("to", "cpu", "cuda"):
        named = {k: v for k, v in kwargs.items() if k != "copy"}
        dtype = torch._C._nn._parse_to(*args[1:], **named)[1] if name == "to" else None
        source = _plain(args[0])
        return partial(Tensor.to, source, dtype or source.dtype, copy=kwargs.get("copy", False))
    plain_args, plain_kwargs = tree_map(_plain, (args, kwargs))
    if "device" in kwargs and torch.device(kwargs["device"] or _CPU).type == "cuda":
        plain_kwargs["device"] = _CPU
    return partial(func, *plain_args, **plain_kwargs)


def _placed(made: Any, target: torch.device, given: list[Tensor]) -> Any:
    """Give a call's results their place; a tensor that was given comes back itself."""
    known = {id(_plain(t)): t for t in given}

    def place(x: Any) -> Any:
        if not isinstance(x, Tensor) or isinstance(x, PretendedTensor):
            return x
        if (same := known.get(id(x))) is not None:
            if same.device == target:
                return same
            x = x.clone()  # a move is a copy
        return _pretend(x, target) if target.type == "cuda" else x

    return tree_map(place, made)


def _pretend(plain: Tensor, place: torch.device) -> PretendedTensor:
    """Say of a CPU tensor that it is on a GPU."""
    tensor = Tensor._make_subclass(PretendedTensor, plain, plain.requires_grad)
    tensor.plain, tensor.place = plain, place
    return tensor


def _tensors(x: Any) -> Iterator[Tensor]:
    """Find the tensors among arguments or results; much faster than torch's pytree."""
    if isinstance(x, Tensor):
        yield x
    elif isinstance(x, list | tuple):
        for y in x:
            yield from _tensors(y)
    elif isinstance(x, dict):
        yield from _tensors(list(x.values()))


def _plain(x: Any) -> Any:
    return x.plain if isinstance(x, PretendedTensor) else x


def _gpu(device: Any = None) -> torch.device:
    """Name a GPU in full: the current one where no number is said."""
    index = torch.device("cuda" if device is None else device).index
    return torch.device("cuda", _here.device if index is None else index)


def _current_stream(device: Any = None) -> PretendedStream:
    index = _gpu(device).index
    return _here.streams.setdefault(index, PretendedStream(torch.device("cuda", index)))


@contextmanager
def _on_device(device: Any) -> Iterator[None]:
    before, _here.device = _here.device, _gpu(device).index
    try:
        yield
    finally:
        _here.device = before


@contextmanager
def _on_stream(stream: PretendedStream) -> Iterator[None]:
    before = _current_stream(stream.device)
    with _on_device(stream.device):
        _here.streams[stream.device.index] = stream
        try:
            yield
        finally:
            _here.streams[stream.device.index] = before


def _refuse_while_capturing(device: Any = None) -> None:
    """Stand for what waits for a whole device."""
    if PretendedGraph.underway is not None:
        raise CaptureError("a device was waited for while a graph is captured")
