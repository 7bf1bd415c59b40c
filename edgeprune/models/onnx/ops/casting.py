"""Conversions of element types.

Types of real numbers are all held in float32 (:mod:`edgeprune.models.onnx.types`). A conversion to float16, bfloat16 or
float64 changes nothing here: a runtime without that type would do the same, and results differ by its rounding alone.
Conversions to narrower types are refused.
"""

from __future__ import annotations

import torch
from onnx import TensorProto

from edgeprune.models.onnx.node import OnnxNode
from edgeprune.models.onnx.table import reads
from edgeprune.models.onnx.types import BITS, FLOATS, HELD, named, of_torch, wrapped
from edgeprune.models.onnx.values import Unsupported, Value

_SAME = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE})


def cast(n: OnnxNode, x: Value, kind: int) -> Value:
    """``x`` as another element type."""
    if kind not in HELD or (kind in FLOATS - _SAME and x.kind != kind):
        raise Unsupported(f"it converts to {named(kind)}")
    if kind == x.kind:
        return x
    if kind in FLOATS:
        if x.kind in FLOATS:
            if x.known:
                tensor = x.tensor.double() if kind == TensorProto.DOUBLE else x.tensor.float()
                return Value(kind, tensor, name=x.name)
            return Value(kind, x.tensor, x.node)
        dtype = torch.float64 if x.known and kind == TensorProto.DOUBLE else torch.float32
        return n.call("to", x, dtype, kind=kind)
    if kind == TensorProto.BOOL:
        return n.call(torch.ne, x, 0)
    if kind in BITS and BITS[kind] < 8 and x.kind in FLOATS:
        raise Unsupported(f"it converts to {named(kind)}")
    wide = of_torch(HELD[kind]) != kind
    y: Value = n.call("to", x, torch.int64 if wide else HELD[kind], kind=kind)
    if wide:
        y = n.call(wrapped, y, kind, kind=kind)
        y = n.call("to", y, HELD[kind], kind=kind) if HELD[kind] != torch.int64 else y
    return y


@reads("Cast")
def convert(n: OnnxNode) -> Value:
    n.ignore("saturate", "round_mode")
    return cast(n, n[0], n.attr("to"))


@reads("CastLike")
def convert_like(n: OnnxNode) -> Value:
    n.ignore("saturate", "round_mode")
    return cast(n, n[0], n[1].kind)


@reads("BitCast")
def bit_cast(n: OnnxNode) -> Value:
    """The same bits read as another type of the same size."""
    kind, x = n.attr("to"), n[0]
    if kind in BITS and x.kind in BITS and BITS[kind] == BITS[x.kind]:
        return cast(n, x, kind)  # modulo 2^bits is the same bits
    if any(of_torch(HELD[k]) != k for k in (kind, x.kind)) or x.tensor.element_size() != HELD[kind].itemsize:
        raise Unsupported(f"it reads {named(x.kind)} as {named(kind)}")
    return n.call("view", x, HELD[kind], kind=kind)
