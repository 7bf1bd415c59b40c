"""LSTM and GRU layers: the input's share of all steps in one dense kernel, then the recurrence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.cutter import Cutter, Value, as_seen, data, handles, unsupported
from edgeprune.graph.nodes import arguments
from edgeprune.graph.spec import GATES, TensorSpec
from edgeprune.graph.walks import View

aten = torch.ops.aten


@handles(aten.lstm.input)
def _lstm(cutter: Cutter, node: Node) -> None:
    _layers(cutter, node, "lstm", arguments(node)["hx"])


@handles(aten.gru.input)
def _gru(cutter: Cutter, node: Node) -> None:
    _layers(cutter, node, "gru", [arguments(node)["hx"]])


def _layers(cutter: Cutter, node: Node, kind: str, start: list[Any]) -> None:
    named = arguments(node)
    if not all(s.name in cutter.literals and not cutter.literals[s.name].any() for s in start):
        raise unsupported(node, "a recurrent layer with a first state of its own", "let it start from zeros")
    if not named["has_biases"]:
        raise unsupported(node, "a recurrent layer without biases", "use bias=True")
    value, view = cutter.seen(named["input"], node)
    if named["batch_first"]:
        view = view.permuted((1, 0, 2))
    directions = 2 if named["bidirectional"] else 1
    parameters = list(named["params"])
    last: list[tuple[Value, View]] = []
    for layer in range(named["num_layers"]):
        outputs = []
        for direction in range(directions):
            own, parameters = parameters[:4], parameters[4:]
            label = f"layer{layer}" + ("", ".reverse")[direction]
            states = _recurrence(cutter, node, kind, (value, view), own, label, reverse=bool(direction))
            outputs.append((states, View.whole(states.shape)))
            end = 0 if direction else states.shape[0] - 1
            last.append((states, View.whole(states.shape).sliced(0, end, 1)))
        value, view = outputs[0] if directions == 1 else _beside(cutter, node, outputs, f"layer{layer}.both")
    shown = view.permuted((1, 0, 2)) if named["batch_first"] else view
    cutter.parts[node] = [(value, shown)]
    if len(last) == 1:
        cutter.parts[node].append(last[0])


def _recurrence(
    cutter: Cutter, node: Node, kind: str, x: tuple[Value, View], own: list[Any], label: str, *, reverse: bool
) -> Value:
    """States (T, N, H) of one layer in one direction. ``own``: weights and biases of input and state."""
    (value, view), (w_input, w_state, b_input, b_state) = x, own
    steps, batch, features = view.shape
    if not view.contiguous:
        value = cutter.copied(as_seen(value, view), name=f"{node.name}.{label}.time_major")
    rows = replace(value, spec=TensorSpec((steps * batch, features), "plain"), view=None)
    gates = w_input.meta["val"].shape[0]
    inner = cutter.between(node, f"{label}.gates")
    dense = cutter.open("dense", inner, TensorSpec((steps * batch, gates), "plain"), [rows])
    dense.weights, dense.epilogue = cutter.weights(node, w_input, b_input), ["bias"]
    dense.closed = True
    ready = Value(inner, inner, TensorSpec((steps, batch, gates), "plain"), dense)
    states, hidden = cutter.between(node, f"{label}.states"), gates // GATES[kind]
    spec = TensorSpec((steps, batch, hidden), "plain")
    draft = cutter.open("recurrent", states, spec, [ready], kind=kind, reverse=reverse)
    draft.weights, draft.epilogue = cutter.weights(node, w_state, b_state), ["bias"]
    return cutter.values[states]


def _beside(cutter: Cutter, node: Node, parts: list[tuple[Value, View]], label: str) -> tuple[Value, View]:
    """The states of both directions, one behind the other in the last dimension."""
    steps, batch, _ = parts[0][1].shape
    sizes = tuple(view.shape[2] for _, view in parts)
    inner, spec = cutter.between(node, label), TensorSpec((steps, batch, sum(sizes)), "plain")
    walks = {f"walk{i}": view.walk.to_attr() for i, (_, view) in enumerate(parts)}
    cutter.open("join", inner, spec, [data(*part) for part in parts], axis=2, sizes=sizes, **walks)
    return cutter.values[inner], View.whole(spec.shape)
