"""CUDA source of a kernel, by TVM, and how it is started."""

from __future__ import annotations

import re
from typing import Any

from edgeprune.compiler.cuda.launch import Launch
from edgeprune.compiler.cuda.threads import EXTENTS
from edgeprune.compiler.tvm_modules import tvm
from edgeprune.targets import Target

_KERNEL = re.compile(
    r'^extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)_kernel\(([^)]*)\) \{$', re.MULTILINE
)
_PARAMETER = re.compile(r"^(?:const )?float\* __restrict__ (\w+?)_ptr$")


def cuda_source(symbol: str, function: Any, target: Target) -> tuple[str, Launch]:
    """One translation unit with the kernel of a scheduled ``function``, and how it is started.

    Raises:
        ValueError: TVM wrote something else than expected; whatever TVM raises.
    """
    assert target.cuda is not None
    device = {
        "kind": "cuda",
        "arch": target.cuda.arch,
        "max_num_threads": target.cuda.threads,
        "max_shared_memory_per_block": target.cuda.shared_bytes,
        "registers_per_block": target.cuda.registers,
        "thread_warp_size": 32,
    }
    compiled = tvm.compile(
        tvm.IRModule({symbol: function}), tvm.target.Target(device, host=tvm.target.Target(target.llvm.to_dict()))
    )
    (module,) = [m for m in compiled.mod.imports if m.kind == "cuda"]
    text = str(module.inspect_source())
    found = _KERNEL.findall(text)
    if [name for name, _ in found] != [symbol]:
        raise ValueError(f"TVM wrote the kernels {[name for name, _ in found]} instead of {symbol}")
    names = [_PARAMETER.match(p.strip()) for p in found[0][1].split(",")]
    if None in names:
        raise ValueError(f"TVM wrote a kernel with other parameters than buffers: {found[0][1]}")
    blocks, threads = (int(extent) for extent in function.attrs[EXTENTS])
    # Without what TVM writes before the kernel, which includes headers that are not everywhere.
    return text[text.index('extern "C" __global__') :], Launch(
        symbol, blocks, threads, tuple(name[1] for name in names if name)
    )
