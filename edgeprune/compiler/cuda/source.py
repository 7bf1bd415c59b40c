"""CUDA source of kernels, by TVM: one thread for each result, sums in a register."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import s_tir

from edgeprune.compiler.cuda.compute import prim_func
from edgeprune.compiler.objects import KernelBuildError
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

THREADS = 256

_KERNEL = re.compile(
    r'^extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)_kernel\(([^)]*)\) \{$', re.MULTILINE
)
_PARAMETER = re.compile(r"^(?:const )?float\* __restrict__ (\w+?)_ptr$")


@dataclass(frozen=True, slots=True)
class Launch:
    """How a kernel is started: ``blocks`` x ``threads`` of them; ``parameters``: its buffers by name, in order."""

    symbol: str
    blocks: int
    threads: int
    parameters: tuple[str, ...]

    @property
    def kernel(self) -> str:
        """Its name in the CUDA source and in the cubin."""
        return f"{self.symbol}_kernel"


def cuda_source(kernels: Mapping[str, KernelSpec], target: Target) -> tuple[str, tuple[Launch, ...]]:
    """One translation unit for all kernels, by symbol, and how each is started.

    Raises:
        UnsupportedOperatorError: no rule for a kernel.
        KernelBuildError: TVM refused one, or wrote something else than expected.
    """
    scheduled, sizes = {}, {}
    for symbol, spec in kernels.items():
        scheduled[symbol] = _one_thread_a_result(symbol, prim_func(symbol, spec))
        sizes[symbol] = spec.output.elements
    assert target.cuda is not None
    device = {
        "kind": "cuda",
        "arch": target.cuda.arch,
        "max_num_threads": target.cuda.threads,
        "max_shared_memory_per_block": target.cuda.shared_bytes,
        "registers_per_block": target.cuda.registers,
        "thread_warp_size": 32,
    }
    try:
        compiled = tvm.compile(
            tvm.IRModule(scheduled), tvm.target.Target(device, host=tvm.target.Target(target.llvm.to_dict()))
        )
        (module,) = [m for m in compiled.mod.imports if m.kind == "cuda"]
        text = str(module.inspect_source())
    except Exception as e:  # TVM raises a dozen types
        raise KernelBuildError(f"CUDA code for {target.name} cannot be generated: {type(e).__name__}: {e}") from e
    return _kernels_of(text, sizes)


def _one_thread_a_result(symbol: str, function: Any) -> Any:
    schedule = s_tir.Schedule(tvm.IRModule({symbol: function}))
    schedule.work_on(symbol)
    out = schedule.get_sblock("out")
    fused = schedule.fuse(*schedule.get_loops(out))
    block, thread = schedule.split(fused, [None, THREADS])
    schedule.bind(block, "blockIdx.x")
    schedule.bind(thread, "threadIdx.x")
    if 'T.sblock("acc")' in function.script():
        acc = schedule.get_sblock("acc")
        schedule.compute_at(acc, thread)
        schedule.set_scope(acc, 0, "local")
        if summed := schedule.get_loops(acc)[2:]:  # none where a single value is summed
            schedule.decompose_reduction(acc, summed[0])
    return schedule.mod[symbol]


def _kernels_of(text: str, sizes: Mapping[str, int]) -> tuple[str, tuple[Launch, ...]]:
    """The kernels without what TVM writes before them, which includes headers that are not everywhere."""
    launches = []
    for symbol, parameters in _KERNEL.findall(text):
        names = [_PARAMETER.match(p.strip()) for p in parameters.split(",")]
        if symbol not in sizes or None in names:
            raise KernelBuildError(f"TVM wrote a kernel that nobody asked for: {symbol}({parameters})")
        blocks = -(-sizes[symbol] // THREADS)
        launches.append(Launch(symbol, blocks, THREADS, tuple(name[1] for name in names if name)))
    if sorted(x.symbol for x in launches) != sorted(sizes):
        raise KernelBuildError(f"TVM wrote the kernels {[x.symbol for x in launches]} instead of {list(sizes)}")
    return text[text.index('extern "C" __global__') :], tuple(sorted(launches, key=lambda x: x.symbol))
