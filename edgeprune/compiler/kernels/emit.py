"""Small helpers over TVM's IR builder that every kernel rule writes with.

Kernels are written directly as TensorIR: flat fp32 buffers, explicit register tiles unrolled in
Python, vector loads and stores. Why not schedules over a naive loop nest: edges, tails and partial
blocks are specialised statically here, so no predicate and no padded copy ever reaches the inner
loop (docs/DECISIONS.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from edgeprune.compiler.layouts import block_count, stored_elements
from edgeprune.compiler.tvm_modules import T, ir_builder
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target

Expr = Any  # a TensorIR expression; TVM's stubs do not type the builder
Function = Any


class Registers:
    """Vector values that LLVM keeps in registers: they are indexed by Python ints only.

    TVM leaves an allocation on the stack, where LLVM finds registers for it, if it is of "global" scope and
    below 1 KiB; any other comes from the heap, at run time and for every tile. So many accumulators are
    several small buffers.
    """

    _MOST_BYTES = 512

    def __init__(self, count: int, lanes: int) -> None:
        dtype = "float32" if lanes == 1 else f"float32x{lanes}"
        self._size = self._MOST_BYTES // (4 * lanes)
        self._buffers = [T.alloc_buffer((n,), dtype, scope="global") for _, n in tiles(count, self._size)]

    def __getitem__(self, index: int) -> Expr:
        return self._buffers[index // self._size][index % self._size]

    def __setitem__(self, index: int, value: Expr) -> None:
        T.buffer_store(self._buffers[index // self._size], value, [index % self._size])

    def address(self) -> Expr:
        """Of the first value; the others follow it if they are few enough to be one buffer."""
        (buffer,) = self._buffers
        return T.address_of(buffer[0])


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
        sizes = [stored_elements(t, lanes) for t in spec.inputs]
        self.inputs = [self._argument(f"x{i}", n) for i, n in enumerate(sizes)]
        self.constants = [self._argument(f"c{i}", n) for i, n in enumerate(constants)]
        self.scratch: Any = self._argument("s", scratch) if scratch else None
        self.output = self._argument("y", stored_elements(spec.output, lanes))
        if in_place is not None:
            self.inputs[in_place] = self.output

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

    def registers(self, count: int, lanes: int | None = None) -> Registers:
        """``count`` vector accumulators."""
        return Registers(count, self.lanes if lanes is None else lanes)

    def keep(self, *values: Expr, lanes: int | None = None) -> list[Expr]:
        """The values, computed here and now, to be used more than once."""
        kept = self.registers(len(values), lanes)
        for i, value in enumerate(values):
            kept[i] = value
        return [kept[i] for i in range(len(values))]

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
        operands = iter(range(self.spec.anchor_inputs, len(self.spec.inputs)))
        for op in self.spec.epilogue:
            if op == "bias":
                continue
            if op in OPERATIONS:
                value = OPERATIONS[op](value, operand(next(operands)))
            else:
                name, _, numbers = op.partition(":")
                value = ACTIVATIONS[name](self, value, lanes, *(float(n) for n in numbers.split(",") if n))
        return value


def _clip(e: Emitter, x: Expr, lanes: int | None, low: float, high: float) -> Expr:
    """An infinite bound is none."""
    x = T.max(x, e.const(low, lanes)) if math.isfinite(low) else x
    return T.min(x, e.const(high, lanes)) if math.isfinite(high) else x


def exp(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    """e to the power of x within 1e-7 of itself; above 88.4 infinity, below -87 the smallest normal number.

    Written out because LLVM would call the C library once a lane. Method: x = n ln 2 + r, r at most ln 2 / 2;
    the series of e ** r; n goes into the exponent bits (Cephes' expf splits ln 2 in the same two parts).
    """

    def c(value: float) -> Expr:
        return e.const(value, lanes)

    width = e.lanes if lanes is None else lanes
    many = "" if width == 1 else f"x{width}"
    (x,) = e.keep(T.min(T.max(x, c(-87.0)), c(89.0)), lanes=lanes)
    (n,) = e.keep(T.floor(x * c(math.log2(math.e)) + c(0.5)), lanes=lanes)
    (r,) = e.keep(x - n * c(0.693359375) + n * c(2.12194440e-4), lanes=lanes)
    series = c(1 / 5040)
    for k in range(6, -1, -1):
        series = series * r + c(1 / math.factorial(k))
    bits = (T.Cast(f"int32{many}", n) + e.splat(T.int32(127), lanes)) << e.splat(T.int32(23), lanes)
    return series * T.reinterpret(f"float32{many}", bits)


def _sigmoid(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    one = e.const(1.0, lanes)
    return one / (one + exp(e, e.const(0.0, lanes) - x, lanes))


def _tanh(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    one, two = e.const(1.0, lanes), e.const(2.0, lanes)
    return one - two / (one + exp(e, two * x, lanes))


def _hardsigmoid(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    return _clip(e, x + e.const(3.0, lanes), lanes, 0.0, 6.0) * e.const(1 / 6, lanes)


def log(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    """The natural logarithm of positive normal numbers within 2e-7; 0 gives about -88.

    Method: x = m * 2 ** n with m around 1; log m is twice the area tangent of (m - 1) / (m + 1), by its series.
    """

    def c(value: float) -> Expr:
        return e.const(value, lanes)

    width = e.lanes if lanes is None else lanes
    many = "" if width == 1 else f"x{width}"

    def whole(value: int) -> Expr:
        return e.splat(T.int32(value), lanes)

    (x,) = e.keep(T.max(x, c(1.1754944e-38)), lanes=lanes)
    bits = T.reinterpret(f"int32{many}", x)
    # Exponent and mantissa around the root of a half, so that m lies between it and its double.
    shifted = bits - whole(0x3F3504F3)
    (n,) = e.keep(T.Cast(f"float32{many}", shifted >> whole(23)), lanes=lanes)
    (m,) = e.keep(T.reinterpret(f"float32{many}", (shifted & whole(0x007FFFFF)) + whole(0x3F3504F3)), lanes=lanes)
    (s,) = e.keep((m - c(1.0)) / (m + c(1.0)), lanes=lanes)
    (square,) = e.keep(s * s, lanes=lanes)
    series = c(2 / 11)
    for k in (9, 7, 5, 3, 1):
        series = series * square + c(2 / k)
    return n * c(math.log(2)) + s * series


def _softplus(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    zero = e.const(0.0, lanes)
    (x,) = e.keep(x, lanes=lanes)
    (power,) = e.keep(exp(e, T.min(x, zero - x), lanes), lanes=lanes)
    return T.max(x, zero) + log(e, e.const(1.0, lanes) + power, lanes)


def _mish(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    (x,) = e.keep(x, lanes=lanes)
    return x * _tanh(e, _softplus(e, x, lanes), lanes)


def _abs(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    return T.max(x, e.const(0.0, lanes) - x)


def _sign(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    zero, one = e.const(0.0, lanes), e.const(1.0, lanes)
    return T.Select(x > zero, one, T.Select(x < zero, zero - one, x * zero))


def _gelu(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    """x times the normal distribution up to x; the error function within 1.5e-7 (Abramowitz and Stegun, 7.1.26)."""

    def c(value: float) -> Expr:
        return e.const(value, lanes)

    (z,) = e.keep(x * c(math.sqrt(0.5)), lanes=lanes)
    (a,) = e.keep(T.max(z, c(0.0) - z), lanes=lanes)
    (t,) = e.keep(c(1.0) / (c(1.0) + c(0.3275911) * a), lanes=lanes)
    series = c(1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = series * t + c(coefficient)
    # The rest of the error function to 1, for |z|; on the left of 0 it is the whole of the distribution.
    (rest,) = e.keep(series * t * exp(e, c(0.0) - a * a, lanes) * c(0.5), lanes=lanes)
    return x * T.Select(x < c(0.0), rest, c(1.0) - rest)


def _gelu_tanh(e: Emitter, x: Expr, lanes: int | None) -> Expr:
    """torch's ``gelu(approximate="tanh")``."""
    inner = x * e.const(math.sqrt(2 / math.pi), lanes) * (e.const(1.0, lanes) + e.const(0.044715, lanes) * x * x)
    return e.const(0.5, lanes) * x * (e.const(1.0, lanes) + _tanh(e, inner, lanes))


def _elu(e: Emitter, x: Expr, lanes: int | None, alpha: float) -> Expr:
    zero = e.const(0.0, lanes)
    below = (exp(e, T.min(x, zero), lanes) - e.const(1.0, lanes)) * e.const(alpha, lanes)
    return T.Select(x < zero, below, x)


def _leaky_relu(e: Emitter, x: Expr, lanes: int | None, slope: float) -> Expr:
    return T.Select(x < e.const(0.0, lanes), x * e.const(slope, lanes), x)


ACTIVATIONS: dict[str, Callable[..., Expr]] = {
    "abs": _abs,
    "exp": lambda e, x, n: exp(e, x, n),
    "log": log,
    "mish": _mish,
    "softplus": _softplus,
    "sqrt": lambda e, x, n: T.sqrt(x),
    "rsqrt": lambda e, x, n: e.const(1.0, n) / T.sqrt(x),
    "reciprocal": lambda e, x, n: e.const(1.0, n) / x,
    "sign": _sign,
    "square": lambda e, x, n: x * x,
    "relu": lambda e, x, n: T.max(x, e.const(0.0, n)),
    "relu6": lambda e, x, n: _clip(e, x, n, 0.0, 6.0),
    "clip": _clip,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "plus": lambda e, x, n, value: x + e.const(value, n),
    "times": lambda e, x, n, value: x * e.const(value, n),
    "hardsigmoid": _hardsigmoid,
    "hardswish": lambda e, x, n: x * _hardsigmoid(e, x, n),
    "sigmoid": _sigmoid,
    "silu": lambda e, x, n: x * _sigmoid(e, x, n),
    "tanh": _tanh,
}
"""Epilogue activations, by the name a KernelSpec uses: (emitter, vector, lanes, numbers of the step) -> vector.
A new one is one line here and one in the cutter."""


OPERATIONS: dict[str, Callable[[Expr, Expr], Expr]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "rsub": lambda a, b: b - a,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "rdiv": lambda a, b: b / a,
    "max": lambda a, b: T.max(a, b),
    "min": lambda a, b: T.min(a, b),
    "prelu": lambda a, b: T.Select(a < a * 0.0, a * b, a),
}
"""Epilogue steps that take the next input: (value so far, its vector) -> vector. ``rsub`` and ``rdiv`` have the
value so far on the right. Keep in step with ``OPERATIONS`` of graph/spec.py."""


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


def tiles(total: int, width: int) -> list[tuple[int, int]]:
    """Cut ``range(total)`` into (start, size) tiles of ``width`` and one smaller tail."""
    return [(start, min(width, total - start)) for start in range(0, total, width)]


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
    "ACTIVATIONS",
    "OPERATIONS",
    "Emitter",
    "Expr",
    "Function",
    "T",
    "block_count",
    "exp",
    "folded",
    "function",
    "log",
    "narrowing",
    "tiles",
    "when",
]
