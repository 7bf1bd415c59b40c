"""ONNX out: the file gives what torch gives, in ONNX Runtime and read back; a bad one never appears."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from edgeprune import export
from edgeprune.errors import UnsupportedOperatorError, UsageError, VerificationError
from edgeprune.models.onnx import export as onnx_export
from edgeprune.models.onnx.export import export_onnx
from edgeprune.models.onnx.load import load_onnx
from edgeprune.models.zoo import build

IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def run(file: Path, *inputs: Tensor) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: x.numpy() for i, x in zip(session.get_inputs(), inputs, strict=True)})


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
@pytest.mark.parametrize("name", ["resnet20", "mobilenet_v3_small", "squeezenet"])
def test_the_file_gives_what_torch_gives(name: str, opset: int, tmp_path: Path) -> None:
    module, file = build(name), tmp_path / "deep" / "net.onnx"
    assert export_onnx(module, (IMAGE,), file, opset=opset) <= 1e-5
    (actual,) = run(file, IMAGE)
    with torch.no_grad():
        np.testing.assert_allclose(actual, module(IMAGE).numpy(), rtol=1e-4, atol=1e-5)
    assert [p.name for p in file.parent.iterdir()] == ["net.onnx"]
    model = onnx.load(file)
    assert not {n.op_type for n in model.graph.node} & {"BatchNormalization", "Identity"}
    assert {o.version for o in model.opset_import if o.domain == ""} == {opset}


def test_it_is_read_back(tmp_path: Path) -> None:
    module, file = build("resnet20"), tmp_path / "net.onnx"
    export_onnx(module, (IMAGE,), file)
    again = load_onnx(file)
    assert [p.shape for p in again.inputs] == [tuple(IMAGE.shape)]
    assert [p.name for p in again.outputs] == ["output"]
    with torch.no_grad():
        torch.testing.assert_close(again.module(IMAGE), module(IMAGE), rtol=1e-4, atol=1e-5)


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, image: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(image)
        return y.mean((2, 3)) + row, y


def test_several_inputs_and_outputs_with_names(tmp_path: Path) -> None:
    module, row, file = Two().eval(), torch.randn(1, 4), tmp_path / "two.onnx"
    export_onnx(module, (IMAGE, row), file, input_names=("image", "row"), output_names=("sum", "map"))
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["image", "row"]
    assert [o.name for o in session.get_outputs()] == ["sum", "map"]
    with torch.no_grad():
        for actual, expected in zip(run(file, IMAGE, row), module(IMAGE, row), strict=True):
            np.testing.assert_allclose(actual, expected.numpy(), rtol=1e-4, atol=1e-5)


class Typed(nn.Module):
    """Tokens and a mask in, real numbers, places and truth values out."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.conv, self.head = nn.Embedding(20, 16), nn.Conv1d(16, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.conv(self.table(tokens).transpose(1, 2)).relu() * mask[:, None, :].float()
        y = self.head(x.mean(2))
        return y, y.argmax(1), y > 0


def test_types_and_names_and_an_open_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net, file = Typed().eval(), tmp_path / "net.onnx"
    tokens, mask = torch.arange(7)[None], torch.tensor([[True] * 5 + [False] * 2])
    export(net, file, example_inputs=(tokens, mask), dynamic_batch=True, progress=False)
    graph = onnx.load(file).graph
    assert [i.name for i in graph.input] == ["tokens", "mask"]
    assert {v.type.tensor_type.shape.dim[0].dim_param for v in (*graph.input, *graph.output)} == {"batch"}
    many = torch.randint(20, (5, 7)), torch.rand(5, 7) > 0.3
    actual = run(file, *many)
    assert [a.dtype.name for a in actual] == ["float32", "int64", "bool"]
    for a, expected in zip(actual, net(*many), strict=True):
        np.testing.assert_allclose(a, expected.detach().numpy(), atol=1e-5)


class OfOne(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(1, -1).relu()


class OfAll(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x - torch.arange(len(x))[:, None, None, None]


@pytest.mark.parametrize(("module", "made"), [(OfOne(), r"\[1, 9216\]"), (OfAll(), "other numbers")])
def test_a_network_of_one_batch_is_refused_with_what_it_makes(module: nn.Module, made: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"of 3 samples at once torch makes {made}"):
        export_onnx(module, (IMAGE,), tmp_path / "net.onnx", dynamic_batch=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_another_type_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def narrow(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [y.astype(np.float64) for y in evaluated(model, inputs)]

    evaluated = onnx_export._by_runtime
    monkeypatch.setattr(onnx_export, "_by_reference", narrow)
    monkeypatch.setattr(onnx_export, "_by_runtime", narrow)
    with pytest.raises(VerificationError, match="float64"):
        export_onnx(OfOne(), (IMAGE,), tmp_path / "net.onnx")


def test_opsets_that_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="opset 9"):
        export_onnx(build("resnet20"), (IMAGE,), tmp_path / "net.onnx", opset=9)


def test_what_torch_cannot_write(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x)

    with pytest.raises(UnsupportedOperatorError, match="bessel"):
        export_onnx(Odd(), (IMAGE,), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
    assert not capsys.readouterr().out


def test_a_file_that_differs_does_not_replace_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "net.onnx"
    file.write_text("old")
    monkeypatch.setattr(onnx_export, "RTOL", -1.0)
    monkeypatch.setattr(onnx_export, "EXACT", -1.0)
    with pytest.raises(
        VerificationError, match=r"does not give what torch gives: ONNX Runtime: differs.*onnx.reference: differs"
    ):
        export_onnx(build("resnet20"), (IMAGE,), file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


class Padded(nn.Module):
    def __init__(self, *pads: int) -> None:
        super().__init__()
        self.conv, self.pads = nn.Conv2d(3, 4, 3), pads

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.pad(self.conv(x), self.pads)


def grouped() -> nn.Module:
    return nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2, output_padding=1)


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (grouped(), torch.randn(1, 4, 5, 5)),
        (Padded(-1, -1), IMAGE),
        (nn.Upsample(scale_factor=1.5), torch.randn(1, 3, 5, 7)),
    ],
    ids=["grouped transposed", "negative padding", "fractional nearest"],
)
def test_right_files_that_the_reference_gets_wrong_are_written(module: nn.Module, x: Tensor, tmp_path: Path) -> None:
    export_onnx(module, (x,), tmp_path / "net.onnx")
    (actual,) = run(tmp_path / "net.onnx", x)
    with torch.no_grad():
        np.testing.assert_allclose(actual, module(x).numpy(), rtol=1e-4, atol=1e-5)


class Cancelling(nn.Module):
    """A variance as a difference of two means of squares: rounding decides what is left of it."""

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1e-3 + 1
        return (x * x).mean((2, 3)) - x.mean((2, 3)) ** 2


def test_rounding_that_a_network_amplifies_is_no_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "net.onnx"
    assert export_onnx(Cancelling(), (IMAGE,), file) > 1e-2
    assert onnx.load(file).graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    evaluated = onnx_export._by_reference
    monkeypatch.setattr(onnx_export, "_by_reference", lambda *a: [1.001 * y for y in evaluated(*a)])
    file.unlink()
    with pytest.raises(VerificationError, match="differs"):  # in float64, too
        export_onnx(Cancelling(), (IMAGE,), file)


@pytest.mark.parametrize("runtime", [lambda *_: 1 / 0, lambda model, inputs: [np.zeros((1, 10), np.float32)]])
def test_a_second_opinion_is_asked_for(runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_by_runtime", runtime)
    assert export_onnx(build("resnet20"), (IMAGE,), tmp_path / "net.onnx") <= 1e-5


def test_without_a_second_opinion_the_first_one_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_by_reference", lambda *_: 1 / 0)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(VerificationError, match=r"ONNX Runtime: ModuleNotFoundError.*ZeroDivisionError") as caught:
        export_onnx(build("resnet20"), (IMAGE,), tmp_path / "net.onnx")
    assert "install it" in caught.value.hint
    assert not list(tmp_path.iterdir())
