"""The static plan of one native program, and the model.c that states it.

A :class:`Program` is calls in order, each with its buffers placed in the arena or among the
weights. A network and a batch of kernels to be timed are both programs: same driver, same C.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.board.element_types import in_c
from edgeprune.compiler.cost import virtual_cost_ns
from edgeprune.compiler.cuda.launch import render_launches
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import rule_named
from edgeprune.compiler.layouts import stored_bytes, stored_elements
from edgeprune.compiler.link import board_sources, embed, link
from edgeprune.compiler.memory import aligned
from edgeprune.compiler.objects import KernelObject
from edgeprune.graph.spec import KernelSpec
from edgeprune.models.image_input import ImageInput
from edgeprune.models.ranges import InputRange
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class Buffer:
    """``elements`` values at byte ``offset`` of the arena, of the weights, or of what is decoded of them.

    ``fixed``: what it holds where weights are noise, four bytes a value; empty: noise.
    """

    space: str  # "arena", "weights", or "decoded": weights that are decoded when the program is opened
    offset: int
    elements: int
    dtype: str = "float32"
    fixed: bytes = b""


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    spec: KernelSpec
    schedule: Schedule
    kernel: KernelObject
    buffers: tuple[Buffer, ...]  # inputs, constants, scratch if there is any, output


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor of the caller: plain, row-major, copied in or out of the arena.

    Attributes:
        dtype: the caller's element type.
        held: the arena's, which values are brought to and from.
        image: how a frame becomes what the network takes.
        range: of the values that data had; None where they are not known.
    """

    name: str
    shape: tuple[int, ...]
    offset: int
    dtype: str = "float32"
    held: str = "float32"
    image: ImageInput | None = None
    range: InputRange | None = None

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Code:
    """A constant that is stored without its zeros: ``bytes`` at byte ``offset`` of the weights, ``elements`` values at
    ``decoded_offset`` of what is decoded.
    """

    name: str
    offset: int
    bytes: int
    decoded_offset: int
    elements: int
    zeros: int


@dataclass(frozen=True, slots=True)
class Program:
    """Attributes:
    weight_bytes: what the file holds of the weights: ``plain_bytes`` that are used in place, and codes behind them.
    weights: these bytes; None: filled with noise on the board, for timing only.
    """

    name: str
    calls: tuple[Call, ...]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    arena_bytes: int
    weight_bytes: int
    weights: NDArray[Any] | None
    codes: tuple[Code, ...] = ()
    decoded_bytes: int = 0

    @property
    def plain_bytes(self) -> int:
        return self.weight_bytes - sum(code.bytes for code in self.codes)


def timing_program(name: str, kernels: Sequence[tuple[KernelSpec, Schedule, KernelObject]], target: Target) -> Program:
    """A program whose calls are independent kernels, to be timed one by one.

    All of them share one arena and one stretch of synthetic weights, so its memory is that of the
    largest kernel, however many are timed.
    """
    calls, arena, weights = [], 0, 0
    for index, (spec, schedule, kernel) in enumerate(kernels):
        buffers: list[Buffer] = []
        at = 0
        for tensor in spec.inputs:
            buffers.append(Buffer("arena", at, stored_elements(tensor, target.lanes), tensor.dtype))
            at += aligned(stored_bytes(tensor, target.lanes))
        constant_at = 0
        rule = rule_named(schedule)
        fixed = rule.fixed(spec, schedule, target)
        for i, elements in enumerate(rule.constants(spec, schedule, target)):
            buffers.append(Buffer("weights", constant_at, elements, fixed=fixed[i].tobytes() if i in fixed else b""))
            constant_at += aligned(4 * elements)
        if elements := rule.scratch(spec, schedule, target):
            buffers.append(Buffer("arena", at, elements))
            at += aligned(4 * elements)
        elements = stored_elements(spec.output, target.lanes)
        buffers.append(Buffer("arena", at, elements))
        arena, weights = max(arena, at + aligned(4 * elements)), max(weights, constant_at)
        calls.append(Call(f"k{index}", spec, schedule, kernel, tuple(buffers)))
    return Program(name, tuple(calls), (), (), arena, weights, None)


def write_program(program: Program, target: Target, folder: Path, *, library: bool = False) -> Mapping[str, Path]:
    """Generate model.c and link it: ``{"program": …, "library": …}`` in ``folder``."""
    board = board_sources()
    sources = [*write_sources(program, folder), board / "types.c", board / "anomalies.c"]
    if target.kind == "cuda":
        (folder / "launches.c").write_text(render_launches(_symbols(program), target))
        sources += [folder / "launches.c", board / "cuda.c"]
    else:
        sources.append(board / "runtime.c")
    objects = sorted({c.kernel.path for c in program.calls})
    defined = []
    if program.codes:
        sources.append(board / "decode.c")
        defined.append("EP_COMPRESSED")
    if program.weights is None and any(b.fixed for c in program.calls for b in c.buffers):
        defined.append("EP_FIXED")
    tools = [board / "main.c", board / "data.c"]
    built = {"program": link(target, [*sources, *tools], objects, folder / "model", defined=defined)}
    if library:
        built["library"] = link(target, sources, objects, folder / "libmodel.so", shared=True, defined=defined)
    return built


def _symbols(program: Program) -> list[str]:
    return sorted({c.kernel.symbol for c in program.calls})


def write_sources(program: Program, folder: Path) -> list[Path]:
    """Write model.c into ``folder``, and the weights if there are any."""
    source = folder / "model.c"
    source.write_text(render(program))
    sources = [source]
    if program.weights is not None:
        (folder / "weights.bin").write_bytes(program.weights.tobytes() or b"\0" * 64)
        sources.append(embed(folder / "weights.bin", "ep_weights"))
    return sources


def render(program: Program) -> str:
    """The text of model.c: data only, deterministic."""
    symbols = _symbols(program)
    lines = [f"/* {_c_text(program.name)}: written by edgeprune. Tables only. */", '#include "program.h"', ""]
    lines += [f"int __tvm_ffi_{s}(void *, ep_ffi_any *, int32_t, ep_ffi_any *);" for s in symbols]
    lines += ["", f'const char ep_name[] = "{_c_text(program.name)}";']
    buffers: list[str] = []
    calls: list[str] = []
    fixed: list[int] = []
    for call in program.calls:
        first = len(buffers)
        for b in call.buffers:
            if b.fixed and program.weights is None:
                values = ", ".join(map(str, np.frombuffer(b.fixed, np.uint32)))
                lines.append(f"static const uint32_t fixed_{len(buffers)}[] = {{{values}}};")
                fixed.append(len(buffers))
            buffers.append(f"  {{EP_{b.space.upper()}, {b.offset}u, {b.elements}, {in_c(b.dtype)}}},")
        calls.append(
            f'  {{"{_c_text(call.name)}", __tvm_ffi_{call.kernel.symbol}, {first}, {len(call.buffers)}, '
            f"{virtual_cost_ns(call.spec)}u}},"
        )
    lines += ["const ep_buffer ep_buffers[] = {", *buffers, "};", f"const int ep_buffer_count = {len(buffers)};"]
    lines += ["const ep_call ep_calls[] = {", *calls, "};", f"const int ep_call_count = {len(calls)};"]
    for kind, ports in (("input", program.inputs), ("output", program.outputs)):
        rows = [_port(p) for p in ports] or ['  {{"", 0, {0}, 0u, EP_FLOAT32}, 0u, EP_FLOAT32},']
        lines += [f"const ep_port ep_{kind}s[] = {{", *rows, "};", f"const int ep_{kind}_count = {len(ports)};"]
    rows = [f"  {{{i}, fixed_{i}}}," for i in fixed] or ["  {0, 0},"]
    lines += ["const ep_fixed ep_fixed_values[] = {", *rows, "};", f"const int ep_fixed_count = {len(fixed)};"]
    lines += [
        f"const uint64_t ep_arena_bytes = {program.arena_bytes}u;",
        f"const uint64_t ep_weight_bytes = {program.weight_bytes}u;",
        f"const int ep_synthetic_weights = {int(program.weights is None)};",
    ]
    if program.weights is None:
        lines.append("const unsigned char ep_weights[1] = {0};")
    if program.codes:
        rows = [f"  {{{c.offset}u, {c.bytes}u, {c.decoded_offset}u, {c.elements}u}}," for c in program.codes]
        lines += ["const ep_code ep_codes[] = {", *rows, "};", f"const int ep_code_count = {len(rows)};"]
        lines.append(f"const uint64_t ep_plain_bytes = {program.plain_bytes}u;")
        lines.append(f"const uint64_t ep_decoded_bytes = {program.decoded_bytes}u;")
    return "\n".join(lines) + "\n"


def _port(port: Port) -> str:
    shape = ", ".join(str(d) for d in port.shape)
    tensor = f'"{_c_text(port.name)}", {len(port.shape)}, {{{shape}}}, {port.elements}u, {in_c(port.dtype)}'
    # What is not written is zero in C: no range.
    ranged = "" if port.range is None else f", 1, {{{port.range.low!r}, {port.range.high!r}}}"
    return f"  {{{{{tensor}}}, {port.offset}u, {in_c(port.held)}{ranged}}},"


def _c_text(text: str) -> str:
    """Names reach C and JSON strings: keep only what needs no escape in either."""
    return re.sub(r"[^A-Za-z0-9_.:+/@ -]", "_", text)
