"""Malformed and hostile files: each is refused in words, in little time and memory, and never runs anything."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx_build import conv_net, floats, ints, node, tensor, value
from onnx_child import run

BYTES = 2**30
Kind = TensorProto.DataType
R = np.random.default_rng(5)


def net(
    nodes: Sequence[NodeProto],
    inits: Sequence[TensorProto] = (),
    *,
    shape: Sequence[int] = (1, 3, 16, 16),
    opset: int = 17,
    domains: Sequence[str] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> ModelProto:
    """A network from ``x`` to ``y``; nothing in it is looked at."""
    graph = helper.make_graph(nodes, "net", [value("x", shape)], [value("y", (1,))], inits)
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=functions)


def sizes(**shapes: tuple[int, ...]) -> list[TensorProto]:
    return [tensor(name, np.ones(shape, np.float32)) for name, shape in shapes.items()]


def inner(nodes: Sequence[NodeProto], inputs: str = "", outputs: str = "") -> GraphProto:
    """A branch, or the body of a loop: ``i`` counts, ``go`` and ``on`` are truth values."""
    kinds = {"i": TensorProto.INT64, "go": TensorProto.BOOL, "on": TensorProto.BOOL}
    infos = [
        [
            value(
                n, () if n.rstrip("0123456789") in kinds else None, kinds.get(n.rstrip("0123456789"), TensorProto.FLOAT)
            )
            for n in names.split()
        ]
        for names in (inputs, outputs)
    ]
    return helper.make_graph(nodes, "inner", *infos)


Maker = Callable[[], ModelProto | bytes]
CASES: dict[str, tuple[Maker, str]] = {}
"""Name -> what makes the file, and what its refusal says: the node at fault by its name, where there is one."""


def add(name: str, proto: ModelProto | Maker, says: str = "") -> None:
    assert name not in CASES
    CASES[name] = proto if callable(proto) else lambda: proto, says


def one(
    op: str,
    inputs: str = "x",
    inits: Sequence[TensorProto] = (),
    *,
    shape: Sequence[int] = (1, 3, 16, 16),
    opset: int = 17,
    outputs: str = "y",
    **attrs: Any,
) -> ModelProto:
    """A network of one node, which is at fault."""
    return net([node(op, inputs, outputs, **attrs)], inits, shape=shape, opset=opset)


def at_fault(name: str, op: str, inputs: str = "x", inits: Sequence[TensorProto] = (), **attrs: Any) -> None:
    add(name, one(op, inputs, inits, **attrs), f"{op}_y")


def changed(change: Callable[[ModelProto], Any]) -> Callable[[], ModelProto]:
    """The convolution ``Conv_c`` and ``Relu_y``, spoiled."""

    def make() -> ModelProto:
        proto = conv_net()
        change(proto)
        return proto

    return make


# The graph

add("a graph without nodes", changed(lambda p: p.graph.ClearField("node")))
add("a model without a graph", changed(lambda p: p.ClearField("graph")))
add("a graph without outputs", changed(lambda p: p.graph.ClearField("output")))
add("an output that nothing computes", changed(lambda p: setattr(p.graph.output[0], "name", "nothing")), "nothing")
add("an output without a name", changed(lambda p: setattr(p.graph.output[0], "name", "")))
add("an initializer that is missing", changed(lambda p: p.graph.initializer.pop(0)), "Conv_c")
add("a node that reads itself", one("Add", "x y"), "Add_y")
add("a cycle", net([node("Add", "x b", "a"), node("Relu", "a", "b"), node("Relu", "b", "y")]), "Add_a")
add("nodes in the wrong order", net([node("Relu", "a", "y"), node("Relu", "x", "a")]), "Relu_y")
add("two nodes of one output", net([node("Relu", "x", "y"), node("Neg", "x", "y")]), "y")
add("one output twice in a node", net([node("Split", "x", "y y", axis=3)]), "y")
add("a node that computes an input", net([node("Relu", "x", "x"), node("Relu", "x", "y")]), "x")
add("a node that computes an initializer", changed(lambda p: p.graph.node[0].output.__setitem__(0, "w")), "w")
add("two initializers of one name", changed(lambda p: setattr(p.graph.initializer[1], "name", "w")), "w")
add("two inputs of one name", changed(lambda p: p.graph.input.append(p.graph.input[0])), "x")
add("a node without operator", changed(lambda p: setattr(p.graph.node[1], "op_type", "")))
add("an operator nobody knows", one("Nonsense"), "Nonsense")
add(
    "an operator that came later",
    one("GroupNormalization", "x s s", [floats("s", 1)], num_groups=1, opset=9),
)
add("too few inputs", one("Conv"), "Conv")
add("too many inputs", one("Relu", "x x x"), "Relu")
add("an input that is not there", one("Conv", "_ x"), "Conv_y")
add("too many outputs", net([node("Relu", "x", "y z")]), "Relu")
add(
    "31 000 nodes",
    lambda: net(
        [*(node("Relu", f"v{i}" if i else "x", f"v{i + 1}") for i in range(31_000)), node("Relu", "v31000", "y")]
    ),
    "30000 nodes",
)
add("an unknown domain", net([helper.make_node("Relu", ["x"], ["y"], "far", domain="evil")], domains=["evil"]), "far")
add("a domain without version", net([helper.make_node("Relu", ["x"], ["y"], "far", domain="evil")]), "evil")
for version in (2**40, 10**4, 0, -1):
    add(f"opset {version}", changed(lambda p, v=version: setattr(p.opset_import[0], "version", v)))
add("no opset at all", changed(lambda p: p.ClearField("opset_import")))
add("ir version 2^40", changed(lambda p: setattr(p, "ir_version", 2**40)))
add("names that are no text", lambda: conv_net().SerializeToString().replace(b"Conv_c", b"\xff\xfe\xfd\xfc\xfb\xfa"))
add("initializers whose names are no text", lambda: conv_net().SerializeToString().replace(b"\x01w", b"\x01\xff"))


# Inputs


def of_input(kind: int, *dims: int) -> Callable[[], ModelProto]:
    return changed(lambda p: p.graph.input[0].CopyFrom(value("x", dims, kind)))


add("an input of a type that does not exist", of_input(99, 1, 3, 16, 16))
add("an input of no type", of_input(0, 1, 3, 16, 16))
add("an input of strings", of_input(Kind.Value("STRING"), 1, 3, 16, 16), "'x'")
add("an input of complex numbers", of_input(Kind.Value("COMPLEX64"), 1, 3, 16, 16), "'x'")
add("an input of a negative size", of_input(1, 1, -3, 16, 16), "'x'")
add("an input of size 0", of_input(1, 1, 0, 16, 16), "'x'")
add("an input of 2^80 numbers", of_input(1, 2**40, 3, 2**20, 2**20), "'x'")
add("an input of 2^63 numbers", of_input(1, 2**61, 1, 2, 2), "'x'")
add("an input of 2000 axes", of_input(1, *[1] * 2000), "Conv_c")
add(
    "an input that is a sequence",
    changed(lambda p: p.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, None))),
    "'x'",
)

# Tensors

WEIGHT = np.ones((8, 3, 3, 3), np.float32)


def of_weight(weight: TensorProto) -> Callable[[], ModelProto]:
    """The network with another weight."""
    weight.name = "w"
    return changed(lambda p: p.graph.initializer[0].CopyFrom(weight))


def nan_weight() -> TensorProto:
    spoiled = WEIGHT.copy()
    spoiled[7, 2, 1, 0] = np.nan
    return tensor("w", spoiled)


add("weights of NaN", of_weight(nan_weight()), "'w'")
add("NaN in a constant", net([node("Constant", "", "w", value=nan_weight()), node("Conv", "x w", "y")]), "NaN")
add("strings as a weight", of_weight(helper.make_tensor("w", TensorProto.STRING, [2], [b"a", b"b"])), "'w'")
add("complex weights", of_weight(tensor("w", WEIGHT.astype(np.complex64))), "'w'")
add("weights without type", of_weight(TensorProto(dims=[1], raw_data=b"1234")), "'w'")
add("weights of a type that does not exist", of_weight(TensorProto(dims=[1], raw_data=b"1234", data_type=77)), "'w'")
add("weights in two fields", of_weight(TensorProto(dims=[1], raw_data=b"1234", float_data=[1], data_type=1)), "Conv_c")
add("weights in the wrong field", of_weight(TensorProto(dims=[1], int64_data=[1], data_type=1)), "w")
add("halves that are missing", of_weight(TensorProto(dims=[8, 3, 3, 3], int32_data=[1], data_type=10)), "w")
add("a weight of 2^60 numbers", of_weight(TensorProto(dims=[2**30, 2**30], data_type=1)), "'w'")
add("a weight of a negative size", of_weight(TensorProto(dims=[-8, -3, 3, 3], data_type=1, raw_data=bytes(864))), "'w'")
add("a weight of 2000 axes", of_weight(TensorProto(dims=[1] * 2000, data_type=1, raw_data=bytes(4))), "w")
add("integers as weights", of_weight(tensor("w", WEIGHT.astype(np.int64))), "Conv_c")
add("truth values as weights", of_weight(tensor("w", WEIGHT.astype(bool))), "Conv_c")
add("a weight of other channels", of_weight(tensor("w", WEIGHT[:, :2])), "Conv_c")
add("a weight without spatial axes", of_weight(tensor("w", WEIGHT[:, :, 0, 0])), "Conv_c")
add("an empty weight", of_weight(tensor("w", WEIGHT[:0])), "Conv_c")
add("a uint64 beyond 2^63", net([node("Add", "x big", "y")], [tensor("big", np.uint64([2**64 - 1]))]), "'big'")
add(
    "a uint64 beyond 2^63 in a constant",
    net([node("Constant", "", "big", value=tensor("", np.uint64([2**64 - 1]))), node("Add", "x big", "y")]),
    "Constant_big",
)


def sparse(values: TensorProto, indices: Any, *dims: int) -> Callable[[], ModelProto]:
    def change(proto: ModelProto) -> None:
        proto.graph.initializer.pop(0)
        values.name = "w"
        proto.graph.sparse_initializer.add(values=values, indices=tensor("", indices), dims=dims)

    return changed(change)


TWO = floats("w", 1, 2)
add("sparse places outside", sparse(TWO, np.int64([0, 216]), 8, 3, 3, 3))
add("sparse places before the first", sparse(TWO, np.int64([-1, 3]), 8, 3, 3, 3))
add("sparse places of too many axes", sparse(TWO, np.zeros((2, 5), np.int64), 8, 3, 3, 3))
add("sparse places of one axis too few", sparse(TWO, np.int64([[0, 0, 0], [1, 1, 1]]), 8, 3, 3, 3))
add("sparse places outside one axis", sparse(TWO, np.int64([[0, 0, 0, 7], [1, 1, 1, 1]]), 8, 3, 3, 3))
add("sparse places in disorder", sparse(TWO, np.int64([5, 3]), 8, 3, 3, 3))
add("sparse places that are no integers", sparse(TWO, np.float32([0, 1]), 8, 3, 3, 3))
add("sparse places for other values", sparse(TWO, np.int64([0, 1, 2]), 8, 3, 3, 3))
add("sparse values of 2^60 numbers", sparse(TWO, np.int64([0, 1]), 2**30, 2**30))
add("sparse values of negative size", sparse(TWO, np.int64([0, 1]), -8, -3, 3, 3))
add("sparse strings", sparse(helper.make_tensor("w", TensorProto.STRING, [2], [b"a", b"b"]), np.int64([0, 1]), 216))
add("sparse NaN", sparse(floats("w", np.nan, 1), np.int64([0, 1]), 8, 3, 3, 3), "NaN")


# Data outside the file


def outside(weight: TensorProto, location: str, **entries: Any) -> TensorProto:
    weight = TensorProto.FromString(weight.SerializeToString())
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    for key, text in {"location": location, **entries}.items():
        weight.external_data.add(key=key, value=str(text))
    return weight


W = tensor("w", WEIGHT)
SECRET = "/etc/hostname"
add("external data in a device", of_weight(outside(W, "/dev/zero")), "'w'")
add("external data above", of_weight(outside(W, "../../../../../../../../etc/passwd")), "'w'")
add("external data at a place that is no number", of_weight(outside(W, "net.onnx", offset="0x10")), "'w'")
add("external data at a negative place", of_weight(outside(W, "net.onnx", offset=-864)), "'w'")
add("external data of negative length", of_weight(outside(W, "net.onnx", length=-1)), "'w'")
add("external data behind the end", of_weight(outside(W, "net.onnx", offset=2**62)), "'w'")
add("external data that is a folder", of_weight(outside(W, ".")), "'w'")
add("external data without a location", of_weight(outside(W, "")), "'w'")
add("external strings", of_weight(outside(helper.make_tensor("w", TensorProto.STRING, [1], [b"a"]), "net.onnx")), "'w'")
add("external data of a constant", net([node("Constant", "", "w", value=outside(W, SECRET)), node("Conv", "x w", "y")]))
add(
    "external data in a branch",
    net(
        [
            node("Shape", "x", "s"),
            node("Size", "s", "n"),
            node("Cast", "n", "go", to=TensorProto.BOOL),
            node(
                "If",
                "go",
                "y",
                then_branch=inner([node("Constant", "", "t", value=outside(W, SECRET))], "", "t"),
                else_branch=inner([node("Relu", "x", "e")], "", "e"),
            ),
        ]
    ),
)
add("external sparse values", sparse(outside(TWO, SECRET), np.int64([0, 1]), 8, 3, 3, 3))


# Functions of the file


def function(name: str, nodes: Sequence[NodeProto], inputs: str = "a", output: str = "b") -> onnx.FunctionProto:
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, inputs.split(), [output], nodes, opsets)


def call(name: str, x: str, y: str) -> NodeProto:
    return helper.make_node(name, x.split(), [y], f"call_{name}_{y}", domain="own")


def calling(*functions: onnx.FunctionProto) -> ModelProto:
    return net([call(functions[0].name, "x", "y")], domains=["own"], functions=functions)


def with_constant(constant: TensorProto) -> ModelProto:
    nodes = [node("Constant", "", "k", value=constant), node("ReduceSum", "k", "s"), node("Add", "a s", "b")]
    return calling(function("F", nodes))


# The process runs in the folder of this file, so that its location leads somewhere.
for location in ("outside.bin", "../outside.bin", "/dev/zero"):
    constant = outside(floats("w", *[1.0] * 8), location)
    add(
        f"external data of a constant in a function: {location}",
        with_constant(constant),
        "outside" if "bin" in location else "",
    )


add("a function that calls itself", calling(function("F", [call("F", "a", "b")])))
add(
    "functions that call each other",
    calling(function("F", [call("G", "a", "b")]), function("G", [call("F", "a", "b")])),
)
add(
    "functions that double 40 times",
    calling(
        *(function(f"F{i}", [call(f"F{i + 1}", "a", "h"), call(f"F{i + 1}", "h", "b")]) for i in range(40)),
        function("F40", [node("Relu", "a", "b")]),
    ),
)
add(
    "functions that double 18 times",
    calling(
        *(function(f"F{i}", [call(f"F{i + 1}", "a", "h"), call(f"F{i + 1}", "h", "b")]) for i in range(18)),
        function("F18", [node("Relu", "a", "b")]),
    ),
)
add("a function that is not there", net([call("F", "x", "y")], domains=["own"]), "call_F_y")
add("two functions of one name", calling(*[function("F", [node("Relu", "a", "b")])] * 2))
add("a function of more inputs than it gets", calling(function("F", [node("Add", "a c", "b")], "a c")))
add("a function that computes nothing", calling(function("F", [node("Relu", "a", "c")])))
add("a function that reads what is around it", calling(function("F", [node("Add", "a x", "b")])))
add(
    "an attribute of a function outside one",
    changed(
        lambda p: p.graph.node[0].attribute.append(
            AttributeProto(name="group", ref_attr_name="g", type=AttributeProto.INT)
        )
    ),
    "Conv_c",
)

# Attributes

for attribute, wrong in {
    "strides": "abc",
    "pads": 1.5,
    "group": [1, 2],
    "dilations": tensor("d", np.ones(2)),
    "kernel_shape": ["a", "b"],
    "auto_pad": 3,
    "made_up": 1,
}.items():
    at_fault(f"a convolution whose {attribute} is {type(wrong).__name__}", "Conv", "x w", [W], **{attribute: wrong})
for attribute, wrong in {
    "strides": "abc",
    "pads": 1.5,
    "group": [1],
    "activation": 7,
    "activation_params": "x",
}.items():
    fused = helper.make_node("FusedConv", ["x", "w"], ["y"], "fused", domain="com.microsoft", **{attribute: wrong})
    add(
        f"a fused convolution whose {attribute} is {type(wrong).__name__}",
        net([fused], [W], domains=["com.microsoft"]),
        "fused",
    )
add("one attribute twice", changed(lambda p: p.graph.node[0].attribute.append(p.graph.node[0].attribute[0])), "Conv_c")
add(
    "an attribute without type",
    changed(lambda p: p.graph.node[0].attribute.append(AttributeProto(name="group"))),
    "Conv_c",
)
for attribute, numbers in {
    "strides": [0, 1],
    "dilations": [-1, 1],
    "pads": [-1, 0, 0, 0],
    "kernel_shape": [5, 5],
    "group": 0,
}.items():
    at_fault(f"a convolution of {attribute} {numbers}", "Conv", "x w", [W], **{attribute: numbers})
for group in (-1, 2, 3, 2**62):
    at_fault(f"a convolution of {group} groups", "Conv", "x w", [W], group=group)
at_fault("a convolution of pads beyond memory", "Conv", "x w", [W], pads=[2**40] * 4)
at_fault("a convolution of three strides", "Conv", "x w", [W], strides=[1, 1, 1])
at_fault("a pooling without a kernel", "MaxPool")
at_fault("a pooling of a kernel of 0", "AveragePool", kernel_shape=[0, 2])
at_fault("a pooling of a kernel larger than the image", "MaxPool", kernel_shape=[17, 1])
at_fault("a pooling of pads beyond memory", "MaxPool", kernel_shape=[2, 2], pads=[2**62, 0, 0, 0])
at_fault("a pooling of three axes", "AveragePool", kernel_shape=[2, 2, 2])
at_fault("a permutation that is none", "Transpose", perm=[0, 0, 1, 2])
at_fault("a permutation of other axes", "Transpose", perm=[0, 1, 2, 4])
at_fault("a permutation of too few", "Transpose", perm=[0, 1, 2])
at_fault("a softmax of axis 4", "Softmax", axis=4)
at_fault("a softmax of axis -5", "Softmax", axis=-5)
at_fault("a flatten of axis 9", "Flatten", axis=9)
at_fault("a concat of axis 2^62", "Concat", "x x", axis=2**62)
at_fault("a concat without an axis", "Concat", "x x")
at_fault("a concat of other shapes", "Concat", "x k", [floats("k", 1)], axis=0)
at_fault("a gather of axis -9", "Gather", "x i", [ints("i", 0)], axis=-9)
at_fault("a gather outside", "Gather", "x i", [ints("i", 16)], axis=3)
at_fault("a gather of negative places outside", "Gather", "x i", [ints("i", -17)], axis=3)
at_fault("a gather by real numbers", "Gather", "x i", [floats("i", 0.5)], axis=3)
at_fault("a gather of elements outside", "GatherElements", "x i", [tensor("i", np.full((1, 3, 16, 16), 99))], axis=3)
at_fault("a gather of tuples too long", "GatherND", "x i", [tensor("i", np.zeros((1, 5), np.int64))])
at_fault("a gather of tuples outside", "GatherND", "x i", [tensor("i", np.full((1, 4), 9))])
at_fault("a scatter outside", "ScatterND", "x i k", [tensor("i", np.full((1, 4), 9)), floats("k", 1)])
at_fault(
    "a scatter by an unknown reduction",
    "ScatterND",
    "x i k",
    [ints("i", 0), *sizes(k=(3, 16, 16))],
    reduction="xor",
    opset=16,
)
at_fault("a squeeze of an axis of 3", "Squeeze", "x a", [ints("a", 1)])
at_fault("an unsqueeze of one axis twice", "Unsqueeze", "x a", [ints("a", 1, 1)])
at_fault("an unsqueeze far away", "Unsqueeze", "x a", [ints("a", 2**40)])
at_fault("a split of too much", "Split", "x s", [ints("s", 17)], axis=3)
at_fault("a split of negative parts", "Split", "x s", [ints("s", -1)], axis=3)
at_fault("a slice of step 0", "Slice", "x a b c d", [ints(n, v) for n, v in (("a", 0), ("b", 1), ("c", 0), ("d", 0))])
at_fault("a slice of unlike lists", "Slice", "x a b", [ints("a", 0, 0), ints("b", 1)])
at_fault("a slice of axis 7", "Slice", "x a b c", [ints("a", 0), ints("b", 1), ints("c", 7)])
at_fault("a reshape to another size", "Reshape", "x s", [ints("s", 3, 16, 17)])
at_fault("a reshape of two open sizes", "Reshape", "x s", [ints("s", -1, -1)])
at_fault("a reshape to 2^62 times 4", "Reshape", "x s", [ints("s", 2**62, 4)])
at_fault("a reshape to an open size of nothing", "Reshape", "x s", [ints("s", 0, -1)], allowzero=1)
at_fault("a reshape to real numbers", "Reshape", "x s", [floats("s", 768)])
at_fault("a reduction of axis 9", "ReduceMean", axes=[9])
at_fault("a cast to a type that does not exist", "Cast", to=99)
at_fault("a cast to strings", "Cast", to=TensorProto.STRING)
at_fault("a product of unlike matrices", "MatMul", "x w", sizes(w=(5, 5)))
at_fault("a gemm of four axes", "Gemm", "x w", sizes(w=(5, 5)))
at_fault("a sum of unlike shapes", "Add", "x w", sizes(w=(5,)))
at_fault("an einsum without sense", "Einsum", equation="a...b->(!")
at_fault("a normalisation of other channels", "BatchNormalization", "x w w w w", sizes(w=(4,)))
at_fault("a normalisation of 0 groups", "GroupNormalization", "x w w", sizes(w=(3,)), num_groups=0, opset=21)
at_fault("a normalisation over 2^62 channels", "LRN", size=2**62)
at_fault("a top k of more than there are", "TopK", "x k", [ints("k", 17)], outputs="y i")
at_fault("a top k of -1", "TopK", "x k", [ints("k", -1)], outputs="y i")
at_fault("blocks of 0", "DepthToSpace", blocksize=0)
at_fault("blocks of 5", "SpaceToDepth", blocksize=5)
at_fault(
    "a recurrence of 2^40 units", "LSTM", "x w r", sizes(w=(1, 4, 3), r=(1, 4, 1)), hidden_size=2**40, shape=(5, 1, 3)
)
at_fault(
    "a step that does not exist",
    "RNN",
    "x w r",
    sizes(w=(1, 1, 3), r=(1, 1, 1)),
    hidden_size=1,
    activations=["Evil"],
    shape=(5, 1, 3),
)
add(
    "a division of integers by 0",
    net([node("Div", "a b", "q"), node("Cast", "q", "f", to=1), node("Add", "x f", "y")], [ints("a", 1), ints("b", 0)]),
    "Div_q",
)

# Element types that do not go together; ONNX Runtime refuses them all

at_fault("a sum of real numbers and integers", "Add", "x k", [ints("k", 1)])
at_fault("a product of real numbers and integers", "MatMul", "x k", [tensor("k", np.ones((16, 2), np.int64))])
at_fault("real numbers joined with integers", "Concat", "x k", [tensor("k", np.ones((1, 3, 16, 16), np.int64))], axis=0)
at_fault("a choice by real numbers", "Where", "x x x")
at_fault("not of real numbers", "Not")
at_fault("and of real numbers", "And", "x x")
at_fault("shifted real numbers", "BitShift", "x x", direction="LEFT")
at_fault("a clip between integers", "Clip", "x k", [tensor("k", np.int64(1))])

# Values


def constants(*nodes: NodeProto, **shape: tuple[int, ...]) -> ModelProto:
    """``x`` plus the sum of what the nodes make of constants of ones in these shapes, to be computed at import."""
    ones = helper.make_tensor("", TensorProto.FLOAT, [1], [1.0])
    made = [node("ConstantOfShape", f"{name}_shape", name, value=ones) for name in shape]
    last = nodes[-1].output[0]
    rest = [node("ReduceSum", last, "total", keepdims=0), node("Add", "x total", "y")]
    return net([*made, *nodes, *rest], [ints(f"{name}_shape", *s) for name, s in shape.items()])


TO = {"value": helper.make_tensor("", TensorProto.INT64, [1], [7])}
add("a constant of 2^40 numbers", constants(node("Relu", "a", "b"), a=(2**20, 2**20)), "ConstantOfShape_a")
add("a constant of 2^64 numbers", constants(node("Relu", "a", "b"), a=(2**32, 2**32)), "ConstantOfShape_a")
add("a constant of negative size", constants(node("Relu", "a", "b"), a=(-1, 4)), "ConstantOfShape_a")
add(
    "a constant of 2^28 integers",
    net(
        [
            node("ConstantOfShape", "s", "a", **TO),
            node("Cast", "a", "f", to=1),
            node("ReduceSum", "f", "t", keepdims=0),
            node("Add", "x t", "y"),
        ],
        [ints("s", 2**28)],
    ),
)
add(
    "twenty constants of 2^27 numbers",
    constants(
        *(node("Relu", f"a{i}", f"b{i}") for i in range(20)),
        node("Sum", " ".join(f"b{i}" for i in range(20)), "c"),
        **{f"a{i}": (2**27,) for i in range(20)},
    ),
)
add(
    "twenty constants of 2^27 integers",
    net(
        [
            *(node("ConstantOfShape", "s", f"a{i}", **TO) for i in range(20)),
            node("Sum", " ".join(f"a{i}" for i in range(20)), "c"),
            node("Cast", "c", "f", to=1),
            node("ReduceSum", "f", "t", keepdims=0),
            node("Add", "x t", "y"),
        ],
        [ints("s", 2**27)],
    ),
)
add("a constant of no value", net([helper.make_node("Constant", [], ["k"], "K"), node("Add", "x k", "y")]), "K")
add(
    "a constant of two values",
    net([helper.make_node("Constant", [], ["k"], "K", value_int=1, value_float=1.0), node("Add", "x k", "y")]),
    "K",
)
add(
    "a constant string",
    net([helper.make_node("Constant", [], ["k"], "K", value_string="evil"), node("Add", "x k", "y")]),
    "K",
)
at_fault("an expansion to 2^40 numbers", "Expand", "x s", [ints("s", 2**30, 3, 16, 16)])
at_fault("an expansion to 2^68 numbers", "Expand", "x s", [ints("s", 2**60, 3, 16, 16)])
at_fault("an expansion to negative sizes", "Expand", "x s", [ints("s", -2, 3, 16, 16)])
EXPANSIONS = [node("Expand", f"e{i} s{i}", f"e{i + 1}") for i in range(8)]
EXTENTS = [ints(f"s{i}", 1024, *[1] * (i + 1)) for i in range(8)]
add(
    "a chain of expansions",
    net(
        [node("Flatten", "x", "e0"), *EXPANSIONS, node("Relu", "e8", "y")],
        [ints(f"s{i}", 1024, *[1] * (i + 2)) for i in range(8)],
    ),
    "Expand_e",
)
add(
    "a chain of expanded constants",
    net([*EXPANSIONS, node("ReduceSum", "e8", "t", keepdims=0), node("Add", "x t", "y")], [*EXTENTS, floats("e0", 1)]),
    "Expand_e",
)
add(
    "a chain of doublings",
    net(
        [*(node("Concat", f"d{i} d{i}", f"d{i + 1}", axis=0) for i in range(40)), node("Add", "x d40", "y")],
        [floats("d0", 1)],
    ),
    "Concat_d",
)
at_fault("a tile of 2^40 times", "Tile", "x s", [ints("s", 2**40, 1, 1, 1)])
at_fault("a tile of 2^124 times", "Tile", "x s", [ints("s", 2**62, 2**62, 1, 1)])
at_fault("a tile of -1 times", "Tile", "x s", [ints("s", -1, 1, 1, 1)])
at_fault("a tile of too few axes", "Tile", "x s", [ints("s", 1)])
for name, start, limit, step in (
    ("2^50", 0, 2**50, 1),
    ("endless", 0, np.inf, 1),
    ("NaN", np.nan, 1, 1),
    ("step 0", 0, 9, 0),
    ("step 1e-30", 0, 1, 1e-30),
):
    add(
        f"a range of {name}",
        net(
            [node("Range", "a b c", "r"), node("Add", "x r", "y")],
            [tensor(n, np.float64(v)) for n, v in (("a", start), ("b", limit), ("c", step))],
        ),
        "" if name == "NaN" else "Range_r",
    )
add(
    "a range of 2^28",
    net(
        [node("Range", "a b c", "r"), node("Add", "x r", "y")],
        [tensor(n, np.int64(v)) for n, v in (("a", 0), ("b", 2**28), ("c", 1))],
    ),
)
at_fault("pads of 2^40", "Pad", "x p", [ints("p", 0, 0, 0, 2**40, 0, 0, 0, 0)])
at_fault("pads of 2^62 on each side", "Pad", "x p", [ints("p", *[2**62] * 8)])
at_fault("pads of -20", "Pad", "x p", [ints("p", 0, 0, 0, -20, 0, 0, 0, 0)])
at_fault("pads of -20 from the edge", "Pad", "x p", [ints("p", 0, 0, 0, -20, 0, 0, 0, 0)], mode="edge")
at_fault("pads of too few axes", "Pad", "x p", [ints("p", 1, 1)])
at_fault("pads in an unknown mode", "Pad", "x p", [ints("p", *[1] * 8)], mode="evil")
at_fault("pads of 2^31 from the edge of a batch", "Pad", "x p", [ints("p", 2**31, 0, 0, 0, 0, 0, 0, 0)], mode="edge")
at_fault("pads of 2^31 by wrapping", "Pad", "x p", [ints("p", 2**31, 0, 0, 0, 0, 0, 0, 0)], mode="wrap", opset=19)
at_fault("an image resized to 2^40", "Resize", "x _ s", [floats("s", 1, 1, 2**20, 2**20)])
at_fault("an image resized to infinity", "Resize", "x _ s", [floats("s", 1, 1, 1, np.inf)])
at_fault("an image resized to nothing", "Resize", "x _ s", [floats("s", 1, 1, 0, 1)])
at_fault("an image resized by less than nothing", "Resize", "x _ s", [floats("s", 1, 1, -1, 1)])
at_fault("an image resized to -4", "Resize", "x _ _ s", [ints("s", 1, 3, -4, 4)])
at_fault("an image resized by two numbers", "Resize", "x _ s", [floats("s", 1, 1)])
at_fault("an image resized in an unknown mode", "Resize", "x _ s", [floats("s", 1, 1, 2, 2)], mode="evil")
at_fault("an image resized to nothing at all", "Resize", "x")
add(
    "a row of 2^24 places at twice its size",
    net([node("Resize", "x _ s", "y")], [floats("s", 1, 1, 1, 2)], shape=(1, 1, 1, 2**24)),
)
at_fault("one of 2^40 places", "OneHot", "i d k", [ints("i", 1), ints("d", 2**40), floats("k", 0, 1)])
at_fault("one of 2^30 places", "OneHot", "i d k", [ints("i", 1), ints("d", 2**30), floats("k", 0, 1)])
at_fault("a crop to 2^40", "CenterCropPad", "x s", [ints("s", 1, 3, 2**40, 16)], opset=18)
at_fault("columns to an image of 2^31", "Col2Im", "x s b", [ints("s", 2**31), ints("b", 1)], opset=18)
at_fault("a spectrum of 2^40", "DFT", "x n", [tensor("n", np.int64(2**40))], shape=(1, 16, 1))
at_fault("frames without a step", "STFT", "x n", [tensor("n", np.int64(0))])
add(
    "boxes of 2^31 points each",
    net(
        [node("RoiAlign", "x r b", "y", sampling_ratio=2**31 - 1)],
        [tensor("r", np.ones((1, 4), np.float32)), ints("b", 0)],
    ),
    "RoiAlign_y",
)
add(
    "a window of 2^28",
    net(
        [node("HannWindow", "n", "k"), node("ReduceSum", "k", "t", keepdims=0), node("Add", "x t", "y")],
        [tensor("n", np.int64(2**28))],
    ),
)
add(
    "2^26 mel bands",
    net(
        [node("MelWeightMatrix", "b n r l h", "k"), node("ReduceSum", "k", "t", keepdims=0), node("Add", "x t", "y")],
        [tensor(n, np.int64(v)) for n, v in (("b", 2**26), ("n", 4), ("r", 8000))]
        + [tensor(n, np.float32(v)) for n, v in (("l", 0), ("h", 4000))],
    ),
)

# Work: small files, long answers

add(
    "a product of constants that takes minutes",
    constants(node("MatMul", "a b", "c"), a=(16_384, 16_384), b=(16_384, 16_384)),
)
add(
    "a convolution of constants that takes hours",
    constants(node("Conv", "a b", "c"), a=(1, 1, 8192, 8192), b=(1, 1, 999, 999)),
)

# Branches and loops

NO = [
    tensor("no", np.array(False)),
    tensor("yes", np.array(True)),
    tensor("n", np.int64(2**40)),
    tensor("many", np.int64(1000)),
]
SAME = node("Identity", "go", "on")


def loop(label: str, count: str, body: GraphProto, state: str = "x", outputs: str = "y") -> NodeProto:
    return helper.make_node("Loop", [count, "", *state.split()], outputs.split(), label, body=body)


def loops(depth: int) -> NodeProto:
    """Loops of a thousand turns in one another that do nothing."""
    nodes = [node("Identity", "h0", "r0")]
    for d in range(depth):
        body = inner([node("Identity", f"go{d}", f"on{d}"), *nodes], f"i{d} go{d} h{d}", f"on{d} r{d}")
        nodes = [
            loop(f"loop{d}", "many", body, f"h{d + 1}" if d + 1 < depth else "x", f"r{d + 1}" if d + 1 < depth else "y")
        ]
    return nodes[0]


TURN = inner([SAME, node("Relu", "h", "h1")], "i go h", "on h1")
add("a loop of 2^40 turns", net([loop("turns", "n", TURN)], NO), "turns")
add(
    "a loop without end",
    net([loop("turns", "", inner([node("Or", "go go", "on"), node("Relu", "h", "h1")], "i go h", "on h1"))], NO),
    "turns",
)
add("loops in loops that do nothing", net([loops(2)], NO), "loop")
add("loops in loops in loops that do nothing", net([loops(4)], NO), "loop")
add(
    "a loop that doubles its state",
    net([loop("turns", "many", inner([SAME, node("Concat", "h h", "h1", axis=0)], "i go h", "on h1"))], NO),
    "Concat_h1",
)
add(
    "a loop that doubles a constant",
    net(
        [
            loop("turns", "many", inner([SAME, node("Concat", "h h", "h1", axis=0)], "i go h", "on h1"), "k", "t"),
            node("Add", "x t", "y"),
        ],
        [*NO, floats("k", 1)],
    ),
    "Concat_h1",
)
add(
    "a loop whose length is computed",
    net([node("ReduceMax", "x", "m", keepdims=0), node("Cast", "m", "c", to=7), loop("turns", "c", TURN)]),
    "turns",
)
add("a loop of strings for a number", net([loop("turns", "s", TURN)], [helper.make_tensor("s", 8, [], [b"9"])]), "'s'")
add("a loop of three numbers of turns", net([loop("turns", "t", TURN)], [ints("t", 1, 2, 3)]), "turns")
add("a loop with a state too many", net([loop("turns", "many", TURN, "x x", "y z")], NO), "turns")
add("a loop with a state too few", net([loop("turns", "many", TURN, "", "y")], NO), "turns")
add("a loop whose body gives nothing", net([loop("turns", "many", inner([SAME], "i go h", ""))], NO), "turns")
add(
    "a loop whose body gives what it does not compute",
    net([loop("turns", "many", inner([SAME], "i go h", "on h1"))], NO),
    "turns",
)
add("a loop without a body", net([helper.make_node("Loop", ["many", "", "x"], ["y"], "turns")], NO), "turns")
add(
    "a loop whose body is a number",
    net([helper.make_node("Loop", ["many", "", "x"], ["y"], "turns", body=3)], NO),
    "turns",
)
add(
    "a loop that collects other shapes each turn",
    net(
        [
            loop(
                "turns",
                "four",
                inner([SAME, node("Concat", "h h", "h1", axis=0), node("Relu", "h", "e")], "i go h", "on h1 e"),
                "x",
                "z y",
            )
        ],
        [tensor("four", np.int64(4))],
    ),
    "turns",
)
BRANCH = {
    "then_branch": inner([node("Relu", "x", "t")], "", "t"),
    "else_branch": inner([node("Neg", "x", "e")], "", "e"),
}
add("a branch without branches", net([helper.make_node("If", ["yes"], ["y"], "fork")], NO), "fork")
add(
    "a branch without its other side",
    net([helper.make_node("If", ["yes"], ["y"], "fork", then_branch=BRANCH["then_branch"])], NO),
    "fork",
)
add(
    "a branch that gives nothing",
    net([helper.make_node("If", ["yes"], ["y"], "fork", then_branch=inner([]), else_branch=inner([]))], NO),
    "fork",
)
add(
    "a branch that gives what it does not compute",
    net(
        [
            helper.make_node(
                "If",
                ["yes"],
                ["y"],
                "fork",
                then_branch=inner([node("Relu", "x", "r")], "", "t"),
                else_branch=BRANCH["else_branch"],
            )
        ],
        NO,
    ),
)
add(
    "a branch that reads what comes later",
    net(
        [
            helper.make_node(
                "If",
                ["yes"],
                ["y"],
                "fork",
                then_branch=inner([node("Relu", "later", "t")], "", "t"),
                else_branch=BRANCH["else_branch"],
            ),
            node("Relu", "x", "later"),
        ],
        NO,
    ),
)
add("a branch by real numbers", net([helper.make_node("If", ["x"], ["y"], "fork", **BRANCH)]), "fork")
add(
    "a branch by no truth value",
    net([helper.make_node("If", ["q"], ["y"], "fork", **BRANCH)], [tensor("q", np.ones((0,), bool))]),
    "fork",
)


def nested(depth: int) -> bytes:
    """Branches in branches, in bytes: protobuf itself does not write so deep ones."""

    def field(number: int, content: bytes) -> bytes:
        size, rest = b"", len(content)
        while rest > 127:
            size, rest = size + bytes([rest % 128 + 128]), rest // 128
        return bytes([8 * number + 2]) + size + bytes([rest]) + content

    graph = BRANCH["then_branch"].SerializeToString()
    for _ in range(depth):
        sides = [AttributeProto(name=name, type=AttributeProto.GRAPH).SerializeToString() for name in BRANCH]
        fork = NodeProto(op_type="If", input=["yes"], output=["t"]).SerializeToString()
        fork += b"".join(
            field(5, side + field(6, graph if i else BRANCH["else_branch"].SerializeToString()))
            for i, side in enumerate(sides)
        )
        graph = inner([], "", "t").SerializeToString() + field(1, fork)
    proto = net([], NO)
    top = proto.graph.SerializeToString() + GraphProto.FromString(graph[:0]).SerializeToString()
    proto.ClearField("graph")
    fork = NodeProto(op_type="If", input=["yes"], output=["y"]).SerializeToString()
    fork += b"".join(
        field(5, AttributeProto(name=n, type=AttributeProto.GRAPH).SerializeToString() + field(6, graph))
        for n in BRANCH
    )
    return proto.SerializeToString() + field(7, top + field(1, fork))


add("branches 200 deep", lambda: nested(200))
SCANNED = inner([node("Relu", "e", "o")], "e", "o")


def scan(inputs: str, body: GraphProto, outputs: str = "y", **attrs: Any) -> NodeProto:
    return helper.make_node("Scan", inputs.split(), outputs.split(), "scan", body=body, **attrs)


add("a scan of more than there is", net([scan("x", SCANNED, num_scan_inputs=5)]), "scan")
add("a scan of 2^40 inputs", net([scan("x", SCANNED, num_scan_inputs=2**40)]), "scan")
add("a scan of -1 inputs", net([scan("x", SCANNED, num_scan_inputs=-1)]), "scan")
add("a scan of no inputs", net([scan("x", SCANNED, num_scan_inputs=0)]), "scan")
add("a scan of axis 9", net([scan("x", SCANNED, num_scan_inputs=1, scan_input_axes=[9])]), "scan")
add("a scan of two directions", net([scan("x", SCANNED, num_scan_inputs=1, scan_input_directions=[0, 1])]), "scan")
add(
    "a scan whose body takes two",
    net([scan("x", inner([node("Add", "e f", "o")], "e f", "o"), num_scan_inputs=1)]),
    "scan",
)
add("a scan whose body gives nothing", net([scan("x", inner([], "e", ""), num_scan_inputs=1)]), "scan")
add(
    "a scan of inputs of unlike length",
    net(
        [scan("x k", inner([node("Add", "e f", "o")], "e f", "o"), num_scan_inputs=2, scan_input_axes=[3, 0])],
        [floats("k", *range(20))],
    ),
    "scan",
)
add("a scan of 2^20 steps", net([scan("x", SCANNED, num_scan_inputs=1)], shape=(2**20, 1)), "scan")

# Sequences

add("a sequence as output", net([node("SequenceConstruct", "x x", "y")]), "'y'")
add(
    "the ninth of two",
    net([node("SequenceConstruct", "x x", "s"), node("SequenceAt", "s i", "y")], [tensor("i", np.int64(9))]),
    "SequenceAt_y",
)
add("a sum of a sequence", net([node("SequenceConstruct", "x x", "s"), node("Add", "s x", "y")]), "Add_y")
add(
    "nothing joined",
    net([node("SequenceEmpty", "", "s"), node("ConcatFromSequence", "s", "y", axis=0)]),
    "ConcatFromSequence_y",
)
add("an optional value", net([node("Optional", "x", "o"), node("OptionalGetElement", "o", "y")]), "Optional")


@pytest.fixture(scope="module")
def endings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """For each case how loading it ended."""
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "outside.bin").write_bytes(bytes(32))
    files = []
    for number, (make, _) in enumerate(CASES.values()):
        (folder / str(number)).mkdir()
        files.append(folder / str(number) / "net.onnx")
        proto = make()
        files[-1].write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
    return dict(zip(CASES, run(files, folder), strict=True))


@pytest.mark.xdist_group("onnx_hostile")
@pytest.mark.parametrize("name", list(CASES))
def test_it_is_refused(endings: dict[str, dict[str, Any]], name: str) -> None:
    ending = endings[name]
    assert ending["kind"] in ("ModelLoadError", "UnsupportedOperatorError"), ending
    assert ending["code"] == 3
    assert ending["taken"] < BYTES
    assert "allocate" not in ending["message"], "memory was asked for, and there was none"
    assert CASES[name][1] in re.sub(r"\S*\.onnx", "", ending["message"]), "the folder's name has letters, too"
