from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnx_build import conv_net, floats, ints, model, node, save, value, weights
from torch import nn

from edgeprune.errors import ModelLoadError, UnsupportedOperatorError
from edgeprune.models.loading import load_model

R = np.random.default_rng(0)


def unlike_torch_batch_norm() -> list[onnx.TensorProto]:
    positive = onnx.numpy_helper.from_array(np.linspace(0.5, 2, 3, dtype=np.float32), "var")
    return [weights(R, "scale", 3), weights(R, "shift", 3), weights(R, "mean", 3), positive]


CASES: dict[str, onnx.ModelProto] = {
    "conv": conv_net(),
    "conv grouped, strided, dilated": model(
        [node("Conv", "x w", "y", group=3, strides=[2, 1], dilations=[1, 2], pads=[1, 2, 1, 2])],
        [weights(R, "w", 6, 1, 3, 3)],
    ),
    "conv with uneven pads": model([node("Conv", "x w", "y", pads=[0, 1, 2, 3])], [weights(R, "w", 4, 3, 3, 3)]),
    "conv same upper": model(
        [node("Conv", "x w", "y", auto_pad="SAME_UPPER", strides=[2, 2])], [weights(R, "w", 4, 3, 3, 3)]
    ),
    "conv same lower": model(
        [node("Conv", "x w", "y", auto_pad="SAME_LOWER", strides=[2, 2])], [weights(R, "w", 4, 3, 3, 3)]
    ),
    "conv valid": model([node("Conv", "x w", "y", auto_pad="VALID")], [weights(R, "w", 4, 3, 5, 3)]),
    "batch norm": model(
        [node("BatchNormalization", "x scale shift mean var", "y", epsilon=1e-2)], unlike_torch_batch_norm()
    ),
    "relu": model([node("Relu", "x", "y")]),
    "leaky relu": model([node("LeakyRelu", "x", "y", alpha=0.2)]),
    "clip 0..6": model(
        [node("Clip", "x lo hi", "y")],
        [onnx.numpy_helper.from_array(np.float32(v), n) for n, v in (("lo", 0), ("hi", 6))],
    ),
    "clip without low": model([node("Clip", "x _ hi", "y")], [onnx.numpy_helper.from_array(np.float32(0.5), "hi")]),
    "clip without high": model([node("Clip", "x lo", "y")], [onnx.numpy_helper.from_array(np.float32(0.0), "lo")]),
    "clip with attributes": model([node("Clip", "x", "y", min=-0.5, max=0.7)], opset=9),
    "hard swish": model([node("HardSwish", "x", "y")]),
    "hard sigmoid": model([node("HardSigmoid", "x", "y")]),
    "hard sigmoid of torch": model([node("HardSigmoid", "x", "y", alpha=1 / 6)]),
    "sigmoid, tanh": model([node("Sigmoid", "x", "s"), node("Tanh", "s", "y")]),
    "arithmetic": model(
        [
            node("Add", "x x", "a"),
            node("Mul", "a c", "b"),
            node("Sub", "c b", "d"),
            node("Div", "d two", "y"),
        ],
        [weights(R, "c", 1, 3, 1, 1), floats("two", 2.0)],
    ),
    "max pool": model([node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])]),
    "max pool, ceil": model([node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)]),
    "max pool, uneven": model([node("MaxPool", "x", "y", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1])]),
    "average pool": model([node("AveragePool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])]),
    "average pool, pads counted": model(
        [node("AveragePool", "x", "y", kernel_shape=[3, 3], pads=[0, 0, 1, 2], count_include_pad=1)]
    ),
    "global average pool, flatten, gemm": model(
        [
            node("GlobalAveragePool", "x", "g"),
            node("Flatten", "g", "f"),
            node("Gemm", "f w b", "y", transB=1, alpha=0.5, beta=2.0),
        ],
        [weights(R, "w", 5, 3), weights(R, "b", 5)],
    ),
    "gemm, weight not transposed": model(
        [node("Flatten", "x", "f"), node("Gemm", "f w", "y")], [weights(R, "w", 768, 5)]
    ),
    "matmul and bias": model(
        [node("Reshape", "x s", "f"), node("MatMul", "f w", "m"), node("Add", "m b", "y")],
        [ints("s", 0, -1), weights(R, "w", 768, 5), weights(R, "b", 5)],
    ),
    "reshape": model([node("Reshape", "x s", "y")], [ints("s", 1, 3, 4, 64)]),
    "reshape by computed shape": model(
        [
            node("Shape", "x", "shape"),
            node("Gather", "shape zero", "batch"),
            node("Unsqueeze", "batch axes", "b1"),
            node("Concat", "b1 minus", "s", axis=0),
            node("Reshape", "x s", "y"),
        ],
        [onnx.numpy_helper.from_array(np.int64(0), "zero"), ints("axes", 0), ints("minus", -1)],
    ),
    "concat": model([node("Concat", "x x c", "y", axis=-3)], [weights(R, "c", 1, 2, 16, 16)]),
    "resize, asymmetric floor": model(
        [node("Resize", "x _ s", "y", coordinate_transformation_mode="asymmetric", nearest_mode="floor")],
        [floats("s", 1, 1, 2, 3)],
    ),
    "resize, half pixel": model([node("Resize", "x _ s", "y")], [floats("s", 1, 1, 4, 2)]),
    "resize to a size": model([node("Resize", "x _ _ s", "y")], [ints("s", 1, 3, 48, 32)]),
    "upsample": model([node("Upsample", "x s", "y")], [floats("s", 1, 1, 2, 2)], opset=9),
    "constant, identity, dropout": model(
        [
            node("Constant", "", "k", value=weights(R, "k", 1, 3, 1, 1)),
            node("Mul", "x k", "m"),
            node("Identity", "m", "i"),
            node("Dropout", "i", "y"),
        ]
    ),
    "reduce mean, axes in an attribute": model([node("ReduceMean", "x", "y", axes=[2, 3], keepdims=0)]),
    "reduce mean, axes in an input": model([node("ReduceMean", "x a", "y")], [ints("a", -2, -1)], opset=18),
    "softmax": model([node("Softmax", "x", "y", axis=1)]),
    "softmax before opset 13": model([node("Flatten", "x", "f"), node("Softmax", "f", "y")], opset=11),
    "transpose": model([node("Transpose", "x", "y", perm=[0, 2, 3, 1])]),
    "nodes without names, names that clash": model(
        [
            helper.make_node("Relu", ["x"], ["a"], name="keys"),
            helper.make_node("Relu", ["a"], ["b"], name="/block/act"),
            helper.make_node("Relu", ["b"], ["c"]),
            helper.make_node("Sigmoid", ["c"], ["y"], name="block_act"),
        ]
    ),
}


def reference(file: Path, x: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    result: np.ndarray = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
    return result


@pytest.mark.parametrize("case", list(CASES))
def test_agrees_with_onnx_runtime(tmp_path: Path, case: str) -> None:
    file = save(CASES[case], tmp_path)
    loaded = load_model(str(file))
    (x,) = loaded.example_inputs
    with torch.no_grad():
        ours = loaded.module(3 * x).numpy()
    theirs = reference(file, 3 * x)
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def small_network() -> onnx.ModelProto:
    """Residual, depthwise, squeeze-and-excite, batch norm, classifier."""
    rng = np.random.default_rng(1)
    inits = [weights(rng, "w0", 8, 3, 3, 3), weights(rng, "w1", 8, 1, 3, 3), weights(rng, "w2", 8, 8, 1, 1)]
    inits += [weights(rng, n, 8) for n in ("scale", "shift", "mean")]
    inits += [floats("var", *[0.5 + i / 4 for i in range(8)]), weights(rng, "fc", 10, 8), weights(rng, "fb", 10)]
    return model(
        [
            node("Conv", "x w0", "a", pads=[1, 1, 1, 1]),
            node("BatchNormalization", "a scale shift mean var", "n"),
            node("Relu", "n", "r"),
            node("Conv", "r w1", "d", pads=[1, 1, 1, 1], group=8),
            node("GlobalAveragePool", "d", "g"),
            node("Conv", "g w2", "e"),
            node("HardSigmoid", "e", "h"),
            node("Mul", "d h", "s"),
            node("Add", "s r", "t"),
            node("GlobalAveragePool", "t", "p"),
            node("Flatten", "p", "f"),
            node("Gemm", "f fc fb", "y", transB=1),
        ],
        inits,
        shape=("batch", 3, 16, 16),
    )


def test_a_network_exports_trains_and_has_named_layers(tmp_path: Path) -> None:
    file = save(small_network(), tmp_path)
    loaded = load_model(str(file))
    (x,) = loaded.example_inputs
    assert x.shape == (1, 3, 16, 16), "an open batch counts as 1"
    exported = torch.export.export(loaded.module, loaded.example_inputs)
    with torch.no_grad():
        np.testing.assert_allclose(exported.module()(x).numpy(), reference(file, x), rtol=1e-4, atol=1e-4)
    assert tuple(loaded.module.get_parameter("layers.Conv_a.weight").shape) == (8, 3, 3, 3)
    norm = loaded.module.get_submodule("layers.BatchNormalization_n")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.momentum == pytest.approx(0.1)
    before = norm.running_mean.clone()
    loaded.module.train()(x.repeat(4, 1, 1, 1)).sum().backward()
    assert not torch.equal(norm.running_mean, before)
    assert all(p.grad is not None for p in loaded.module.parameters())


def spelled_out(*, used_twice: bool) -> onnx.ModelProto:
    """Convolution + bias, hard-swish in four nodes, convolution + hard-sigmoid of slope 0.2, matrix product + bias."""
    rng = np.random.default_rng(2)
    return model(
        [
            node("Conv", "x w0", "c"),
            node("Reshape", "b0 shape", "bias"),
            node("Add", "c bias", "a"),
            node("Add", "a three", "s"),
            node("Clip", "s zero six", "g"),
            node("Mul", "g a", "m"),
            node("Mul", "m sixth", "h") if used_twice else node("Div", "m six", "h"),
            node("Conv", "h w1", "d"),
            node("HardSigmoid", "d", "e"),
            *([node("Add", "c m", "cm"), node("Add", "cm d", "cmd"), node("Mul", "e cmd", "e2")] if used_twice else []),
            node("GlobalAveragePool", "e2" if used_twice else "e", "p"),
            node("Flatten", "p", "f"),
            node("MatMul", "f w2", "n"),
            node("Add", "b2 n", "y"),
        ],
        [
            weights(rng, "w0", 8, 3, 3, 3),
            weights(rng, "b0", 8),
            ints("shape", 1, 8, 1, 1),
            *(onnx.numpy_helper.from_array(np.float32(v), n) for n, v in (("zero", 0), ("three", 3), ("six", 6))),
            floats("sixth", 1 / 6),
            weights(rng, "w1", 8, 8, 1, 1),
            weights(rng, "w2", 8, 5),
            weights(rng, "b2", 5),
        ],
    )


@pytest.mark.parametrize("used_twice", [False, True])
def test_what_exporters_spell_out_becomes_one_layer(tmp_path: Path, used_twice: bool) -> None:
    file = save(spelled_out(used_twice=used_twice), tmp_path)
    loaded = load_model(str(file))
    (x,) = loaded.example_inputs
    with torch.no_grad():
        np.testing.assert_allclose(loaded.module(3 * x).numpy(), reference(file, 3 * x), rtol=1e-4, atol=1e-4)
    kinds = [type(m).__name__ for m in loaded.module.get_submodule("layers").children()]
    if used_twice:  # where an inner value is needed elsewhere, nothing may be merged
        assert kinds[:6] == ["Conv2d", "Binary", "Binary", "ReLU6", "Binary", "Binary"]
        assert kinds[-1] == "Linear"
    else:
        assert kinds == ["Conv2d", "Hardswish", "Conv2d", "Hardsigmoid", "AdaptiveAvgPool2d", "Flatten", "Linear"]
        assert not dict(loaded.module.named_buffers()), "constants that were merged are gone"


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [node("Add", "a b", "s"), node("Mul", "a b", "m")],
        "net",
        [value("a", (1, 2)), value("b", (1, 2))],
        [value("m", (1, 2)), value("s", (1, 2))],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    module = load_model(str(save(proto, tmp_path))).module
    product, total = module(torch.tensor([[2.0, 3.0]]), torch.tensor([[5.0, 7.0]]))
    assert product.tolist() == [[10.0, 21.0]]
    assert total.tolist() == [[7.0, 10.0]]


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([node("Einsum", "x", "y", equation="abcd->abcd")], ["Einsum_y", "Einsum", "ai.onnx", "opset 17"]),
        (
            [helper.make_node("Relu", ["x"], ["y"], "mine", domain="com.acme")],
            ["mine", "Relu", "com.acme", "opset 17"],
        ),
        ([node("Flatten", "x", "y", axis=2)], ["Flatten_y", "axis 2"]),
        ([node("MaxPool", "x", "y i", kernel_shape=[2, 2])], ["MaxPool_y", "more than one output"]),
        ([node("Relu", "x", "r"), node("Conv", "x r", "y")], ["Conv_y", "weight", "computed"]),
        ([node("Softmax", "x", "y")], None),
    ],
)
def test_fault_5_unsupported_operators_name_the_node(
    tmp_path: Path, nodes: list[onnx.NodeProto], words: list[str] | None
) -> None:
    file = save(model(nodes, domains=["com.acme"]), tmp_path)
    if words is None:
        load_model(str(file))  # the control: what is supported loads from the same frame
        return
    with pytest.raises(UnsupportedOperatorError) as caught:
        load_model(str(file))
    for word in words:
        assert word in caught.value.message
    assert {"node", "operator", "domain", "opset"} <= caught.value.details.keys()
    assert caught.value.hint


@pytest.mark.parametrize(
    ("mode", "rounding"), [("align_corners", "floor"), ("asymmetric", "ceil"), ("half_pixel", "floor")]
)
def test_resizes_that_shift_the_image_are_refused(tmp_path: Path, mode: str, rounding: str) -> None:
    resize = node("Resize", "x _ s", "y", coordinate_transformation_mode=mode, nearest_mode=rounding)
    with pytest.raises(UnsupportedOperatorError, match="sampling"):
        load_model(str(save(model([resize], [floats("s", 1, 1, 2, 2)]), tmp_path)))


def test_fault_5_open_dimensions_name_the_input_and_the_way_out(tmp_path: Path) -> None:
    file = str(save(model([node("Relu", "x", "y")], shape=("n", 3, "height", "width")), tmp_path))
    with pytest.raises(ModelLoadError, match="'x' has the open shape") as caught:
        load_model(file)
    assert "--input-shape" in caught.value.hint
    assert load_model(file, input_shape=(2, 3, 8, 8)).example_inputs[0].shape == (2, 3, 8, 8)
    with pytest.raises(ModelLoadError, match="not"):
        load_model(file, input_shape=(2, 4, 8, 8))


def test_integer_inputs_and_foreign_opsets_are_refused(tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "y")])
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT8
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT8
    with pytest.raises(ModelLoadError, match="INT8"):
        load_model(str(save(proto, tmp_path)))
    with pytest.raises(ModelLoadError, match="opset 6"):
        load_model(str(save(model([node("Relu", "x", "y")], opset=6), tmp_path)))


def test_layers_that_do_not_fit_name_the_node(tmp_path: Path) -> None:
    proto = model([node("Conv", "x w", "y")], [weights(R, "w", 4, 5, 3, 3)])
    with pytest.raises(ModelLoadError, match="Conv_y"):
        load_model(str(save(proto, tmp_path)))


def test_fault_4_absurd_intermediate_sizes_take_no_memory(tmp_path: Path) -> None:
    nodes = [node("Resize", "x _ s", "a"), node("Resize", "a _ s", "y")]
    with pytest.raises(ModelLoadError, match="elements"):
        load_model(str(save(model(nodes, [floats("s", 1, 1, 10_000, 10_000)]), tmp_path)))
    nodes = [node("MaxPool", "x", "y", kernel_shape=[2, 2], pads=[10**9, 0, 0, 0])]
    with pytest.raises(ModelLoadError, match="elements"):
        load_model(str(save(model(nodes), tmp_path)))
