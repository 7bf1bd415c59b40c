"""Kernels built by an executor of ``concurrent.futures`` in place of processes of this computer.

What an executor is given is text, and what it gives back is text and the object's bytes, so it may be a pool of
threads or processes, or a cluster whose computers share no folder with this one. They need edgeprune in the same
version, with the same compiler.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from importlib import import_module
from pathlib import Path
from typing import Any

from edgeprune.compiler.failures import KernelBuildError
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.objects import build_object
from edgeprune.errors import DeviceUnreachableError, MissingDependencyError
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

Request = tuple[KernelSpec, Schedule]

_executor: ContextVar[Executor | None] = ContextVar("build_on", default=None)

PATIENCE_S = 30
"""Until a scheduler that does not answer is given up."""


@contextmanager
def building_on(where: str | Executor | None) -> Iterator[None]:
    """Inside, kernels are built by an executor, or by that of a Dask scheduler at an address; by None as usual.

    Raises:
        MissingDependencyError: an address, and Dask is not installed.
        DeviceUnreachableError: no scheduler answers there.
    """
    with ExitStack() as stack:
        executor = stack.enter_context(_dask(where)) if isinstance(where, str) else where
        token = _executor.set(executor)
        try:
            yield
        finally:
            _executor.reset(token)


def executor_here() -> Executor | None:
    """What :func:`building_on` said."""
    return _executor.get()


@contextmanager
def _dask(address: str) -> Iterator[Executor]:
    try:
        distributed: Any = import_module("distributed")
    except ImportError:
        raise MissingDependencyError(
            "Dask is not installed, so kernels cannot be built on its workers", hint="pip install 'edgeprune[dask]'"
        ) from None
    try:
        client = distributed.Client(address, timeout=PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as e:
        raise DeviceUnreachableError(
            f"{address}: no Dask scheduler answers: {e}", hint="start one: dask scheduler; give tcp://HOST:8786"
        ) from e
    with client, client.get_executor(pure=False) as executor:
        yield executor


def question_of(request: Request, target: Target) -> dict[str, Any]:
    """A request as JSON, for :func:`answer`."""
    spec, schedule = request
    return {"spec": spec.to_json(), "schedule": dict(schedule), "target": target.to_json()}


def answer(question: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Build a kernel into a folder: its symbol and file, or the error, as JSON."""
    spec, target = KernelSpec.from_json(question["spec"]), Target.model_validate(question["target"])
    try:
        built = build_object(spec, question["schedule"], target, folder)
    except KernelBuildError as e:
        return {"error": e.to_json()}
    return {"symbol": built.symbol, "path": str(built.path)}


def answer_with_bytes(question: Mapping[str, Any]) -> dict[str, Any]:
    """As :func:`answer`, with the object's bytes in place of its file: what an executor runs."""
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        said = answer(question, Path(folder))
        if "error" in said:
            return said
        return {"symbol": said["symbol"], "object": Path(said["path"]).read_bytes()}
