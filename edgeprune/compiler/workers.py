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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from edgeprune.children import Child, ChildGoneError, Waiting, answering, running
from edgeprune.compiler.failures import KernelBuildError
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.objects import KernelObject, build_object, find_object, symbol_of
from edgeprune.graph.spec import KernelSpec
from edgeprune.home import home
from edgeprune.targets import Target

Request = tuple[KernelSpec, Schedule]

COMMAND = running("edgeprune.compiler.workers")
WAITING = Waiting()


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
    worker = WAITING.take() or Child(COMMAND)
    question = {
        "spec": spec.to_json(),
        "schedule": dict(schedule),
        "target": target.to_json(),
        "folder": str(home() / "objects"),
    }
    try:
        answer = worker.exchange(question)
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
    if error := answer.get("error"):
        return KernelBuildError(error["message"], hint=error["hint"], **error["details"])
    return KernelObject(answer["symbol"], Path(answer["path"]))


def main() -> None:
    """The answering end: one answer a line of stdin, until stdin ends."""
    say = answering()
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
        say(answer)


if __name__ == "__main__":
    main()
