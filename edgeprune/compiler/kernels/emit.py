"""Small helpers over TVM's IR builder that every kernel rule writes with.

Kernels are written directly as TensorIR: flat fp32 buffers, explicit register tiles unrolled in
Python, vector loads and stores. Why not schedules over a naive loop nest: edges, tails and partial
blocks are specialised statically here, so no predicate and no padded copy ever reaches the inner
loop (docs/DECISIONS.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from edgeprune.compiler.layouts import block_count, stored_elements
from edgeprune.graph.spec import KernelSpec

Expr = Any  # a TensorIR expression; TVM's stubs do not type the builder
Function = Any


class _Builder:
    """TVM's IR builder, loaded by the first kernel that is written.

    Planning and packing need the rules but not TVM, which takes 1.5 s to load and belongs into the
    processes that build (compiler/workers.py).
    """

    def __getattr__(self, name: str) -> Any:
        from tvm.script.ir_builder import tirx

        return getattr(tirx, name)


T = _Builder()


class Emitter:
    """One kernel being written: its buffers in call order and vector shorthand.

    Call order is the contract with the driver: inputs, constants (packed weights, bias), output.
    """

    def __init__(self, spec: KernelSpec, lanes: int, constants: Sequence[int]) -> None:
        self.spec = spec
        self.lanes = lanes
        sizes = [stored_elements(t, lanes) for t in spec.inputs]
        self.inputs = [self._argument(f"x{i}", n) for i, n in enumerate(sizes)]
        self.constants = [self._argument(f"c{i}", n) for i, n in enumerate(constants)]
        self.output = self._argument("y", stored_elements(spec.output, lanes))

    @staticmethod
    def _argument(name: str, elements: int) -> Any:
        return T.match_buffer(T.arg(name, T.handle()), (elements,), "float32")

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
        lanes = self.lanes if lanes is None else lanes
        return scalar if lanes == 1 else T.Broadcast(scalar, lanes)

    def registers(self, count: int, lanes: int | None = None) -> Any:
        """``count`` vector accumulators; all indices must be Python ints so that they stay in registers."""
        lanes = self.lanes if lanes is None else lanes
        return T.alloc_buffer((count,), "float32" if lanes == 1 else f"float32x{lanes}", scope="local")

    def epilogue(self, value: Expr, block: Expr, pixel: Expr, lanes: int | None = None, *, plain: bool = False) -> Expr:
        """Apply the spec's epilogue to one vector.

        ``block`` is the channel block with the batch folded in, ``pixel`` the position in the
        image; on ``plain`` rows ``block`` is the flat index itself. The bias is in ``value``
        already: kernels start their accumulators with it.
        """
        operands = iter(range(self.spec.anchor_inputs, len(self.spec.inputs)))
        for op in self.spec.epilogue:
            if op == "bias":
                continue
            if op in ("add", "mul"):
                i = next(operands)
                image = self.spec.output.pixels
                one_per_channel = self.spec.inputs[i].pixels == 1
                index = block if plain else (block if one_per_channel else block * image + pixel) * self.lanes
                operand = self.load(self.inputs[i], index, lanes)
                value = value + operand if op == "add" else value * operand
            else:
                value = ACTIVATIONS[op](self, value, lanes)
        return value


def _clip(e: Emitter, x: Expr, low: float, high: float, lanes: int | None) -> Expr:
    return T.min(T.max(x, e.const(low, lanes)), e.const(high, lanes))


def _sigmoid(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    one = e.const(1.0, lanes)
    return one / (one + T.exp(e.const(0.0, lanes) - x))


def _hardsigmoid(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    return _clip(e, x + e.const(3.0, lanes), 0.0, 6.0, lanes) * e.const(1 / 6, lanes)


ACTIVATIONS: dict[str, Callable[[Emitter, Expr, int | None], Expr]] = {
    "relu": lambda e, x, n: T.max(x, e.const(0.0, n)),
    "relu6": lambda e, x, n: _clip(e, x, 0.0, 6.0, n),
    "hardsigmoid": _hardsigmoid,
    "hardswish": lambda e, x, n: x * _hardsigmoid(e, x, n),
    "sigmoid": _sigmoid,
    "silu": lambda e, x, n: x * _sigmoid(e, x, n),
    "tanh": lambda e, x, n: T.tanh(x),
}
"""Epilogue activations, by the name a KernelSpec uses. A new one is one line here and one in the cutter."""


def function(
    name: str, spec: KernelSpec, lanes: int, constants: Sequence[int], body: Callable[[Emitter], None]
) -> Function:
    """Build the PrimFunc ``name`` whose body is written by ``body``."""
    from tvm.script.ir_builder import IRBuilder

    with IRBuilder() as builder, T.prim_func():
        T.func_name(name)
        # Buffers of one call never overlap unless the rule says so; without it LLVM reloads.
        T.func_attr({"tirx.noalias": True, "global_symbol": name})
        body(Emitter(spec, lanes, constants))
    return builder.get()


@contextmanager
def when(condition: Expr | None) -> Iterator[None]:
    """``if condition:``; ``None`` means always."""
    if condition is None:
        yield
        return
    with T.If(condition), T.Then():
        yield


def tiles(total: int, width: int) -> list[tuple[int, int]]:
    """Cut ``range(total)`` into (start, size) tiles of ``width`` and one smaller tail."""
    return [(start, min(width, total - start)) for start in range(0, total, width)]


__all__ = ["ACTIVATIONS", "Emitter", "Expr", "Function", "T", "block_count", "function", "tiles", "when"]
