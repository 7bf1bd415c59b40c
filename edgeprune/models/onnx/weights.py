"""Initializers of a file as values."""

from __future__ import annotations

import math

import torch
from onnx import SparseTensorProto, TensorProto, numpy_helper

from edgeprune.errors import ModelLoadError
from edgeprune.models.onnx.file import MAX_ELEMENTS
from edgeprune.models.onnx.types import FLOATS, HELD, held, named
from edgeprune.models.onnx.values import Value


def read_tensor(tensor: TensorProto, source: str) -> Value:
    """An initializer; its bytes leave the message.

    Raises:
        ModelLoadError: it holds strings, complex numbers or NaN, or not what it says.
    """
    kind = tensor.data_type
    if kind not in HELD:
        raise ModelLoadError(
            f"{source}: tensor {tensor.name!r} holds {named(kind)}, which networks do not compute with here",
            file=source,
            tensor=tensor.name,
        )
    try:
        value = Value(kind, held(numpy_helper.to_array(tensor), kind), name=tensor.name)
    except (OverflowError, ValueError, TypeError) as error:
        raise ModelLoadError(
            f"{source}: tensor {tensor.name!r} does not hold what it says: {error}", file=source
        ) from error
    if kind in FLOATS and value.tensor.isnan().any():
        raise ModelLoadError(
            f"{source}: tensor {tensor.name!r} holds NaN",
            hint="train or export the network again",
            file=source,
            tensor=tensor.name,
        )
    tensor.ClearField("raw_data")  # the file's bytes and the tensor never lie in memory both
    return value


def read_sparse(sparse: SparseTensorProto, source: str) -> Value:
    """As :func:`read_tensor`, of one that holds what is not zero."""
    kind = sparse.values.data_type
    if kind not in HELD:
        raise ModelLoadError(f"{source}: tensor {sparse.values.name!r} holds {named(kind)}", file=source)
    values = held(numpy_helper.to_array(sparse.values), kind)
    places = torch.from_numpy(numpy_helper.to_array(sparse.indices).copy())
    if math.prod(sparse.dims) > MAX_ELEMENTS:
        what = f"tensor {sparse.values.name!r} claims the shape {list(sparse.dims)}"
        raise ModelLoadError(f"{source}: {what}", file=source)
    flat = torch.zeros(math.prod(sparse.dims), dtype=values.dtype)
    if places.dim() == 2:
        strides = [math.prod(sparse.dims[i + 1 :]) for i in range(len(sparse.dims))]
        places = (places * torch.tensor(strides)).sum(1)
    if len(places) != len(values) or (len(places) and not 0 <= int(places.min()) <= int(places.max()) < len(flat)):
        raise ModelLoadError(f"{source}: tensor {sparse.values.name!r} has places outside its shape")
    flat[places] = values
    return Value(kind, flat.reshape(tuple(sparse.dims)), name=sparse.values.name)
