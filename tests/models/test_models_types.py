"""Models of other element types: converted where that is exact, else refused by name, before anything is compiled."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.errors import ModelLoadError
from edgeprune.graph.network import read_network
from edgeprune.models.interface import Interface
from edgeprune.models.loading import load_model, wrap_module

SHAPE = (1, 3, 8, 8)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.head = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.bn(self.conv(x))).mean((2, 3)))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    return Net()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32_as_it_is(net: Net, dtype: torch.dtype) -> None:
    loaded = wrap_module(net.to(dtype), torch.randn(SHAPE, dtype=dtype))
    assert {t.dtype for t in loaded.module.state_dict().values()} == {torch.float32, torch.int64}
    assert loaded.example_inputs[0].dtype == torch.float32
    for name, tensor in net.state_dict().items():
        assert torch.equal(
            loaded.module.state_dict()[name], tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype)
        )
    assert next(net.parameters()).dtype == dtype, "the module that was given stays as it was"
    assert read_network(loaded.module, loaded.example_inputs).channels.prunable


@pytest.mark.parametrize(
    ("dtype", "own"), [(torch.float16, "float16"), (torch.bfloat16, "float32"), (torch.float64, "float64")]
)
def test_a_program_takes_and_gives_the_module_s_own_type(net: Net, dtype: torch.dtype, own: str) -> None:
    net.to(dtype)
    for given in (SHAPE, torch.zeros(SHAPE, dtype=dtype)):
        loaded = wrap_module(net, given)
        assert (loaded.interface.inputs, loaded.interface.outputs) == ((own,), (own,))
        kernels = read_network(loaded.module, loaded.example_inputs, loaded.interface).kernels
        assert [p.dtype for p in (*kernels.inputs, *kernels.outputs)] == [own, own]


def test_a_module_of_float32_is_as_it_was_traced(net: Net) -> None:
    assert wrap_module(net, SHAPE).interface == Interface()


def test_an_operator_that_torch_has_in_float32_alone_gives_the_module_s_type(net: Net) -> None:
    class Fussy(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            if x.dtype == torch.float16:
                raise RuntimeError("not implemented for 'Half'")
            y = super().forward(x)
            return y, y.argmax(1)

    loaded = wrap_module(Fussy().half(), SHAPE)
    assert (loaded.interface.inputs, loaded.interface.outputs) == (("float16",), ("float16", "int64"))


def test_double_precision_that_float32_holds_is_converted(net: Net) -> None:
    loaded = wrap_module(net.double(), SHAPE)
    assert next(loaded.module.parameters()).dtype == torch.float32


def test_double_precision_that_it_does_not_hold_is_refused(net: Net) -> None:
    net.double()
    with torch.no_grad():
        net.conv.weight[0, 0, 0, 0] = 0.1
    with pytest.raises(ModelLoadError, match=r"'conv.weight' of .*Net is of type float64.*exactly") as caught:
        wrap_module(net, SHAPE)
    assert "model.float()" in caught.value.hint
    assert net.conv.weight.dtype == torch.float64


def test_a_factory_in_half_precision(tmp_path) -> None:
    file = tmp_path / "user.py"
    file.write_text(
        "import torch\nfrom torch import nn\n\n"
        "def net():\n    return nn.Conv2d(3, 4, 3).half(), (torch.randn(1, 3, 8, 8).half(),)\n"
    )
    loaded = load_model(f"{file}:net")
    assert loaded.module.weight.dtype == loaded.example_inputs[0].dtype == torch.float32


class Chosen(nn.Module):
    """Rows of a table by number, of which a mask lets some through."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(5, 4)
        self.register_buffer("table", torch.randn(7, 5))

    def forward(self, numbers: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.table[numbers] * mask[..., None])


def test_integers_and_truth_values_stay_what_they_are() -> None:
    given = (torch.tensor([[3, 0, 6]]), torch.tensor([[True, False, True]]))
    loaded = wrap_module(Chosen(), given)
    assert [x.dtype for x in loaded.example_inputs] == [torch.int64, torch.bool]
    assert all(torch.equal(a, b) for a, b in zip(loaded.example_inputs, given, strict=True))
    assert read_network(loaded.module, loaded.example_inputs).kernels.inputs[0].shape == (1, 3)


def test_whole_numbers_that_float32_does_not_hold_are_refused() -> None:
    with pytest.raises(ModelLoadError, match=r"'input 0' of .*Chosen holds 16777217"):
        wrap_module(Chosen(), (torch.tensor([[2**24 + 1]]), torch.tensor([[True]])))


def test_complex_inputs_are_refused(net: Net) -> None:
    with pytest.raises(ModelLoadError, match=r"'input 0' of .*Net is of type complex64"):
        wrap_module(net, torch.zeros(SHAPE, dtype=torch.complex64))


def test_complex_weights_are_refused() -> None:
    net = nn.Linear(3, 4)
    net.register_buffer("phase", torch.zeros(2, dtype=torch.complex64))
    with pytest.raises(ModelLoadError, match=r"'phase' of .* is of type complex64"):
        wrap_module(net, (1, 3))


@pytest.mark.parametrize("name", ["conv.weight", "bn.running_mean"])
def test_nan_in_a_weight_is_refused_by_name(net: Net, name: str) -> None:
    with torch.no_grad():
        net.state_dict()[name].flatten()[0] = torch.nan
    with pytest.raises(ModelLoadError, match=rf"'{name}' of .*Net holds NaN"):
        wrap_module(net, SHAPE)


def test_infinity_is_no_nan() -> None:
    """Attention adds it where nothing may be looked at."""
    net = nn.Linear(3, 4)
    net.register_buffer("mask", torch.full((2,), -torch.inf))
    assert wrap_module(net, (1, 3)).module.mask[0] == -torch.inf
