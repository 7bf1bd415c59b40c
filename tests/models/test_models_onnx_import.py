from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_build import agrees, by_runtime, conv_net, floats, ints, model, node, save, tensor, value, weights
from torch import nn

from edgeprune.errors import ModelLoadError, UnsupportedOperatorError
from edgeprune.models.loading import load_model
from edgeprune.models.onnx.load import load_onnx

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
    "einsum": model([node("Einsum", "x w", "y", equation="nchw, dc -> ndhw")], [weights(R, "w", 4, 3)]),
    "flatten before axis 2": model([node("Flatten", "x", "y", axis=2)]),
    "max pool, places unread": model([node("MaxPool", "x", "y i", kernel_shape=[2, 2])]),
    "max pool, places are an output": model(
        [node("MaxPool", "x", "y i", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], output="y i"
    ),
    "max pool, places counted by columns": model(
        [node("MaxPool", "x", "y i", kernel_shape=[2, 2], strides=[2, 2], storage_order=1)], output="y i"
    ),
    "convolution weight that is computed": model([node("Relu", "x", "r"), node("Conv", "x r", "y")]),
    "convolution weight that constants decide": model(
        [node("Mul", "w s", "ws"), node("Conv", "x ws", "y")], [weights(R, "w", 4, 3, 3, 3), floats("s", 0.5)]
    ),
    "opset 6": model([node("Relu", "x", "y")], opset=6),
    "integer input": model([node("Relu", "x", "y")], kind=TensorProto.INT8),
    "nodes without names, names that clash": model(
        [
            helper.make_node("Relu", ["x"], ["a"], name="keys"),
            helper.make_node("Relu", ["a"], ["b"], name="/block/act"),
            helper.make_node("Relu", ["b"], ["c"]),
            helper.make_node("Sigmoid", ["c"], ["y"], name="block_act"),
        ]
    ),
}


@pytest.mark.parametrize("case", list(CASES))
def test_agrees_with_onnx_runtime(tmp_path: Path, case: str) -> None:
    agrees(save(CASES[case], tmp_path))


@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("place", ["align_corners", "asymmetric", "half_pixel", "pytorch_half_pixel"])
def test_resizes_that_shift_the_image_agree(tmp_path: Path, place: str, rounding: str) -> None:
    options = {"coordinate_transformation_mode": place, "nearest_mode": rounding}
    scales = floats("s", 1, 1, 2, 1.5)
    agrees(save(model([node("Resize", "x _ s", "y", **options)], [scales]), tmp_path))


@pytest.mark.parametrize("place", ["align_corners", "asymmetric", "half_pixel", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resizes_by_a_scale_that_leaves_a_fraction_agree(tmp_path: Path, mode: str, place: str) -> None:
    """7 by 1.5 is 10 places. Torch and ONNX Runtime count 10 between the corners, onnx.reference 10.5."""
    resize = node("Resize", "x _ s", "y", mode=mode, coordinate_transformation_mode=place)
    agrees(save(model([resize], [floats("s", 1, 1, 1.5, 1.5)], shape=(1, 2, 7, 7)), tmp_path))


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
        np.testing.assert_allclose(exported.module()(x).numpy(), *by_runtime(file, [x.numpy()]), rtol=1e-4, atol=1e-4)
    assert tuple(loaded.module.get_parameter("Conv_a.weight").shape) == (8, 3, 3, 3)
    norm = loaded.module.get_submodule("BatchNormalization_n")
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


def test_what_exporters_spell_out_becomes_one_layer(tmp_path: Path) -> None:
    module = agrees(save(spelled_out(used_twice=False), tmp_path)).module
    layers = {name: type(layer).__name__ for name, layer in module.named_children()}
    assert sorted(layers.values()) == sorted(
        ["Conv2d", "Hardswish", "Conv2d", "Hardsigmoid", "AdaptiveAvgPool2d", "Flatten", "Linear"]
    )
    assert layers["Conv_c"] == layers["Conv_d"] == "Conv2d"
    assert {n.op for n in module.graph.nodes} == {"placeholder", "call_module", "output"}
    parameters = {"Conv_c.weight", "Conv_c.bias", "Conv_d.weight", "MatMul_n.weight", "MatMul_n.bias"}
    assert module.state_dict().keys() == parameters, "constants that were merged are gone"


def test_what_is_needed_elsewhere_is_not_merged(tmp_path: Path) -> None:
    module = agrees(save(spelled_out(used_twice=True), tmp_path)).module
    assert {type(m).__name__ for m in module.children()} == {
        "Conv2d",
        "ReLU6",
        "AdaptiveAvgPool2d",
        "Flatten",
        "Linear",
    }
    assert module.get_submodule("Conv_c").bias is None


def norm(last: str, *shape: int, axes: tuple[int, ...] = (-1,)) -> list[onnx.NodeProto]:
    """Layer normalisation of ``last``, in nine nodes, to ``y``."""
    return [
        node("ReduceMean", last, "mean", axes=axes),
        node("Sub", f"{last} mean", "d"),
        node("Pow", "d two", "square"),
        node("ReduceMean", "square", "variance", axes=axes),
        node("Add", "variance eps", "v"),
        node("Sqrt", "v", "deviation"),
        node("Div", "d deviation", "z"),
        node("Mul", "z gain", "g"),
        node("Add", "g shift", "y"),
    ]


NUMBERS = {"two": 2, "half": 0.5, "one": 1, "three": 3, "six": 6, "zero": 0, "eps": 1e-5, "root": 2**0.5, "odd": 1.5}
GELU = [node("Div", "x root", "a"), node("Erf", "a", "b"), node("Add", "b one", "c")]
SWISH = [node("Sigmoid", "x", "a")]
HARD = [node("Add", "x three", "a"), node("Clip", "a zero six", "b")]
REWRITTEN: dict[str, tuple[list[onnx.NodeProto], dict[str, tuple[int, ...]], set[str]]] = {
    "gelu": ([*GELU, node("Mul", "x c", "d"), node("Mul", "d half", "y")], {}, {"GELU"}),
    "gelu, halved first": ([*GELU, node("Mul", "x half", "d"), node("Mul", "d c", "y")], {}, {"GELU"}),
    "gelu, divided by 2": ([*GELU, node("Mul", "c x", "d"), node("Div", "d two", "y")], {}, {"GELU"}),
    "gelu without half": ([*GELU, node("Mul", "x c", "y")], {}, set()),
    "gelu of another root": ([*GELU, node("Mul", "x c", "d"), node("Mul", "d odd", "y")], {}, set()),
    "gelu of two tensors": (
        [*GELU, node("Neg", "x", "n"), node("Mul", "n c", "d"), node("Mul", "d half", "y")],
        {},
        set(),
    ),
    "gelu whose factors are read elsewhere": (
        [*GELU, node("Mul", "x c", "d"), node("Mul", "d half", "e"), node("Add", "e d", "f"), node("Add", "f c", "y")],
        {},
        set(),
    ),
    "swish": ([*SWISH, node("Mul", "a x", "y")], {}, {"SiLU"}),
    "swish of two tensors": ([*SWISH, node("Neg", "x", "n"), node("Mul", "a n", "y")], {}, set()),
    "swish whose gate is read elsewhere": ([*SWISH, node("Mul", "a x", "b"), node("Add", "a b", "y")], {}, set()),
    "mish": ([node("Softplus", "x", "a"), node("Tanh", "a", "b"), node("Mul", "x b", "y")], {}, {"Mish"}),
    "hard swish": ([*HARD, node("Mul", "b x", "c"), node("Div", "c six", "y")], {}, {"Hardswish"}),
    "hard swish of another divisor": ([*HARD, node("Mul", "b x", "c"), node("Div", "c three", "y")], {}, {"ReLU6"}),
    "hard swish by a gate": (
        [node("HardSigmoid", "x", "a", alpha=1 / 6), node("Mul", "a x", "y")],
        {},
        {"Hardswish"},
    ),
    "hard sigmoid": ([node("HardSigmoid", "x", "y", alpha=1 / 6)], {}, {"Hardsigmoid"}),
    "hard sigmoid of another slope": ([node("HardSigmoid", "x", "y", alpha=0.2)], {}, set()),
    "hard sigmoid of a shared convolution": (
        [node("Conv", "x w", "c"), node("HardSigmoid", "c", "h"), node("Mul", "c h", "m"), node("Add", "m c", "y")],
        {"w": (3, 3, 1, 1)},
        {"Conv2d"},
    ),
    "hard sigmoid of one of two convolutions of a weight": (
        [node("Conv", "x w", "c"), node("HardSigmoid", "c", "h"), node("Conv", "h w", "y", strides=[2, 2])],
        {"w": (3, 3, 1, 1)},
        {"Conv2d", "Hardsigmoid"},
    ),
    "layer norm": (norm("x"), {"gain": (16,), "shift": (16,)}, {"LayerNorm"}),
    "layer norm over three axes": (
        norm("x", axes=(1, 2, 3)),
        {"gain": (3, 16, 16), "shift": (3, 16, 16)},
        {"LayerNorm"},
    ),
    "layer norm over three axes with a gain for each place": (
        norm("x", axes=(1, 2, 3)),
        {"gain": (1, 16, 16), "shift": (1, 16, 16)},
        set(),
    ),
    "layer norm over three axes with a gain for each channel": (
        norm("x", axes=(1, 2, 3)),
        {"gain": (3, 1, 1), "shift": (3, 1, 1)},
        set(),
    ),
    "layer norm over the channels": (norm("x", axes=(1,)), {"gain": (3, 1, 1), "shift": (3, 1, 1)}, set()),
    "layer norm of a swish": (
        [*SWISH, node("Mul", "a x", "b"), *norm("b")],
        {"gain": (16,), "shift": (16,)},
        {"SiLU", "LayerNorm"},
    ),
    "layer norm of a gelu": (
        [*GELU, node("Mul", "x c", "h"), node("Mul", "h half", "b1"), *norm("b1")],
        {"gain": (16,), "shift": (16,)},
        {"GELU", "LayerNorm"},
    ),
    "bias of a convolution": (
        [node("Conv", "x w", "c"), node("Add", "b c", "y")],
        {"w": (16, 3, 1, 1), "b": (1, 16, 1, 1)},
        {"Conv2d"},
    ),
    "no bias: one number for each column": (
        [node("Conv", "x w", "c"), node("Add", "c b", "y")],
        {"w": (16, 3, 1, 1), "b": (16,)},
        {"Conv2d"},
    ),
    "bias of convolutions that share it": (
        [node("Conv", "x w", "c"), node("Add", "c b", "d"), node("Conv", "d w2", "e"), node("Add", "e b", "y")],
        {"w": (3, 3, 1, 1), "w2": (3, 3, 3, 3), "b": (3, 1, 1)},
        {"Conv2d"},
    ),
    "biases of a convolution that is called twice": (
        [node("Conv", "x w", "c"), node("Add", "c b", "d"), node("Conv", "d w", "e"), node("Add", "e b2", "y")],
        {"w": (3, 3, 1, 1), "b": (3, 1, 1), "b2": (3, 1, 1)},
        {"Conv2d"},
    ),
    "bias of a product of many rows": (
        [node("MatMul", "x w", "c"), node("Add", "c b", "y")],
        {"w": (16, 5), "b": (5,)},
        {"Linear"},
    ),
    "bias of a product, one for each row": (
        [node("MatMul", "x w", "c"), node("Add", "c b", "y")],
        {"w": (16, 16), "b": (16, 1)},
        {"Linear"},
    ),
}


@pytest.mark.parametrize("case", list(REWRITTEN))
def test_rewritten_layers_agree_and_leave_nothing_behind(tmp_path: Path, case: str) -> None:
    nodes, tensors, kinds = REWRITTEN[case]
    read = {name for n in nodes for name in n.input}
    inits = [weights(R, name, *shape) for name, shape in tensors.items()]
    inits += [tensor(name, np.float32(number)) for name, number in NUMBERS.items() if name in read]
    module = agrees(save(model(nodes, inits), tmp_path)).module
    assert {type(m).__name__ for m in module.children()} == kinds
    module(torch.randn(1, 3, 16, 16, requires_grad=True)).sum().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []
    assert len({p.data_ptr() for p in module.parameters()}) == len(list(module.parameters())), "memory of its own"


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
        ([helper.make_node("Relu", ["x"], ["y"], "mine", domain="com.acme")], ["mine", "Relu", "com.acme", "opset 1"]),
        ([node("Bernoulli", "x", "y")], ["Bernoulli_y", "Bernoulli", "ai.onnx", "opset 17", "operators"]),
        (
            [node("BatchNormalization", "x one one one one", "y m v", training_mode=1)],
            ["BatchNormalization_y", "training mode"],
        ),
        (
            [
                node("ReduceMax", "x", "m", keepdims=0),
                node("Cast", "m", "s", to=TensorProto.INT64),
                node("Reshape", "x s", "y"),
            ],
            ["Reshape_y", "shape", "computed"],
        ),
        (
            [helper.make_node("FusedConv", ["x", "w"], ["y"], "fused", domain="com.microsoft", made_up=1)],
            ["fused", "FusedConv", "com.microsoft", "'made_up'"],
        ),
        ([node("Softmax", "x", "y")], None),
    ],
)
def test_fault_5_unsupported_operators_name_the_node(
    tmp_path: Path, nodes: list[onnx.NodeProto], words: list[str] | None
) -> None:
    inits = [weights(R, "w", 4, 3, 3, 3), floats("one", 1, 1, 1)]
    file = save(model(nodes, inits, domains=["com.acme", "com.microsoft"]), tmp_path)
    if words is None:
        load_model(str(file))  # the control: what is supported loads from the same frame
        return
    with pytest.raises(UnsupportedOperatorError) as caught:
        load_model(str(file))
    for word in words:
        assert word in caught.value.message
    assert {"node", "operator", "domain", "opset"} <= caught.value.details.keys()
    assert caught.value.hint


def test_what_would_have_to_be_constant_names_the_inputs_behind_it(tmp_path: Path) -> None:
    proto = model([node("Reshape", "x s", "y")], [], shape=(1, 6), output="y")
    proto.graph.input.append(value("s", (2,), TensorProto.INT64))
    file = save(proto, tmp_path)
    with pytest.raises(UnsupportedOperatorError) as caught:
        load_onnx(file)
    assert caught.value.details["needs"] == ["s"]
    assert "'s'" in caught.value.hint
    network = load_onnx(file, fixed={"s": np.array([3, 2])})
    assert [p.name for p in network.inputs] == ["x"]
    assert network.module(torch.ones(1, 6)).shape == (3, 2)


def test_fault_5_open_dimensions_name_the_input_and_the_way_out(tmp_path: Path) -> None:
    file = str(save(model([node("Relu", "x", "y")], shape=("n", 3, "height", "width")), tmp_path))
    with pytest.raises(ModelLoadError, match="'x' has the open shape") as caught:
        load_model(file)
    assert "--input-shape" in caught.value.hint
    assert load_model(file, input_shape=(2, 3, 8, 8)).example_inputs[0].shape == (2, 3, 8, 8)
    with pytest.raises(ModelLoadError, match="not"):
        load_model(file, input_shape=(2, 4, 8, 8))


def test_opsets_that_are_not_there_yet_are_refused(tmp_path: Path) -> None:
    proto = model([node("Relu", "x", "y")])
    proto.opset_import[0].version = 2000
    with pytest.raises(ModelLoadError, match="2000"):
        load_model(str(save(proto, tmp_path)))


def test_layers_that_do_not_fit_name_the_node_and_torch_says_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    proto = model([node("MatMul", "x w", "y")], [weights(R, "w", 5, 3)])
    torch_log = logging.getLogger("torch._subclasses.fake_tensor")
    torch_log.addHandler(caplog.handler)
    try:
        with pytest.raises(ModelLoadError, match="MatMul_y"):
            load_model(str(save(proto, tmp_path)))
    finally:
        torch_log.removeHandler(caplog.handler)
    assert caplog.messages == []


def test_fault_4_absurd_intermediate_sizes_take_no_memory(tmp_path: Path) -> None:
    nodes = [node("Resize", "x _ s", "a"), node("Resize", "a _ s", "y")]
    with pytest.raises(ModelLoadError, match=r"Resize_a.*160000"):
        load_model(str(save(model(nodes, [floats("s", 1, 1, 10_000, 10_000)]), tmp_path)))
    nodes = [node("MaxPool", "x", "y", kernel_shape=[2, 2], pads=[10**9, 0, 0, 0])]
    with pytest.raises(ModelLoadError, match="elements"):
        load_model(str(save(model(nodes), tmp_path)))


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_a_dynamically_quantised_lstm_agrees_with_onnx_runtime(direction: str, tmp_path: Path) -> None:
    """Each product rounds what it reads to 8 bits over the range of that: the rows of all steps, or one state.

    Weights of 7 bits: with 8, ONNX Runtime saturates sums of two products on processors without VNNI.
    """
    rng, ways, hidden = np.random.default_rng(0), 2 if direction == "bidirectional" else 1, 4
    inits = [
        tensor("w", rng.integers(-63, 64, (ways, 3, 4 * hidden)).astype(np.int8)),
        tensor("r", rng.integers(-63, 64, (ways, hidden, 4 * hidden)).astype(np.int8)),
        weights(rng, "b", ways, 8 * hidden),
        tensor("ws", np.full(ways, 0.004, np.float32)),
        tensor("wz", np.full(ways, 3, np.int8)),
        tensor("rs", np.full(ways, 0.006, np.float32)),
        tensor("rz", np.zeros(ways, np.int8)),
    ]
    lstm = helper.make_node(
        "DynamicQuantizeLSTM",
        ["x", "w", "r", "b", "", "", "", "", "ws", "wz", "rs", "rz"],
        ["l"],
        "lstm",
        domain="com.microsoft",
        hidden_size=hidden,
        direction=direction,
    )
    nodes = [lstm, node("Identity", "l", "y")]
    agrees(save(model(nodes, inits, shape=(5, 1, 3), domains=["com.microsoft"]), tmp_path))
