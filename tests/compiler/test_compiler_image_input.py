"""Programs that take camera frames: exact against torch with the same preprocessing, whatever reads the image."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import edgeprune
from edgeprune.errors import BadInputError, UnsupportedOperatorError, UsageError
from edgeprune.graph.network import read_network
from edgeprune.models.image_input import ImageInput
from edgeprune.models.interface import Interface

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Padded(nn.Module):
    """A convolution that pads with zeros: those of the normalised image."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 5, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv(x))


class Pooled(nn.Module):
    """Reads blocks."""

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 3, 2, 1)


class Rows(nn.Module):
    """Reads rows: no convolution is first."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2).softmax(1)


class Both(nn.Module):
    """Reads blocks and rows; a second input is no image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, features: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.conv(F.max_pool2d(x, 2)), x.sum((2, 3)), features * 2


def at_once(frame: np.ndarray, order: str = "rgb", mean: object = MEAN, std: object = STD) -> Tensor:
    """The preprocessing as torchvision has it, in float32."""
    x = torch.from_numpy(np.ascontiguousarray(frame if order == "rgb" else frame[..., ::-1])).permute(0, 3, 1, 2)
    shape = (1, -1, 1, 1)
    return (x.float().div(255) - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, dict[str, object]]] = {
    "padded": (Padded, (1, 3, 19, 37), "bgr:imagenet", {"order": "bgr"}),
    "grey": (lambda: Padded(1), (1, 1, 12, 16), "mean=0.5:std=0.25", {"mean": [0.5], "std": [0.25]}),
    "scaled": (Padded, (1, 3, 8, 8), "rgb", {"mean": [0.0], "std": [1.0]}),
    "pooled": (Pooled, (2, 3, 9, 21), "imagenet:order=bgr", {"order": "bgr"}),
    "rows": (Rows, (1, 3, 5, 33), "rgb:imagenet", {}),
}


@pytest.mark.parametrize("case", CASES)
def test_frames_give_what_torch_gives(case: str, tmp_path: Path) -> None:
    make, shape, said, preprocessing = CASES[case]
    module = make().eval()
    bundle = edgeprune.compile(module, example_inputs=shape, image_input=said, out=tmp_path / "bundle")
    n, channels, height, width = shape
    frame = np.random.default_rng(1).integers(0, 256, (n, height, width, channels), np.uint8)
    with torch.no_grad():
        expected = module(at_once(frame, **preprocessing)).numpy()  # type: ignore[arg-type]
    with edgeprune.load_bundle(bundle.path) as model:
        (y,) = model(frame)
        np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
        if n == 1:
            assert (model(frame[0])[0] == y).all()
        with pytest.raises(BadInputError, match="of type uint8, which does not hold"):
            model(frame / 255)
    assert bundle.manifest.kernels[0].spec["op"] == "image"
    assert "layout" not in [k.spec["op"] for k in bundle.manifest.kernels[:2]], "one pass"
    _checked(bundle)


def _checked(bundle: edgeprune.Bundle) -> None:
    """The program reproduces its golden frames, and takes the memory that the manifest says."""
    golden, program = bundle.manifest.golden, bundle.path / "model"
    files = [("--input", n) for n in golden.inputs] + [("--expect", n) for n in golden.outputs]
    named = [a for option, name in files for a in (option, bundle.path / name)]
    subprocess.run([program, "check", *named], check=True, capture_output=True)
    done = subprocess.run([program, "bench", "--repeats", "2"], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout)["allocated_bytes"] == bundle.manifest.memory.peak_ram


def test_one_of_several_inputs_in_two_layouts(tmp_path: Path) -> None:
    module, inputs = Both(), (torch.randn(1, 4), torch.randn(1, 3, 8, 8))
    bundle = edgeprune.compile(module, example_inputs=inputs, image_input="imagenet", out=tmp_path / "bundle")
    ports = bundle.manifest.inputs
    assert [(p.name, p.shape, p.dtype) for p in ports] == [
        ("features", (1, 4), "float32"),
        ("x", (1, 8, 8, 3), "uint8"),
    ]
    assert ports[0].image is None
    assert (ports[1].image.order, ports[1].image.mean, ports[1].image.std) == ("rgb", MEAN, STD)
    frame = np.random.default_rng(2).integers(0, 256, ports[1].shape, np.uint8)
    with edgeprune.load_bundle(bundle.path) as model, torch.no_grad():
        for y, expected in zip(model(inputs[0].numpy(), frame), module(inputs[0], at_once(frame)), strict=True):
            np.testing.assert_allclose(y, expected.numpy(), rtol=1e-5, atol=1e-4)
    _checked(bundle)


@pytest.mark.parametrize(
    ("module", "shape", "said"),
    [(Rows, (1, 4, 5, 5), "rgb"), (Rows, (1, 3, 5, 5), "input=y"), (Padded, (1, 3, 8, 8), "mean=1,2:std=1")],
)
def test_what_is_no_image_is_refused(module: Callable[[], nn.Module], shape: tuple[int, ...], said: str) -> None:
    with pytest.raises(UsageError):
        read_network(module().eval(), (torch.randn(shape),), Interface(image=ImageInput.parse(said)))


def test_a_gpu_does_not_take_frames_yet(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperatorError, match="for a GPU") as caught:
        edgeprune.compile(
            Padded(), example_inputs=(1, 3, 8, 8), target="jetson_nano", image_input="rgb", out=tmp_path / "bundle"
        )
    assert caught.value.details["op"] == "image"


def test_the_network_s_own_bytes_are_no_frame(tmp_path: Path) -> None:
    """An input of uint8 that the network itself converts goes in as it is."""

    class Own(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.permute(0, 3, 1, 2).float() / 255

    frame = torch.randint(256, (1, 4, 5, 3), dtype=torch.uint8)
    bundle = edgeprune.compile(Own(), example_inputs=frame, out=tmp_path / "bundle")
    assert (bundle.manifest.inputs[0].dtype, bundle.manifest.inputs[0].image) == ("uint8", None)
    with edgeprune.load_bundle(bundle.path) as model:
        np.testing.assert_allclose(model(frame.numpy())[0], Own()(frame).numpy(), rtol=1e-6)
    _checked(bundle)
