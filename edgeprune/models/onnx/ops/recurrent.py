"""LSTM, GRU and RNN: torch's layers where they are the same, else their cells step by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnx import TensorProto
from torch import Tensor, nn
from torch.nn import functional as F

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.ops.quantised import dequantise, dynamically
from edgeprune.models.onnx.table import Outputs, reads
from edgeprune.models.onnx.values import Unsupported, Value

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""The file's gates in torch's order: ONNX has iofc and zrh, torch ifco and rzh."""
_DEFAULT = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_LAYERS: dict[str, Any] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
MAX_STEPS = 512


@reads("LSTM", "GRU", "RNN")
@reads("DynamicQuantizeLSTM", domain="com.microsoft")
def recurrent(n: OnnxNode) -> Outputs:
    return _Recurrent(n).read()


class _Recurrent:
    """One node. Time runs along the first axis of ``x`` (T, N, inputs)."""

    def __init__(self, n: OnnxNode) -> None:
        self.quantised = n.operator.startswith("DynamicQuantize")
        self.n, self.operator = n, n.operator.removeprefix("DynamicQuantize")
        self.gates = _GATES[self.operator]
        self.hidden = n.attr("hidden_size", n.shape(2)[1 if self.quantised else 2])
        self.way = n.attr("direction")
        if self.way not in ("forward", "reverse", "bidirectional"):
            raise Unsupported(f"its direction is {self.way!r}")
        self.ways = 2 if self.way == "bidirectional" else 1
        self.batch_first = bool(n.attr("layout", 0))
        x = n[0]
        self.x = n.call(torch.transpose, x, 0, 1) if self.batch_first else x
        self.steps, self.batch, self.inputs = self.x.shape
        self.w, self.r = (self._dequantised(i) for i in (1, 2)) if self.quantised else (n[1], n[2])
        self.b = n.get(3)
        self.lengths = self._lengths(n.get(4))
        self.states = [self._state(5), self._state(6) if self.operator == "LSTM" else None]
        self.peepholes = n.get(7) if self.operator == "LSTM" else None
        names = n.attr("activations", None) or _DEFAULT[self.operator] * self.ways
        self.names = [name.decode() if isinstance(name, bytes) else name for name in names]
        self.clip = n.attr("clip", None)
        self.alphas, self.betas = list(n.attr("activation_alpha", [])), list(n.attr("activation_beta", []))
        self.coupled = bool(n.attr("input_forget", 0)) if self.operator == "LSTM" else False
        self.reset_after = bool(n.attr("linear_before_reset", 0)) if self.operator == "GRU" else True
        n.ignore("output_sequence")

    def _dequantised(self, place: int) -> Value:
        """A matrix (ways, columns, rows) of integers, as real numbers (ways, rows, columns)."""
        n, kept = self.n, 2 * place + 6
        parameters = [n.call(torch.reshape, n[i], (self.ways, 1, -1)) for i in (kept, kept + 1)]
        y = n.call(torch.transpose, dequantise(n, n[place], *parameters), 1, 2)
        return Value(y.kind, y.tensor, y.node, n[place].name)

    def _rounded(self, x: Value) -> Value:
        """What a product of quantised matrices sees of ``x``."""
        if not self.quantised:
            return x
        integers, scale, zero = dynamically(self.n, x)
        return dequantise(self.n, integers, scale, zero)

    def _lengths(self, value: Value | None) -> Value | None:
        """None where every sequence fills the batch."""
        full = value is not None and value.known and bool((value.tensor == self.steps).all())
        return None if full else value

    def _state(self, place: int) -> Value | None:
        """An initial state (ways, N, hidden); None for zeros."""
        value = self.n.get(place)
        if value is None or (value.known and not bool(value.tensor.any())):
            return None
        return self.n.call(torch.transpose, value, 0, 1) if self.batch_first else value

    def read(self) -> Outputs:
        tensors = (self.w, self.r, *(() if self.b is None else (self.b,)))
        plain = (
            all(v.known for v in tensors)
            and self.names == _DEFAULT[self.operator] * self.ways
            and self.clip is None
            and not self.coupled
            and self.reset_after
            and self.peepholes is None
            and self.lengths is None
            and not self.quantised
        )
        y, last = self._layer() if plain else self._cells()
        if self.batch_first:  # (N, T, ways, hidden)
            y = self.n.call(torch.permute, y, (2, 0, 1, 3))
            last = [self.n.call(torch.transpose, s, 0, 1) for s in last]
        return Outputs((y, *last))

    # As torch's layer

    def _layer(self) -> tuple[Value, list[Value]]:
        n = self.n
        layer = _LAYERS[self.operator](
            self.inputs, self.hidden, bias=self.b is not None, bidirectional=self.ways == 2, device="meta"
        )
        tensors: dict[str, Any] = {}
        for way in range(self.ways):
            end = "l0_reverse" if way else "l0"
            for name, value in (("weight_ih", self.w), ("weight_hh", self.r)):
                tensors[f"{name}_{end}"] = self._ordered(value, way, slice(None))
            if self.b is not None:
                half = self.gates * self.hidden
                tensors[f"bias_ih_{end}"] = self._ordered(self.b, way, slice(0, half))
                tensors[f"bias_hh_{end}"] = self._ordered(self.b, way, slice(half, None))
        x = n.call(torch.flip, self.x, (0,)) if self.way == "reverse" else self.x
        y, *last = n.layers(layer, x, *self._initial(), **tensors)
        if self.way == "reverse":
            y = n.call(torch.flip, y, (0,))
        split = n.call(torch.reshape, y, (self.steps, self.batch, self.ways, self.hidden))
        return n.call(torch.permute, split, (0, 2, 1, 3)), last

    def _ordered(self, value: Value, way: int, part: slice) -> Value:
        gates = value.tensor[way][part].chunk(self.gates)
        return Value(value.kind, torch.cat([gates[i] for i in _ORDER[self.operator]]).contiguous(), name=value.name)

    def _initial(self) -> list[Any]:
        if all(s is None for s in self.states):
            return []
        full = [self._zeros(self.ways) if s is None else s for s in self.states]
        return [tuple(full)] if self.operator == "LSTM" else full[:1]

    def _zeros(self, *leading: int) -> Value:
        return self.n.constant(torch.zeros(*leading, self.batch, self.hidden), TensorProto.FLOAT)

    # Step by step

    def _cells(self) -> tuple[Value, list[Value]]:
        if self.steps > MAX_STEPS:
            raise Unsupported(f"it is no layer of torch's, and has more than {MAX_STEPS} steps")
        n, ys, lasts = self.n, [], []
        for way in range(self.ways):
            backward = self.way == "reverse" or way == 1
            y, last = self._one_way(way, backward)
            ys.append(y)
            lasts.append(last)
        y = n.call(torch.stack, ys, 1)
        return y, [n.call(torch.stack, [last[i] for last in lasts], 0) for i in range(len(lasts[0]))]

    def _one_way(self, way: int, backward: bool) -> tuple[Value, list[Value]]:
        n = self.n
        w, r = (n.call(torch.select, v, 0, way) for v in (self.w, self.r))
        b = None if self.b is None else n.call(torch.select, self.b, 0, way)
        half = self.gates * self.hidden
        wb, rb = (None, None) if b is None else (n.call(torch.narrow, b, 0, i * half, half) for i in range(2))
        p = None if self.peepholes is None else n.call(torch.select, self.peepholes, 0, way)
        count = 2 if self.operator == "LSTM" else 1
        state = [self._zeros() if s is None else n.call(torch.select, s, 0, way) for s in self.states[:count]]
        x = n.call(F.linear, self._rounded(self.x), w, wb)
        functions = self._functions(way)
        found: list[Value | None] = [None] * self.steps
        for step in reversed(range(self.steps)) if backward else range(self.steps):
            new = self._cell(n.call(torch.select, x, 0, step), state, r, rb, p, functions)
            out = new[0]
            if self.lengths is not None:
                runs = n.call(torch.gt, n.call(torch.reshape, self.lengths, (-1, 1)), step)
                new = [n.call(torch.where, runs, a, b, kind=b.kind) for a, b in zip(new, state, strict=True)]
                out = n.call(torch.where, runs, out, 0.0, kind=out.kind)
            state, found[step] = new, out
        return n.call(torch.stack, [f for f in found if f is not None], 0), state

    def _functions(self, way: int) -> list[Callable[[Value], Value]]:
        each = len(_DEFAULT[self.operator])
        found = []
        for name in self.names[way * each : (way + 1) * each]:
            function = _ACTIVATIONS.get(name.lower())
            if function is None:
                raise Unsupported(f"its activation is {name!r}")
            run, alpha, beta = function
            numbers = []
            for default, given in ((alpha, self.alphas), (beta, self.betas)):
                if default is not None:
                    numbers.append(given.pop(0) if given else default)
            found.append(self._applied(run, numbers))
        return found

    def _applied(self, run: Callable[..., Tensor], numbers: Sequence[float]) -> Callable[[Value], Value]:
        def apply(x: Value) -> Value:
            if self.clip is not None:
                x = self.n.call(torch.clamp, x, -self.clip, self.clip)
            return self.n.call(run, x, *numbers)

        return apply

    def _cell(
        self,
        x: Value,
        state: list[Value],
        r: Value,
        rb: Value | None,
        p: Value | None,
        functions: list[Callable[[Value], Value]],
    ) -> list[Value]:
        call = self.n.call
        h = state[0]

        def part(value: Value, i: int) -> Value:
            return call(torch.narrow, value, value.rank - 1, i * self.hidden, self.hidden)

        if self.operator == "RNN":
            return [functions[0](call(torch.add, x, call(F.linear, h, r, rb)))]
        if self.operator == "GRU":
            back = call(F.linear, h, r, rb)
            z, reset = (functions[0](call(torch.add, part(x, i), part(back, i))) for i in range(2))
            if self.reset_after:
                inner = call(torch.mul, reset, part(back, 2))
            else:
                rows = call(torch.narrow, r, 0, 2 * self.hidden, self.hidden)
                bias = None if rb is None else part(rb, 2)
                inner = call(F.linear, call(torch.mul, reset, h), rows, bias)
            new = functions[1](call(torch.add, part(x, 2), inner))
            return [call(torch.add, new, call(torch.mul, z, call(torch.sub, h, new)))]
        c, total = state[1], call(torch.add, x, call(F.linear, self._rounded(h), r, rb))
        i, o, f, g = (part(total, k) for k in range(4))
        if p is not None:
            i, f = (call(torch.add, v, call(torch.mul, part(p, k), c)) for v, k in ((i, 0), (f, 2)))
        i = functions[0](i)
        f = call(torch.rsub, i, 1.0) if self.coupled else functions[0](f)
        c = call(torch.add, call(torch.mul, f, c), call(torch.mul, i, functions[1](g)))
        if p is not None:
            o = call(torch.add, o, call(torch.mul, part(p, 1), c))
        return [call(torch.mul, functions[0](o), functions[2](c)), c]


def affine(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``alpha * x + beta``."""
    return alpha * x + beta


def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """``alpha * tanh(beta * x)``."""
    return alpha * torch.tanh(beta * x)


def clipped(x: Tensor, alpha: float, beta: float) -> Tensor:
    """A hard sigmoid: ``clamp(alpha * x + beta, 0, 1)``."""
    return torch.clamp(alpha * x + beta, 0.0, 1.0)


def thresholded(x: Tensor, alpha: float) -> Tensor:
    """``x`` above ``alpha``, else 0."""
    return torch.where(x > alpha, x, 0.0)


_ACTIVATIONS: dict[str, tuple[Callable[..., Tensor], float | None, float | None]] = {
    "relu": (torch.relu, None, None),
    "tanh": (torch.tanh, None, None),
    "sigmoid": (torch.sigmoid, None, None),
    "affine": (affine, 1.0, 0.0),
    "leakyrelu": (F.leaky_relu, 0.01, None),
    "thresholdedrelu": (thresholded, 1.0, None),
    "scaledtanh": (scaled_tanh, 1.0, 1.0),
    "hardsigmoid": (clipped, 0.2, 0.5),
    "elu": (F.elu, 1.0, None),
    "softsign": (F.softsign, None, None),
    "softplus": (F.softplus, None, None),
}
"""Function, and what alpha and beta are where the file does not say."""
