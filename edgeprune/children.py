"""Child processes that run a module of this package and answer questions, one JSON object a line in and out.

A child keeps what is slow to load, or might crash or hang, out of the user's process. Nothing is pickled and, unlike
with ``multiprocessing``, a user's script needs no ``if __name__ == "__main__"``.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import selectors
import signal
import site
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_FOLDER = str(Path(__file__).parents[1])
_PACKAGE = "" if _FOLDER in (*site.getsitepackages(), site.getusersitepackages()) else _FOLDER
"""The folder that this very edgeprune lies in, where Python would not find it: in front of PYTHONPATH, the packages of
a whole installation would hide Python's own modules of their names."""


class ChildGoneError(Exception):
    """The child does not answer; the text says why."""


def running(module: str) -> tuple[str, ...]:
    """The command that runs a module of this package."""
    # -P: the child must not load what merely lies in the current folder.
    return (sys.executable, "-P", "-m", module)


class Child:
    """The asking end.

    Args:
        quiet: what the child writes to stderr is dropped.
    """

    def __init__(self, command: Sequence[str], *, quiet: bool = False) -> None:
        path = os.pathsep.join(filter(None, (_PACKAGE, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL if quiet else None,
            env={**os.environ, "PYTHONPATH": path},
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin, self.process.stdout
        os.set_blocking(self._to.fileno(), False)

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def exchange(self, request: dict[str, Any] | None, patience_s: float = math.inf) -> dict[str, Any]:
        """Send a request, if there is one, and wait for an answer.

        Raises:
            ChildGoneError: the process ends, or gives no answer in time.
        """
        deadline = time.monotonic() + patience_s
        unsent = memoryview(json.dumps(request).encode() + b"\n" if request else b"")
        got = bytearray()
        with selectors.DefaultSelector() as pipes:
            pipes.register(self._from, selectors.EVENT_READ)
            if unsent:
                pipes.register(self._to, selectors.EVENT_WRITE)
            while not got.endswith(b"\n"):
                left = deadline - time.monotonic()
                ready = pipes.select(None if math.isinf(left) else max(0.0, left))
                if not ready and left <= 0:
                    raise ChildGoneError(f"no answer in {patience_s:g} s")
                for key, _ in ready:
                    if key.fileobj is self._from:
                        got += self._received()
                    elif not (unsent := self._sent(unsent)):
                        pipes.unregister(self._to)
        answer: dict[str, Any] = json.loads(got)
        return answer

    def _received(self) -> bytes:
        if piece := os.read(self._from.fileno(), 1 << 20):
            return piece
        raise ChildGoneError("the process ended")

    def _sent(self, data: memoryview) -> memoryview:
        """Send what the pipe takes of ``data``; the rest."""
        try:
            return data[os.write(self._to.fileno(), data) :]
        except BlockingIOError:
            return data
        except BrokenPipeError:
            raise ChildGoneError("the process ended") from None

    def leave(self) -> None:
        """End its input: it finishes what it is at, and ends."""
        self._to.close()
        self._from.close()

    def end(self) -> str:
        """:meth:`leave`, and wait; how the process ended."""
        self.leave()
        code = self.process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def kill(self) -> None:
        self.process.kill()
        self.end()


class Waiting:
    """Children that wait for their next question, as long as the one who asks lives.

    Args:
        most: so many are kept; others end.
        patience_s: how long the end of the asking process waits for those that still finish something.
    """

    def __init__(self, most: float = math.inf, patience_s: float = math.inf) -> None:
        self._most, self._patience_s = most, patience_s
        self._idle: list[Child] = []  # list.pop and list.append are atomic
        self._leaving: list[Child] = []
        atexit.register(self.end)

    def __len__(self) -> int:
        return len(self._idle)

    def take(self) -> Child | None:
        """One that lives, if there is any."""
        while self._idle:
            try:
                child = self._idle.pop()
            except IndexError:
                break  # another thread was quicker
            if child.alive:
                return child
            self.dismiss(child)  # killed while it waited: no fault of the next question
        return None

    def keep(self, child: Child) -> None:
        """Have it wait, if there is room."""
        if len(self._idle) < self._most:
            self._idle.append(child)
        else:
            self.dismiss(child)

    def dismiss(self, child: Child) -> None:
        """Let it finish what it is at and end, without waiting."""
        child.leave()
        self._leaving.append(child)
        for other in [c for c in self._leaving if not c.alive]:
            with contextlib.suppress(ValueError):  # another thread was quicker
                self._leaving.remove(other)

    def end(self) -> None:
        """All of them end."""
        while self._idle:
            self.dismiss(self._idle.pop())
        for child in list(self._leaving):
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(None if math.isinf(self._patience_s) else self._patience_s)


def answering() -> Callable[[dict[str, Any]], None]:
    """The child's end, before its first import of TVM: makes stdout safe, and returns what writes an answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks, whose end ends this one
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    # TVM imports torch where that is installed, to share tensors: two seconds and 200 MB. No child has tensors.
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]

    def say(answer: dict[str, Any]) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    return say
