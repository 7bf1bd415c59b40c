"""Element types of ONNX, and the torch types that hold their values.

A program computes in float32 and every type of real numbers is held in it: float16 and bfloat16 lose nothing, float64
only where a value is computed (constants stay float64 until a computed value meets them). Integers that torch cannot
compute with are held in wider ones.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor

FLOATS: frozenset[int] = frozenset(
    {
        TensorProto.FLOAT,
        TensorProto.FLOAT16,
        TensorProto.BFLOAT16,
        TensorProto.DOUBLE,
        TensorProto.FLOAT8E4M3FN,
        TensorProto.FLOAT8E4M3FNUZ,
        TensorProto.FLOAT8E5M2,
        TensorProto.FLOAT8E5M2FNUZ,
        TensorProto.FLOAT8E8M0,
        TensorProto.FLOAT4E2M1,
    }
)
HELD: dict[int, torch.dtype] = {
    **dict.fromkeys(FLOATS, torch.float32),
    TensorProto.BOOL: torch.bool,
    TensorProto.INT8: torch.int8,
    TensorProto.UINT8: torch.uint8,
    TensorProto.INT16: torch.int16,
    TensorProto.UINT16: torch.int32,
    TensorProto.INT32: torch.int32,
    TensorProto.UINT32: torch.int64,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT64: torch.int64,
    TensorProto.INT4: torch.int8,
    TensorProto.UINT4: torch.uint8,
    TensorProto.INT2: torch.int8,
    TensorProto.UINT2: torch.uint8,
}
"""Element type of ONNX -> torch type of computed values."""
OWN: dict[int, str] = {TensorProto.FLOAT16: "float16", TensorProto.DOUBLE: "float64"}
"""Element types that are held in another, and that a program takes and gives as they are."""
BITS: dict[int, int] = {
    TensorProto.INT2: 2,
    TensorProto.UINT2: 2,
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
    TensorProto.INT8: 8,
    TensorProto.UINT8: 8,
    TensorProto.INT16: 16,
    TensorProto.UINT16: 16,
    TensorProto.INT32: 32,
    TensorProto.UINT32: 32,
    TensorProto.INT64: 64,
    TensorProto.UINT64: 64,
}
"""Of integers."""
UNSIGNED = frozenset(
    {
        TensorProto.UINT2,
        TensorProto.UINT4,
        TensorProto.UINT8,
        TensorProto.UINT16,
        TensorProto.UINT32,
        TensorProto.UINT64,
    }
)
_OF_TORCH: dict[torch.dtype, int] = {
    torch.float32: TensorProto.FLOAT,
    torch.float64: TensorProto.DOUBLE,
    torch.bool: TensorProto.BOOL,
    torch.int8: TensorProto.INT8,
    torch.uint8: TensorProto.UINT8,
    torch.int16: TensorProto.INT16,
    torch.int32: TensorProto.INT32,
    torch.int64: TensorProto.INT64,
}
_NARROW = {np.dtype(d) for d in (np.float16, ml_dtypes.bfloat16, ml_dtypes.float4_e2m1fn)} | {
    np.dtype(d)
    for d in (
        ml_dtypes.float8_e4m3fn,
        ml_dtypes.float8_e4m3fnuz,
        ml_dtypes.float8_e5m2,
        ml_dtypes.float8_e5m2fnuz,
        ml_dtypes.float8_e8m0fnu,
    )
}


def named(kind: int) -> str:
    """``FLOAT``, ``INT64``: as ONNX calls the element type."""
    return str(TensorProto.DataType.Name(kind))


def bounds(kind: int) -> tuple[int, int]:
    """The smallest and the largest integer of an element type."""
    bits = BITS[kind]
    return (0, 2**bits - 1) if kind in UNSIGNED else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def of_torch(dtype: torch.dtype) -> int:
    """The element type whose values a torch type holds by itself."""
    return _OF_TORCH[dtype]


def held(array: np.ndarray, kind: int) -> Tensor:
    """An array of an element type as the tensor that holds it; float64 stays. Shares memory where it can.

    Raises:
        KeyError: strings, complex numbers.
        OverflowError: a uint64 that int64 does not hold.
    """
    if kind == TensorProto.DOUBLE:
        return torch.from_numpy(np.array(array, copy=not array.flags.writeable))
    dtype = HELD[kind]
    if kind == TensorProto.UINT64 and array.size and array.max() > np.uint64(2**63 - 1):
        raise OverflowError("a uint64 beyond 2^63")
    if array.dtype in _NARROW:
        array = array.astype(np.float32)
    wanted = {torch.bool: np.bool_}.get(dtype) or np.dtype(str(dtype).removeprefix("torch."))
    array = np.ascontiguousarray(array).reshape(array.shape)
    array = array.astype(wanted, copy=not array.flags.writeable)
    return torch.from_numpy(array)


def wrapped(x: Tensor, kind: int) -> Tensor:
    """Integers modulo 2^bits, as an element type that is held in a wider one has them."""
    if kind not in BITS or BITS[kind] == 64 or of_torch(x.dtype) == kind:
        return x
    bits = BITS[kind]
    low = x.bitwise_and(2**bits - 1)
    return low if kind in UNSIGNED else torch.where(low >= 2 ** (bits - 1), low - 2**bits, low)
