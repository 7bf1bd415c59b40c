"""Work in a process of its own that is killed without warning."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable


def in_a_fork(work: Callable[[], object], after_s: float | None = None) -> int:
    """Exit status of ``work`` in a process of its own, killed without warning after so many seconds."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    began = time.monotonic()
    while True:
        done, code = os.waitpid(pid, os.WNOHANG)
        if done:
            return code
        if after_s is not None and time.monotonic() - began >= after_s:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return -signal.SIGKILL
        time.sleep(0.005)
