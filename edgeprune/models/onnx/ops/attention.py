"""Attention and positions, spelled out in products that prune and compile."""

from __future__ import annotations

import math

import torch
from onnx import TensorProto
from torch import nn

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import Outputs, reads
from edgeprune.models.onnx.types import FLOATS
from edgeprune.models.onnx.values import Unsupported, Value

_FAR = 1e30
"""As a score, as good as infinity, and unlike it a number also where all scores are it."""


def split_heads(n: OnnxNode, x: Value, heads: int) -> Value:
    """(N, length, heads * size) as (N, heads, length, size)."""
    batch, length, wide = x.shape
    return n.call(torch.transpose, n.call(torch.reshape, x, (batch, length, heads, wide // heads)), 1, 2)


def merge_heads(n: OnnxNode, x: Value) -> Value:
    """(N, heads, length, size) as (N, length, heads * size)."""
    batch, heads, length, size = x.shape
    return n.call(torch.reshape, n.call(torch.transpose, x, 1, 2), (batch, length, heads * size))


def repeated_heads(n: OnnxNode, x: Value, heads: int) -> Value:
    """Each head of keys or values for as many heads of queries as share it."""
    batch, have, length, size = x.shape
    if have == heads:
        return x
    wide = n.call("expand", n.call(torch.unsqueeze, x, 2), (batch, have, heads // have, length, size))
    return n.call(torch.reshape, wide, (batch, heads, length, size))


@reads("Attention")
def attention(n: OnnxNode) -> Outputs:
    """Scaled dot products as opset 23 and 24 define them: (N, heads, length, size), or three axes with heads inside."""
    q, k, v = n[0], n[1], n[2]
    flat = q.rank == 3
    if flat:
        q_heads, kv_heads = n.attr("q_num_heads"), n.attr("kv_num_heads")
        q, k, v = (split_heads(n, x, h) for x, h in ((q, q_heads), (k, kv_heads), (v, kv_heads)))
    n.ignore("q_num_heads", "kv_num_heads", "softmax_precision")
    mask, past_key, past_value, filled = n.get(3), n.get(4), n.get(5), n.get(6)
    offset: int | Value = 0
    if past_key is not None and past_value is not None:
        offset = past_key.shape[2]
        k, v = n.call(torch.cat, [past_key, k], 2), n.call(torch.cat, [past_value, v], 2)
    elif filled is not None:
        offset = n.call(torch.reshape, n.call(torch.sub, filled, q.shape[2]), (-1, 1, 1, 1))
    present = (k, v)
    k, v = (repeated_heads(n, x, q.shape[1]) for x in (k, v))
    scale = n.attr("scale", None)
    scores = n.call(torch.matmul, q, n.call(torch.transpose, k, 2, 3))
    scores = n.call(torch.mul, scores, 1 / math.sqrt(q.shape[3]) if scale is None else scale)
    cap = n.attr("softcap", 0.0)
    if cap:
        scores = n.call(torch.mul, n.call(torch.tanh, n.call(torch.div, scores, cap)), cap)
    bias = _Bias(n, q.shape[2], k.shape[2], offset).of(mask, filled)
    biased = scores if bias is None else n.call(torch.add, scores, bias, kind=q.kind)
    weights = _weights(n, biased, bias)
    y = n.call(torch.matmul, weights, v)
    product = (scores, scores, biased, weights)[n.attr("qk_matmul_output_mode", 0)]
    return Outputs((merge_heads(n, y) if flat else y, *present, product))


def _weights(n: OnnxNode, biased: Value, bias: Value | None) -> Value:
    """A query that may look at nothing gets zeros, not NaN."""
    softmax = nn.Softmax(-1)
    if bias is None or (bias.known and not bool((bias.tensor.amax(-1) == -math.inf).any())):
        return n.layer(softmax, biased)
    hidden = n.call(torch.le, n.call(torch.amax, bias, -1, True), -_FAR)
    weights = n.layer(softmax, n.call(torch.clamp, biased, -_FAR, None))
    return n.call(torch.where, hidden, 0.0, weights, kind=weights.kind)


class _Bias:
    """What is added to the scores of queries and keys.

    Args:
        offset: how many keys lie before the first query; for each batch its own, as (N, 1, 1, 1).
    """

    def __init__(self, n: OnnxNode, queries: int, keys: int, offset: int | Value) -> None:
        n.build.spend(queries * keys)
        self.n, self.keys = n, n.constant(torch.arange(keys), TensorProto.INT64)
        rows = torch.arange(queries).reshape(-1, 1)
        if isinstance(offset, Value):
            self.rows = n.call(torch.add, n.constant(rows, TensorProto.INT64), offset)
        else:
            self.rows = n.constant(rows + offset, TensorProto.INT64)

    def of(self, mask: Value | None, filled: Value | None) -> Value | None:
        """The mask; no look ahead where the node is causal; windows; no keys that are not filled yet."""
        n, parts = self.n, [] if mask is None else [self._mask(mask)]
        if n.attr("is_causal"):
            parts.append(self._hidden(n.call(torch.gt, self.keys, self.rows)))
        left, right = n.attr("left_window_size", -1), n.attr("right_window_size", -1)
        if left >= 0:
            parts.append(self._hidden(n.call(torch.lt, self.keys, n.call(torch.sub, self.rows, left))))
        if right >= 0:
            parts.append(self._hidden(n.call(torch.gt, self.keys, n.call(torch.add, self.rows, right))))
        if filled is not None:
            limit = n.call(torch.reshape, filled, (-1, 1, 1, 1))
            parts.append(self._hidden(n.call(torch.ge, self.keys, limit)))
        bias = parts[0] if parts else None
        for part in parts[1:]:
            assert bias is not None
            bias = n.call(torch.add, bias, part)
        return bias

    def _hidden(self, where: Value) -> Value:
        return self.n.call(torch.where, where, -math.inf, 0.0)

    def _mask(self, mask: Value) -> Value:
        if mask.kind not in FLOATS:
            mask = self._hidden(self.n.call(torch.logical_not, mask))
        missing = self.keys.shape[0] - mask.shape[-1]
        return self.n.call(torch.nn.functional.pad, mask, [0, missing], "constant", -math.inf) if missing else mask


@reads("RotaryEmbedding")
def rotary(n: OnnxNode) -> Value:
    """Pairs of channels turned by angles of their position."""
    x, cosines, sines, positions = n[0], n[1], n[2], n.get(3)
    interleaved, part = bool(n.attr("interleaved")), n.attr("rotary_embedding_dim")
    flat = x.rank == 3
    if flat:
        heads = n.attr("num_heads")
        if not heads:
            raise Unsupported("its num_heads is missing")
        x = split_heads(n, x, heads)
    n.ignore("num_heads")
    return _merged(n, turned(n, x, cosines, sines, positions, part, interleaved), flat)


def _merged(n: OnnxNode, x: Value, flat: bool) -> Value:
    return merge_heads(n, x) if flat else x


def turned(
    n: OnnxNode, x: Value, cosines: Value, sines: Value, positions: Value | None, part: int, interleaved: bool
) -> Value:
    """(N, heads, length, size) with the first ``part`` channels turned; 0 means all."""
    _, _, _, size = x.shape
    part = part or size
    angles = []
    for table in (cosines, sines):
        if positions is not None:
            places = n.call(torch.reshape, positions, (-1,))
            table = n.call(torch.reshape, n.call(torch.index_select, table, 0, places), (*positions.shape, -1))
        table = n.call(torch.narrow, table, table.rank - 1, 0, part // 2) if table.shape[-1] != part // 2 else table
        angles.append(n.call(torch.unsqueeze, table, 1))
    head = n.call(torch.narrow, x, 3, 0, part) if part != size else x
    if interleaved:
        pairs = n.call(torch.reshape, head, (*head.shape[:3], part // 2, 2))
        a, b = (n.call(torch.select, pairs, 4, i) for i in range(2))
    else:
        a, b = (n.call(torch.narrow, head, 3, i * (part // 2), part // 2) for i in range(2))
    cos, sin = angles
    real = n.call(torch.sub, n.call(torch.mul, cos, a), n.call(torch.mul, sin, b), kind=x.kind)
    imaginary = n.call(torch.add, n.call(torch.mul, sin, a), n.call(torch.mul, cos, b), kind=x.kind)
    if interleaved:
        y = n.call(torch.reshape, n.call(torch.stack, [real, imaginary], 4), head.shape)
    else:
        y = n.call(torch.cat, [real, imaginary], 3)
    if part == size:
        return y
    return n.call(torch.cat, [y, n.call(torch.narrow, x, 3, part, size - part)], 3)
