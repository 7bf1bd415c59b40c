"""``com.microsoft``: what ONNX Runtime's optimiser and quantiser write."""

from __future__ import annotations

import math
from typing import Any

import torch
from onnx import TensorProto
from torch import nn
from torch.nn import functional as F

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.ops.arithmetic import operand
from edgeprune.models.onnx.ops.attention import merge_heads, split_heads, turned
from edgeprune.models.onnx.ops.convolution import convolved, padded, pads, per_axis
from edgeprune.models.onnx.ops.norms import normalized
from edgeprune.models.onnx.ops.products import gemm
from edgeprune.models.onnx.ops.quantised import along, dequantise, integers, matrices, quantise, real
from edgeprune.models.onnx.table import CONTRIB, Outputs, reads
from edgeprune.models.onnx.types import FLOATS
from edgeprune.models.onnx.values import Unsupported, Value

_AVERAGE: Any = nn.AvgPool2d


def activated(n: OnnxNode, x: Value, name: str, numbers: list[float]) -> Value:
    """A fused activation by its name and parameters."""
    given: list[Any] = [*numbers, None, None]
    alpha, beta = given[:2]
    layers: dict[str, Any] = {
        "Relu": nn.ReLU,
        "Tanh": nn.Tanh,
        "Sigmoid": nn.Sigmoid,
        "LeakyRelu": lambda: nn.LeakyReLU(0.01 if alpha is None else alpha),
        "Clip": lambda: nn.ReLU6() if (alpha, beta) == (0, 6) else nn.Hardtanh(alpha, beta),
        "HardSwish": nn.Hardswish,
        "Gelu": nn.GELU,
        "Softplus": nn.Softplus,
        "Elu": lambda: nn.ELU(1.0 if alpha is None else alpha),
    }
    if name == "HardSigmoid":
        alpha, beta = 0.2 if alpha is None else alpha, 0.5 if beta is None else beta
        if math.isclose(alpha, 1 / 6, rel_tol=1e-5) and beta == 0.5:
            return n.layer(nn.Hardsigmoid(), x)
        return n.call(torch.clamp, n.call(torch.add, n.call(torch.mul, x, alpha), beta), 0.0, 1.0)
    if name not in layers:
        raise Unsupported(f"its activation is {name!r}")
    return n.layer(layers[name](), x)


@reads("FusedConv", domain=CONTRIB)
def fused_conv(n: OnnxNode) -> Value:
    """A convolution, a sum with another tensor, an activation."""
    _spatial_defaults(n)
    y = convolved(n, n[0], n[1], n.get(2))
    if (other := n.get(3)) is not None:
        y = n.call(torch.add, y, other)
    name = n.attr("activation", "")
    return activated(n, y, name, list(n.attr("activation_params", []))) if name else y


def _spatial_defaults(n: OnnxNode) -> None:
    """The operators of this domain have no schema that would say what is not given."""
    n.assume(auto_pad="NOTSET", group=1)


@reads("FusedGemm", domain=CONTRIB)
def fused_gemm(n: OnnxNode) -> Value:
    n.assume(alpha=1.0, beta=1.0, transA=0, transB=0)
    name = n.attr("activation", "")
    numbers = [n.attr(k, None) for k in ("activation_alpha", "activation_beta", "activation_gamma")]
    y = gemm(n)
    return activated(n, y, name, [v for v in numbers if v is not None]) if name else y


@reads("FusedMatMul", "TransposeMatMul", domain=CONTRIB)
def fused_matmul(n: OnnxNode) -> Value:
    if n.attr("transBatchA", 0) or n.attr("transBatchB", 0):
        raise Unsupported("it moves its batch axes")
    a, b = n[0], n[1]
    if n.attr("transA", 0):
        a = n.call(torch.transpose, a, -2, -1)
    if n.attr("transB", 0):
        b = n.call(torch.transpose, b, -2, -1)
        b = Value(b.kind, b.tensor, b.node, n[1].name)
    y, alpha = matrices(n, a, b), n.attr("alpha", 1.0)
    return y if alpha == 1 else n.call(torch.mul, y, alpha)


@reads("SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=CONTRIB)
def skip_layer_norm(n: OnnxNode) -> Outputs:
    """A sum of two tensors, and its normalisation; the sum is the fourth output."""
    simple = n.operator.startswith("SkipSimplified")
    total = n.call(torch.add, n[0], n[1])
    bias = n.get(3 if simple else 4)
    if bias is not None:
        total = n.call(torch.add, total, bias)
    eps = n.attr("epsilon", 1e-12)
    last = total.rank - 1
    y = _rms(n, total, n[2], eps) if simple else normalized(n, total, n[2], n.get(3), last, eps)
    return Outputs((y, None, None, total))


def _rms(n: OnnxNode, x: Value, scale: Value, eps: float) -> Value:
    shape = [x.shape[-1]]
    if scale.known:
        return n.layer(nn.RMSNorm(shape, eps, device="meta"), x, weight=scale)
    return n.call(F.rms_norm, x, shape, scale, eps)


@reads("EmbedLayerNormalization", domain=CONTRIB)
def embed_layer_norm(n: OnnxNode) -> Outputs:
    """The sum of embeddings of words, positions and segments, normalised."""
    words, segments = n[0], n.get(1)
    n.ignore("mask_index_type")
    length = words.shape[-1]

    def looked_up(index: Value, table: Value) -> Value:
        index = n.call("to", index, torch.int64, kind=TensorProto.INT64)
        rows, size = table.shape
        embedding = nn.Embedding(rows, size, device="meta")
        return n.layer(embedding, index, weight=table, kind=table.kind)

    total = looked_up(words, n[2])
    places = n.get(8)
    table = n[3]
    here = looked_up(places, table) if places is not None else n.call(torch.narrow, table, 0, 0, length)
    total = n.call(torch.add, total, here)
    if segments is not None and n.get(4) is not None:
        total = n.call(torch.add, total, looked_up(segments, n[4]))
    y = normalized(n, total, n[5], n[6], total.rank - 1, n.attr("epsilon", 1e-12))
    if n.get(7) is not None and n.wanted[1:2] == (True,):
        raise Unsupported("its mask index is read")
    return Outputs((y, None, total))


@reads("Gelu", "BiasGelu", "FastGelu", "QuickGelu", domain=CONTRIB)
def gelu(n: OnnxNode) -> Value:
    x = n[0]
    if len(n) > 1 and (bias := n.get(1)) is not None:
        x = n.call(torch.add, x, bias)
    if n.operator == "QuickGelu":
        return n.call(torch.mul, x, n.call(torch.sigmoid, n.call(torch.mul, x, n.attr("alpha", 1.702))))
    return n.layer(nn.GELU("tanh" if n.operator == "FastGelu" else "none"), x)


@reads("BiasAdd", domain=CONTRIB)
def bias_add(n: OnnxNode) -> Value:
    return n.call(torch.add, n.call(torch.add, n[0], n[1]), n[2])


@reads("BiasSoftmax", domain=CONTRIB)
def bias_softmax(n: OnnxNode) -> Value:
    n.ignore("is_inner_broadcast")
    y = n.call(torch.add, n[0], n[1])
    return n.layer(nn.Softmax(n.place(n.attr("axis", 1), y.rank)), y)


@reads("MultiHeadAttention", domain=CONTRIB)
def multi_head_attention(n: OnnxNode) -> Outputs:
    """(N, length, heads * size) each."""
    q, k, v = n[0], n.get(1), n.get(2)
    if k is None or v is None:
        raise Unsupported("its queries, keys and values are packed")
    heads = n.attr("num_heads")
    if (bias := n.get(3)) is not None:
        sizes = [q.shape[-1], k.shape[-1], v.shape[-1]]
        parts = [n.call(torch.narrow, bias, 0, sum(sizes[:i]), s) for i, s in enumerate(sizes)]
        q, k, v = (n.call(torch.add, x, part) for x, part in zip((q, k, v), parts, strict=True))
    if len(n) > 4 and n.get(4) is not None:
        raise Unsupported("it has a padding mask")
    q, k, v = (split_heads(n, x, heads) if x.rank == 3 else x for x in (q, k, v))
    past_key, past_value = n.get(6), n.get(7)
    if past_key is not None and past_value is not None:
        k, v = n.call(torch.cat, [past_key, k], 2), n.call(torch.cat, [past_value, v], 2)
    y = _attended(n, q, k, v, n.get(5), n.attr("scale", 0.0), bool(n.attr("unidirectional", 0)))
    n.ignore("mask_filter_value")
    return Outputs((merge_heads(n, y), k, v))


def _attended(n: OnnxNode, q: Value, k: Value, v: Value, bias: Value | None, scale: float, causal: bool) -> Value:
    scores = n.call(torch.matmul, q, n.call(torch.transpose, k, 2, 3))
    scores = n.call(torch.mul, scores, scale or 1 / math.sqrt(q.shape[3]))
    if bias is not None:
        scores = n.call(torch.add, scores, bias)
    if causal:
        queries, keys = q.shape[2], k.shape[2]
        ahead = torch.arange(keys) > torch.arange(queries).reshape(-1, 1) + keys - queries
        mask = torch.zeros(queries, keys).masked_fill(ahead, -math.inf)
        scores = n.call(torch.add, scores, n.constant(mask, TensorProto.FLOAT))
    return n.call(torch.matmul, n.layer(nn.Softmax(-1), scores), v)


@reads("Attention", domain=CONTRIB)
def attention(n: OnnxNode) -> Value:
    """Queries, keys and values from one product."""
    x, weight, bias = n[0], n[1], n.get(2)
    heads = n.attr("num_heads")
    sizes = list(n.attr("qkv_hidden_sizes", None) or [weight.shape[1] // 3] * 3)
    for place, what in ((3, "a mask"), (4, "a past")):
        if len(n) > place and n.get(place) is not None:
            raise Unsupported(f"it has {what}")
    if n.attr("do_rotary", 0):
        raise Unsupported("it turns positions")
    y = matrices(n, x, weight)
    if bias is not None:
        y = n.call(torch.add, y, bias)
    q, k, v = (split_heads(n, n.call(torch.narrow, y, 2, sum(sizes[:i]), size), heads) for i, size in enumerate(sizes))
    extra = n.get(5)
    n.ignore("mask_filter_value")
    causal = bool(n.attr("unidirectional", 0))
    return merge_heads(n, _attended(n, q, k, v, extra, n.attr("scale", 0.0), causal))


@reads("RotaryEmbedding", domain=CONTRIB)
def rotary(n: OnnxNode) -> Value:
    x, positions, cosines, sines = n[0], n[1], n[2], n[3]
    n.ignore("scale", "is_packed_batching")
    part, heads = n.attr("rotary_embedding_dim", 0), n.attr("num_heads", 0)
    flat = x.rank == 3
    if flat:
        x = split_heads(n, x, heads or x.shape[2] // (2 * cosines.shape[1]))
    if positions.shape == (1,):
        steps = n.constant(torch.arange(x.shape[2]).reshape(1, -1), TensorProto.INT64)
        positions = n.call(torch.add, steps, positions)
    y = turned(n, x, cosines, sines, positions, part, bool(n.attr("interleaved", 0)))
    return merge_heads(n, y) if flat else y


# Quantised


@reads("QLinearAdd", "QLinearMul", domain=CONTRIB)
def qlinear_binary(n: OnnxNode) -> Value:
    a, b = dequantise(n, n[0], n[1], n.get(2)), dequantise(n, n[3], n[4], n.get(5))
    y = n.call(torch.add if n.operator == "QLinearAdd" else torch.mul, operand(n, a, b) if b.known else a, b)
    return quantise(n, y, n[6], n.get(7), n[0].kind)


@reads("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax", domain=CONTRIB)
def qlinear_unary(n: OnnxNode) -> Value:
    x = dequantise(n, n[0], n[1], n.get(2))
    if n.operator == "QLinearSigmoid":
        y = n.layer(nn.Sigmoid(), x)
    elif n.operator == "QLinearLeakyRelu":
        y = n.layer(nn.LeakyReLU(n.attr("alpha", 0.01)), x)
    else:
        opset = n.attr("opset", 13)
        axis = n.place(n.attr("axis", -1), x.rank)
        if opset < 13 and axis != x.rank - 1:
            raise Unsupported("before opset 13 it runs over several axes at once")
        y = n.layer(nn.Softmax(axis), x)
    return quantise(n, y, n[3], n.get(4), n[0].kind)


@reads("QLinearGlobalAveragePool", domain=CONTRIB)
def qlinear_global_average(n: OnnxNode) -> Value:
    x = dequantise(n, n[0], n[1], n.get(2))
    axes = list(range(1, x.rank - 1)) if n.attr("channels_last", 0) else list(range(2, x.rank))
    y = n.layer(nn.AdaptiveAvgPool2d(1), x) if axes == [2, 3] else n.call(torch.mean, x, axes, True)
    return quantise(n, y, n[3], n.get(4), n[0].kind)


@reads("QLinearAveragePool", domain=CONTRIB)
def qlinear_average(n: OnnxNode) -> Value:
    if n.attr("channels_last", 0) or n.attr("ceil_mode", 0) or n.rank() != 4:
        raise Unsupported("it has its channels last, ceil_mode or other than two spatial axes")
    n.assume(auto_pad="NOTSET")
    x = dequantise(n, n[0], n[1], n.get(2))
    kernel, stride = per_axis(n, "kernel_shape", 2), per_axis(n, "strides", 2)
    before, behind = pads(n, x.shape[2:], kernel, stride, [1, 1])
    counted = bool(n.attr("count_include_pad", 0))
    if before != behind:
        if not counted:
            raise Unsupported("it has uneven pads that are not counted")
        x, before = padded(n, x, before, behind), [0, 0]
    y = n.layer(_AVERAGE(tuple(kernel), tuple(stride), tuple(before), count_include_pad=counted), x)
    return quantise(n, y, n[3], n.get(4), n[0].kind)


@reads("QLinearConcat", domain=CONTRIB)
def qlinear_concat(n: OnnxNode) -> Value:
    parts = [dequantise(n, n[i], n[i + 1], n.get(i + 2)) for i in range(2, len(n), 3)]
    return quantise(n, n.call(torch.cat, parts, n.attr("axis")), n[0], n.get(1), n[2].kind)


@reads("QGemm", domain=CONTRIB)
def qgemm(n: OnnxNode) -> Value:
    """Real numbers where there is no scale of an output."""
    if n.attr("transA", 0):
        raise Unsupported("its input is transposed (transA=1)")
    axis = 0 if n.attr("transB", 0) else 1
    a = dequantise(n, n[0], n[1], n.get(2))
    scale = along(n, n[4], n[3], axis)
    zero = n.get(5)
    b = dequantise(n, n[3], scale, None if zero is None else along(n, zero, n[3], axis))
    if axis == 0:
        b = n.call(torch.t, b)
    y = matrices(n, a, Value(b.kind, b.tensor, b.node, n[3].name))
    if (bias := n.get(6)) is not None:
        wide = n.call(torch.mul, n.call(torch.reshape, n[4], (-1,)), n[1])
        y = n.call(torch.add, y, n.call(torch.mul, real(n, bias), wide))
    if (alpha := n.attr("alpha", 1.0)) != 1:  # of the sum, as ONNX Runtime has it
        y = n.call(torch.mul, y, alpha)
    if (out := n.get(7)) is None:
        return y
    return quantise(n, y, out, n.get(8), n[8].kind if n.get(8) is not None else n[0].kind)


@reads("MatMulIntegerToFloat", domain=CONTRIB)
def matmul_to_float(n: OnnxNode) -> Value:
    """A product of quantised matrices as real numbers."""
    a = dequantise(n, n[0], n[2], n.get(4))
    b_scale, b_zero = n[3], n.get(5)
    last = n.rank(1) - 1
    b = dequantise(n, n[1], along(n, b_scale, n[1], last), None if b_zero is None else along(n, b_zero, n[1], last))
    y = matrices(n, a, Value(b.kind, b.tensor, b.node, n[1].name))
    return y if (bias := n.get(6)) is None else n.call(torch.add, y, bias)


@reads("MatMulNBits", domain=CONTRIB)
def matmul_bits(n: OnnxNode) -> Value:
    """A product with a weight of 4 or 8 bits in blocks along its inputs."""
    x, packed = n[0], n.known(1, "weight")
    inputs, outputs, bits, block = (n.attr(k) for k in ("K", "N", "bits", "block_size"))
    n.ignore("accuracy_level")
    scales = n.known(2, "scales").reshape(outputs, -1)
    if bits not in (4, 8) or n.get(4) is not None:
        raise Unsupported(f"its weight has {bits} bits, or an order of its own")
    blocks = -(-inputs // block)

    def unpacked(tensor: torch.Tensor, count: int) -> torch.Tensor:
        flat = tensor.reshape(outputs, -1).to(torch.int32)
        if bits == 4:
            flat = torch.stack([flat & 15, flat >> 4], -1).reshape(outputs, -1)
        return flat[:, :count].float()

    weight = unpacked(packed, blocks * block).reshape(outputs, blocks, block)
    zeros = n.maybe_known(3, "zero points")
    if zeros is None:
        zero = torch.full((outputs, blocks), float(2 ** (bits - 1)))
    else:
        zero = zeros.reshape(outputs, blocks) if zeros.is_floating_point() else unpacked(zeros, blocks)
    dense = ((weight - zero[..., None]) * scales[..., None]).reshape(outputs, -1)[:, :inputs]
    bias = n.get(5)
    layer = nn.Linear(inputs, outputs, bias is not None, device="meta")
    value = Value(TensorProto.FLOAT, dense.contiguous(), name=n[1].name)
    return n.layer(layer, x, weight=value, bias=bias)


@reads("NhwcMaxPool", domain=CONTRIB)
def nhwc_max_pool(n: OnnxNode) -> Value:
    n.assume(auto_pad="NOTSET")
    if n.attr("ceil_mode", 0):
        raise Unsupported("it has ceil_mode")
    kind = n[0].kind
    x = n.call(torch.permute, real(n, n[0]), (0, 3, 1, 2))
    kernel, stride, dilation = (per_axis(n, k, 2) for k in ("kernel_shape", "strides", "dilations"))
    before, behind = pads(n, x.shape[2:], kernel, stride, dilation)
    x = padded(n, x, before, behind, -math.inf)
    y = n.layer(nn.MaxPool2d(tuple(kernel), tuple(stride), 0, tuple(dilation)), x)
    y = n.call(torch.permute, y, (0, 2, 3, 1))
    return y if kind in FLOATS else integers(n, y, kind)


@reads("ExpandDims", domain=CONTRIB)
def expand_dims(n: OnnxNode) -> Value:
    axis = n.number(1, "axis")
    assert axis is not None
    return n.call(torch.unsqueeze, n[0], int(axis))
