"""Ctrl-C, SIGTERM, hanging up: end at once while nothing is made, else keep what is finished."""

import contextlib
import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any

_MESSAGE = "stopping: what is finished is kept (again to quit at once)\n"


class StopSignals:
    """While it is entered, catches SIGINT, SIGTERM and SIGHUP; call it to ask whether one came.

    A process that was started to outlive its terminal (nohup) goes on when that hangs up.

    Outside of `patient` times, and at the second signal, the process leaves with the status that
    shells expect, 128 + number, by SystemExit: temporary files are still removed.
    """

    def __init__(self) -> None:
        self.number = 0
        self.patient = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        """Catch signals, where that can be done: in the main thread."""
        if threading.current_thread() is threading.main_thread():
            caught = [signal.SIGINT, signal.SIGTERM]
            hangup = getattr(signal, "SIGHUP", None)  # Windows has none
            if hangup is not None and signal.getsignal(hangup) != signal.SIG_IGN:
                caught.append(hangup)
            for number in caught:
                self._before[number] = signal.signal(number, self._caught)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Put back what caught them before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def __call__(self) -> bool:
        """Tell whether to stop."""
        return self.number != 0

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, or 0 if none came."""
        return 128 + self.number if self.number else 0

    def _caught(self, number: int, _frame: FrameType | None) -> None:
        if self.number or not self.patient:
            raise SystemExit(128 + number)
        self.number = number
        # Not print: the signal may have come in the middle of one.
        with contextlib.suppress(OSError, ValueError):
            os.write(sys.stderr.fileno(), _MESSAGE.encode())
