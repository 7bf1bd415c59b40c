"""Recurrent layers. A hidden unit is one row of every gate and one column of the recurrent weights.

A projected LSTM (Sak et al. 2014, arXiv:1402.1128) has two kinds: units, which are rows of every gate and columns of
the projection, and states, which are its rows and the columns of the recurrent weights.

With all of its weights at zero a unit's state stays zero in each of these layers, if it starts so:
the candidate is tanh(0), and what the gates let through is zero.

On the board: the input's share of all steps in one dense kernel, then the recurrence.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.fx import Node

from edgeprune.graph import zeros
from edgeprune.graph.aten.table import handles, rule
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.values import Value, walks
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout, joined
from edgeprune.graph.nodes import arguments, detached, inside
from edgeprune.graph.ops.recurrent import GATES, PROJECTED
from edgeprune.graph.spec import TensorSpec

aten = torch.ops.aten


_GATES: dict[Any, int] = {aten.lstm.input: 4, aten.gru.input: 3, aten.rnn_tanh.input: 1, aten.rnn_relu.input: 1}


@rule(*_GATES, zero=zeros.written(2, axis=2))
def recurrent(flow: Flow, node: Node) -> None:
    """All layers and directions have one hidden size, hence one group; with projections, one of states besides."""
    a = arguments(node)
    if not inside(node, nn.RNNBase):
        raise Refused("no layer of torch keeps its sizes")
    directions = 2 if a["bidirectional"] else 1
    parts = _parts(a)
    states = units = flow.axis(parts[0].w_state, 1, "in")
    if parts[0].projection is not None:
        units = flow.axis(parts[0].projection, 1, "in")
    given = joined([flow.axis(a["input"], 2)])
    for i, part in enumerate(parts):
        reads = given if i < directions else joined([states] * directions)
        _bind(flow, part, reads, states, units, _GATES[node.target])
    before: Any = a["hx"]
    for state, held in zip(before if isinstance(before, (list, tuple)) else [before], (states, units), strict=False):
        # The layer itself makes zeros of its own size where none are given.
        if not (state.target is aten.zeros.default and inside(state, nn.RNNBase)):
            flow.bind(state, 2, held)
    last = [{2: states}, {2: units}][: len(node.meta["val"]) - 1]
    flow.produce_tuple(node, [{2: joined([states] * directions)}, *last])


@dataclass(frozen=True, slots=True)
class _Part:
    """The parameters of one layer in one direction."""

    w_input: Node
    w_state: Node
    b_input: Node | None
    b_state: Node | None
    projection: Node | None


def _parts(a: dict[str, Any]) -> list[_Part]:
    """Layers in order, of each the directions; ``a``: the call's arguments by name."""
    given: list[Node] = list(a["params"])
    each = len(given) // (a["num_layers"] * (2 if a["bidirectional"] else 1))
    found = []
    for i in range(0, len(given), each):
        w_input, w_state, *others = given[i : i + each]
        b_input, b_state = (others.pop(0), others.pop(0)) if a["has_biases"] else (None, None)
        found.append(_Part(w_input, w_state, b_input, b_state, others[0] if others else None))
    return found


def _bind(flow: Flow, part: _Part, reads: Layout, states: Layout, units: Layout, gates: int) -> None:
    rows = joined([units] * gates)
    for weight in (part.w_input, part.w_state, part.b_input, part.b_state):
        if weight is not None:
            flow.bind(weight, 0, rows)
    flow.bind(part.w_input, 1, reads, role="in")
    flow.bind(part.w_state, 1, states, role="in")
    if part.projection is not None:
        flow.bind(part.projection, 0, states)
        flow.bind(part.projection, 1, units, role="in")


@handles(aten.lstm.input)
def _lstm(cutter: Cutter, node: Node) -> None:
    _layers(cutter, node, "lstm", arguments(node)["hx"])


@handles(aten.gru.input)
def _gru(cutter: Cutter, node: Node) -> None:
    _layers(cutter, node, "gru", [arguments(node)["hx"]])


@handles(aten.rnn_tanh.input, aten.rnn_relu.input)
def _rnn(cutter: Cutter, node: Node) -> None:
    kind = "rnn_tanh" if node.target is aten.rnn_tanh.input else "rnn_relu"
    _layers(cutter, node, kind, [arguments(node)["hx"]])


def _layers(cutter: Cutter, node: Node, kind: str, start: list[Any]) -> None:
    """``start``: the states before the first step, each (layers * directions, N, H), zeros among them.

    H of the first is the number of states, of the second (the cells of an LSTM) that of units.
    """
    named = arguments(node)
    value = cutter.row_major(named["input"])
    if named["batch_first"]:
        value = value.permuted((1, 0, 2))
    first = [] if all(_is_zero(cutter, s) for s in start) else [cutter.row_major(s) for s in start]
    asked = {use.args[1] for use in node.users if use.target is operator.getitem and use.users}
    directions = 2 if named["bidirectional"] else 1
    parameters = _parts(named)
    last: list[Value] = []
    cells: list[Value] = []
    for layer in range(named["num_layers"]):
        outputs = []
        for direction in range(directions):
            own = parameters[directions * layer + direction]
            label = f"layer{layer}" + ("", ".reverse")[direction]
            before = [s.sliced(0, len(last), 1) for s in first]
            ends = _recurrence(cutter, node, kind, value, own, label, before, reverse=bool(direction), cells=2 in asked)
            shown = _projected(cutter, node, ends, own, label) if 2 in asked else ends
            states = shown.sliced(0, 0, value.shape[0])
            if 2 in asked:
                cells.append(ends.sliced(0, value.shape[0], 1))
            outputs.append(states)
            last.append(states.sliced(0, 0 if direction else states.shape[0] - 1, 1))
        held = cutter.parameter(own.w_state)
        value = outputs[0] if directions == 1 else _joined(cutter, node, outputs, 2, f"layer{layer}.both", held)
    shown = value.permuted((1, 0, 2)) if named["batch_first"] else value
    parts = [shown]
    for i, kept in enumerate((last, cells), 1):
        if kept:
            owner = held if i == 1 or own.projection is None else cutter.parameter(own.projection)
            parts.append(_joined(cutter, node, kept, 0, f"last{i}", owner) if i in asked and len(kept) > 1 else kept[0])
    cutter.yield_parts(node, parts)


def _projected(cutter: Cutter, node: Node, units: Value, own: _Part, label: str) -> Value:
    """The states (T, N, P) of what units give (T, N, H); the same, where there is no projection.

    With the cells behind them, for a kernel reads the whole of what another gives: that row says nothing.
    """
    if own.projection is None:
        return units
    steps, batch, hidden = units.shape
    weights = cutter.weights(own.projection, None)
    inner = detached(node, f"{label}.projected")
    states = own.projection.meta["val"].shape[0]
    return cutter.emit(
        "dense",
        inner,
        TensorSpec((steps * batch, states), "plain"),
        [units.as_plain((steps * batch, hidden))],
        weights=weights,
        closed=True,
        axes={"out": (weights.weight, 0, 1), "in": (weights.weight, 1, 1)},
        seen=(steps, batch, states),
    )


def _is_zero(cutter: Cutter, state: Any) -> bool:
    numbers = cutter.literal(state)
    return numbers is not None and not numbers.any()


def _recurrence(
    cutter: Cutter,
    node: Node,
    kind: str,
    value: Value,
    own: _Part,
    label: str,
    before: list[Value],
    *,
    reverse: bool,
    cells: bool,
) -> Value:
    """States (T, N, H) of one layer in one direction, the last cells behind them if asked for.

    With a projection (T, N, P); or, behind which there are cells, what units give (T, N, H).

    Args:
        before: the states before the first step, each (1, N, H); none for zeros.
    """
    steps, batch, features = value.shape
    if not value.view.contiguous:
        value = cutter.copied(value, f"{node.name}.{label}.time_major")
    gates = own.w_input.meta["val"].shape[0]
    units = gates // GATES[kind]
    given = []
    for i, state in enumerate(before):
        copied = state if state.view.contiguous else cutter.copied(state, f"{node.name}.{label}.before{i}")
        given.append(copied.as_plain((1, batch, state.shape[2])))
    reads = cutter.weights(own.w_input, own.b_input)
    ready = cutter.emit(
        "dense",
        detached(node, f"{label}.gates"),
        TensorSpec((steps * batch, gates), "plain"),
        [value.as_plain((steps * batch, features))],
        weights=reads,
        epilogue=_bias(own.b_input),
        closed=True,
        axes={"out": (reads.weight, 0, 1), "in": (reads.weight, 1, 1)},
    )
    goes_on, shape = cutter.weights(own.w_state, own.b_state), (steps + cells, batch, units)
    attrs: dict[str, Any] = {"kind": kind, "reverse": reverse}
    axes = {"out": (goes_on.weight, 1, 1)}
    if own.projection is not None:
        axes["in"] = (cutter.parameter(own.projection), 1, 1)
        name = f"{node.name}.{label}.weights"
        goes_on = replace(goes_on, weight=cutter.computed(name, _over, own.w_state, own.projection))
        attrs[PROJECTED] = states = own.projection.meta["val"].shape[0]
        shape = (steps + cells, batch, units if cells else states)
    return cutter.emit(
        "recurrent",
        detached(node, f"{label}.states"),
        TensorSpec(shape, "plain"),
        [ready.as_plain((steps, batch, gates)), *given],
        attrs,
        weights=goes_on,
        epilogue=_bias(own.b_state),
        axes=axes,
    )


def _bias(bias: Node | None) -> list[str]:
    return [] if bias is None else ["bias"]


def _over(w_state: torch.Tensor, projection: torch.Tensor) -> torch.Tensor:
    """(G * H, P) and (P, H) -> ((G + 1) * H, P): the weights of a projected recurrence in one."""
    return torch.cat([w_state, projection.t()])


def _joined(cutter: Cutter, node: Node, parts: list[Value], axis: int, label: str, units: str) -> Value:
    """States one behind the other: of both directions in the last dimension, of layers in the first.

    Args:
        units: the weight whose columns are the units of each.
    """
    shape, sizes = list(parts[0].shape), tuple(part.shape[axis] for part in parts)
    shape[axis] = sum(sizes)
    inner, spec = detached(node, label), TensorSpec(tuple(shape), "plain")
    sources = [part.walked for part in parts]
    axes = {"out": (units, 1, len(parts) if axis == 2 else 1)}
    return cutter.emit("join", inner, spec, sources, {"axis": axis, "sizes": sizes, **walks(parts)}, axes=axes)
