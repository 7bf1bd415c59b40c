"""How kernels for a GPU are started, and the C that says so to board/cuda.c."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.compiler.cuda.constants import constant_shapes
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


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


def render_launch(launch: Launch, spec: KernelSpec) -> str:
    """The text of launch.c: where the machine code is, and how it is started."""
    symbol, places = launch.symbol, _places(spec)
    order = ", ".join(str(places[name]) for name in launch.parameters)
    start = f'"{launch.kernel}", ep_cubin_{symbol}, {launch.blocks}u, {launch.threads}u'
    return f"""\
/* Written by edgeprune: a kernel in machine code of the GPU, and how it is started. */
#include "cuda.h"

extern const unsigned char ep_cubin_{symbol}[];
static const int order[] = {{{order}}};
ep_launch ep_launch_{symbol} = {{{start}, {len(launch.parameters)}, order, 0, 0}};

int __tvm_ffi_{symbol}(void *self, ep_ffi_any *args, int32_t n, ep_ffi_any *result) {{
  (void)self, (void)result;
  return ep_start(&ep_launch_{symbol}, args, n);
}}
"""


def render_launches(symbols: Sequence[str], target: Target) -> str:
    """The text of launches.c: the kernels of a program, for board/cuda.c to load."""
    assert target.cuda is not None
    lines = ["/* Written by edgeprune: the kernels of this program. */", '#include "cuda.h"', ""]
    lines += [f"extern ep_launch ep_launch_{symbol};" for symbol in symbols]
    lines += ["ep_launch *const ep_launches[] = {", *(f"  &ep_launch_{symbol}," for symbol in symbols), "};"]
    lines += [f"const int ep_launch_count = {len(symbols)};", f'const char ep_gpu[] = "{target.cuda.arch}";']
    return "\n".join(lines) + "\n"


def _places(spec: KernelSpec) -> dict[str, int]:
    """Where among a call's buffers each buffer of the kernel is."""
    names = [*(f"in{i}" for i in range(len(spec.inputs))), *constant_shapes(spec), "out"]
    return {name: index for index, name in enumerate(names)}
