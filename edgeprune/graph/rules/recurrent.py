"""Recurrent layers. A hidden unit is one row of every gate and one column of the recurrent weights.

With all of its weights at zero a unit's state stays zero in each of these layers, if it starts so:
the candidate is tanh(0), and what the gates let through is zero.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.fx import Node

from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.intervals import Layout, joined
from edgeprune.graph.nodes import arguments, inside
from edgeprune.graph.rules.table import rule

aten = torch.ops.aten
_GATES: dict[Any, int] = {aten.lstm.input: 4, aten.gru.input: 3, aten.rnn_tanh.input: 1, aten.rnn_relu.input: 1}


@rule(*_GATES)
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
