"""Several calls that an exporter wrote for one layer become that layer again.

A bias added after its convolution or matrix product, hard-swish as ``x * clip(x + 3, 0, 6) / 6``, hard-sigmoids of
another slope than torch's, GELU by ``erf``, ``x * sigmoid(x)``, layer normalisation in nine steps: common in networks
from PaddlePaddle, TensorFlow and older PyTorch. As single layers they prune, fuse, train and compile well.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node

_WEIGHTED = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


def simplify(module: GraphModule) -> dict[str, str]:
    """Rewrite in place, and generate the code anew.

    Returns:
        Path of each parameter that lies elsewhere now -> that place.
    """
    graph = _Graph(module)
    for rule in (_bias, _gelu, _gated, _hard_swish, _hard_sigmoid, _layer_norm):
        for node in list(module.graph.nodes):
            rule(graph, node)
        module.graph.eliminate_dead_code()
    graph.drop_moved()
    module.delete_all_unused_submodules()
    module.recompile()
    return graph.moved


class _Graph:
    def __init__(self, module: GraphModule) -> None:
        self.module = module
        self.moved: dict[str, str] = {}

    def layer(self, node: Any, *kinds: type[nn.Module]) -> Any:
        """The layer that a node calls, if it is one of these."""
        if not isinstance(node, Node) or node.op != "call_module":
            return None
        layer = self.module.get_submodule(str(node.target))
        return layer if isinstance(layer, kinds) else None

    def constant(self, node: Any) -> Tensor | None:
        """The parameter or buffer that a node reads."""
        if not isinstance(node, Node) or node.op != "get_attr":
            return None
        owner, _, name = str(node.target).rpartition(".")
        found: Tensor = getattr(self.module.get_submodule(owner), name)
        return found

    def replace(self, node: Node, layer: nn.Module, *args: Node) -> str:
        """``node`` becomes a call of a layer of its own; the layer's path."""
        path = f"{node.name}_layer"
        while hasattr(self.module, path):
            path += "_"
        self.module.add_submodule(path, layer.eval())
        with self.module.graph.inserting_before(node):
            call = self.module.graph.call_module(path, args)
            call.meta["shape"] = node.meta["shape"]
        self.into(node, call)
        return path

    def drop_moved(self) -> None:
        """Parameters that lie in layers now, and are read by nothing where they were."""
        read = {str(n.target) for n in self.module.graph.nodes if n.op == "get_attr"}
        for path in self.moved.keys() - read:
            owner, _, name = path.rpartition(".")
            delattr(self.module.get_submodule(owner), name)

    def into(self, node: Node, other: Node) -> None:
        node.replace_all_uses_with(other)
        self.module.graph.erase_node(node)


def _calls(node: Any, *functions: Callable[..., Any]) -> bool:
    return isinstance(node, Node) and node.op == "call_function" and node.target in functions


def _numbered(node: Any, function: Callable[..., Any]) -> tuple[Node, float] | None:
    """The tensor and the number that a call combines; both ways round where that is the same."""
    if not _calls(node, function) or len(node.args) < 2:
        return None
    x, number = node.args[:2]
    plain = isinstance(x, Node) and isinstance(number, int | float) and not node.kwargs
    return (x, float(number)) if plain else None


def _operands(node: Node) -> Iterator[tuple[Any, Any]]:
    a, b = node.args[:2]
    yield a, b
    yield b, a


def _alone(node: Node) -> bool:
    return len(node.users) == 1


def _bias(graph: _Graph, node: Node) -> None:
    """A constant added to the result of a convolution or matrix product without bias."""
    if not _calls(node, torch.add):
        return
    for product, added in _operands(node):
        layer, constant = graph.layer(product, *_WEIGHTED), graph.constant(added)
        if layer is None or constant is None or layer.bias is not None or not _alone(product):
            continue
        calls = sum(n.op == "call_module" and n.target == product.target for n in graph.module.graph.nodes)
        channels = layer.weight.shape[0]
        trailing = () if isinstance(layer, nn.Linear) else (1,) * (layer.weight.dim() - 2)
        if calls == 1 and tuple(constant.shape) in ((channels, *trailing), (1, channels, *trailing)):
            layer.bias = nn.Parameter(constant.detach().flatten().clone())
            graph.moved[str(added.target)] = f"{product.target}.bias"
            graph.into(node, product)
            return


def _gelu(graph: _Graph, node: Node) -> None:
    """``x * (1 + erf(x / sqrt(2))) / 2``, in any order of its factors."""
    if not _calls(node, torch.mul, torch.div):
        return
    for x, gate in _two_times(node, 0.5):
        inner = _numbered(gate, torch.add)
        if inner and inner[1] == 1 and _calls(inner[0], torch.erf):
            number, others = _multiplied(inner[0].args[0])
            if others == [x] and math.isclose(number, 0.5**0.5, rel_tol=1e-4):
                graph.replace(node, nn.GELU(), x)
                return


def _two_times(node: Node, number: float) -> Iterator[tuple[Any, Any]]:
    """The two tensors, both ways round, whose product times a number a node is."""
    found, others = _multiplied(node)
    if len(others) == 2 and math.isclose(found, number, rel_tol=1e-5):
        yield others[0], others[1]
        yield others[1], others[0]


def _multiplied(node: Any) -> tuple[float, list[Any]]:
    """The number and the tensors whose product a node is."""
    factors = list(_factors(node))
    return math.prod(f for f in factors if isinstance(f, float)), [f for f in factors if not isinstance(f, float)]


def _factors(node: Any, depth: int = 6) -> Iterator[Any]:
    """Tensors and numbers whose product a node is; a division by a number is one."""
    if not depth:
        yield node
        return
    if isinstance(node, Node) and _calls(node, torch.mul) and not node.kwargs:
        for part in node.args:
            inner = isinstance(part, Node) and _alone(part)
            yield from _factors(part, depth - 1) if inner else (float(part) if isinstance(part, int | float) else part,)
    elif (divided := _numbered(node, torch.div)) and divided[1]:
        yield from _factors(divided[0], depth - 1) if _alone(divided[0]) else (divided[0],)
        yield 1 / divided[1]
    else:
        yield node


def _gated(graph: _Graph, node: Node) -> None:
    """``x * sigmoid(x)``, ``x * tanh(softplus(x))``, ``x * hardsigmoid(x)``."""
    if not _calls(node, torch.mul):
        return
    for x, gate in _operands(node):
        if not isinstance(x, Node) or not isinstance(gate, Node) or not _alone(gate):
            continue
        if _calls(gate, torch.sigmoid) and gate.args[0] is x:
            graph.replace(node, nn.SiLU(), x)
            return
        if graph.layer(gate, nn.Hardsigmoid) is not None and gate.args[0] is x:
            graph.replace(node, nn.Hardswish(), x)
            return
        if _calls(gate, torch.tanh):
            soft = gate.args[0]
            plus = graph.layer(soft, nn.Softplus)
            if plus is not None and isinstance(soft, Node) and soft.args[0] is x:
                graph.replace(node, nn.Mish(), x)
                return


def _hard_swish(graph: _Graph, node: Node) -> None:
    """``x * clip(x + 3, 0, 6) / 6``, in any order."""
    if not _calls(node, torch.mul, torch.div):
        return
    for x, gate in _two_times(node, 1 / 6):
        if graph.layer(gate, nn.ReLU6) is not None and _numbered(gate.args[0], torch.add) == (x, 3.0):
            graph.replace(node, nn.Hardswish(), x)
            return


def _hard_sigmoid(graph: _Graph, node: Node) -> None:
    """``clip(a x + 1/2, 0, 1)`` of a convolution: scaled by ``6 a``, it is torch's ``clip(z / 6 + 1/2, 0, 1)``."""
    if not _calls(node, torch.clamp) or tuple(node.args[1:]) != (0.0, 1.0):
        return
    added = _numbered(node.args[0], torch.add)
    scaled = _numbered(added[0], torch.mul) if added and added[1] == 0.5 else None
    if scaled is None or scaled[1] <= 0:
        return
    x, slope = scaled
    if math.isclose(slope, 1 / 6, rel_tol=1e-5):
        graph.replace(node, nn.Hardsigmoid(), x)
        return
    layer = graph.layer(x, *_WEIGHTED)
    calls = sum(n.op == "call_module" and n.target == x.target for n in graph.module.graph.nodes)
    steps = (x, added[0], node.args[0]) if added else ()  # whoever else read one of them would read it rescaled
    if layer is None or not all(isinstance(n, Node) and _alone(n) for n in steps) or calls != 1:
        return
    with torch.no_grad():
        for name, parameter in list(layer.named_parameters()):
            setattr(layer, name, nn.Parameter(parameter * (6 * slope)))
    graph.replace(node, nn.Hardsigmoid(), x)


def _layer_norm(graph: _Graph, node: Node) -> None:
    """``(x - mean) / sqrt(mean((x - mean)^2) + eps) * weight + bias`` over the last axes."""
    if not _calls(node, torch.add):
        return
    for product, bias in _operands(node):
        shift = graph.constant(bias)
        if shift is None or not _calls(product, torch.mul) or not _alone(product):
            continue
        for divided, weight in _operands(product):
            scale = graph.constant(weight)
            found = _standardised(divided) if scale is not None else None
            if scale is None or found is None or scale.shape != shift.shape or scale.dim() != len(found[1]):
                continue
            x, axes, eps = found
            rank = len(x.meta["shape"])
            last = list(range(rank - scale.dim(), rank))
            if (
                sorted(a % rank for a in axes) != last
                or tuple(scale.shape) != tuple(x.meta["shape"])[rank - scale.dim() :]
            ):
                continue
            layer = nn.LayerNorm(tuple(scale.shape), eps, device="meta")
            layer.weight, layer.bias = (nn.Parameter(t.detach()) for t in (scale, shift))
            path = graph.replace(node, layer, x)
            graph.moved |= {str(weight.target): f"{path}.weight", str(bias.target): f"{path}.bias"}
            return


def _standardised(node: Any) -> tuple[Node, list[int], float] | None:
    """The tensor, the axes and the epsilon, where ``node`` is a tensor of mean 0 and variance 1."""
    if not _calls(node, torch.div) or len(node.args) != 2:
        return None
    middle, deviation = node.args
    if not (_calls(middle, torch.sub) and _calls(deviation, torch.sqrt)):
        return None
    added = _numbered(deviation.args[0], torch.add)
    x, mean = middle.args
    if added is None or not (_calls(mean, torch.mean) and _calls(added[0], torch.mean) and isinstance(x, Node)):
        return None
    variance = added[0]
    square: Any = variance.args[0]
    same = mean.args[0] is x and list(mean.args[1:]) == list(variance.args[1:]) and bool(mean.args[2])
    if not (same and _calls(square, torch.square) and _calls(square.args[0], torch.sub)):
        return None
    a, b = square.args[0].args
    again = a is x and (b is mean or (_calls(b, torch.mean) and b.args == mean.args))
    return (x, [int(v) for v in mean.args[1]], added[1]) if again else None
