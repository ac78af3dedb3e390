"""Ending together with the process that started this one, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals, parent: int | None = None) -> None:
    """Have the kernel send this process `number` when its parent ends. Linux only; elsewhere it does nothing.

    The kernel means the parent's *thread* that started this process: start it from one that stays. With
    `parent`, end at once when that process is already gone.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(1)


def on_end_of_stdin(call: Callable[[], object]) -> None:
    """Call `call` from a thread of its own once standard input is at its end."""

    def read_to_end() -> None:
        # os.read and not sys.stdin: a daemon thread that holds sys.stdin's lock aborts the interpreter's end
        while os.read(0, 4096):
            continue
        call()

    threading.Thread(target=read_to_end, name="stdin", daemon=True).start()
