"""ONNX files, read so that nothing outside their folder is touched and no claim of size is believed.

External data is the danger: a location may point anywhere (CVE-2022-25882, CVE-2024-27318 and their kin), also
through links. Every location is checked before any file is opened, and read here rather than by onnx.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, FunctionProto, GraphProto, ModelProto, TensorProto, helper

from edgeprune.errors import ModelLoadError
from edgeprune.models.onnx.types import BITS
from edgeprune.models.safety import refuse_pickle, regular_file

MAX_ELEMENTS = 2**28
"""The largest tensor that is believed: 1 GiB of float32."""


def read_onnx(file: Path) -> ModelProto:
    """A checked model with all its data inside; raises as :func:`open_onnx`."""
    model, weights = open_onnx(file)
    model.graph.initializer.extend(weights)
    return model


def open_onnx(file: Path) -> tuple[ModelProto, list[TensorProto]]:
    """A checked model without its initializers, and these: large ones are never copied.

    Raises:
        ModelLoadError: damaged, not ONNX, tensors whose data and shape disagree, or external data that leaves the
            model's folder, is reached through a link, or is cut short.
    """
    regular_file(file)
    refuse_pickle(file)
    try:
        return _opened(file)
    except UnicodeDecodeError as error:  # protobuf looks at text when it is asked for
        raise _refused(file, f"it holds a name that is no text: {error}") from error


def _opened(file: Path) -> tuple[ModelProto, list[TensorProto]]:
    try:
        model = onnx.load_model(file, load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise _refused(file, f"it is not ONNX, or is cut short: {error}") from error
    if not model.graph.node or not model.graph.output:
        raise _refused(file, "it has no graph")
    tensors = [*_tensors(model.graph), *(t for f in model.functions for t in _function_tensors(f))]
    for tensor in tensors:
        _check_shape(file, tensor)
    external = [t for t in tensors if t.data_location == TensorProto.EXTERNAL]
    located = [(t, *_located(file, t)) for t in external]
    for tensor, path, offset in located:
        _embed(file, tensor, path, offset)
    for tensor in tensors:
        _check_data(file, tensor)
    weights = _checked(file, model)
    # A message's memory is freed with the last part of it: what lives on must not hold the weights' bytes.
    lean = ModelProto()
    lean.CopyFrom(model)
    return lean, weights


def _checked(file: Path, model: ModelProto) -> list[TensorProto]:
    """Have onnx's checker look at all but the initializers, which it would copy, and take these out."""
    weights = list(model.graph.initializer)
    names = [t.name for t in weights]
    if twice := [name for name in names if names.count(name) > 1] if len(set(names)) < len(names) else []:
        raise _refused(file, f"two initializers have the name {twice[0]!r}")
    del model.graph.initializer[:]
    given = len(model.graph.input)
    known = {i.name for i in model.graph.input}
    for tensor in weights:
        if tensor.name not in known:  # to the checker it is an input
            model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
    _check(file, model)
    del model.graph.input[given:]
    return weights


def _check(file: Path, model: ModelProto) -> None:
    for output in model.graph.output:  # the checker wants a shape; nobody here reads it
        if output.type.WhichOneof("value") == "tensor_type":
            output.type.tensor_type.shape.SetInParent()
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise _refused(file, f"onnx.checker says: {str(error).strip()}") from error


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    for node in graph.node:
        for attribute in node.attribute:
            yield from _attribute_tensors(attribute)


def _function_tensors(function: FunctionProto) -> Iterator[TensorProto]:
    for attribute in (*function.attribute_proto, *(a for node in function.node for a in node.attribute)):
        yield from _attribute_tensors(attribute)


def _attribute_tensors(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    if attribute.HasField("g"):
        yield from _tensors(attribute.g)
    for graph in attribute.graphs:
        yield from _tensors(graph)


def _check_shape(file: Path, tensor: TensorProto) -> None:
    if any(d < 0 for d in tensor.dims) or math.prod(tensor.dims) > MAX_ELEMENTS:
        raise _refused(file, f"tensor {tensor.name!r} claims the shape {list(tensor.dims)}")
    if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == TensorProto.UNDEFINED:
        raise _refused(file, f"tensor {tensor.name!r} has the element type {tensor.data_type}, which does not exist")


def _bytes(tensor: TensorProto) -> int:
    """Of the tensor's data; types of less than 8 bits lie several in a byte, strings have no fixed size."""
    count: int = math.prod(tensor.dims)
    if tensor.data_type == TensorProto.STRING:
        raise ValueError("strings do not lie outside a file")
    bits = BITS.get(tensor.data_type, 4 if tensor.data_type == TensorProto.FLOAT4E2M1 else 0)
    bits = bits or 8 * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    return -(-count * bits // 8)


def _located(file: Path, tensor: TensorProto) -> tuple[Path, int]:
    """Where the data of an external tensor lies; nothing is opened."""
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    parts = PurePosixPath(location).parts
    if (
        not parts
        or location.startswith("/")
        or ".." in parts
        or "\\" in location
        or ":" in location
        or "\0" in location
    ):
        raise _refused(file, f"tensor {tensor.name!r} keeps its data at {location!r}, outside the model's folder")
    path = file.parent
    for i, part in enumerate(parts):
        path = path / part
        try:
            found = path.lstat()
        except OSError as error:
            raise _refused(file, f"tensor {tensor.name!r} keeps its data in {location!r}: {error.strerror}") from error
        if i + 1 < len(parts):
            plain = stat.S_ISDIR(found.st_mode)
        else:
            plain = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if not plain:
            raise _refused(file, f"tensor {tensor.name!r} keeps its data in {location!r}, which goes through a link")
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", _bytes(tensor)))
    except (ValueError, KeyError, TypeError) as error:
        raise _refused(file, f"tensor {tensor.name!r} has external data without a place: {error}") from error
    if length != _bytes(tensor) or offset < 0 or offset + length > found.st_size:
        raise _refused(
            file, f"tensor {tensor.name!r} needs bytes {offset} to {offset + length} of {location!r}, which is shorter"
        )
    return path, offset


def _embed(file: Path, tensor: TensorProto, path: Path, offset: int) -> None:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(_bytes(tensor))
    except OSError as error:
        raise _refused(file, f"its external data cannot be read: {error}") from error
    tensor.data_location = TensorProto.DEFAULT
    del tensor.external_data[:]


def _check_data(file: Path, tensor: TensorProto) -> None:
    if tensor.HasField("raw_data"):
        fits = len(tensor.raw_data) == _bytes(tensor)
    elif tensor.data_type == TensorProto.FLOAT:
        fits = len(tensor.float_data) == math.prod(tensor.dims)
    elif tensor.data_type == TensorProto.INT64:
        fits = len(tensor.int64_data) == math.prod(tensor.dims)
    else:
        fits = True  # onnx compares the rarer kinds itself, and they cannot be larger than the file
    if not fits:
        raise _refused(file, f"tensor {tensor.name!r} claims the shape {list(tensor.dims)}, its data has another size")


def _refused(file: Path, why: str) -> ModelLoadError:
    return ModelLoadError(f"{file} is refused: {why}", hint="export or copy the model again", file=str(file))
