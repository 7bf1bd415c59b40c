"""Building many kernels at once, in processes of any ``concurrent.futures`` executor."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.objects import KernelBuildError, KernelObject, build_object, find_object
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

Request = tuple[KernelSpec, Schedule]


@contextmanager
def builders(workers: int | None = None) -> Iterator[Executor]:
    """A pool of building processes; ``workers`` defaults to the cores of this computer.

    Processes are spawned: TVM's and torch's threads do not survive a fork.
    """
    count = workers or os.cpu_count() or 1
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


def build_all(requests: Sequence[Request], target: Target, pool: Executor) -> Iterator[KernelObject | str]:
    """One result a request, in order: the object, or why it could not be built.

    The pool is asked only for what was never built before: its processes take seconds to start.
    """
    found = [find_object(*request, target) for request in requests]
    missing = [request for request, known in zip(requests, found, strict=True) if known is None]
    built = iter(pool.map(_build_one, missing, [target] * len(missing), chunksize=4))
    for known in found:
        yield next(built) if known is None else known


def _build_one(request: Request, target: Target) -> KernelObject | str:
    try:
        return build_object(*request, target)
    except KernelBuildError as e:
        return str(e)
