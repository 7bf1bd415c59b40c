"""Small ONNX networks, written with onnx.helper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def value(name: str, shape: Sequence[int | str | None], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weights(rng: np.random.Generator, name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32) * 0.3, name)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)


def floats(name: str, *values: float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=np.float32), name)


def model(
    nodes: list[onnx.NodeProto],
    inits: Sequence[onnx.TensorProto] = (),
    *,
    shape: Sequence[int | str | None] = (1, 3, 16, 16),
    opset: int = 17,
    output: str = "y",
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "net", [value("x", shape)], [helper.make_empty_tensor_value_info(output)], inits)
    graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(proto)
    result = inferred.graph.output[0].type.tensor_type
    if not result.HasField("shape"):  # onnx.checker wants one; an operator it does not know has none
        result.shape.dim.add()
    return inferred


def save(proto: onnx.ModelProto, folder: Path, name: str = "net.onnx") -> Path:
    file = folder / name
    file.write_bytes(proto.SerializeToString())
    return file


def node(op: str, inputs: str, outputs: str, **attrs: Any) -> onnx.NodeProto:
    names = ["" if n == "_" else n for n in inputs.split()]
    return helper.make_node(op, names, outputs.split(), name=f"{op}_{outputs.split()[0]}", **attrs)


def conv_net() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    return model(
        [node("Conv", "x w b", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "y")],
        [weights(rng, "w", 8, 3, 3, 3), weights(rng, "b", 8)],
    )
