"""KernelSpec: what one kernel computes, not how.

A spec is what the graph yields, what latency tables are keyed by, what the compiler builds from
and what the report names. Its widths can be changed with :meth:`KernelSpec.with_widths`; the
compiler builds the result through the same code path as the spec of the whole network.

Tensors are logical NCHW (or NC). ``layout`` says whether the board keeps them ``"plain"``
(row-major, as the user sees them) or ``"blocked"`` (NCHWc, channels in blocks of the target's
vector width, the last block padded). The block size itself belongs to the target, not the spec.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from edgeprune.graph.ops.operator import WALK, Operator
from edgeprune.graph.ops.table import OPERATORS
from edgeprune.graph.walks import Walk

OPERATIONS = ("add", "sub", "rsub", "mul", "div", "rdiv", "max", "min", "prelu")
"""Epilogue steps that take an input of their own."""

CONVOLUTIONS = ("conv2d", "conv3d")
"""Anchors whose filters read the same window of every channel of their group."""

Attr = int | float | str | bool | tuple[int, ...] | tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Logical shape (N, C, H, W) or (N, C), layout on the board, element type."""

    shape: tuple[int, ...]
    layout: str = "blocked"
    dtype: str = "float32"

    def with_channels(self, channels: int) -> TensorSpec:
        return self.with_size(1, channels)

    def with_size(self, dim: int, size: int) -> TensorSpec:
        """The same with another size of one dimension, which is not counted from behind."""
        return replace(self, shape=(*self.shape[:dim], size, *self.shape[dim + 1 :]))

    @property
    def channels(self) -> int:
        """Size of dimension 1; a tensor without one has a single channel."""
        return self.shape[1] if len(self.shape) > 1 else 1

    @property
    def elements(self) -> int:
        """Values of the logical tensor."""
        return math.prod(self.shape)

    @property
    def pixels(self) -> int:
        """Positions a channel has: H * W, or 1 for a feature vector."""
        n = 1
        for d in self.shape[2:]:
            n *= d
        return n

    def to_json(self) -> list[Any]:
        return [list(self.shape), self.layout, self.dtype]

    @classmethod
    def from_json(cls, data: list[Any]) -> TensorSpec:
        return cls(tuple(data[0]), data[1], data[2])


@dataclass(frozen=True)
class KernelSpec:
    """One fused operator.

    Attributes:
        op: the anchor, one of :data:`edgeprune.graph.ops.table.OPERATORS`.
        inputs: data inputs (never weights): the anchor's first, then the epilogue's operands.
        output: the result.
        attrs: sorted (name, value) pairs of the anchor (kernel, stride, padding, dilation, groups …). What may be left
            out is (``density``) where it says nothing, so that keys stay what they were.
        epilogue: applied in order to the anchor's result: ``bias`` (folded batch norm), ``relu``,
            ``relu6``, ``hardswish``, ``hardsigmoid``, ``sigmoid``, ``silu``, ``tanh``, ``gelu``, ``gelu_tanh``;
            with numbers ``clip:low,high``, ``leaky_relu:slope``, ``elu:alpha``, ``plus:value``,
            ``times:value``; those in ``OPERATIONS`` take the next input in order (same shape, or
            broadcast from (N, C, 1, 1) or (N, 1, H, W); ``rsub`` and ``rdiv`` from and by what the kernel has so far).
    """

    op: str
    inputs: tuple[TensorSpec, ...]
    output: TensorSpec
    attrs: tuple[tuple[str, Attr], ...] = ()
    epilogue: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError for an operator that does not exist, or a spec that is none of it."""
        if self.op not in OPERATORS:
            raise ValueError(f"no operator {self.op!r}")
        self.operator.check(self)

    @property
    def operator(self) -> Operator:
        """The record of the anchor's operator, which is the same for all sizes."""
        return OPERATORS[self.op]

    def attr(self, name: str) -> Any:
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(name)

    @property
    def density(self) -> int | None:
        """Per cent of the blocks of weights that may be other than zero (``graph/ops/convolution.py``); None: all, and
        nothing is known of blocks.
        """
        found: int | None = dict(self.attrs).get("density")  # type: ignore[assignment]
        return found

    def with_density(self, density: int | None) -> KernelSpec:
        """The same kernel with so many per cent of its blocks of weights stored; None: with all weights.

        Raises:
            ValueError: its operator stores no blocks, or that is no density.
        """
        others = [(name, value) for name, value in self.attrs if name != "density"]
        return replace(self, attrs=tuple(sorted(others + ([] if density is None else [("density", density)]))))

    @property
    def depthwise(self) -> bool:
        """Every input channel has filters of its own: input and output widths are one axis."""
        return self.op in CONVOLUTIONS and self.attr("groups") == self.inputs[0].channels > 1

    @property
    def multiplier(self) -> int:
        """Filters of each input channel of a depthwise convolution."""
        return self.output.channels // self.inputs[0].channels

    @functools.cached_property
    def widths(self) -> Mapping[str, int]:
        """The widths a latency table of this kernel has as axes.

        ``{"in": …, "out": …}`` for convolution and dense, ``{"out": …}`` for everything whose
        input width is (or, with a multiplier, goes with) its output width (depthwise, pooling,
        elementwise, resize) and for concat (the total).
        """
        return self.operator.widths(self)

    def with_widths(self, **widths: int) -> KernelSpec:
        """The same kernel at other widths; takes ``in_`` (or ``in``) and ``out``.

        Raises:
            ValueError: for an axis this kernel does not have, a width below 1, or one that is no
                multiple of the filters of a channel.
        """
        new = {k.rstrip("_"): v for k, v in widths.items()}
        if unknown := set(new) - set(self.widths):
            raise ValueError(f"{self.op} has no width axis {sorted(unknown)}; it has {sorted(self.widths)}")
        if min(new.values(), default=1) < 1:
            raise ValueError(f"a width must be at least 1: {new}")
        return self.operator.resized(self, new.get("out", self.widths["out"]), new)

    @property
    def anchor_inputs(self) -> int:
        """How many of ``inputs`` belong to the anchor; the rest feed the epilogue."""
        return len(self.inputs) - sum(e in OPERATIONS for e in self.epilogue)

    def walk(self, index: int) -> Walk:
        """How a kernel of op ``strided`` reads input ``index``."""
        return Walk.from_attr(self.attr(f"{WALK}{index}"))

    @functools.cached_property
    def macs(self) -> int:
        """Multiply-accumulates of the anchor (0 for kernels without weights)."""
        return self.operator.macs(self)

    @functools.cached_property
    def family(self) -> str:
        """Key of the latency table: the spec with its widths taken out (16 hex digits)."""
        return _digest(self.operator.family(self))

    @functools.cached_property
    def key(self) -> str:
        """Key of this very spec, widths included (16 hex digits)."""
        return _digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {
            "op": self.op,
            "inputs": [t.to_json() for t in self.inputs],
            "output": self.output.to_json(),
            "attrs": {k: _written(v) for k, v in self.attrs},
            "epilogue": list(self.epilogue),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> KernelSpec:
        attrs = {k: _read(v) for k, v in data["attrs"].items()}
        return cls(
            data["op"],
            tuple(TensorSpec.from_json(t) for t in data["inputs"]),
            TensorSpec.from_json(data["output"]),
            tuple(sorted(attrs.items())),
            tuple(data["epilogue"]),
        )

    def __str__(self) -> str:
        widths = "→".join(str(w) for w in self.widths.values())
        size = "x".join(str(d) for d in self.output.shape[2:]) or "1"
        tail = "".join(f"+{e}" for e in self.epilogue if e != "bias")
        return f"{self.op}{self.operator.said(self)} {widths} @{size}{tail}"


def _written(value: Any) -> Any:
    """An attribute as JSON, which has no infinity (what is padded for a maximum): that becomes text."""
    if isinstance(value, tuple):
        return [_written(v) for v in value]
    return str(value) if isinstance(value, float) and math.isinf(value) else value


def _read(value: Any) -> Any:
    """The attribute that :func:`_written` wrote."""
    if isinstance(value, list):
        return tuple(_read(v) for v in value)
    return float(value) if value in ("inf", "-inf") else value


def _digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
