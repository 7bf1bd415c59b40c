"""ONNX networks with several inputs of other types than float32, from the file to the compiled program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper
from onnx_build import node, save, value, weights

import edgeprune
from edgeprune.compiler.compile import compile_network
from edgeprune.errors import ModelLoadError, UnsupportedOperatorError
from edgeprune.graph.network import read_network
from edgeprune.models.loading import load_model
from edgeprune.models.onnx.load import load_onnx
from edgeprune.targets import load_target

WORDS = 11


def text_network() -> onnx.ModelProto:
    """Words by number, a mask, a length: what a text classifier takes."""
    rng = np.random.default_rng(0)
    return helper.make_model(
        helper.make_graph(
            [
                node("Gather", "table words", "rows"),
                helper.make_node("Cast", ["mask"], ["shown"], "Cast_shown", to=TensorProto.FLOAT),
                node("Unsqueeze", "shown last", "column"),
                node("Mul", "rows column", "some"),
                node("ReduceSum", "some one", "total", keepdims=0),
                helper.make_node("Cast", ["length"], ["many"], "Cast_many", to=TensorProto.FLOAT),
                node("Div", "total many", "mean"),
                node("Gemm", "mean w b", "scores", transB=1),
                node("ArgMax", "scores", "best", axis=1),
            ],
            "text",
            [
                value("words", ("n", "time"), TensorProto.INT64),
                value("mask", ("n", "time"), TensorProto.BOOL),
                value("length", (1, 1), TensorProto.INT32),
            ],
            [value("scores", ("n", 3)), value("best", ("n", 1), TensorProto.INT64)],
            [
                weights(rng, "table", WORDS, 6),
                weights(rng, "w", 3, 6),
                weights(rng, "b", 3),
                onnx.numpy_helper.from_array(np.array([2]), "last"),
                onnx.numpy_helper.from_array(np.array([1]), "one"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )


GIVEN = {
    "words": np.array([[3, 0, 10, 7]]),
    "mask": np.array([[True, True, False, True]]),
    "length": np.array([[3]], np.int32),
}


def test_words_a_mask_and_a_length_go_all_the_way(tmp_path: Path) -> None:
    file, examples = save(text_network(), tmp_path), tmp_path / "inputs.npz"
    np.savez(examples, **GIVEN)
    loaded = load_model(str(file), example=examples)
    assert [x.dtype for x in loaded.example_inputs] == [torch.int64, torch.bool, torch.int32]
    expected = onnxruntime.InferenceSession(str(file)).run(None, GIVEN)
    network = read_network(loaded.module, loaded.example_inputs, loaded.interface)
    manifest = compile_network(network, load_target("host"), tmp_path / "bundle")
    assert [p.dtype for p in manifest.inputs + manifest.outputs] == ["int64", "bool", "int32", "float32", "int64"]
    with edgeprune.load_bundle(tmp_path / "bundle") as program:
        found = program(*GIVEN.values())
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        (TensorProto.FLOAT16, "float16"),
        (TensorProto.DOUBLE, "float64"),
        (TensorProto.BFLOAT16, "float32"),
        (TensorProto.UINT8, "uint8"),
        (TensorProto.UINT32, "int64"),
    ],
)
def test_the_types_of_the_file_are_those_of_the_program(kind: int, own: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "x"], ["y"], "Add_y"),
        helper.make_node("Equal", ["x", "y"], ["z"], "Equal_z"),
    ]
    outputs = [value("y", (1, 4), kind), value("z", (1, 4), TensorProto.BOOL)]
    graph = helper.make_graph(nodes, "net", [value("x", (1, 4), kind)], outputs)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    loaded = load_model(str(save(proto, tmp_path)))
    assert (loaded.interface.inputs, loaded.interface.outputs) == ((own,), (own, "bool"))


def test_shapes_by_name_and_integers_that_are_not_given(tmp_path: Path) -> None:
    file = str(save(text_network(), tmp_path))
    with pytest.raises(ModelLoadError, match=r"'words' has the open shape \['n', 'time'\]") as caught:
        load_model(file)
    assert "--input-shape words=" in caught.value.hint
    loaded = load_model(file, input_shape={"words": (2, 5), "mask": (2, 5)})
    assert [tuple(x.shape) for x in loaded.example_inputs] == [(2, 5), (2, 5), (1, 1)]
    assert not loaded.example_inputs[0].any()
    with pytest.raises(ModelLoadError, match="no input 'wrods'; its inputs are 'words'"):
        load_model(file, input_shape={"wrods": (2, 5)})


def test_an_input_that_has_to_be_constant_is_named_and_can_be_fixed(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [node("Mul", "shape two", "twice"), node("Reshape", "x twice", "y")],
        "net",
        [value("x", (2, 6)), value("shape", (2,), TensorProto.INT64)],
        [value("y", (4, 3))],
        [onnx.numpy_helper.from_array(np.array([2, 1]), "two")],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file = save(proto, tmp_path)
    with pytest.raises(UnsupportedOperatorError, match="its shape is computed") as caught:
        load_onnx(file)
    assert caught.value.details["needs"] == ["shape"]
    network = load_onnx(file, fixed={"shape": np.array([2, 3])})
    assert [p.name for p in network.inputs] == ["x"]
    assert network.module(torch.zeros(2, 6)).shape == (4, 3)


def test_an_example_decides_what_shapes_and_branches_hang_on(tmp_path: Path) -> None:
    """And real numbers, and integers that nothing hangs on, stay inputs."""
    graph = helper.make_graph(
        [node("Reshape", "x shape", "r"), node("Gather", "r place", "y", axis=1)],
        "net",
        [
            value("x", ("n", 6)),
            value("shape", (2,), TensorProto.INT64),
            value("place", (1,), TensorProto.INT64),
        ],
        [value("y", ("a", "b"))],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    file, examples = save(proto, tmp_path), tmp_path / "examples.npz"
    np.savez(examples, shape=np.array([4, 3]), place=np.array([2]))
    loaded = load_model(str(file), input_shape={"x": (2, 6)}, example=examples)
    x, place = loaded.example_inputs
    assert place.tolist() == [2]
    torch.testing.assert_close(loaded.module(x, place), x.reshape(4, 3)[:, 2:])
    np.savez(examples, place=np.array([2]))
    with pytest.raises(UnsupportedOperatorError) as caught:
        load_model(str(file), input_shape={"x": (2, 6)}, example=examples)
    assert caught.value.details["needs"] == ["shape"]
    assert "--example" in caught.value.hint
