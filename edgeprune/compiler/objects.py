"""Building one kernel: KernelSpec + schedule + target -> object file, remembered on disk.

The profiler and the final build both come through :func:`build_object`, so a kernel that was
measured is byte for byte the kernel that is shipped, and a profile that was paid for makes every
later compile fast.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from edgeprune.compiler.cuda import nvrtc
from edgeprune.compiler.cuda.kernel import write_object
from edgeprune.compiler.elf import loaded_bytes
from edgeprune.compiler.failures import KernelBuildError
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.emit import Function
from edgeprune.compiler.kernels.registry import rule_named, schedules_for, schedules_version
from edgeprune.compiler.tvm_modules import tvm
from edgeprune.files import whole_file
from edgeprune.graph.spec import KernelSpec
from edgeprune.home import home
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class KernelObject:
    """A compiled kernel: its symbol and the object file that defines it."""

    symbol: str
    path: Path

    @property
    def bytes(self) -> int:
        """What it adds to a program (:func:`edgeprune.compiler.elf.loaded_bytes`): about half of the file."""
        return loaded_bytes(self.path)


@cache
def _versions() -> Mapping[str, str]:
    return {name: metadata.version(name) for name in ("apache-tvm", "apache-tvm-ffi", "ziglang")}


def compiler_versions(target: Target) -> Mapping[str, str]:
    """Versions that decide what machine code comes out; part of every fingerprint.

    Raises:
        MissingDependencyError: what compiles for the target's GPU is not installed.
    """
    return {**_versions(), **nvrtc.versions()} if target.kind == "cuda" else _versions()


def default_schedule(spec: KernelSpec, target: Target) -> Schedule:
    """What is used where nothing was measured: the first point of the space."""
    return schedules_for(spec, target)[0]


def symbol_of(spec: KernelSpec, schedule: Schedule, target: Target) -> str:
    """Name of the kernel function: stable for the same spec, schedule, target and compiler."""
    identity = {
        "spec": spec.to_json(),
        "schedule": dict(schedule),
        "target": target.digest,
        "versions": dict(compiler_versions(target)),
        "schedules": schedules_version(target),
    }
    text = json.dumps(identity, sort_keys=True)
    return "ep_" + hashlib.sha256(text.encode()).hexdigest()[:20]


def find_object(
    spec: KernelSpec, schedule: Schedule, target: Target, folder: Path | None = None
) -> KernelObject | None:
    """The kernel as it was compiled before into ``folder`` (default: the user's cache), or None."""
    symbol = symbol_of(spec, schedule, target)
    path = (folder or home() / "objects") / f"{symbol}.o"
    return KernelObject(symbol, path) if path.is_file() else None


def machine_code(symbol: str, function: Function, target: Target) -> Any:
    """The function compiled by TVM, as a module that can be called or written."""
    # Storage rewrite merges small buffers of different vector widths, and then fails on the result. Kernels
    # allocate registers only, and merge nothing that LLVM would not.
    # For the same reason there is nothing to compact: looking for it takes a tenth of the time, and the object that
    # comes out is the same to the byte.
    skipped = ["s_tir.CompactBufferAllocation"]
    with tvm.transform.PassContext(config={"tirx.disable_storage_rewrite": True}, disabled_pass=skipped):
        library = tvm.compile(tvm.IRModule({symbol: function}), tvm.target.Target(target.llvm.to_dict()))
    if "TVMBackendAllocWorkspace" in library.mod.inspect_source("ll"):
        raise ValueError("it takes memory of its own at run time: the board's program counts on the arena alone")
    return library


def build_object(spec: KernelSpec, schedule: Schedule, target: Target, folder: Path | None = None) -> KernelObject:
    """Compile one kernel, or take it from ``folder`` (default: the user's cache).

    Raises:
        KernelBuildError: the compiler refused it; ``details`` name spec and schedule.
    """
    if found := find_object(spec, schedule, target, folder):
        return found
    symbol = symbol_of(spec, schedule, target)
    path = (folder or home() / "objects") / f"{symbol}.o"
    rule = rule_named(schedule)
    try:
        function = rule.build(symbol, spec, schedule, target)
        with whole_file(path) as partial:
            if target.kind == "cuda":
                write_object(symbol, spec, function, target, partial)
            else:
                machine_code(symbol, function, target).mod.write_to_file(str(partial), "o")
    except Exception as e:  # TVM raises a dozen types, some of them plain RuntimeError
        raise KernelBuildError(
            f"{spec} with {dict(schedule)} does not build for {target.name}: {type(e).__name__}: {e}",
            hint="report this kernel; --json shows its spec",
            spec=spec.to_json(),
            schedule=dict(schedule),
        ) from e
    return KernelObject(symbol, path)
