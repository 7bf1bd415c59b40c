"""Functions that a file brings with it: their bodies where they are called."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import ModelProto, NodeProto, inliner

from edgeprune.errors import ModelLoadError
from edgeprune.models.onnx.build import MAX_CALLS


def inlined(model: ModelProto, source: str) -> ModelProto:
    """The model with the bodies of its own functions where they are called."""
    try:
        count = _called_nodes(model, source)
    except RecursionError as error:
        raise ModelLoadError(f"{source}: its functions lie too deep in each other", file=source) from error
    if count > MAX_CALLS:
        raise ModelLoadError(
            f"{source}: its functions call each other until they are {count} nodes, more than {MAX_CALLS}",
            file=source,
        )
    try:
        return inliner.inline_local_functions(model)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        raise ModelLoadError(f"{source}: its functions cannot be read: {error}", file=source) from error


def _called_nodes(model: ModelProto, source: str) -> int:
    """How many nodes there are once every call of a function is its body."""
    bodies = {(f.domain, f.name): f.node for f in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    running: set[tuple[str, str]] = set()

    def size(nodes: Sequence[NodeProto]) -> int:
        inner = (g.node for node in nodes for a in node.attribute for g in (a.g, *a.graphs))
        called = (of(key) if (key := (node.domain, node.op_type)) in bodies else 1 for node in nodes)
        return sum(called) + sum(map(size, inner))

    def of(key: tuple[str, str]) -> int:
        if key in running:
            raise ModelLoadError(f"{source}: its function {key[1]!r} calls itself", file=source, function=key[1])
        if key not in sizes:
            running.add(key)
            sizes[key] = size(bodies[key])
            running.discard(key)
        return sizes[key]

    return size(model.graph.node)
