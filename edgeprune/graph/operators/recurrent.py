"""LSTM and GRU layers: the input's share of all steps in one dense kernel, then the recurrence."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph.cutting.cutter import Cutter, handles
from edgeprune.graph.cutting.values import Value, walks
from edgeprune.graph.nodes import arguments, detached, unsupported
from edgeprune.graph.spec import GATES, TensorSpec

aten = torch.ops.aten


@handles(aten.lstm.input)
def _lstm(cutter: Cutter, node: Node) -> None:
    _layers(cutter, node, "lstm", arguments(node)["hx"])


@handles(aten.gru.input)
def _gru(cutter: Cutter, node: Node) -> None:
    _layers(cutter, node, "gru", [arguments(node)["hx"]])


def _layers(cutter: Cutter, node: Node, kind: str, start: list[Any]) -> None:
    named = arguments(node)
    first = [cutter.literal(s) for s in start]
    if any(state is None or state.any() for state in first):
        raise unsupported(node, "a recurrent layer with a first state of its own", "let it start from zeros")
    if not named["has_biases"]:
        raise unsupported(node, "a recurrent layer without biases", "use bias=True")
    value = cutter.row_major(named["input"])
    if named["batch_first"]:
        value = value.permuted((1, 0, 2))
    directions = 2 if named["bidirectional"] else 1
    parameters = list(named["params"])
    last: list[Value] = []
    for layer in range(named["num_layers"]):
        outputs = []
        for direction in range(directions):
            own, parameters = parameters[:4], parameters[4:]
            label = f"layer{layer}" + ("", ".reverse")[direction]
            states = _recurrence(cutter, node, kind, value, own, label, reverse=bool(direction))
            outputs.append(states)
            last.append(states.sliced(0, 0 if direction else states.shape[0] - 1, 1))
        value = outputs[0] if directions == 1 else _beside(cutter, node, outputs, f"layer{layer}.both")
    shown = value.permuted((1, 0, 2)) if named["batch_first"] else value
    cutter.yield_parts(node, [shown, *(last if len(last) == 1 else ())])


def _recurrence(
    cutter: Cutter, node: Node, kind: str, value: Value, own: list[Any], label: str, *, reverse: bool
) -> Value:
    """States (T, N, H) of one layer in one direction. ``own``: weights and biases of input and state."""
    w_input, w_state, b_input, b_state = own
    steps, batch, features = value.shape
    if not value.view.contiguous:
        value = cutter.copied(value, f"{node.name}.{label}.time_major")
    gates = w_input.meta["val"].shape[0]
    ready = cutter.emit(
        "dense",
        detached(node, f"{label}.gates"),
        TensorSpec((steps * batch, gates), "plain"),
        [value.as_plain((steps * batch, features))],
        weights=cutter.weights(w_input, b_input),
        epilogue=["bias"],
        closed=True,
    )
    return cutter.emit(
        "recurrent",
        detached(node, f"{label}.states"),
        TensorSpec((steps, batch, gates // GATES[kind]), "plain"),
        [ready.as_plain((steps, batch, gates))],
        {"kind": kind, "reverse": reverse},
        weights=cutter.weights(w_state, b_state),
        epilogue=["bias"],
    )


def _beside(cutter: Cutter, node: Node, parts: list[Value], label: str) -> Value:
    """The states of both directions, one behind the other in the last dimension."""
    steps, batch, _ = parts[0].shape
    sizes = tuple(part.shape[2] for part in parts)
    inner, spec = detached(node, label), TensorSpec((steps, batch, sum(sizes)), "plain")
    sources = [part.walked for part in parts]
    return cutter.emit("join", inner, spec, sources, {"axis": 2, "sizes": sizes, **walks(parts)})
