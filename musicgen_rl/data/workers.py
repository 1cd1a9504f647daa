"""Worker processes that do not outlive the program that began them."""

import os
import threading
from multiprocessing import parent_process


def end_with_parent() -> None:
    """End a worker when its parent was killed: the pool alone would have it wait for ever."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()
