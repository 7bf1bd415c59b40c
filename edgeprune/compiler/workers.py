"""Building many kernels at once, each in a process that does nothing else.

LLVM stays out of the user's process: its memory, its threads and, should it ever crash, its crash.
Both ends of the pipe are in this file. Requests and answers are JSON lines, so nothing is pickled
and, unlike with ``multiprocessing``, a user's script needs no ``if __name__ == "__main__"``.

Processes are started when the first kernel is really missing, because they take seconds, and live
as long as the one that asks.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edgeprune.compiler.failures import KernelBuildError
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.objects import KernelObject, build_object, find_object, symbol_of
from edgeprune.graph.spec import KernelSpec
from edgeprune.home import home
from edgeprune.targets import Target

Request = tuple[KernelSpec, Schedule]

# -P: the worker must not load what merely lies in the current folder.
COMMAND = (sys.executable, "-P", "-m", "edgeprune.compiler.workers")


def build_all(
    requests: Sequence[Request], target: Target, workers: int | None = None
) -> Iterator[KernelObject | KernelBuildError]:
    """One result a request, in order: the object, or why it could not be built.

    Args:
        workers: processes at most; None: one a core.
    """
    symbols = [symbol_of(*request, target) for request in requests]
    missing = {
        symbol: request
        for symbol, request in zip(symbols, requests, strict=True)
        if find_object(*request, target) is None
    }
    with ThreadPoolExecutor(min(workers or os.cpu_count() or 1, max(1, len(missing)))) as pool:
        try:
            pending = {symbol: pool.submit(_build, request, target) for symbol, request in missing.items()}
            for symbol, request in zip(symbols, requests, strict=True):
                yield pending[symbol].result() if symbol in pending else build_object(*request, target)
        finally:
            pool.shutdown(cancel_futures=True)


def _build(request: Request, target: Target) -> KernelObject | KernelBuildError:
    """One kernel by a worker of its own for as long as it takes."""
    spec, schedule = request
    worker = _idle_worker() or _Worker()
    answer = worker.ask(
        {
            "spec": spec.to_json(),
            "schedule": dict(schedule),
            "target": target.to_json(),
            "folder": str(home() / "objects"),
        }
    )
    if answer is None:
        return KernelBuildError(
            f"the process that built {spec} with {dict(schedule)} for {target.name} {worker.end()}",
            hint="report this kernel; --json shows its spec",
            spec=spec.to_json(),
            schedule=dict(schedule),
        )
    _idle.append(worker)
    if error := answer.get("error"):
        return KernelBuildError(error["message"], hint=error["hint"], **error["details"])
    return KernelObject(answer["symbol"], Path(answer["path"]))


class _Worker:
    """The asking end."""

    def __init__(self) -> None:
        package = str(Path(__file__).parents[2])  # this very edgeprune
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            COMMAND,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """The answer, or None if the process died of the question."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            return None
        answer: dict[str, Any] | None = json.loads(line) if line.endswith("\n") else None
        return answer

    def end(self) -> str:
        """Stop the process and say how it ended."""
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
        code = self.process.wait()
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


_idle: list[_Worker] = []  # list.pop and list.append are atomic


def _idle_worker() -> _Worker | None:
    while _idle:
        try:
            worker = _idle.pop()
        except IndexError:
            break  # another thread was quicker
        if worker.process.poll() is None:
            return worker
        worker.end()  # killed while it waited: no fault of the next kernel
    return None


@atexit.register
def _end_all() -> None:
    while _idle:
        _idle.pop().end()


def main() -> None:
    """The answering end: one answer a line of stdin, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who asks, whose end ends this one
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not get between the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            built = build_object(
                KernelSpec.from_json(request["spec"]),
                request["schedule"],
                Target.model_validate(request["target"]),
                Path(request["folder"]),
            )
            answer: dict[str, Any] = {"symbol": built.symbol, "path": str(built.path)}
        except KernelBuildError as e:
            answer = {"error": e.to_json()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
