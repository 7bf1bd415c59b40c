"""Recurrent layers. A hidden unit is one row of every gate and one column of the recurrent weights.

With all of its weights at zero a unit's state stays zero in each of these layers, if it starts so:
the candidate is tanh(0), and what the gates let through is zero.

On the board: the input's share of all steps in one dense kernel, then the recurrence.
"""

from __future__ import annotations

import operator
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
from edgeprune.graph.nodes import arguments, detached, inside, unsupported
from edgeprune.graph.ops.recurrent import GATES
from edgeprune.graph.spec import TensorSpec

aten = torch.ops.aten


_GATES: dict[Any, int] = {aten.lstm.input: 4, aten.gru.input: 3, aten.rnn_tanh.input: 1, aten.rnn_relu.input: 1}


@rule(*_GATES, zero=zeros.written(2, axis=2))
def recurrent(flow: Flow, node: Node) -> None:
    """All layers and directions have one hidden size, hence one group."""
    a = arguments(node)
    directions = 2 if a["bidirectional"] else 1
    each = 4 if a["has_biases"] else 2
    weights: list[Node] = list(a["params"])
    if not inside(node, nn.RNNBase):
        raise Refused("no layer of torch keeps its sizes")
    if len(weights) != each * directions * a["num_layers"]:
        raise Refused("a projection of the hidden state")
    gates = _GATES[node.target]
    hidden = flow.axis(weights[1], 1, "in")
    given = joined([flow.axis(a["input"], 2)])
    for i in range(0, len(weights), each):
        layer = i // each // directions
        reads = given if layer == 0 else joined([hidden] * directions)
        _bind(flow, weights[i : i + each], reads, hidden, gates)
    states: Any = a["hx"]
    for state in states if isinstance(states, (list, tuple)) else [states]:
        # The layer itself makes zeros of its own size where none are given.
        if not (state.target is aten.zeros.default and inside(state, nn.RNNBase)):
            flow.bind(state, 2, hidden)
    out = {2: joined([hidden] * directions)}
    last = {2: hidden}
    flow.produce_tuple(node, [out, *([dict(last)] * (len(node.meta["val"]) - 1))])


def _bind(flow: Flow, weights: list[Node], reads: Layout, hidden: Layout, gates: int) -> None:
    rows = joined([hidden] * gates)
    for i, weight in enumerate(weights):
        flow.bind(weight, 0, rows)
        if i < 2:
            flow.bind(weight, 1, reads if i == 0 else hidden, role="in")


@handles(aten.lstm.input)
def _lstm(cutter: Cutter, node: Node) -> None:
    _layers(cutter, node, "lstm", arguments(node)["hx"])


@handles(aten.gru.input)
def _gru(cutter: Cutter, node: Node) -> None:
    _layers(cutter, node, "gru", [arguments(node)["hx"]])


def _layers(cutter: Cutter, node: Node, kind: str, start: list[Any]) -> None:
    """``start``: the states before the first step, each (layers * directions, N, H), zeros among them."""
    named = arguments(node)
    if not named["has_biases"]:
        raise unsupported(node, "a recurrent layer without biases", "use bias=True")
    value = cutter.row_major(named["input"])
    if named["batch_first"]:
        value = value.permuted((1, 0, 2))
    first = [] if all(_is_zero(cutter, s) for s in start) else [cutter.row_major(s) for s in start]
    asked = {use.args[1] for use in node.users if use.target is operator.getitem and use.users}
    directions = 2 if named["bidirectional"] else 1
    parameters = list(named["params"])
    last: list[Value] = []
    cells: list[Value] = []
    for layer in range(named["num_layers"]):
        outputs = []
        for direction in range(directions):
            own, parameters = parameters[:4], parameters[4:]
            label = f"layer{layer}" + ("", ".reverse")[direction]
            before = [s.sliced(0, len(last), 1) for s in first]
            ends = _recurrence(cutter, node, kind, value, own, label, before, reverse=bool(direction), cells=2 in asked)
            states = ends.sliced(0, 0, value.shape[0])
            outputs.append(states)
            last.append(states.sliced(0, 0 if direction else states.shape[0] - 1, 1))
            if 2 in asked:
                cells.append(ends.sliced(0, value.shape[0], 1))
        units = cutter.weights(own[1], own[3]).weight
        value = outputs[0] if directions == 1 else _joined(cutter, node, outputs, 2, f"layer{layer}.both", units)
    shown = value.permuted((1, 0, 2)) if named["batch_first"] else value
    parts = [shown]
    for i, kept in enumerate((last, cells), 1):
        if kept:
            parts.append(_joined(cutter, node, kept, 0, f"last{i}", units) if i in asked and len(kept) > 1 else kept[0])
    cutter.yield_parts(node, parts)


def _is_zero(cutter: Cutter, state: Any) -> bool:
    numbers = cutter.literal(state)
    return numbers is not None and not numbers.any()


def _recurrence(
    cutter: Cutter,
    node: Node,
    kind: str,
    value: Value,
    own: list[Any],
    label: str,
    before: list[Value],
    *,
    reverse: bool,
    cells: bool,
) -> Value:
    """States (T, N, H) of one layer in one direction, the last cells behind them if asked for.

    Args:
        own: weights and biases of input and state.
        before: the states before the first step, each (1, N, H); none for zeros.
    """
    w_input, w_state, b_input, b_state = own
    steps, batch, features = value.shape
    if not value.view.contiguous:
        value = cutter.copied(value, f"{node.name}.{label}.time_major")
    gates = w_input.meta["val"].shape[0]
    states = []
    for i, state in enumerate(before):
        copied = state if state.view.contiguous else cutter.copied(state, f"{node.name}.{label}.before{i}")
        states.append(copied.as_plain((1, batch, gates // GATES[kind])))
    reads, goes_on = cutter.weights(w_input, b_input), cutter.weights(w_state, b_state)
    ready = cutter.emit(
        "dense",
        detached(node, f"{label}.gates"),
        TensorSpec((steps * batch, gates), "plain"),
        [value.as_plain((steps * batch, features))],
        weights=reads,
        epilogue=["bias"],
        closed=True,
        axes={"out": (reads.weight, 0, 1), "in": (reads.weight, 1, 1)},
    )
    return cutter.emit(
        "recurrent",
        detached(node, f"{label}.states"),
        TensorSpec((steps + cells, batch, gates // GATES[kind]), "plain"),
        [ready.as_plain((steps, batch, gates)), *states],
        {"kind": kind, "reverse": reverse},
        weights=goes_on,
        epilogue=["bias"],
        axes={"out": (goes_on.weight, 1, 1)},
    )


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
