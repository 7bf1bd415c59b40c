"""Small ONNX networks, written with onnx.helper, and what ONNX Runtime says of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch.utils._pytree import tree_leaves

from edgeprune.models.onnx.load import OnnxNetwork, Port, load_onnx
from edgeprune.models.onnx.types import HELD, held


def value(name: str, shape: Sequence[int | str | None], kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def weights(rng: np.random.Generator, name: str, *shape: int) -> onnx.TensorProto:
    return tensor(name, rng.standard_normal(shape).astype(np.float32) * 0.3)


def tensor(name: str, array: Any) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(array), name)


def ints(name: str, *values: int) -> onnx.TensorProto:
    return tensor(name, np.array(values, dtype=np.int64))


def floats(name: str, *values: float) -> onnx.TensorProto:
    return tensor(name, np.array(values, dtype=np.float32))


def model(
    nodes: Sequence[onnx.NodeProto],
    inits: Sequence[onnx.TensorProto] = (),
    *,
    shape: Sequence[int | str | None] = (1, 3, 16, 16),
    kind: int = TensorProto.FLOAT,
    opset: int = 17,
    output: str = "y",
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A network of the input ``x``; ``output`` names one or several, whose types are inferred."""
    results = [helper.make_empty_tensor_value_info(name) for name in output.split()]
    graph = helper.make_graph(nodes, "net", [value("x", shape, kind)], results, inits)
    for result in results:
        result.type.tensor_type.elem_type = TensorProto.UNDEFINED
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8 if opset < 22 else 11)
    inferred = onnx.shape_inference.infer_shapes(proto)
    for result in inferred.graph.output:
        of_tensor = result.type.tensor_type
        if not of_tensor.elem_type:
            of_tensor.elem_type = TensorProto.FLOAT
        if not of_tensor.HasField("shape"):  # onnx.checker wants one; an operator it does not know has none
            of_tensor.shape.dim.add()
    return inferred


def save(proto: onnx.ModelProto, folder: Path, name: str = "net.onnx") -> Path:
    file = folder / name
    file.write_bytes(proto.SerializeToString())
    return file


def node(op: str, inputs: str, outputs: str, **attrs: Any) -> onnx.NodeProto:
    names = ["" if n == "_" else n for n in inputs.split()]
    outs = ["" if n == "_" else n for n in outputs.split()]
    return helper.make_node(op, names, outs, name=f"{op}_{outs[0]}", **attrs)


def conv_net() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    return model(
        [node("Conv", "x w b", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "y")],
        [weights(rng, "w", 8, 3, 3, 3), weights(rng, "b", 8)],
    )


def by_runtime(file: Path, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Outputs of the file in ONNX Runtime, which changes nothing in the graph."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    results: list[np.ndarray] = session.run(None, dict(zip(names, inputs, strict=True)))
    return results


def noise(port: Port) -> np.ndarray:
    """Numbers of about 3 of either sign, as the input's element type."""
    rng = np.random.default_rng(7)
    array = 3 * rng.standard_normal(port.shape)
    return np.asarray(array.astype(helper.tensor_dtype_to_np_dtype(port.kind)))


def agrees(file: Path, *, tolerance: float = 1e-4) -> OnnxNetwork:
    """The network that the file holds; all its outputs are those of ONNX Runtime, in value, shape and order."""
    network = load_onnx(file)
    inputs = [noise(port) for port in network.inputs]
    expected = by_runtime(file, inputs)
    with torch.no_grad():
        given = [held(x, p.kind).to(HELD[p.kind]) for x, p in zip(inputs, network.inputs, strict=True)]
        results = tree_leaves(network.module(*given))
    assert len(results) == len(expected)
    for result, right in zip(results, expected, strict=True):
        assert tuple(result.shape) == right.shape
        wide = right.astype(np.float64)
        np.testing.assert_allclose(result.detach().numpy().astype(np.float64), wide, rtol=tolerance, atol=tolerance)
    return network
