"""Helper threads for the native kernels.

numba's own thread layers are not used: which of them exists differs between systems, the one that
always does must not be entered from two threads, and none survives a fork. The kernels need no
more than that somebody else comes and takes work; if nobody does, the caller does it all.
"""

import os
import queue
import threading
from collections.abc import Callable
from typing import Any

_Job = tuple[Callable[..., None], int, tuple[Any, ...]]
_lock = threading.Lock()
_inboxes: list["queue.SimpleQueue[_Job]"] = []
_owner = 0


def run_threads(function: Callable[..., None], threads: int, *arguments: Any) -> None:
    """Call function(thread, *arguments) here as thread 0, and elsewhere as 1 to threads - 1.

    Returns when the call as thread 0 does; that call itself has to wait for what it needs.

    Args:
        function: releases Python's lock, and as a helper returns at once when it comes too late.
        threads: at least 1.
    """
    if threads > 1:
        for number, inbox in enumerate(_helpers(threads - 1), 1):
            if inbox.empty():  # else it is behind, and has enough to skip
                inbox.put((function, number, arguments))
    function(0, *arguments)


def _helpers(count: int) -> list["queue.SimpleQueue[_Job]"]:
    global _owner
    with _lock:
        if _owner != os.getpid():  # threads stay behind in a fork
            _inboxes.clear()
            _owner = os.getpid()
        while len(_inboxes) < count:
            inbox: queue.SimpleQueue[_Job] = queue.SimpleQueue()
            name = f"decode-{len(_inboxes) + 1}"
            threading.Thread(target=_serve, args=(inbox,), name=name, daemon=True).start()
            _inboxes.append(inbox)
        return _inboxes[:count]


def _serve(inbox: "queue.SimpleQueue[_Job]") -> None:
    while True:
        function, number, arguments = inbox.get()
        function(number, *arguments)
        del function, arguments  # holds no buffers while it waits
