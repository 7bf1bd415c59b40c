"""Kinds of fault that importers of ONNX are known for, each in small files that ONNX Runtime runs, too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_build import agrees, by_runtime, conv_net, floats, ints, model, node, save, tensor, value, weights
from onnx_child import run

from edgeprune.errors import UnsupportedOperatorError
from edgeprune.models.loading import load_model
from edgeprune.models.onnx.load import load_onnx

R = np.random.default_rng(3)
FUSED = "com.microsoft"


def body(nodes: Sequence[onnx.NodeProto], inputs: str, outputs: str, inits: Sequence[onnx.TensorProto] = ()) -> Any:
    """A branch or the body of a loop; its types are nobody's business."""
    infos = [[onnx.ValueInfoProto(name=n) for n in names.split()] for names in (inputs, outputs)]
    for name, kind in (("i", TensorProto.INT64), ("go", TensorProto.BOOL), ("on", TensorProto.BOOL)):
        for info in (*infos[0], *infos[1]):
            if info.name == name:
                info.CopyFrom(value(name, (), kind))
    for info in (*infos[0], *infos[1]):
        if not info.HasField("type"):
            info.type.tensor_type.elem_type = TensorProto.FLOAT
    return helper.make_graph(nodes, "inner", *infos, inits)


# Windows, reductions, resizes


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 5, 4), (1, 2, 3, 4, 5)], ids=len)
@pytest.mark.parametrize("kind", ["GlobalAveragePool", "GlobalMaxPool"])
def test_global_pools_keep_every_axis(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    agrees(save(model([node(kind, "x", "y")], shape=shape), tmp_path))


@pytest.mark.parametrize("axes", ["absent", "empty", "given"])
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("noop", [0, 1])
@pytest.mark.parametrize("kind", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceL1", "ReduceProd"])
def test_empty_axes_mean_all_or_none(tmp_path: Path, kind: str, noop: int, keepdims: int, axes: str) -> None:
    inits = [] if axes == "absent" else [ints("a", *([1, -1] if axes == "given" else []))]
    reduction = node(kind, "x a" if inits else "x", "y", noop_with_empty_axes=noop, keepdims=keepdims)
    agrees(save(model([reduction], inits, shape=(2, 3, 2, 2), opset=20), tmp_path))


@pytest.mark.parametrize(
    ("axes", "by", "place"),
    [
        ([2, 3], "scales", "half_pixel"),
        ([3, 2], "scales", "half_pixel"),
        ([3], "scales", "asymmetric"),
        ([-1], "sizes", "align_corners"),
        ([3, 2], "sizes", "half_pixel"),
        ([2], "sizes", "asymmetric"),
    ],
)
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_resize_of_named_axes(tmp_path: Path, mode: str, axes: list[int], by: str, place: str) -> None:
    extent = floats("s", *[2.0, 1.5][: len(axes)]) if by == "scales" else ints("s", *[11, 20][: len(axes)])
    inputs = "x _ s" if by == "scales" else "x _ _ s"
    resize = node("Resize", inputs, "y", axes=axes, mode=mode, coordinate_transformation_mode=place)
    agrees(save(model([resize], [extent], shape=(1, 2, 6, 8), opset=18), tmp_path))


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_resize_that_keeps_the_aspect_ratio(tmp_path: Path, policy: str) -> None:
    resize = node("Resize", "x _ _ s", "y", axes=[2, 3], keep_aspect_ratio_policy=policy)
    agrees(save(model([resize], [ints("s", 9, 8)], shape=(1, 2, 6, 8), opset=18), tmp_path))


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize(
    ("kernel", "strides", "pads"),
    [
        ([3, 3], [2, 2], [0, 0, 0, 0]),
        ([3, 3], [2, 2], [1, 1, 1, 1]),
        ([3, 2], [3, 2], [1, 0, 1, 0]),
        ([3, 3], [2, 2], [0, 0, 1, 1]),
        ([2, 2], [3, 3], [0, 1, 0, 1]),
    ],
)
def test_average_pools_with_ceil_mode(
    tmp_path: Path, kernel: list[int], strides: list[int], pads: list[int], counted: int
) -> None:
    pool = node(
        "AveragePool", "x", "y", kernel_shape=kernel, strides=strides, pads=pads, ceil_mode=1, count_include_pad=counted
    )
    agrees(save(model([pool], shape=(1, 2, 10, 8), opset=19), tmp_path))


@pytest.mark.parametrize("shape", [(1, 2, 9), (1, 2, 5, 6, 7)], ids=len)
def test_average_pools_of_other_ranks_with_ceil_mode(tmp_path: Path, shape: tuple[int, ...]) -> None:
    axes = len(shape) - 2
    pool = node("AveragePool", "x", "y", kernel_shape=[3] * axes, strides=[2] * axes, pads=[1] * 2 * axes, ceil_mode=1)
    agrees(save(model([pool], shape=shape, opset=19), tmp_path))


@pytest.mark.parametrize(
    ("start", "end", "step"),
    [
        (-1, -(2**63), -1),
        (-9, -(2**63), -1),
        (9, -9, -2),
        (2, -9, -1),
        (9, 2**63 - 1, 1),
        (-9, 2**63 - 1, 3),
        (3, 1, 1),
    ],
)
def test_slices_that_reach_beyond_the_ends(tmp_path: Path, start: int, end: int, step: int) -> None:
    """Backwards, a start before the front is the front: one element, where Python's slice has none."""
    given = [ints(name, number) for name, number in (("s", start), ("e", end), ("a", 1), ("t", step))]
    agrees(save(model([node("Slice", "x s e a t", "y")], given, shape=(2, 4, 3)), tmp_path))


# Names

NAMES = [
    *("training", "forward", "weight", "bias", "lambda", "None", "match", "import", "print", "self", "torch", "device"),
    *("state_dict", "_modules", "__init__", "__class__", "graph", "code", "meta", "recompile", "print_readable", "inf"),
    *("a b", " ", "a/b", "/a//b/", "a.b", "..", "a:0", "a\\b", "a-b", "0", "1.2", "'", '"', "\n", "_", "T" * 99),
    *("é", "重み", "µ", "ﬁ", "x²", "①", "a\u0301", "\u202e", "🙂"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_nodes_and_initializers_may_have_any_name(tmp_path: Path, name: str) -> None:
    nodes = [
        helper.make_node("Conv", ["x", name], ["c"], name=name),
        helper.make_node("Relu", ["c"], ["r"], name=name + "/" + name),
        helper.make_node("Mul", ["r", name + "_"], ["m"]),
        helper.make_node("Tanh", ["m"], ["y"], name=name + "_"),
    ]
    inits = [weights(R, name, 2, 3, 1, 1), weights(R, name + "_", 2, 1, 1)]
    network = agrees(save(model(nodes, inits, shape=(1, 3, 4, 4)), tmp_path))
    assert sorted(network.parameter_names.values()) == sorted([name, name + "_"])
    assert network.parameter_names.keys() == network.module.state_dict().keys()


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_inputs_and_outputs_may_have_any_name(tmp_path: Path, name: str) -> None:
    graph = helper.make_graph(
        [helper.make_node("Sub", [name, name + "_"], [name + "'"])],
        "net",
        [value(name, (2, 3)), value(name + "_", (2, 3))],
        [value(name + "'", (2, 3))],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    network = agrees(save(proto, tmp_path))
    assert [p.name for p in network.inputs] == [name, name + "_"]
    assert [p.name for p in network.outputs] == [name + "'"]


def test_names_that_collide_once_they_are_paths(tmp_path: Path) -> None:
    names = ["a.b", "a/b", "a:b", "a\\b", "a", "a/b/c", "a.weight", "a/weight", "b/a", "A", "a_", "a.b.weight"]
    nodes, inits, last = [], [], "x"
    for i, name in enumerate(names):
        nodes.append(helper.make_node("Conv", [last, f"{name}!{i}"], [f"c{i}"], name=name))
        nodes.append(helper.make_node("Add", [f"c{i}", name], [f"s{i}"]))
        inits += [weights(R, f"{name}!{i}", 3, 3, 1, 1), weights(R, name, 1, 1, 1, 4)]
        last = f"s{i}"
    nodes.append(helper.make_node("Relu", [last], ["y"], name="a/b/"))
    network = agrees(save(model(nodes, inits, shape=(1, 3, 4, 4)), tmp_path))
    assert sorted(network.parameter_names.values()) == sorted(i.name for i in inits)
    assert network.parameter_names.keys() == network.module.state_dict().keys()


def test_inputs_whose_names_are_one_identifier(tmp_path: Path) -> None:
    names = ["a b", "a_b", "a.b", "µ", "μ", "ﬁ", "fi"]
    graph = helper.make_graph(
        [node("Concat", "", "y", axis=0)], "net", [value(n, (1, 2)) for n in names], [value("y", (len(names), 2))]
    )
    graph.node[0].input.extend(names)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    agrees(save(proto, tmp_path))


def test_parameters_keep_the_names_of_the_file(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "conv1.weight", "conv1.bias"], ["c"], name="/conv1/Conv"),
        helper.make_node(
            "BatchNormalization",
            ["c", *(f"layers.0.bn.{n}" for n in ("weight", "bias", "mean", "var"))],
            ["b"],
            name="B",
        ),
        helper.make_node("Mul", ["b", "scale"], ["m"], name="M"),
        helper.make_node("Flatten", ["m"], ["f"], name="F"),
        helper.make_node("Gemm", ["f", "head.weight", "head.bias"], ["y"], name="G", transB=1),
    ]
    inits = [weights(R, "conv1.weight", 4, 3, 3, 3), weights(R, "conv1.bias", 4), weights(R, "scale", 4, 1, 1)]
    inits += [weights(R, f"layers.0.bn.{n}", 4) for n in ("weight", "bias", "mean")]
    inits += [floats("layers.0.bn.var", 1, 2, 3, 4), weights(R, "head.weight", 5, 16), weights(R, "head.bias", 5)]
    network = agrees(save(model(nodes, inits, shape=(1, 3, 4, 4)), tmp_path))
    state = network.module.state_dict()
    same = {"conv1.weight", "conv1.bias", "layers.0.bn.weight", "layers.0.bn.bias", "scale", "head.weight", "head.bias"}
    assert same <= {path for path, name in network.parameter_names.items() if path == name}
    assert network.parameter_names["layers.0.bn.running_var"] == "layers.0.bn.var"
    for path, name in network.parameter_names.items():
        of_file = next(onnx.numpy_helper.to_array(i) for i in inits if i.name == name)
        np.testing.assert_array_equal(state[path].numpy(), of_file)
    assert state.keys() - network.parameter_names.keys() == {"layers.0.bn.num_batches_tracked"}


# Weights that are not initializers of their consumer

SMALL, LARGE = (4, 3, 3, 3), (160, 3, 3, 3)


def behind(kind: str, count: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Nodes that make a convolution's weight ``w`` of ``count`` filters from an initializer ``s``."""
    shape = (count, 3, 3, 3)
    if kind == "Identity":
        return [node("Identity", "s", "t"), node("Identity", "t", "w")], [weights(R, "s", *shape)]
    if kind == "Transpose":
        return [node("Transpose", "s", "w", perm=[3, 2, 0, 1])], [weights(R, "s", 3, 3, 3, count)]
    if kind == "Reshape":
        return [node("Reshape", "s k", "w")], [weights(R, "s", count, 27), ints("k", *shape)]
    if kind == "Cast":
        half = tensor("s", (0.3 * R.standard_normal(shape)).astype(np.float16))
        return [node("Cast", "s", "w", to=TensorProto.FLOAT)], [half]
    if kind == "Constant":
        return [node("Constant", "", "w", value=weights(R, "", *shape))], []
    whole = tensor("s", R.integers(-127, 127, shape).astype(np.int8))
    scales = tensor("k", np.linspace(0.001, 0.01, count).astype(np.float32))
    return [node("DequantizeLinear", "s k z", "w", axis=0)], [whole, scales, tensor("z", np.zeros(count, np.int8))]


@pytest.mark.parametrize("count", [4, 160])
@pytest.mark.parametrize("kind", ["Identity", "Transpose", "Reshape", "Cast", "Constant", "DequantizeLinear"])
def test_a_weight_behind_other_nodes_is_the_layers_parameter(tmp_path: Path, kind: str, count: int) -> None:
    nodes, inits = behind(kind, count)
    network = agrees(save(model([*nodes, node("Conv", "x w", "y")], inits), tmp_path))
    weight = network.module.get_parameter("Conv_y.weight")
    assert weight.shape == (count, 3, 3, 3)
    assert weight.requires_grad
    assert list(network.module.state_dict()) == ["Conv_y.weight"]


@pytest.mark.parametrize("constant", [False, True])
def test_a_weight_that_several_layers_share(tmp_path: Path, constant: bool) -> None:
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("Conv", "a w", "b", pads=[1, 1, 1, 1]),
        node("Conv", "b w", "c", strides=[2, 2]),
        node("ReduceSum", "w", "t", keepdims=0),
        node("Mul", "c t", "y"),
    ]
    weight = weights(R, "w", 3, 3, 3, 3)
    first = [node("Constant", "", "w", value=weight)] if constant else []
    proto = model([*first, *nodes], [] if constant else [weight])
    module = agrees(save(proto, tmp_path)).module
    assert len(list(module.parameters())) == 1, "parameters that share memory would be trained twice"


def test_initializers_that_are_inputs_too(tmp_path: Path) -> None:
    """As files had them before IR version 4: the network has one input all the same."""
    proto = conv_net()
    proto.ir_version = 3
    proto.graph.input.extend([value("w", (8, 3, 3, 3)), value("b", (8,))])
    network = load_onnx(save(proto, tmp_path))
    assert [p.name for p in network.inputs] == ["x"]
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
    (expected,) = by_runtime(save(conv_net(), tmp_path), [x])
    np.testing.assert_allclose(network.module(torch.from_numpy(x)).detach(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("linear", [True, False])
def test_sparse_weights(tmp_path: Path, linear: bool) -> None:
    places = np.array([0, 7, 50, 215]) if linear else np.array([[0, 0, 0, 0], [1, 2, 0, 1], [7, 2, 2, 2]])
    proto = conv_net()
    del proto.graph.initializer[0]
    values = tensor("w", R.standard_normal(len(places)).astype(np.float32))
    proto.graph.sparse_initializer.add(values=values, indices=tensor("w_places", places), dims=(8, 3, 3, 3))
    agrees(save(proto, tmp_path))


# Outputs that nobody reads


def test_outputs_that_nobody_reads(tmp_path: Path) -> None:
    nodes = [
        node("MaxPool", "x", "p places", kernel_shape=[2, 2], strides=[2, 2]),
        node("Dropout", "p", "d mask"),
        node("Split", "d", "y rest", axis=1, split=[1, 2]),
    ]
    agrees(save(model(nodes, opset=8), tmp_path))


def test_five_outputs_of_an_old_batch_norm_of_which_one_is_read(tmp_path: Path) -> None:
    """As torch wrote it in training mode. ONNX Runtime takes the batch's statistics then; inference has the file's."""
    inits = [weights(R, n, 3) for n in "sbm"] + [floats("v", 1, 2, 3)]
    file = save(model([node("BatchNormalization", "x s b m v", "y n1 n2 n3 n4")], inits, opset=8), tmp_path)
    s, b, m, v = (torch.from_numpy(onnx.numpy_helper.to_array(i).copy()).reshape(3, 1, 1) for i in inits)
    x = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(load_onnx(file).module(x), (x - m) / torch.sqrt(v + 1e-5) * s + b)


def test_the_mask_of_a_dropout_that_somebody_reads(tmp_path: Path) -> None:
    agrees(save(model([node("Dropout", "x", "y mask")], output="y mask"), tmp_path))


def test_an_empty_name_is_an_output_that_is_not_there(tmp_path: Path) -> None:
    lstm = node("LSTM", "x w r", "_ h _", hidden_size=4)
    inits = [weights(R, "w", 1, 16, 3), weights(R, "r", 1, 16, 4)]
    agrees(save(model([lstm], inits, shape=(5, 2, 3), output="h"), tmp_path))


def test_a_constant_and_an_input_as_outputs(tmp_path: Path) -> None:
    nodes = [node("Identity", "x", "same"), node("Identity", "w", "y"), node("Relu", "x", "r")]
    agrees(save(model(nodes, [weights(R, "w", 2, 3)], output="r y same"), tmp_path))


# Shapes that the file does not say


def test_no_shapes_of_what_is_between(tmp_path: Path) -> None:
    proto = conv_net()
    del proto.graph.value_info[:]
    agrees(save(proto, tmp_path))


def test_no_shape_of_the_output(tmp_path: Path) -> None:
    proto = conv_net()
    del proto.graph.value_info[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    file = save(proto, tmp_path)
    assert by_runtime(file, [np.zeros((1, 3, 16, 16), np.float32)])[0].shape == (1, 8, 16, 16)
    agrees(file)


def test_shapes_that_the_file_says_wrongly_are_not_believed(tmp_path: Path) -> None:
    proto = conv_net()
    for info in (*proto.graph.value_info, proto.graph.output[0]):
        for dim in info.type.tensor_type.shape.dim:
            dim.dim_param = "n"
    assert agrees(save(proto, tmp_path)).outputs[0].shape == (1, 8, 16, 16)


# Functions, branches, loops


def with_functions() -> onnx.ModelProto:
    """``y = Outer(x)``: a product by a weight of its own, and ``Inner`` twice with an attribute handed on."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    leaky = helper.make_node("LeakyRelu", ["a"], ["b"])
    leaky.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    inner = helper.make_function("mine", "Inner", ["a"], ["c"], [leaky, node("Neg", "b", "c")], opsets, ["slope"])
    first = helper.make_node("Inner", ["a"], ["b"], domain="mine", name="first")
    first.attribute.add(name="slope", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    nodes = [
        first,
        helper.make_node("Inner", ["b"], ["c"], domain="mine", name="second", slope=0.25),
        node("Constant", "", "k", value=weights(R, "k", 1, 3, 1, 1)),
        node("Mul", "c k", "d"),
    ]
    outer = helper.make_function("mine", "Outer", ["a"], ["d"], nodes, opsets, ["slope"])
    proto = model([helper.make_node("Outer", ["x"], ["y"], domain="mine", slope=0.5)], domains=["mine"])
    proto.graph.output[0].CopyFrom(value("y", (1, 3, 16, 16)))
    proto.functions.extend([inner, outer])
    return proto


def test_functions_of_the_file_in_one_another(tmp_path: Path) -> None:
    agrees(save(with_functions(), tmp_path))


def test_a_function_that_is_called_with_weights(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 17)]
    nodes = [node("Conv", "a w", "c", pads=[1, 1, 1, 1]), node("Relu", "c", "b")]
    function = helper.make_function("mine", "Block", ["a", "w"], ["b"], nodes, opsets)
    calls = [helper.make_node("Block", [a, w], [b], domain="mine") for a, w, b in (("x", "u", "h"), ("h", "v", "y"))]
    proto = model(calls, [weights(R, "u", 4, 3, 3, 3), weights(R, "v", 2, 4, 3, 3)], domains=["mine"])
    proto.graph.output[0].CopyFrom(value("y", (1, 2, 16, 16)))
    proto.functions.append(function)
    network = agrees(save(proto, tmp_path))
    assert set(network.parameter_names.values()) == {"u", "v"}


@pytest.mark.parametrize("condition", [True, False])
def test_a_branch_whose_condition_is_constant(tmp_path: Path, condition: bool) -> None:
    then = body([node("Conv", "r w", "t")], "", "t", [weights(R, "w", 2, 3, 3, 3)])
    other = body([node("Neg", "r", "r1"), node("Identity", "r1", "t")], "", "t")
    nodes = [node("Relu", "x", "r"), node("If", "yes", "y", then_branch=then, else_branch=other)]
    agrees(save(model(nodes, [tensor("yes", np.array(condition))]), tmp_path))


def test_a_branch_that_a_shape_decides_inside_another(tmp_path: Path) -> None:
    deep = body([node("Relu", "x", "q")], "", "q"), body([node("Neg", "x", "q")], "", "q")
    then = body([node("If", "yes", "p", then_branch=deep[1], else_branch=deep[0])], "", "p")
    nodes = [
        node("Shape", "x", "s", start=0, end=1),
        node("Equal", "s one", "e"),
        node("Squeeze", "e", "yes"),
        node("If", "yes", "y", then_branch=then, else_branch=body([node("Exp", "x", "p")], "", "p")),
    ]
    agrees(save(model(nodes, [ints("one", 1)]), tmp_path))


def test_a_branch_that_values_decide_is_refused(tmp_path: Path) -> None:
    branches = {"then_branch": body([node("Relu", "x", "t")], "", "t"), "else_branch": body([], "", "x")}
    branches["else_branch"] = body([node("Neg", "x", "t")], "", "t")
    nodes = [
        node("ReduceMax", "x", "m", keepdims=0),
        node("Greater", "m zero", "yes"),
        node("If", "yes", "y", **branches),
    ]
    with pytest.raises(UnsupportedOperatorError, match=r"If_y.*condition"):
        load_onnx(save(model(nodes, [tensor("zero", np.float32(0))]), tmp_path))


def test_a_loop_of_known_length_with_a_state_and_what_it_collects(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "i", "f", to=TensorProto.FLOAT),
        node("Add", "h f", "a"),
        node("Mul", "a half", "h1"),
        node("Identity", "h1", "each"),
        node("Identity", "go", "on"),
    ]
    loop = node("Loop", "n _ x", "y all", body=body(nodes, "i go h", "on h1 each"))
    proto = model([loop], [tensor("n", np.int64(4)), tensor("half", np.float32(0.5))], shape=(2, 3), output="y all")
    agrees(save(proto, tmp_path))


def test_a_loop_with_an_initializer_of_its_own(tmp_path: Path) -> None:
    inner = body(
        [node("MatMul", "h w", "h1"), node("Identity", "go", "on")], "i go h", "on h1", [weights(R, "w", 3, 3)]
    )
    loop = node("Loop", "n _ x", "y", body=inner)
    agrees(save(model([loop], [tensor("n", np.int64(3))], shape=(2, 3)), tmp_path))


@pytest.mark.parametrize(("first", "limit"), [(True, 3), (False, 3), (True, 0)])
def test_a_loop_that_ends_by_a_condition_on_its_count(tmp_path: Path, first: bool, limit: int) -> None:
    nodes = [node("Less", "i limit", "on"), node("Neg", "h", "h0"), node("Mul", "h0 two", "h1")]
    loop = node("Loop", "_ yes x", "y", body=body(nodes, "i go h", "on h1"))
    inits = [tensor("yes", np.array(first)), tensor("limit", np.int64(limit)), tensor("two", np.float32(2))]
    agrees(save(model([loop], inits, shape=(2, 3)), tmp_path))


def test_a_loop_in_a_loop_in_a_branch(tmp_path: Path) -> None:
    deepest = [node("Add", "k h", "k1"), node("Identity", "go", "on")]
    inner = [
        node("Loop", "n _ h", "h1", body=body(deepest, "i go k", "on k1")),
        node("Identity", "go", "on"),
    ]
    inner[0].name = "deep"
    then = body([node("Loop", "n _ x", "t", body=body(inner, "i go h", "on h1"))], "", "t")
    branch = node("If", "yes", "y", then_branch=then, else_branch=body([node("Neg", "x", "t")], "", "t"))
    proto = model([branch], [tensor("yes", np.array(True)), tensor("n", np.int64(2))], shape=(2, 3))
    agrees(save(proto, tmp_path))


@pytest.mark.parametrize("backward", [0, 1])
def test_a_scan(tmp_path: Path, backward: int) -> None:
    nodes = [node("Add", "h e", "h1"), node("Mul", "h1 h1", "out")]
    scan = node(
        "Scan",
        "start x",
        "last y",
        body=body(nodes, "h e", "h1 out"),
        num_scan_inputs=1,
        scan_input_axes=[1],
        scan_input_directions=[backward],
        scan_output_axes=[1],
        scan_output_directions=[1 - backward],
    )
    proto = model([scan], [floats("start", 0, 0)], shape=(2, 5), output="y last")
    agrees(save(proto, tmp_path))


# Types of weights, and where they lie


def test_half_precision(tmp_path: Path) -> None:
    kinds = {n: tensor(n, (0.3 * R.standard_normal(s)).astype(np.float16)) for n, s in (("w", (4, 3, 3, 3)), ("b", 4))}
    nodes = [node("Conv", "x w b", "c"), node("Relu", "c", "y")]
    file = save(model(nodes, list(kinds.values()), kind=TensorProto.FLOAT16), tmp_path)
    network = agrees(file, tolerance=2e-2)
    assert {p.dtype for p in network.module.parameters()} == {torch.float32}
    assert load_model(str(file)).example_inputs[0].dtype == torch.float32


def test_bfloat16(tmp_path: Path) -> None:
    half = (0.3 * R.standard_normal((4, 3, 3, 3))).astype(ml_dtypes.bfloat16)
    weight = helper.make_tensor("w", TensorProto.BFLOAT16, half.shape, half.tobytes(), raw=True)
    nodes = [node("Cast", "w", "f", to=TensorProto.FLOAT), node("Conv", "x f", "y")]
    network = agrees(save(model(nodes, [weight]), tmp_path))
    np.testing.assert_array_equal(
        network.module.get_parameter("Conv_y.weight").detach().numpy(), half.astype(np.float32)
    )
    network = load_onnx(save(model([node("Conv", "x w", "y")], [weight], kind=TensorProto.BFLOAT16), tmp_path))
    np.testing.assert_array_equal(
        network.module.get_parameter("Conv_y.weight").detach().numpy(), half.astype(np.float32)
    )


def test_float64_is_computed_in_float32(tmp_path: Path) -> None:
    double = tensor("w", 0.3 * R.standard_normal((3, 3)))
    proto = model([node("MatMul", "x w", "y")], [double], shape=(2, 3), kind=TensorProto.DOUBLE)
    network = agrees(save(proto, tmp_path))
    assert {p.dtype for p in network.module.parameters()} == {torch.float32}


def test_external_data(tmp_path: Path) -> None:
    file = tmp_path / "net.onnx"
    onnx.save_model(
        conv_net(), file, save_as_external_data=True, all_tensors_to_one_file=True, location="w.bin", size_threshold=0
    )
    assert (tmp_path / "w.bin").stat().st_size >= 4 * 8 * 27
    agrees(file)


# What one does with a network


def small_network() -> onnx.ModelProto:
    """A layer of every kind that has parameters."""
    nodes = [
        node("Conv", "x w1 b1", "a", pads=[1, 1, 1, 1]),
        node("BatchNormalization", "a s b m v", "n"),
        node("PRelu", "n slope", "p"),
        node("ConvTranspose", "p w2", "t", strides=[2, 2]),
        node("InstanceNormalization", "t s b", "i"),
        node("Mul", "i scale", "j"),
        node("ReduceMean", "j", "q", axes=[2], keepdims=0),
        node("Transpose", "q", "r", perm=[2, 0, 1]),
        node("LSTM", "r lw lr lb", "l"),
        node("Squeeze", "l one", "l1"),
        node("LayerNormalization", "l1 ls lb1", "l2"),
        node("MatMul", "l2 w3", "f"),
        node("Add", "f b3", "y"),
    ]
    nodes[8].attribute.append(helper.make_attribute("hidden_size", 5))
    shapes: dict[str, tuple[int, ...]] = {
        **{"w1": (4, 3, 3, 3), "b1": (4,), "s": (4,), "b": (4,), "m": (4,), "slope": (4, 1, 1), "w2": (4, 4, 2, 2)},
        **{"scale": (4, 1, 1), "lw": (1, 20, 4), "lr": (1, 20, 5), "lb": (1, 40), "ls": (5,), "lb1": (5,)},
        **{"w3": (5, 6), "b3": (6,)},
    }
    inits = [weights(R, name, *shape) for name, shape in shapes.items()]
    return model(nodes, [*inits, floats("v", 1, 2, 3, 4), ints("one", 1)], shape=(2, 3, 6, 6))


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(small_network(), tmp_path_factory.mktemp("network"))


def test_every_parameter_of_the_file_trains(network_file: Path) -> None:
    network = agrees(network_file)
    network.module.train()(*(torch.randn(p.shape) for p in network.inputs)).square().sum().backward()
    assert [name for name, p in network.module.named_parameters() if p.grad is None or not p.grad.any()] == []
    file_has = {i.name for i in onnx.load(network_file).graph.initializer} - {"one"}
    assert set(network.parameter_names.values()) == file_has
    assert {network.parameter_names[n] for n, _ in network.module.named_parameters()} == file_has - {"m", "v"}


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # torch, of any LSTM
def test_it_exports(network_file: Path) -> None:
    network = load_onnx(network_file)
    x = torch.randn(network.inputs[0].shape)
    exported = torch.export.export(network.module, (x,)).module()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), network.module(x))


def test_it_loads_the_same_again_and_again(network_file: Path) -> None:
    first, second = load_model(str(network_file)), load_model(str(network_file))
    assert first.digest == second.digest
    assert first.module.code == second.module.code
    assert list(first.module.state_dict()) == list(second.module.state_dict())


def test_a_long_chain_of_products_loads(tmp_path: Path) -> None:
    nodes = [node("Mul", f"v{i} k", f"v{i + 1}") for i in range(1100)]
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    agrees(save(model(nodes, [floats("k", 1.001, -0.999, 1)], shape=(1, 3)), tmp_path))


def test_a_long_signal_at_twice_its_rate(tmp_path: Path) -> None:
    """One second of sound: a matrix of the axis does not fit into memory."""
    resize = node("Resize", "x _ s", "y", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    file = save(model([resize], [floats("s", 1, 1, 2)], shape=(1, 1, 16_000)), tmp_path)
    (ending,) = run([file], tmp_path)
    assert ending["kind"] == "loaded"
    assert ending["taken"] < 2**28


def test_a_network_of_100_mb_takes_less_than_three_times_its_size(tmp_path: Path) -> None:
    files, wide = [], 2240
    for kind, options in (("Gemm", {"transB": 1}), ("MatMul", {})):
        nodes = [node(kind, f"v{i} w{i}", f"v{i + 1}", **options) for i in range(5)]
        nodes[0].input[0], nodes[-1].output[0] = "x", "y"
        inits = [tensor(f"w{i}", np.full((wide, wide), 0.01, np.float32)) for i in range(5)]
        files.append(save(model(nodes, inits, shape=(1, wide)), tmp_path, f"{kind}.onnx"))
    assert files[0].stat().st_size > 100e6
    for ending, file in zip(run(files, tmp_path), files, strict=True):
        assert ending["kind"] == "loaded"
        assert ending["taken"] < 3 * file.stat().st_size
