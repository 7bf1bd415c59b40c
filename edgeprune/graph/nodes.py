"""Questions to one node of a traced graph: what it yields, what it was called with, which line of code made it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from edgeprune.errors import UnsupportedOperatorError

LAYER = "edgeprune.layer"
"""Key of a node's ``meta``: the type of the module that was running when it was recorded."""
COMPOSES = "edgeprune.composes"
"""Key of a node's ``meta``: the operator that it and others stand for."""
TORCH = str(Path(torch.__file__).parent)
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


def module_path(node: Node) -> str:
    """Qualified name of the innermost module that was running when ``node`` was recorded."""
    stack = node.meta.get("nn_module_stack") or {}
    path = str(list(stack.values())[-1][0]) if stack else ""
    return path.split("@")[0]  # the exporter marks the second call of a module as name@1


def inside(node: Node, *kinds: type[nn.Module]) -> bool:
    """Whether the innermost module that was running when ``node`` was recorded is one of ``kinds``."""
    return issubclass(node.meta.get(LAYER, object), kinds)


def source_line(node: Node) -> str:
    """``file:line`` of the network's own code that made ``node``; empty if the exporter lost it."""
    frames = [m for m in _FRAME.finditer(node.meta.get("stack_trace") or "") if not m["file"].startswith(TORCH)]
    return f"{frames[-1]['file']}:{frames[-1]['line']}" if frames else ""


def describe(node: Node) -> str:
    """How messages and frozen reasons name a node: op, node, module and source line."""
    where = [f"module '{path}'"] if (path := module_path(node)) else []
    where += [line] if (line := source_line(node)) else []
    origin = node.meta.get(COMPOSES)
    what = f"{node.target}, part of {origin}" if origin and origin != str(node.target) else f"{node.target}"
    return f"{what} (node '{node.name}'" + "".join(f", {w}" for w in where) + ")"


def shape_of(node: Node) -> tuple[int, ...] | None:
    """Shape of the tensor a node yields, ``None`` for tuples and scalars."""
    value: Any = node.meta.get("val")
    return tuple(int(d) for d in value.shape) if isinstance(value, Tensor) else None


def static_shape(node: Node) -> tuple[int, ...]:
    """Shape of the tensor a node yields.

    Raises:
        UnsupportedOperatorError: it yields no tensor.
    """
    shape = shape_of(node)
    if shape is None:
        raise unsupported(node, "it yields no tensor", "take the tensor out of the tuple in the network")
    return shape


def unsupported(node: Node, why: str, hint: str) -> UnsupportedOperatorError:
    """The refusal of a node that no kernels can be made of; to be raised."""
    return UnsupportedOperatorError(
        f"{describe(node)} cannot be compiled: {why}",
        hint=hint,
        node=node.name,
        operator=str(node.target),
        module=module_path(node),
        source=source_line(node),
    )


def detached(node: Node, name: str) -> Node:
    """A node for a value on the way to ``node``'s: in no graph, so that no other operator reads it.

    Args:
        name: stands behind a dot, which no name of a graph's own node has.
    """
    target = node.target if callable(node.target) else torch.ops.aten.clone.default
    inner = Node(node.graph, f"{node.name}.{name}", "call_function", target, (), {})
    inner.meta = dict(node.meta)
    return inner


def arguments(node: Node) -> dict[str, Any]:
    """Arguments of an ATen call by schema name, defaults filled in."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    values = {a.name: a.default_value for a in schema if a.has_default_value()}
    values.update({a.name: value for a, value in zip(schema, node.args, strict=False)})
    values.update(node.kwargs)
    return values


def spread(value: Any, count: int) -> tuple[int, ...]:
    """A setting of a window, one number for each of its ``count`` axes."""
    numbers = (value,) if isinstance(value, int) else tuple(int(v) for v in value)
    return numbers * count if len(numbers) == 1 else numbers
