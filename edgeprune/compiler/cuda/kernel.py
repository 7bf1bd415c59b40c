"""One kernel for a GPU as an object file for the linker: its machine code, and a function that starts it.

The function has the interface of a kernel of the cores, so all that calls, times, places and links kernels
is the same for both.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgeprune.compiler.cuda.launch import render_launch
from edgeprune.compiler.cuda.nvrtc import compile_cubin
from edgeprune.compiler.cuda.source import cuda_source
from edgeprune.compiler.kernels.emit import Function
from edgeprune.compiler.link import compile_object, embed
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


def write_object(symbol: str, spec: KernelSpec, function: Function, target: Target, path: Path) -> None:
    """Compile a scheduled kernel into the object file ``path``.

    Raises:
        MissingDependencyError, KernelBuildError, LinkError: of what compiles; whatever TVM raises.
    """
    assert target.cuda is not None
    source, launch = cuda_source(symbol, function, target)
    with tempfile.TemporaryDirectory(prefix="edgeprune-") as scratch:
        folder = Path(scratch)
        (folder / "kernel.cubin").write_bytes(compile_cubin(source, target.cuda.arch, [launch.kernel]))
        (folder / "launch.c").write_text(render_launch(launch, spec))
        compile_object(target, [folder / "launch.c", embed(folder / "kernel.cubin", f"ep_cubin_{symbol}")], path)
