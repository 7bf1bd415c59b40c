"""Which values are exactly zero at channels that a plan removes, in the masked network.

Masking sets parameters to zero, and a convolution then writes zeros. ReLU keeps them, sigmoid does
not. It matters only where channels are summed up (products of matrices, norms, sums): there a
zero is what makes the masked network equal to the one that lacks the channel.
"""

from __future__ import annotations

import operator
from itertools import chain
from typing import Any

import torch
from torch._ops import OpOverload
from torch.fx import Graph, Node
from torch.utils._pytree import tree_leaves

# By operator name without overload; a trailing underscore (in place) makes no difference.
# Zero where these operands are (filters and bias), whatever is read.
_WRITES = {
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "linear"), (1, 2)),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), (1, 2)),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), (2,)),
    "embedding": (0,),
}
# Zero where weight and bias are, or without these where the input is: positions of input, weight, bias.
_NORMS = {"batch_norm": (0, 1, 2), "instance_norm": (0, 1, 2), "group_norm": (0, 2, 3)}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# f(0) = 0, or values that are moved.
_KEEPS = _names("""
    relu relu6 hardtanh hardswish silu tanh gelu mish elu leaky_relu prelu celu selu rrelu hardshrink softshrink
    abs neg square sqrt sin tan atan sinh erf sign round floor ceil trunc expm1 log1p div
    dropout feature_dropout alias clone contiguous detach to type_as zeros_like
    view _unsafe_view reshape flatten unflatten ravel squeeze unsqueeze permute transpose movedim swapaxes mT t
    expand expand_as view_as repeat tile repeat_interleave flip roll select slice narrow unbind split
    split_with_sizes chunk channel_shuffle pixel_shuffle pixel_unshuffle glu
    mean sum amax amin linalg_vector_norm max_pool1d max_pool2d max_pool3d max_pool2d_with_indices
    avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
    upsample_nearest1d upsample_nearest2d upsample_linear1d upsample_bilinear2d upsample_bicubic2d
""")
_ALL = _names("add sub cat stack maximum minimum lerp")  # zero where all operands are
_ANY = _names("mul matmul bmm einsum")  # zero where one operand is


def zero_where_removed(graph: Graph) -> frozenset[Node]:
    """Nodes that hold zeros wherever a channel was removed.

    Parameters do, except running variances, which masking keeps. A change in place that writes
    something else may reach a value under another name: then nothing is claimed but of parameters.
    """
    parameters = frozenset(n for n in graph.nodes if n.op == "placeholder" and "running_var" not in n.name)
    zero = set(parameters)
    for node in graph.nodes:
        if node.op == "call_function":
            if _is_zero(node, zero):
                zero.add(node)
            elif isinstance(node.target, OpOverload) and node.target._schema.is_mutable:
                return parameters
    return frozenset(zero)


def _is_zero(node: Node, zero: set[Node]) -> bool:
    if node.target is operator.getitem:
        return node.args[0] in zero
    name = getattr(node.target, "__name__", "").split(".")[0].removesuffix("_")
    operands = node.all_input_nodes
    if name in _WRITES:
        return all(n in zero for i in _WRITES[name] for n in _nodes(node, i))
    if name in _NORMS:
        source, *affine = (_nodes(node, i) for i in _NORMS[name])
        return all(n in zero for n in (chain(*affine) if affine[0] else source))
    if name in _KEEPS:
        return isinstance(node.args[0], Node) and node.args[0] in zero
    if name in _ALL:
        return not _numbers(node) and all(n in zero for n in operands)
    if name in _ANY:
        return any(n in zero for n in operands)
    if node.target in (torch.ops.aten.clamp.default, torch.ops.aten.pow.Tensor_Scalar):
        return node.args[0] in zero and _fixes_zero(node)
    return False


def _fixes_zero(node: Node) -> bool:
    low, high = (*node.args[1:], None, None)[:2]
    if node.target is torch.ops.aten.pow.Tensor_Scalar:
        return isinstance(low, (int, float)) and low > 0
    return (low is None or _at_most(low, 0)) and (high is None or _at_most(0, high))


def _at_most(a: Any, b: Any) -> bool:
    return isinstance(a, (int, float)) and isinstance(b, (int, float)) and a <= b


def _nodes(node: Node, position: int) -> list[Node]:
    found = node.args[position : position + 1]
    return [n for n in tree_leaves(found) if isinstance(n, Node)]


def _numbers(node: Node) -> bool:
    """Whether an operand is a number that is not zero."""
    return any(isinstance(a, (int, float)) and a != 0 for a in node.args[:2] if not isinstance(a, bool))
