"""Kernels that do nothing, for tests of what is measured and when: under a clock that counts, they take what real ones
take, and a real one takes the compiler a third of a second.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from edgeprune.compiler.elsewhere import building_on
from edgeprune.compiler.link import compile_object
from edgeprune.compiler.objects import symbol_of
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target, load_target

NAME = b"ep_" + b"0" * 20
SOURCE = """\
int __tvm_ffi_KERNEL(void *, void *, int, void *);
int __tvm_ffi_KERNEL(void *handle, void *arguments, int count, void *result) { return 0; }
"""


class IdleBuilder(Executor):
    """Builds for this computer, in no time: one object, under the name of each kernel."""

    def __init__(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "idle.c")
            source.write_text(SOURCE.replace("KERNEL", NAME.decode()))
            compile_object(load_target("host"), [source], source.with_suffix(".o"))
            self._object = source.with_suffix(".o").read_bytes()
        assert self._object.count(NAME) == 1

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        (question,) = args
        spec, target = KernelSpec.from_json(question["spec"]), Target.model_validate(question["target"])
        symbol = symbol_of(spec, question["schedule"], target)
        future: Future[Any] = Future()
        future.set_result({"symbol": symbol, "object": self._object.replace(NAME, symbol.encode())})
        return future


@contextmanager
def idle_kernels(folder: Path) -> Iterator[None]:
    """Inside, kernels do nothing; ``folder`` is the home that keeps them, for no other test must take them for real."""
    with patch.dict(os.environ, EDGEPRUNE_HOME=str(folder)), building_on(IdleBuilder()):
        yield
