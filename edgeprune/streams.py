"""Output streams: results go to stdout, and anything else that is printed there can be sent to stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TextIO

_data: ContextVar[TextIO | None] = ContextVar("data", default=None)


def data() -> TextIO:
    """Where results go: stdout, however much else is printed."""
    return _data.get() or sys.stdout


@contextlib.contextmanager
def data_alone() -> Iterator[None]:
    """Nothing but results on stdout: what a model's code or a library prints there goes to stderr.

    Libraries in C write to the file descriptor, so that is moved as well.
    """
    stdout, number = sys.stdout, None
    stream: TextIO = stdout
    with contextlib.suppress(AttributeError, OSError):  # what a test or a notebook has in its place has none
        number = stdout.fileno()
    if number is not None:
        stdout.flush()
        stream = os.fdopen(os.dup(number), "w", encoding=stdout.encoding, errors="replace")
        os.dup2(2, number)
    token, sys.stdout = _data.set(stream), sys.stderr
    try:
        yield
    finally:
        sys.stdout = stdout
        _data.reset(token)
        if number is not None:
            os.dup2(stream.fileno(), number)
            stream.close()
