from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from payload import Payload
from safetensors.torch import save_file

from edgeprune.errors import ModelLoadError, UsageError
from edgeprune.models.loading import load_model, parse_shape
from edgeprune.models.zoo import build

USER_FILE = """
import torch
from torch import nn
from helper_of_the_user import WIDTH

def net():
    return nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.ReLU())

def with_inputs():
    return net(), (torch.ones(1, 3, 8, 8),)

def broken():
    raise KeyError("oops")

def no_module():
    return 3
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    (tmp_path / "helper_of_the_user.py").write_text("WIDTH = 4\n")
    file = tmp_path / "my net.py"
    file.write_text(USER_FILE)
    return file


def test_the_payload_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "ran")))
    assert (tmp_path / "ran").exists()


def test_zoo_with_options() -> None:
    loaded = load_model("zoo:resnet20?width=2&num_classes=5&in_channels=1", seed=1)
    assert loaded.name == "resnet20"
    assert [tuple(i.shape) for i in loaded.example_inputs] == [(1, 1, 32, 32)]
    assert loaded.module(*loaded.example_inputs).shape == (1, 5)
    assert loaded.module.get_parameter("stem.0.weight").shape[0] == 32
    again = load_model("zoo:resnet20?width=2&num_classes=5&in_channels=1", seed=1)
    assert torch.equal(again.example_inputs[0], loaded.example_inputs[0])


def test_input_shape_overrides() -> None:
    assert load_model("zoo:resnet20", input_shape=(2, 3, 40, 24)).example_inputs[0].shape == (2, 3, 40, 24)
    with pytest.raises(ModelLoadError, match="does not run"):
        load_model("zoo:resnet20", input_shape=(1, 4, 32, 32))
    for absurd in ((), (1, 0, 32, 32), (1, 3, 10**6, 10**6)):
        with pytest.raises(ModelLoadError, match="no input shape"):
            load_model("zoo:resnet20", input_shape=absurd)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("zoo:resnet20?width", "cannot be read: bad query field: 'width'"),
        ("zoo:resnet20?width=wide", "cannot be read: could not convert string to float: 'wide'"),
        ("zoo:resnet20?widht=2", "cannot be built with .*unexpected keyword argument 'widht'"),
        ("zoo:nothing", "the zoo has no network 'nothing'; it has: .*resnet20"),
    ],
)
def test_wrong_zoo_sources(source: str, why: str) -> None:
    with pytest.raises(ModelLoadError, match=why):
        load_model(source)


def test_factories_of_the_user(user_file: Path) -> None:
    loaded = load_model(f"{user_file}:with_inputs")
    assert torch.equal(loaded.example_inputs[0], torch.ones(1, 3, 8, 8))
    assert not loaded.module.training
    first = load_model(f"{user_file}:net", input_shape=(1, 3, 8, 8), seed=5).module.state_dict()
    second = load_model(f"{user_file}:net", input_shape=(1, 3, 8, 8), seed=5).module.state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize(
    ("factory", "message"),
    [("net", "input shape"), ("broken", "KeyError"), ("no_module", "returned int"), ("nett", "it has: .*with_inputs")],
)
def test_factories_that_cannot_be_used(user_file: Path, factory: str, message: str) -> None:
    with pytest.raises(ModelLoadError, match=message):
        load_model(f"{user_file}:{factory}")


def test_factory_of_a_module() -> None:
    loaded = load_model("edgeprune.models.zoo.resnet_cifar:resnet20", input_shape=(1, 3, 32, 32))
    assert loaded.name == "resnet20"
    with pytest.raises(ModelLoadError, match="ModuleNotFoundError"):
        load_model("no_such_package_at_all:net")
    with pytest.raises(ModelLoadError, match="there is no file"):
        load_model("nowhere.py:net")


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("", "'' is no model"),
        ("resnet20", "'resnet20' is no model"),
        ("model.h5", "'model.h5' is no model"),
        ("missing.onnx", "there is no file missing.onnx"),
        ("missing.pt2", "there is no file missing.pt2"),
    ],
)
def test_what_is_no_model(source: str, why: str) -> None:
    with pytest.raises(ModelLoadError, match=why) as caught:
        load_model(source)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("kind", ["raw2", "raw5", "zip"])
@pytest.mark.parametrize("name", ["m.pt", "m.pth", "m.bin", "m.ckpt", "m.onnx", "m.pt2", "m.safetensors", "m"])
@pytest.mark.parametrize("where", ["model", "weights"])
def test_fault_1_a_pickle_is_refused_and_never_runs(tmp_path: Path, kind: str, name: str, where: str) -> None:
    payload, file = Payload(tmp_path / "ran"), tmp_path / name
    if kind == "zip":
        torch.save({"weight": payload}, file)
        assert zipfile.is_zipfile(file)
    else:
        file.write_bytes(pickle.dumps(payload, protocol=int(kind[-1])))
    source, weights = (str(file), None) if where == "model" else ("zoo:resnet20", file)
    with pytest.raises(ModelLoadError) as caught:
        load_model(source, weights=weights)
    assert not (tmp_path / "ran").exists(), "the payload ran"
    assert caught.value.exit_code == 3
    if name != "m.pt2" or where == "weights":
        assert "save_file" in caught.value.hint


def test_a_text_pickle_under_an_honest_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(pickle.dumps(Payload(tmp_path / "ran"), protocol=0))
    with pytest.raises(ModelLoadError, match="not a whole safetensors"):
        load_model("zoo:resnet20", weights=file)
    assert not (tmp_path / "ran").exists()


def test_fault_1_a_name_that_means_pickle_is_enough(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(pickle.dumps([1], protocol=0))
    with pytest.raises(ModelLoadError, match="pickled checkpoint"):
        load_model("zoo:resnet20", weights=tmp_path / "weights.pth")


def test_weights_arrive(tmp_path: Path) -> None:
    state = {k: v + 1 if v.is_floating_point() else v for k, v in build("resnet20").state_dict().items()}
    save_file(state, tmp_path / "w.safetensors")
    loaded = load_model("zoo:resnet20", weights=tmp_path / "w.safetensors").module.state_dict()
    assert all(torch.equal(loaded[k], state[k]) for k in state)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = build("resnet20").state_dict()
    del state["classifier.bias"]
    state["head.weight"] = torch.zeros(1)
    state["stem.0.weight"] = torch.zeros(16, 1, 3, 3)
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelLoadError) as caught:
        load_model("zoo:resnet20", weights=tmp_path / "w.safetensors")
    assert caught.value.details["missing"] == ["classifier.bias"]
    assert caught.value.details["unexpected"] == ["head.weight"]
    assert caught.value.details["shapes"] == {"stem.0.weight": {"file": [16, 1, 3, 3], "model": [16, 3, 3, 3]}}
    for name in ("classifier.bias", "head.weight", "stem.0.weight"):
        assert name in caught.value.message


def test_weights_without_step_counters_are_fine(tmp_path: Path) -> None:
    state = {k: v for k, v in build("resnet20").state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(state, tmp_path / "w.safetensors")
    load_model("zoo:resnet20", weights=tmp_path / "w.safetensors")


def test_weights_with_nan_are_refused(tmp_path: Path) -> None:
    state = build("resnet20").state_dict()
    state["classifier.bias"][3] = float("nan")
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ModelLoadError, match=r"NaN or infinity in classifier\.bias"):
        load_model("zoo:resnet20", weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_fault_4_weights_cut_short(tmp_path: Path, keep: int) -> None:
    file = tmp_path / "w.safetensors"
    save_file(build("resnet20").state_dict(), file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ModelLoadError, match=r"w\.safetensors"):
        load_model("zoo:resnet20", weights=file)


def test_fault_4_safetensors_with_an_absurd_header(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    file.write_bytes((2**62).to_bytes(8, "little") + b"{}")
    with pytest.raises(ModelLoadError, match="not a whole safetensors"):
        load_model("zoo:resnet20", weights=file)


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("1x3x320x320", (1, 3, 320, 320)),
        ("1,3,8", (1, 3, 8)),
        ("images=1x3x320x320,length=1", {"images": (1, 3, 320, 320), "length": (1,)}),
        ("a b=1,2,3,c=4x5", {"a b": (1, 2, 3), "c": (4, 5)}),
        ("x=y=3", {"x=y": (3,)}),
    ],
)
def test_shapes_of_one_input_or_of_each_by_name(text: str, shapes: object) -> None:
    assert parse_shape(text) == shapes


@pytest.mark.parametrize("text", ["x", "=3", "a=1,a=2", "a=", "a=1x0", "1xtwo"])
def test_what_is_no_shape(text: str) -> None:
    with pytest.raises(UsageError):
        parse_shape(text)


def test_names_of_inputs_where_there_are_none() -> None:
    with pytest.raises(UsageError, match="have no names"):
        load_model("zoo:resnet20", input_shape={"x": (1, 3, 32, 32)})


def test_example_inputs_from_a_file(tmp_path: Path) -> None:
    image = np.full((2, 3, 32, 32), 0.5, np.float32)
    np.savez(tmp_path / "inputs.npz", image)
    (x,) = load_model("zoo:resnet20", example=tmp_path / "inputs.npz").example_inputs
    np.testing.assert_array_equal(x.numpy(), image)


def test_example_inputs_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "inputs.npz", np.array([{"a": 1}], dtype=object))
    with pytest.raises(ModelLoadError, match="holds no example inputs"):
        load_model("zoo:resnet20", example=tmp_path / "inputs.npz")
    (tmp_path / "text.npz").write_text("no archive")
    with pytest.raises(ModelLoadError, match="holds no example inputs"):
        load_model("zoo:resnet20", example=tmp_path / "text.npz")
