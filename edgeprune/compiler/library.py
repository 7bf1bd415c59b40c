"""A compiled network called from Python: the same kernels as the program, through ctypes."""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from edgeprune.board.anomalies import Anomaly
from edgeprune.compiler.manifest import Manifest, read_manifest
from edgeprune.errors import BadInputError, BundleError, EdgepruneError, UsageError

_REFUSED = 1
"""``EP_REFUSED`` of edgeprune_model.h."""


class _Anomaly(ctypes.Structure):
    """``ep_anomaly`` of edgeprune_model.h."""

    _fields_: ClassVar = [
        ("element", ctypes.c_uint64),
        ("value", ctypes.c_double),
        ("not_finite", ctypes.c_uint64),
        ("outside", ctypes.c_uint64),
    ]


class CompiledModel:
    """A bundle opened on this computer; use it as a context manager."""

    def __init__(self, bundle: Path, *, threads: int = 1) -> None:
        self.manifest: Manifest = read_manifest(bundle)
        names = [n for n, f in self.manifest.files.items() if f.role == "library"]
        if not names:
            raise BundleError(f"{bundle} holds no library for Python", hint="compile it for this computer's target")
        try:
            self._lib = _loaded(bundle / names[0])
        except OSError as e:
            raise BundleError(
                f"{bundle / names[0]} does not load here: {e}", hint="compile it for this computer's target"
            ) from e
        self._lib.ep_open.restype = ctypes.c_void_p
        self._lib.ep_open.argtypes = [ctypes.c_int]
        self._lib.ep_close.argtypes = [ctypes.c_void_p]
        self._lib.ep_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        self._lib.ep_error.restype = ctypes.c_char_p
        self._handle = self._lib.ep_open(threads)
        if not self._handle:
            raise EdgepruneError(f"the model does not open: {self._error()}")

    def _error(self) -> str:
        return (self._lib.ep_error() or b"").decode(errors="replace")

    def __call__(self, *inputs: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        """One inference. Inputs and outputs in the manifest's order, shapes and types; a frame may be (H, W, C).

        Raises:
            UsageError: the model is closed, or takes other inputs.
            BadInputError: values that the types of the inputs do not hold, or that the program does not.
        """
        if not self._handle:
            raise UsageError("the model is closed", hint="open the bundle again")
        arrays = self._given(inputs)
        results = tuple(np.empty(p.shape, p.dtype) for p in self.manifest.outputs)
        pointers_in = (ctypes.c_void_p * len(arrays))(*(a.ctypes.data for a in arrays))
        pointers_out = (ctypes.c_void_p * len(results))(*(a.ctypes.data for a in results))
        if code := self._lib.ep_run(self._handle, pointers_in, pointers_out):
            error = BadInputError if code == _REFUSED else EdgepruneError
            raise error(f"the model failed: {self._error()}")
        return results

    def inspect(self, *inputs: NDArray[Any]) -> tuple[Anomaly, ...]:
        """What is anomalous in one sample's inputs, as ``ep_inspect`` finds it: nothing is computed, nothing refused.

        Raises:
            UsageError: the model takes other inputs, or was compiled by a version that does not look at them.
            BadInputError: values that the types of the inputs do not hold.
        """
        if not self.manifest.inspects:
            raise UsageError("this library does not look at its inputs", hint="compile the model again")
        found = []
        for index, (array, port) in enumerate(zip(self._given(inputs), self.manifest.inputs, strict=True)):
            said = _Anomaly()
            if not self._lib.ep_inspect(index, ctypes.c_void_p(array.ctypes.data), ctypes.byref(said)):
                continue
            position = tuple(int(i) for i in np.unravel_index(said.element, port.shape))
            range_ = None if port.range is None else (port.range.low, port.range.high)
            value, counts = said.value, (said.not_finite, said.outside)
            found.append(Anomaly(0, port.name, value, said.element, position, *counts, range_))
        return tuple(found)

    def _given(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        ports = self.manifest.inputs
        if len(inputs) != len(ports):
            raise UsageError(f"the model takes {len(ports)} inputs, {len(inputs)} given")
        arrays = [port.given(x) for x, port in zip(inputs, ports, strict=True)]
        for array, port in zip(arrays, ports, strict=True):
            if array.shape != port.shape:
                raise UsageError(f"input {port.name} has shape {array.shape}, the model takes {port.shape}")
        return arrays

    def close(self) -> None:
        if self._handle:
            self._lib.ep_close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _loaded(library: Path) -> ctypes.CDLL:
    """A library under a name of its own: of one name the loader hands out the first one that it met, also where another
    lies there by now.
    """
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as folder:
        copy = shutil.copy2(library, Path(folder) / library.name)
        try:
            return ctypes.CDLL(str(copy))
        except OSError:  # a folder from which nothing may be run
            return ctypes.CDLL(str(library.resolve()))


def load_bundle(bundle: str | Path, *, threads: int = 1) -> CompiledModel:
    """Open a bundle compiled for this computer.

    Raises:
        BundleError, VerificationError: see :func:`edgeprune.compiler.manifest.read_manifest`.
    """
    return CompiledModel(Path(bundle), threads=threads)
