"""Branches and loops whose course is known at import: a branch is taken, a loop is unrolled."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from onnx import GraphProto, NodeProto, TensorProto

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import Outputs, Reader
from edgeprune.models.onnx.values import Unsupported, Value, Values

MAX_TRIPS = 1024


class Graphs(Protocol):
    """What reads the nodes of a graph."""

    def run_graph(self, graph: GraphProto, scope: dict[str, Values], read: frozenset[str]) -> None: ...


class Flow:
    """``If``, ``Loop`` and ``Scan``: they see the names around them."""

    def __init__(self, graphs: Graphs, proto: NodeProto, scope: Mapping[str, Values], read: frozenset[str]) -> None:
        self._graphs, self._scope, self._read, self._operator = graphs, scope, read, proto.op_type

    def reader(self) -> Reader | None:
        """The function for the operator; None if it is none of these."""
        found: dict[str, Callable[[OnnxNode], Outputs]] = {"If": self._if, "Loop": self._loop, "Scan": self._scan}
        return found.get(self._operator)

    def _run(self, graph: GraphProto, inputs: Mapping[str, Values]) -> list[Values]:
        scope = {**self._scope, **inputs}
        read = self._read | {o.name for o in graph.output}
        self._graphs.run_graph(graph, scope, read)
        return [scope[o.name] for o in graph.output]

    def _if(self, node: OnnxNode) -> Outputs:
        taken = bool(node.number(0, "condition"))
        branches = node.attr("else_branch"), node.attr("then_branch")
        return Outputs(self._run(branches[taken], {}))

    def _loop(self, node: OnnxNode) -> Outputs:
        body: GraphProto = node.attr("body")
        trips, condition = node.number(0, "trip count"), node.number(1, "condition")
        state: list[Values] = [node[i] for i in range(2, len(node))]
        scans: list[list[Value]] = [[] for _ in range(len(body.output) - 1 - len(state))]
        trip, goes_on = 0, condition is None or bool(condition)
        while goes_on and (trips is None or trip < trips):
            if trip == MAX_TRIPS:
                raise Unsupported(f"it runs more than {MAX_TRIPS} times")
            number = Value(TensorProto.INT64, torch.tensor(trip))
            going = Value(TensorProto.BOOL, torch.tensor(True))
            names = [i.name for i in body.input]
            further, *rest = self._run(body, dict(zip(names, (number, going, *state), strict=True)))
            if isinstance(further, tuple) or not further.known:
                raise Unsupported("whether it goes on depends on values that are computed")
            goes_on = bool(further.tensor.item())
            state = rest[: len(state)]
            for scan, value in zip(scans, rest[len(state) :], strict=True):
                if isinstance(value, tuple):
                    raise Unsupported("it collects sequences")
                scan.append(value)
            trip += 1
        if scans and not trip:
            raise Unsupported("it collects what no turn computes")
        return Outputs((*state, *(node.call(torch.stack, scan) for scan in scans)))

    def _scan(self, node: OnnxNode) -> Outputs:
        if node.opset < 9:
            raise Unsupported("before opset 9 it has a batch")
        body: GraphProto = node.attr("body")
        count = int(node.attr("num_scan_inputs"))
        states = len(node) - count
        if not 0 < count <= len(node) or len(body.input) != len(node) or len(body.output) < states:
            raise Unsupported(f"it scans {count} of {len(node)} inputs")
        outputs = len(body.output) - states
        axes = node.attr("scan_input_axes", [0] * count)
        backward = node.attr("scan_input_directions", [0] * count)
        out_axes = node.attr("scan_output_axes", [0] * outputs)
        out_backward = node.attr("scan_output_directions", [0] * outputs)
        state: list[Values] = [node[i] for i in range(states)]
        scanned = [node[states + i] for i in range(count)]
        places = [node.place(a, v.rank) for a, v in zip(axes, scanned, strict=True)]
        trips = scanned[0].shape[places[0]]
        if any(v.shape[p] != trips for v, p in zip(scanned, places, strict=True)):
            raise Unsupported("what it scans is not equally long")
        if trips > MAX_TRIPS:
            raise Unsupported(f"it runs more than {MAX_TRIPS} times")
        collected: list[list[Value]] = [[] for _ in range(outputs)]
        names = [i.name for i in body.input]
        for trip in range(trips):
            parts = [
                node.call(torch.select, v, p, trips - 1 - trip if back else trip)
                for v, p, back in zip(scanned, places, backward, strict=True)
            ]
            results = self._run(body, dict(zip(names, (*state, *parts), strict=True)))
            state = results[:states]
            for found, value in zip(collected, results[states:], strict=True):
                assert isinstance(value, Value)
                found.append(value)
        ordered = [part[::-1] if back else part for part, back in zip(collected, out_backward, strict=True)]
        stacked = [node.call(torch.stack, part, axis) for part, axis in zip(ordered, out_axes, strict=True)]
        return Outputs((*state, *stacked))
