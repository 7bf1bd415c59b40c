"""Building many kernels at once, each in a process that does nothing else.

LLVM stays out of the user's process: its memory, its threads and, should it ever crash, its crash. Processes are
started when the first kernel is really missing, because they take seconds, and live as long as the one that asks. Both
ends of the pipe are in this file.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from edgeprune.children import Child, ChildGoneError, Waiting, answering, running
from edgeprune.compiler.elsewhere import Request, answer, answer_with_bytes, executor_here, question_of
from edgeprune.compiler.failures import KernelBuildError
from edgeprune.compiler.objects import KernelObject, build_object, find_object, symbol_of
from edgeprune.files import write_whole
from edgeprune.home import home
from edgeprune.targets import Target

COMMAND = running("edgeprune.compiler.workers")
WAITING = Waiting()
MOST_THREADS = 256


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
    elsewhere = executor_here()
    # Threads that wait for processes here, or for the executor: it has as many workers as it likes.
    most = len(missing) if elsewhere is not None else workers or os.cpu_count() or 1
    with ThreadPoolExecutor(max(1, min(most, len(missing), MOST_THREADS))) as pool:
        try:
            build = partial(_build, target=target) if elsewhere is None else partial(_had_built, elsewhere, target)
            pending = {symbol: pool.submit(build, request) for symbol, request in missing.items()}
            for symbol, request in zip(symbols, requests, strict=True):
                yield pending[symbol].result() if symbol in pending else build_object(*request, target)
        finally:
            pool.shutdown(cancel_futures=True)


def _build(request: Request, target: Target) -> KernelObject | KernelBuildError:
    """One kernel by a worker of its own for as long as it takes."""
    spec, schedule = request
    worker = WAITING.take() or Child(COMMAND)
    question = {**question_of(request, target), "folder": str(home() / "objects")}
    try:
        said = worker.exchange(question)
    except ChildGoneError:
        return KernelBuildError(
            f"the process that built {spec} with {dict(schedule)} for {target.name} {worker.end()}",
            hint="report this kernel; --json shows its spec",
            spec=spec.to_json(),
            schedule=dict(schedule),
        )
    except BaseException:
        WAITING.dismiss(worker)  # its answer would be taken for that of the next question
        raise
    WAITING.keep(worker)
    return _refused(said) or KernelObject(said["symbol"], Path(said["path"]))


def _had_built(executor: Executor, target: Target, request: Request) -> KernelObject | KernelBuildError:
    """One kernel by an executor; its object is kept here."""
    spec, schedule = request
    facts: dict[str, Any] = {"spec": spec.to_json(), "schedule": dict(schedule)}
    try:
        said = executor.submit(answer_with_bytes, question_of(request, target)).result()
    except Exception as e:  # whatever a cluster fails with
        return KernelBuildError(
            f"the executor that was to build {spec} for {target.name} failed: {type(e).__name__}: {e}",
            hint="see the log of its worker; without --build-on kernels are built here",
            **facts,
        )
    if error := _refused(said):
        return error
    symbol = symbol_of(spec, schedule, target)
    if said["symbol"] != symbol:
        return KernelBuildError(
            f"{spec} was built for {target.name} by another version of edgeprune or of its compiler",
            hint="install the same versions on the workers as here",
            **facts,
        )
    path = home() / "objects" / f"{symbol}.o"
    write_whole(path, said["object"])
    return KernelObject(symbol, path)


def _refused(said: dict[str, Any]) -> KernelBuildError | None:
    error = said.get("error")
    return KernelBuildError(error["message"], hint=error["hint"], **error["details"]) if error else None


def main() -> None:
    """The answering end: one answer a line of stdin, until stdin ends."""
    say = answering()
    for line in sys.stdin:
        question = json.loads(line)
        say(answer(question, Path(question["folder"])))


if __name__ == "__main__":
    main()
