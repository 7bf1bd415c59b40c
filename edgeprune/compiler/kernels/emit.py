"""Small helpers over TVM's IR builder that every kernel rule writes with.

Kernels are written directly as TensorIR: flat fp32 buffers, explicit register tiles unrolled in
Python, vector loads and stores. Why not schedules over a naive loop nest: edges, tails and partial
blocks are specialised statically here, so no predicate and no padded copy ever reaches the inner
loop (docs/DECISIONS.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from edgeprune.compiler.functions import Algebra, apply_step
from edgeprune.compiler.kernels.algebra import VectorAlgebra
from edgeprune.compiler.kernels.vectors import Expr, Registers, kept, splat, tiles
from edgeprune.compiler.layouts import block_count, stored_elements
from edgeprune.compiler.tvm_modules import T, ir_builder
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

Function = Any  # a PrimFunc


class Emitter:
    """One kernel being written: its buffers in call order and vector shorthand.

    Call order is the contract with the driver: inputs, constants (packed weights, bias), scratch if
    there is any, output.

    ``in_place``: the input that lies where the output will (compiler/inplace.py). It is then read from the
    output's buffer, and its own argument is left alone, so that no two arguments in use ever overlap.
    """

    def __init__(
        self, spec: KernelSpec, lanes: int, constants: Sequence[int], scratch: int = 0, in_place: int | None = None
    ) -> None:
        self.spec = spec
        self.lanes = lanes
        sizes = [(stored_elements(t, lanes), t.dtype) for t in spec.inputs]
        self.inputs = [self._argument(f"x{i}", n, dtype) for i, (n, dtype) in enumerate(sizes)]
        self.constants = [self._argument(f"c{i}", n) for i, n in enumerate(constants)]
        self.scratch: Any = self._argument("s", scratch) if scratch else None
        self.output = self._argument("y", stored_elements(spec.output, lanes))
        if in_place is not None:
            self.inputs[in_place] = self.output

    @staticmethod
    def _argument(name: str, elements: int, dtype: str = "float32") -> Any:
        return T.match_buffer(T.arg(name, T.handle()), (elements,), dtype)

    def load(self, buffer: Any, index: Expr, lanes: int | None = None) -> Expr:
        """``lanes`` consecutive values from ``index``."""
        lanes = self.lanes if lanes is None else lanes
        return buffer[index] if lanes == 1 else buffer[T.ramp(index, 1, lanes)]

    def store(self, buffer: Any, value: Expr, index: Expr, lanes: int | None = None) -> None:
        lanes = self.lanes if lanes is None else lanes
        T.buffer_store(buffer, value, [index if lanes == 1 else T.ramp(index, 1, lanes)])

    def const(self, value: float, lanes: int | None = None) -> Expr:
        return self.splat(T.float32(value), lanes)

    def splat(self, scalar: Expr, lanes: int | None = None) -> Expr:
        return splat(scalar, self.lanes if lanes is None else lanes)

    def registers(self, count: int, lanes: int | None = None) -> Registers:
        """``count`` vector accumulators."""
        return Registers(count, self.lanes if lanes is None else lanes)

    def keep(self, *values: Expr, lanes: int | None = None) -> list[Expr]:
        """The values, computed here and now, to be used more than once."""
        return kept(values, self.lanes if lanes is None else lanes)

    def algebra(self, lanes: int | None = None) -> Algebra:
        """Elementwise functions of vectors of ``lanes`` values."""
        return VectorAlgebra(self.lanes if lanes is None else lanes)

    def epilogue(self, value: Expr, block: Expr, pixel: Expr, lanes: int | None = None, *, plain: bool = False) -> Expr:
        """Apply the spec's epilogue to one vector.

        ``block`` is the channel block with the batch folded in, ``pixel`` the position in the
        image; on ``plain`` rows ``block`` is the flat index itself. The bias is in ``value``
        already: kernels start their accumulators with it.
        """

        def operand(i: int) -> Expr:
            image, tensor = self.spec.output.pixels, self.spec.inputs[i]
            if plain:
                return self.load(self.inputs[i], block, lanes)
            if tensor.channels == 1 < self.spec.output.channels:
                sample = block // block_count(self.spec.output.channels, self.lanes)
                at = sample * image + pixel if tensor.pixels > 1 else sample
                return self.splat(self.inputs[i][at * self.lanes], lanes)
            return self.load(
                self.inputs[i], (block if tensor.pixels == 1 else block * image + pixel) * self.lanes, lanes
            )

        return self.steps(value, operand, lanes)

    def steps(self, value: Expr, operand: Callable[[int], Expr], lanes: int | None = None) -> Expr:
        """The spec's epilogue on one vector, given how to read the vector of input ``i`` that goes with it."""
        algebra = self.algebra(lanes)
        operands = (operand(i) for i in range(self.spec.anchor_inputs, len(self.spec.inputs)))
        for step in self.spec.epilogue:
            if step != "bias":
                value = apply_step(algebra, step, value, operands)
        return value


def function(
    name: str,
    spec: KernelSpec,
    schedule: Mapping[str, Any],
    target: Target,
    constants: Sequence[int],
    body: Callable[[Emitter], None],
    *,
    scratch: int = 0,
) -> Function:
    """Build the PrimFunc ``name`` whose body is written by ``body``; of ``schedule`` it reads ``in_place`` alone."""
    with ir_builder.IRBuilder() as builder, T.prim_func():
        T.func_name(name)
        # Buffers of one call never overlap unless the rule says so; without it LLVM reloads.
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        body(Emitter(spec, target.lanes, constants, scratch, schedule.get("in_place")))
    return builder.get()


@contextmanager
def when(condition: Expr | None) -> Iterator[None]:
    """``if condition:``; ``None`` means always."""
    if condition is None:
        yield
        return
    with T.If(condition), T.Then():
        yield


def folded(vector: Expr, lanes: int, merge: Callable[[Expr, Expr], Expr]) -> Expr:
    """All lanes of a vector in one value, by halves."""
    values = [T.Shuffle([vector], [i]) for i in range(lanes)] if lanes > 1 else [vector]
    while len(values) > 1:
        values = [merge(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
    return values[0]


def narrowing(total: int, width: int) -> list[tuple[int, int]]:
    """Cut ``range(total)`` into (start, size) vectors: of ``width``, then of ever smaller halves of it."""
    found, start = [], 0
    while start < total:
        while width > total - start:
            width //= 2
        found.append((start, width))
        start += width
    return found


__all__ = [
    "Emitter",
    "Expr",
    "Function",
    "Registers",
    "T",
    "block_count",
    "folded",
    "function",
    "narrowing",
    "tiles",
    "when",
]
