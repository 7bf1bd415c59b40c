"""From the kernel graph to a program for a GPU: a cubin with all kernels, and the same static plan as on cores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from edgeprune.compiler.cuda.compute import constant_shapes
from edgeprune.compiler.cuda.nvrtc import compile_cubin, versions
from edgeprune.compiler.cuda.source import THREADS, Launch, cuda_source
from edgeprune.compiler.folding import State, folded
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.layouts import stored_elements
from edgeprune.compiler.lower import Lowered, Weights, tensor_lifetimes
from edgeprune.compiler.memory import plan_arena
from edgeprune.compiler.objects import KernelObject, compiler_versions
from edgeprune.compiler.program import Buffer, Call, DeviceCode, Port, Program
from edgeprune.compiler.schedules import Chosen
from edgeprune.graph.channels import KernelGraph
from edgeprune.graph.spec import KernelSpec
from edgeprune.progress import SILENT, Progress
from edgeprune.targets import Target

RULES_VERSION = 1
"""Raised when the same spec gives other code."""

SCHEDULE: Schedule = {"rule": "cuda_thread_a_result", "threads": THREADS}


def lower_cuda(graph: KernelGraph, state: State, target: Target, *, name: str, progress: Progress = SILENT) -> Lowered:
    """Generate and compile every kernel for the target's GPU, and lay out its memory.

    Raises:
        UnsupportedOperatorError: a kernel there is no rule for.
        MissingDependencyError: NVRTC is not installed.
        KernelBuildError: TVM or NVRTC refused a kernel.
    """
    assert target.cuda is not None
    progress.stage("building kernels for the GPU")
    symbols = {node.spec: symbol_of(node.spec, target) for node in graph.nodes}
    text, launches = cuda_source({symbol: spec for spec, symbol in symbols.items()}, target)
    cubin = compile_cubin(text, target.cuda.arch, [launch.kernel for launch in launches])
    arena = plan_arena(tensor_lifetimes(graph, target, {}))
    weights = Weights()
    buffers: dict[str, Buffer] = {}
    for tensor, constant in graph.constants.items():
        buffers[tensor] = weights.add(state[constant] if isinstance(constant, str) else constant)
    for tensor, spec in graph.tensors.items():
        if tensor not in buffers:
            buffers[tensor] = Buffer("arena", arena.offsets[tensor], stored_elements(spec, target.lanes))
    calls = []
    for node in graph.nodes:
        constants = [weights.add(values) for values in folded(node, state) if values is not None]
        placed = (*(buffers[t] for t in node.inputs), *constants, buffers[node.output])
        # All kernels are in one cubin, which is no object file for the linker.
        kernel = KernelObject(symbols[node.spec], Path("kernels.cubin"))
        calls.append(Call(node.name, node.spec, SCHEDULE, kernel, placed))
    inputs = tuple(Port(p.name, p.shape, buffers[p.tensor].offset) for p in graph.inputs)
    outputs = tuple(Port(p.name, p.shape, buffers[p.tensor].offset) for p in graph.outputs)
    blob = weights.joined()
    program = Program(name, tuple(calls), inputs, outputs, arena.bytes, 4 * blob.size, blob)
    device = DeviceCode(
        target.cuda.arch,
        text,
        cubin,
        render_launches(launches, symbols, target.cuda.arch),
        len(launches),
        versions(),
    )
    return Lowered(program, tuple(Chosen(SCHEDULE, "default") for _ in calls), device)


def symbol_of(spec: KernelSpec, target: Target) -> str:
    """Name of the kernel function: stable for the same spec, target and compiler."""
    identity = [spec.to_json(), target.digest, dict(compiler_versions()), RULES_VERSION]
    return "ep_" + hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:20]


def render_launches(launches: tuple[Launch, ...], symbols: Mapping[KernelSpec, str], arch: str) -> str:
    """The text of launches.c: how each kernel is started, and a function with the kernels' own interface that does."""
    specs = {symbol: spec for spec, symbol in symbols.items()}
    lines = ["/* Written by edgeprune: how the kernels of the cubin are started. */", '#include "cuda.h"', ""]
    rows = []
    for index, launch in enumerate(launches):
        places = _places(specs[launch.symbol])
        order = ", ".join(str(places[name]) for name in launch.parameters)
        lines.append(f"static const int order_{index}[] = {{{order}}};")
        lines.append(f"int __tvm_ffi_{launch.symbol}(void *self, ep_ffi_any *args, int32_t n, ep_ffi_any *result) {{")
        lines += ["  (void)self, (void)result;", f"  return ep_start({index}, args, n);", "}", ""]
        count = len(launch.parameters)
        rows.append(f'  {{"{launch.kernel}", {launch.blocks}u, {launch.threads}u, {count}, order_{index}}},')
    lines += ["const ep_launch ep_launches[] = {", *rows, "};", f"const int ep_launch_count = {len(launches)};"]
    return "\n".join([*lines, f'const char ep_gpu[] = "{arch}";']) + "\n"


def _places(spec: KernelSpec) -> dict[str, int]:
    """Where among a call's buffers each buffer of the kernel is."""
    names = [*(f"in{i}" for i in range(len(spec.inputs))), *constant_shapes(spec), "out"]
    return {name: index for index, name in enumerate(names)}
