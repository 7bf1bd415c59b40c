"""Functions of one tensor, value by value: activations, powers, and what returns its operand as it is.

Transfer rules take those alone that are finite at zero: a logarithm of a removed channel would spoil the masked
network.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.fx import Node

from edgeprune.graph import zeros
from edgeprune.graph.aten.common import carried
from edgeprune.graph.aten.table import handles, overloads, rule
from edgeprune.graph.cutting.cutter import Cutter
from edgeprune.graph.cutting.values import are_images
from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.nodes import arguments, static_shape, unsupported

aten = torch.ops.aten


@rule(
    *overloads(
        """
        relu relu_ relu6 relu6_ hardswish hardswish_ silu silu_ tanh tanh_ gelu mish mish_ elu elu_
        celu celu_ selu selu_ rrelu leaky_relu leaky_relu_ hardshrink softshrink abs neg sign square sqrt expm1 log1p
        sin tan asin atan sinh asinh atanh erf round floor ceil trunc frac dropout dropout_ feature_dropout
        feature_dropout_ alias clone contiguous detach detach_ to.dtype to.dtype_layout to.device to.other _to_copy
        type_as view_as reshape_as zeros_like
        """
    ),
    zero=zeros.first,
)
@rule(
    *overloads(
        """
        hardsigmoid hardsigmoid_ sigmoid sigmoid_ log_sigmoid softplus threshold threshold_ clamp_min clamp_max clip
        exp cos acos cosh erfc isinf isnan nan_to_num logical_not bitwise_not pow.Scalar rsub.Scalar eq.Scalar
        ne.Scalar gt.Scalar ge.Scalar lt.Scalar le.Scalar alpha_dropout feature_alpha_dropout ones_like full_like
        lift_fresh_copy
        """
    )
)
@rule(*overloads("clamp clamp_ hardtanh hardtanh_"), zero=zeros.fixed)
@rule(aten.add.Scalar, aten.sub.Scalar, aten.add_.Scalar, zero=zeros.every)
@rule(aten.mul.Scalar, aten.mul_.Scalar, zero=zeros.some)
def pointwise(flow: Flow, node: Node) -> None:
    """One operand, same shape out."""
    source = next((a for a in node.args if isinstance(a, Node)), None)
    if source is None or flow.shape(node) != flow.shape(source):
        raise Refused("the shape changes")
    flow.produce(node, carried(flow, source))


@rule(aten.pow.Tensor_Scalar, zero=zeros.fixed)
def power(flow: Flow, node: Node) -> None:
    if arguments(node)["exponent"] < 0:
        raise Refused("a negative power of a removed channel would be infinite")
    flow.produce(node, carried(flow, node.args[0]))


@rule(aten._assert_tensor_metadata.default, aten._assert_async.msg, aten._assert_scalar.default, aten.sym_size.int)
def observation(flow: Flow, node: Node) -> None:
    """Looks at a tensor and yields none."""


@rule(*overloads("arange arange.start arange.start_step eye full ones zeros"))
def made(flow: Flow, node: Node) -> None:
    """Made in ``forward`` of nothing: whoever joins it to channels finds that they stay."""


_IN_PLACE = "relu_ relu6_ hardswish_ hardsigmoid_ sigmoid_ silu_ tanh_ mish_"
_OTHERS = """
abs exp log sqrt rsqrt reciprocal sign square floor ceil trunc round frac isinf isnan erf erfc
sin cos tan asin acos atan sinh cosh asinh acosh atanh
"""
ACTIVATIONS = {
    overload: name.removesuffix("_")
    for name in f"{_IN_PLACE} {_IN_PLACE.replace('_', '')} {_OTHERS}".split()
    for overload in overloads(name)
}


@handles(*ACTIVATIONS)
def _activation(cutter: Cutter, node: Node) -> None:
    unary(cutter, node, ACTIVATIONS[node.target])


@handles(aten.hardtanh.default, aten.hardtanh_.default, aten.clamp.default, aten.clamp_.default)
def _clip(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    low, high = (named.get(f"{end}_val", named.get(end)) for end in ("min", "max"))
    bounds = (-math.inf if low is None else float(low), math.inf if high is None else float(high))
    unary(cutter, node, {(0.0, 6.0): "relu6", (0.0, math.inf): "relu"}.get(bounds) or step("clip", *bounds))


@handles(aten.leaky_relu.default, aten.leaky_relu_.default)
def _leaky_relu(cutter: Cutter, node: Node) -> None:
    unary(cutter, node, step("leaky_relu", arguments(node)["negative_slope"]))


@handles(aten.elu.default, aten.elu_.default)
def _elu(cutter: Cutter, node: Node) -> None:
    named = arguments(node)
    if named["scale"] != 1 or named["input_scale"] != 1:
        raise unsupported(node, "an ELU with scales", "use nn.ELU")
    unary(cutter, node, step("elu", named["alpha"]))


@handles(aten.selu.default, aten.selu_.default)
def _selu(cutter: Cutter, node: Node) -> None:
    """Constants of Klambauer et al., 2017."""
    unary(cutter, node, step("elu", 1.6732632423543772), step("times", 1.0507009873554805))


@handles(aten.softplus.default)
def _softplus(cutter: Cutter, node: Node) -> None:
    beta = float(arguments(node)["beta"])
    unary(cutter, node, step("times", beta), "softplus", step("times", 1 / beta))


@handles(aten.neg.default)
def _negative(cutter: Cutter, node: Node) -> None:
    unary(cutter, node, step("times", -1))


@handles(aten.pow.Tensor_Scalar)
def _power(cutter: Cutter, node: Node) -> None:
    known: dict[Any, list[str]] = {2: ["square"], 0.5: ["sqrt"], 1: [], 4: ["square", "square"]}
    steps = known.get(node.args[1])
    if steps is None:
        raise unsupported(node, f"the power {node.args[1]}", "write it with mul and sqrt")
    unary(cutter, node, *steps)


@handles(aten.gelu.default)
def _gelu(cutter: Cutter, node: Node) -> None:
    unary(cutter, node, "gelu_tanh" if arguments(node)["approximate"] == "tanh" else "gelu")


def step(name: str, *numbers: float) -> str:
    """An epilogue step with numbers, as the kernel rules read it."""
    return f"{name}:{','.join(repr(float(n)) for n in numbers)}"


def unary(cutter: Cutter, node: Node, *steps: str) -> None:
    value = cutter.value(node.args[0])
    if draft := cutter.joinable(value):
        cutter.join(draft, node, *steps)
        return
    value = cutter.blocked(value.image) if are_images([value.image]) else cutter.plain(node.args[0])
    cutter.emit("elementwise", node, value.data.spec, [value], epilogue=steps, seen=static_shape(node))


@handles(*overloads("dropout dropout_ feature_dropout alias contiguous clone detach to.dtype type_as"))
def _identity(cutter: Cutter, node: Node) -> None:
    if node.meta["val"].dtype != torch.float32:
        raise unsupported(node, f"a tensor of {node.meta['val'].dtype}", "compute in float32")
    cutter.alias(node, cutter.value(node.args[0]))


@handles(aten._assert_tensor_metadata.default)
def _checked(cutter: Cutter, node: Node) -> None:
    """What the exporter says of a tensor's type, and nothing that runs."""


@handles(aten.zeros_like.default, aten.ones_like.default, aten.full_like.default)
def _filled(cutter: Cutter, node: Node) -> None:
    """One number, seen everywhere: its channels cost nothing and may go."""
    shape, names = static_shape(node), {aten.zeros_like.default: 0.0, aten.ones_like.default: 1.0}
    if node.meta["val"].dtype != torch.float32:
        raise unsupported(node, f"a tensor of {node.meta['val'].dtype}", "compute in float32")
    number = names[node.target] if node.target in names else float(arguments(node)["fill_value"])
    value = cutter.constant(node, "number", torch.full((1,) * len(shape), number))
    cutter.show(node, value.expanded(shape))
