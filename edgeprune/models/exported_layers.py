"""Layers restored where an exported graph calls functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Node

aten = torch.ops.aten
_CONVOLUTIONS: dict[Any, type[nn.modules.conv._ConvNd]] = {
    aten.conv1d.default: nn.Conv1d,
    aten.conv1d.padding: nn.Conv1d,
    aten.conv2d.default: nn.Conv2d,
    aten.conv2d.padding: nn.Conv2d,
    aten.conv3d.default: nn.Conv3d,
    aten.conv3d.padding: nn.Conv3d,
    aten.conv_transpose1d.default: nn.ConvTranspose1d,
    aten.conv_transpose2d.input: nn.ConvTranspose2d,
    aten.conv_transpose3d.input: nn.ConvTranspose3d,
}


def replace(module: GraphModule, node: Node, path: str, layer: nn.Module) -> None:
    """``node`` becomes a call of ``layer``, put at ``path``, on its first operand."""
    module.add_submodule(path, layer)
    with module.graph.inserting_before(node):
        call = module.graph.call_module(path, (node.args[0],))
    node.replace_all_uses_with(call)
    module.graph.erase_node(node)


def restore_depthwise(module: GraphModule) -> None:
    """Depthwise convolutions become layers again: a layer's number of groups can follow its weight, the graph's cannot.

    A convolution stays a function if its weight and bias are not its module's only tensors, or if the weight is used in
    two ways.
    """
    found: dict[str, list[tuple[Node, dict[str, Any]]]] = {}
    for node in module.graph.nodes:
        if node.target in _CONVOLUTIONS:
            a = _arguments(node)
            if isinstance(a["weight"], Node) and a["weight"].op == "get_attr":
                found.setdefault(str(a["weight"].target), []).append((node, a))
    for weight, uses in found.items():
        kinds = {(node.target, *((key, value) for key, value in a.items() if key != "input")) for node, a in uses}
        layer = _layer(module, weight, *uses[0]) if len(kinds) == 1 else None
        if layer is not None:
            for node, _ in uses:
                replace(module, node, weight.rpartition(".")[0], layer)


def _layer(module: GraphModule, name: str, node: Node, a: dict[str, Any]) -> nn.Module | None:
    """The layer of a depthwise convolution; ``None`` for other nodes, or if the layer would replace other tensors."""
    path = name.rpartition(".")[0]
    owner = module.get_submodule(path)
    held = dict(owner.named_parameters())
    bias = a["bias"]
    expected = {"weight", "bias"} if bias is not None else {"weight"}
    if held.keys() != expected or any(True for _ in owner.buffers()) or any(True for _ in owner.children()):
        return None
    if bias is not None and (not isinstance(bias, Node) or bias.target != f"{path}.bias"):
        return None
    weight, groups = held["weight"], a["groups"]
    kind = _CONVOLUTIONS[node.target]
    transposed = "output_padding" in a
    if groups == 1 or weight.shape[0 if transposed else 1] != (groups if transposed else 1):
        return None
    sizes = {key: _full(a[key], weight.dim() - 2) for key in ("stride", "padding", "dilation")}
    if transposed:
        sizes["output_padding"] = _full(a["output_padding"], weight.dim() - 2)
    with torch.device("meta"):
        layer = kind(
            groups,
            weight.shape[1] * groups if transposed else weight.shape[0],
            tuple(weight.shape[2:]),
            groups=groups,
            bias=bias is not None,
            **sizes,
        )
    layer.weight, layer.bias = weight, held.get("bias")
    return layer


def _full(value: Any, rank: int) -> Any:
    """One number for every dimension, where the graph keeps one for all."""
    return value if isinstance(value, str) else tuple(value) * (rank if len(value) == 1 else 1)


def _arguments(node: Node) -> dict[str, Any]:
    """By the operator's own names, defaults filled in."""
    schema = node.target._schema.arguments  # type: ignore[union-attr]
    values = {a.name: a.default_value for a in schema if a.has_default_value()}
    values.update({a.name: value for a, value in zip(schema, node.args, strict=False)})
    values.update(node.kwargs)
    return {key: tuple(value) if isinstance(value, (list, tuple)) else value for key, value in values.items()}
