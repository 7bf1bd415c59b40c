"""One value from one value, or from those at the same place of several tensors.

Only operators that are finite at zero: a logarithm of a removed channel would spoil the masked
network. Whether they keep a zero a zero is in :mod:`edgeprune.graph.zeros`.
"""

from __future__ import annotations

import math

import torch
from torch.fx import Node

from edgeprune.graph.flow import Flow, Refused
from edgeprune.graph.nodes import arguments
from edgeprune.graph.rules.common import aligned, carried
from edgeprune.graph.rules.table import rule

aten = torch.ops.aten


@rule(
    aten.relu.default,
    aten.relu_.default,
    aten.relu6.default,
    aten.relu6_.default,
    aten.hardtanh.default,
    aten.hardtanh_.default,
    aten.hardswish.default,
    aten.hardswish_.default,
    aten.hardsigmoid.default,
    aten.hardsigmoid_.default,
    aten.silu.default,
    aten.silu_.default,
    aten.sigmoid.default,
    aten.sigmoid_.default,
    aten.log_sigmoid.default,
    aten.tanh.default,
    aten.tanh_.default,
    aten.gelu.default,
    aten.mish.default,
    aten.mish_.default,
    aten.elu.default,
    aten.elu_.default,
    aten.celu.default,
    aten.celu_.default,
    aten.selu.default,
    aten.selu_.default,
    aten.rrelu.default,
    aten.softplus.default,
    aten.leaky_relu.default,
    aten.leaky_relu_.default,
    aten.hardshrink.default,
    aten.softshrink.default,
    aten.threshold.default,
    aten.threshold_.default,
    aten.clamp.default,
    aten.clamp_.default,
    aten.clamp_min.default,
    aten.clamp_max.default,
    aten.clip.default,
    aten.abs.default,
    aten.neg.default,
    aten.sign.default,
    aten.square.default,
    aten.sqrt.default,
    aten.exp.default,
    aten.expm1.default,
    aten.log1p.default,
    aten.sin.default,
    aten.cos.default,
    aten.tan.default,
    aten.atan.default,
    aten.sinh.default,
    aten.cosh.default,
    aten.erf.default,
    aten.round.default,
    aten.floor.default,
    aten.ceil.default,
    aten.trunc.default,
    aten.isnan.default,
    aten.nan_to_num.default,
    aten.logical_not.default,
    aten.bitwise_not.default,
    aten.pow.Scalar,
    aten.rsub.Scalar,
    aten.add.Scalar,
    aten.sub.Scalar,
    aten.mul.Scalar,
    aten.add_.Scalar,
    aten.mul_.Scalar,
    aten.eq.Scalar,
    aten.ne.Scalar,
    aten.gt.Scalar,
    aten.ge.Scalar,
    aten.lt.Scalar,
    aten.le.Scalar,
    aten.dropout.default,
    aten.dropout_.default,
    aten.feature_dropout.default,
    aten.feature_dropout_.default,
    aten.alpha_dropout.default,
    aten.feature_alpha_dropout.default,
    aten.alias.default,
    aten.clone.default,
    aten.contiguous.default,
    aten.detach.default,
    aten.detach_.default,
    aten.lift_fresh_copy.default,
    aten.to.dtype,
    aten.to.dtype_layout,
    aten.to.device,
    aten.to.other,
    aten._to_copy.default,
    aten.type_as.default,
    aten.view_as.default,
    aten.zeros_like.default,
    aten.ones_like.default,
    aten.full_like.default,
)
def pointwise(flow: Flow, node: Node) -> None:
    """One operand, same shape out."""
    source = next((a for a in node.args if isinstance(a, Node)), None)
    if source is None or flow.shape(node) != flow.shape(source):
        raise Refused("the shape changes")
    flow.produce(node, carried(flow, source))


@rule(
    aten.add.Tensor,
    aten.add_.Tensor,
    aten.sub.Tensor,
    aten.sub_.Tensor,
    aten.mul.Tensor,
    aten.mul_.Tensor,
    aten.maximum.default,
    aten.minimum.default,
    aten.lerp.Scalar,
    aten.lerp.Tensor,
    aten.addcmul.default,
    aten.where.self,
    aten.where.ScalarOther,
    aten.where.ScalarSelf,
    aten.where.Scalar,
    aten.eq.Tensor,
    aten.ne.Tensor,
    aten.gt.Tensor,
    aten.ge.Tensor,
    aten.lt.Tensor,
    aten.le.Tensor,
    aten.logical_and.default,
    aten.logical_or.default,
    aten.logical_xor.default,
    aten.__and__.Tensor,
    aten.__or__.Tensor,
    aten.__xor__.Tensor,
    aten.bitwise_and.Tensor,
    aten.bitwise_or.Tensor,
)
def broadcasting(flow: Flow, node: Node) -> None:
    """Several operands, aligned at the last dimension; an operand of size 1 follows the others."""
    flow.produce(node, aligned(flow, node, node.args))


@rule(aten.masked_fill.Scalar, aten.masked_fill_.Scalar)
def masked_fill(flow: Flow, node: Node) -> None:
    axes = aligned(flow, node, node.args)
    if not math.isfinite(float(arguments(node)["value"])):
        for layout in axes.values():
            flow.freeze_layout(layout, "filled with infinity")
    flow.produce(node, axes)


@rule(aten.pow.Tensor_Scalar)
def power(flow: Flow, node: Node) -> None:
    if arguments(node)["exponent"] < 0:
        raise Refused("a negative power of a removed channel would be infinite")
    flow.produce(node, carried(flow, node.args[0]))


@rule(aten.div.Tensor, aten.div_.Tensor, aten.div.Scalar)
def division(flow: Flow, node: Node) -> None:
    """By a number, or by one value for all channels: as a divisor, a removed channel would be zero."""
    dividend, divisor = node.args[:2]
    if isinstance(divisor, Node) and divisor.target in (aten.expand_as.default, aten.expand.default):
        divisor = divisor.args[0]
    if not isinstance(divisor, Node):
        flow.produce(node, carried(flow, dividend))
        return
    if flow.parameter(divisor) or any(flow.shape(divisor)[d] > 1 for d in flow.tracked(divisor)):
        raise Refused("division by a tensor")
    flow.produce(node, aligned(flow, node, (dividend, divisor)))


@rule(
    aten._assert_tensor_metadata.default,
    aten._assert_async.msg,
    aten._assert_scalar.default,
    aten.sym_size.int,
)
def observation(flow: Flow, node: Node) -> None:
    """Looks at a tensor and yields none."""


@rule(
    aten.arange.default,
    aten.arange.start,
    aten.arange.start_step,
    aten.eye.default,
    aten.full.default,
    aten.ones.default,
    aten.zeros.default,
)
def made(flow: Flow, node: Node) -> None:
    """Made in ``forward`` of nothing: whoever joins it to channels finds that they stay."""
