"""KernelSpec: what one kernel computes, with no word on how.

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgeprune.graph.walks import Walk

OPERATIONS = ("add", "sub", "rsub", "mul", "div", "rdiv", "max", "min", "prelu")
"""Epilogue steps that take an input of their own."""

CONVOLUTIONS = ("conv2d", "conv3d")
"""Anchors whose filters see the same places of all the channels of their group."""

GATES = {"lstm": 4, "gru": 3}
"""Gates of a unit, by the ``kind`` of a ``recurrent`` kernel."""

Attr = int | float | str | bool | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Logical shape (N, C, H, W) or (N, C), layout on the board, element type."""

    shape: tuple[int, ...]
    layout: str = "blocked"
    dtype: str = "float32"

    def with_channels(self, channels: int) -> TensorSpec:
        return replace(self, shape=(self.shape[0], channels, *self.shape[2:]))

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
        op: the anchor: ``conv2d``, ``conv_transpose2d``, ``dense``, ``max_pool2d``, ``avg_pool2d``,
            ``conv3d``, ``max_pool3d``, ``avg_pool3d`` (of volumes: images whose rows are those of all slices, one
            behind the other; ``slices`` before and after), ``max_places2d`` (where a plane's maxima stand),
            ``max_unpool2d`` (values, their places), ``grid_sample`` (image, (N, 2, H, W) places), ``take``
            (values, their places along ``axis``), ``global_avg_pool``, ``concat``, ``channel_slice``,
            ``channel_shuffle`` (channels seen as ``rows`` rows,
            or as rows of ``columns``, are transposed), ``resize2d``, ``softmax``,
            ``elementwise`` (no anchor: the epilogue alone), ``strided`` (the same, inputs read through walks:
            graph/walks.py), ``join`` (inputs, read through walks, one behind the other), ``pad``, ``reduce``,
            ``normalize``, ``matmul``, ``recurrent``, ``layout``.
        inputs: data inputs (never weights): the anchor's first, then the epilogue's operands.
        output: the result.
        attrs: sorted (name, value) pairs of the anchor (kernel, stride, padding, dilation, groups …).
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

    def attr(self, name: str) -> Any:
        for key, value in self.attrs:
            if key == name:
                return value
        raise KeyError(name)

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
        if self.op in (*CONVOLUTIONS, "conv_transpose2d", "dense") and not self.depthwise:
            return {"in": self.inputs[0].channels, "out": self.output.channels}
        return {"out": self.output.channels}

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
        out = new.get("out", self.output.channels)
        operands = tuple(
            t if t.channels == 1 < self.output.channels else t.with_channels(out)
            for t in self.inputs[self.anchor_inputs :]
        )
        attrs = self.attrs
        if self.op in ("strided", "matmul"):
            return replace(self, inputs=self._walked(out), output=self.output.with_channels(out))
        if self.op == "join":
            return self._joined(out)
        if self.op == "concat":
            anchors = self._split_concat(out)
        elif self.op == "channel_slice":
            # What costs is what is taken; what is left lying keeps its size.
            anchors = (self.inputs[0].with_channels(self.inputs[0].channels - self.output.channels + out),)
        elif self.op == "reduce" and 1 in self.attr("dims"):
            anchors = self.inputs[: self.anchor_inputs]
        elif self.op == "grid_sample":
            anchors = (self.inputs[0].with_channels(out), self.inputs[1])
        elif self.op == "take":
            values, places = self.inputs[: self.anchor_inputs]
            along = self.attr("axis") == 1
            anchors = (values, replace(places, shape=(out,))) if along else (values.with_channels(out), places)
        elif "in" in self.widths:
            anchors = (self.inputs[0].with_channels(new.get("in", self.inputs[0].channels)),)
        elif self.depthwise:
            channels, odd = divmod(out, self.multiplier)
            if odd:
                raise ValueError(f"{out} filters do not divide into {self.multiplier} a channel")
            anchors = (self.inputs[0].with_channels(channels),)
            attrs = tuple((k, channels if k == "groups" else v) for k, v in attrs)
        else:
            anchors = tuple(t.with_channels(out) for t in self.inputs[: self.anchor_inputs])
        return replace(self, inputs=anchors + operands, output=self.output.with_channels(out), attrs=attrs)

    @property
    def anchor_inputs(self) -> int:
        """How many of ``inputs`` belong to the anchor; the rest feed the epilogue."""
        return len(self.inputs) - sum(e in OPERATIONS for e in self.epilogue)

    def walk(self, index: int) -> Walk:
        """How a kernel of op ``strided`` reads input ``index``."""
        return Walk.from_attr(self.attr(f"walk{index}"))

    def _walked(self, out: int) -> tuple[TensorSpec, ...]:
        """The inputs of a kernel that follows walks if dimension 1 of its output had ``out`` positions."""
        full = self.output.channels
        return tuple(
            replace(t, shape=self.walk(i).resized(t.shape, 1, full, out)) if self._has_walk(i) else t.with_channels(out)
            for i, t in enumerate(self.inputs)
        )

    def _has_walk(self, index: int) -> bool:
        return any(name == f"walk{index}" for name, _ in self.attrs)

    def _joined(self, out: int) -> KernelSpec:
        """A ``join`` if dimension 1 of its output had ``out`` positions."""
        sizes: tuple[int, ...] = self.attr("sizes")
        along = self.attr("axis") == 1
        after = _shared_out(sizes, out) if along else sizes
        inputs = []
        for i, tensor in enumerate(self.inputs):
            before, now = (sizes[i], after[i]) if along else (self.output.channels, out)
            inputs.append(replace(tensor, shape=self.walk(i).resized(tensor.shape, 1, before, now)))
        attrs = tuple((k, tuple(after) if k == "sizes" else v) for k, v in self.attrs)
        return replace(
            self, inputs=tuple(inputs), output=self.output.with_channels(sum(after) if along else out), attrs=attrs
        )

    def _split_concat(self, total: int) -> tuple[TensorSpec, ...]:
        parts = self.inputs[: self.anchor_inputs]
        cuts = _shared_out([p.channels for p in parts], total)
        return tuple(p.with_channels(c) for p, c in zip(parts, cuts, strict=True))

    @functools.cached_property
    def macs(self) -> int:
        """Multiply-accumulates of the anchor (0 for kernels without weights)."""
        if self.op in CONVOLUTIONS:
            per_out: int = self.inputs[0].channels // self.attr("groups") * math.prod(self.attr("kernel"))
            return self.output.elements * per_out
        if self.op == "conv_transpose2d":
            kh, kw = self.attr("kernel")
            x = self.inputs[0]
            per_in: int = self.output.channels // self.attr("groups") * kh * kw
            return x.elements * per_in
        if self.op == "dense":
            x = self.inputs[0]
            return x.elements * self.output.channels
        return 0

    @functools.cached_property
    def family(self) -> str:
        """Key of the latency table: the spec with its widths taken out (16 hex digits)."""
        if self.op in ("strided", "join", "matmul", "take"):
            return _digest([self.with_widths(out=len(self.inputs)).to_json(), "walks"])
        data = self.to_json()
        for t in (*data["inputs"], data["output"]):
            t[0][1] = 0
        if self.op == "channel_slice":
            data["attrs"]["start"] = 0
        # The axes are part of it: at one channel a depthwise and a plain convolution look the same.
        data["axes"] = sorted(self.widths)
        if self.depthwise:
            data["attrs"]["groups"] = 0
            data["multiplier"] = self.multiplier
        return _digest(data)

    @functools.cached_property
    def key(self) -> str:
        """Key of this very spec, widths included (16 hex digits)."""
        return _digest(self.to_json())

    def to_json(self) -> dict[str, Any]:
        return {
            "op": self.op,
            "inputs": [t.to_json() for t in self.inputs],
            "output": self.output.to_json(),
            "attrs": {k: list(v) if isinstance(v, tuple) else v for k, v in self.attrs},
            "epilogue": list(self.epilogue),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> KernelSpec:
        attrs = {k: tuple(v) if isinstance(v, list) else v for k, v in data["attrs"].items()}
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
        kernel = ""
        if self.op.startswith("conv"):
            stride = max(self.attr("stride"))
            kernel = f" {'x'.join(map(str, self.attr('kernel')))}" + (f"/{stride}" if stride > 1 else "")
            groups = self.attr("groups")
            kernel += " dw" if self.depthwise else f" g{groups}" if groups > 1 else ""
        tail = "".join(f"+{e}" for e in self.epilogue if e != "bias")
        return f"{self.op}{kernel} {widths} @{size}{tail}"


def _shared_out(sizes: Sequence[int], total: int) -> list[int]:
    """``total`` in the proportions of ``sizes``, at least 1 each."""
    cuts = [max(1, round(size * total / sum(sizes))) for size in sizes]
    cuts[-1] = max(1, total - sum(cuts[:-1]))
    return cuts


def _digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
