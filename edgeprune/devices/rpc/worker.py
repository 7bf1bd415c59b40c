"""The process that speaks TVM RPC. TVM's client waits for a server without end, and a process can be
killed where a call cannot; what TVM loads stays out of the user's process besides.

One JSON object a line, in and out: ``open``, ``about``, ``load``, ``call``, ``close``, each with an answer, and
a first line that says whether TVM's client can be had. Only byte strings and one function name of our
own cross the connection: nothing is pickled.
"""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import os
import queue
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from edgeprune.children import answering
from edgeprune.devices.rpc.library import FUNCTION, ElfHeader

# How long a call that was given up may still take to end well.
LINGER_S = 60


class _Connection:
    def __init__(self, rpc: Any) -> None:
        self._rpc = rpc
        self._session: Any = None
        self._library: Any = None
        self._function: Any = None

    def open(self, host: str, port: int, key: str) -> dict[str, Any]:
        self._session = self._rpc.connect(host, port, key)
        return {}

    def about(self) -> dict[str, Any]:
        # An absolute path is taken as it is by servers in Python and in C++.
        program = ElfHeader.of(bytes(self._session.download("/proc/self/exe")))
        return {"machine": program.machine, "interpreter": program.interpreter}

    def load(self, path: str) -> dict[str, Any]:
        name = Path(path).name
        self._session.upload(bytearray(Path(path).read_bytes()), name)
        self._library = self._session.load_module(name)
        self._function = self._library.get_function(FUNCTION)
        return {}

    def call(self, data: str) -> dict[str, Any]:
        reply = self._function(bytearray(base64.b64decode(data)))
        if reply is None:
            raise RuntimeError("the board has no memory left for a reply")
        return {"data": base64.b64encode(bytes(reply)).decode()}

    def close(self) -> dict[str, Any]:
        self._function = self._library = self._session = None  # the connection ends with the last reference
        return {}


def main() -> None:
    say = answering()
    requests: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests,), daemon=True).start()
    try:
        for late in ("cloudpickle", "psutil"):  # tvm.rpc asks for both only when it needs them
            importlib.import_module(late)
        from tvm import rpc
    except ImportError as e:
        say({"missing": e.name or str(e)})
        return
    say({})
    connection = _Connection(rpc)
    while request := requests.get():
        verb = getattr(connection, request.pop("do"))
        try:
            answer = verb(**request)
        except Exception as e:  # TVM raises errors of any kind, each of which ends the session
            answer = {"error": _last_line(e)}
        with contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
            say(answer)
    connection.close()
    os._exit(0)


def _read(requests: queue.SimpleQueue[dict[str, Any] | None]) -> None:
    """A thread, so that this process ends with the one who asks, even while a server keeps it waiting.

    Not at once: a connection that is closed over a reply that nobody read is reset, and a reset makes
    TVM's server refuse service until it is started again.
    """
    for line in sys.stdin:
        if line.endswith("\n"):
            requests.put(json.loads(line))
    signal.alarm(LINGER_S)
    requests.put(None)


def _last_line(error: Exception) -> str:
    """TVM puts a whole traceback into the text of an error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[-300:]


if __name__ == "__main__":
    main()
