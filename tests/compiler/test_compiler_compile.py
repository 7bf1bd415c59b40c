"""From a module to its values: golden samples, and constants wherever a module keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from compiler_nets import net
from torch import Tensor, nn

import edgeprune
from edgeprune.compiler.compile import compile_network, golden_pair
from edgeprune.compiler.kernels.registry import rule_named
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.graph.network import read_network
from edgeprune.latency.records import KernelRecord
from edgeprune.targets import load_target


def outputs(module: nn.Module, x: Tensor, out: Path) -> tuple[np.ndarray, ...]:
    """What the compiled network gives for ``x``."""
    compile_network(read_network(module, (x,)), load_target("host"), out)
    with edgeprune.load_bundle(out) as model:
        return model(x.numpy())


def test_the_golden_sample_is_repeatable_and_leaves_the_module_alone() -> None:
    module, inputs = net("residual")
    module.train()
    module.stem[1].eval()  # type: ignore[index, union-attr]
    before = {k: v.clone() for k, v in module.state_dict().items()}
    modes = [m.training for m in module.modules()]
    pair = golden_pair(read_network(module, inputs))
    assert [m.training for m in module.modules()] == modes
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    again = golden_pair(read_network(module, inputs))
    assert pair.inputs[0].tobytes() == again.inputs[0].tobytes()
    assert pair.outputs[0].tobytes() == again.outputs[0].tobytes()
    assert golden_pair(read_network(module, inputs), seed=1).inputs[0].tobytes() != pair.inputs[0].tobytes()
    module.eval()
    assert torch.equal(torch.from_numpy(pair.outputs[0]), module(torch.from_numpy(pair.inputs[0])))


class InPlaceFirst(nn.Module):
    """Writes into what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.sigmoid_())  # type: ignore[no-any-return]


def test_the_golden_input_is_what_the_network_was_given() -> None:
    module = InPlaceFirst()
    pair = golden_pair(read_network(module, (torch.zeros(1, 3, 2, 2),)))
    x = torch.from_numpy(pair.inputs[0])
    assert x.min() < 0
    assert torch.equal(module.conv(x.sigmoid()), torch.from_numpy(pair.outputs[0]))


class Named(nn.Module):
    """Outputs in a dictionary, inside a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 5, 1)

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        return {"z": self.a(x), "a": self.b(x)}, F.relu(x)


def test_outputs_in_containers(tmp_path: Path) -> None:
    module, x = Named(), torch.randn(1, 3, 4, 4)
    actual = outputs(module, x, tmp_path / "bundle")
    named, last = module(x)
    for y, expected in zip(actual, (named["z"], named["a"], last), strict=True):
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    assert [g.shape for g in golden_pair(read_network(module, (x,))).outputs] == [y.shape for y in actual]


class FixedFilter(nn.Module):
    """A filter that is not saved with the weights, and one that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("blur", torch.full((3, 1, 3, 3), 1 / 9), persistent=False)
        self.a, self.b = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.b.weight = self.a.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(F.conv2d(x, self.blur, padding=1, groups=3)))  # type: ignore[no-any-return]


def test_constants_that_are_no_saved_parameters(tmp_path: Path) -> None:
    module, x = FixedFilter(), torch.randn(1, 3, 5, 5)
    (actual,) = outputs(module, x, tmp_path / "bundle")
    np.testing.assert_allclose(actual, module(x).detach().numpy(), rtol=1e-5, atol=1e-6)


def test_scratch_of_a_kernel_shares_the_arena(tmp_path: Path) -> None:
    """Two Winograd layers: their scratch lies where nothing else is alive, and is counted."""
    module = nn.Sequential(*(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))).eval()
    x, target = torch.randn(1, 8, 12, 12), load_target("host")
    network = read_network(module, (x,))
    specs = [n.spec for n in network.kernels.nodes if n.spec.op == "conv2d" and n.spec.inputs[0].layout == "blocked"]
    schedule = {"rule": "conv_winograd", "m": 4, "rows": 3, "blocks": 1, "columns": 9}
    records = [KernelRecord(s, schedule, "ok", 1.0, samples=1) for s in specs]
    plain = compile_network(network, target, tmp_path / "plain")
    manifest = compile_network(network, target, tmp_path / "bundle", book=ScheduleBook(target, records))
    rules = [k.schedule["rule"] for k in manifest.kernels]
    assert rules.count("conv_winograd") == len(specs) >= 2
    scratch = 4 * rule_named(schedule).scratch(specs[0], schedule, target)
    assert scratch <= manifest.memory.arena <= plain.memory.arena + scratch
    with edgeprune.load_bundle(tmp_path / "bundle") as model:
        np.testing.assert_allclose(model(x.numpy())[0], module(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_a_bundle_that_replaces_another_is_the_one_that_runs(tmp_path: Path) -> None:
    """The system's loader would hand out the first library that it met under a name."""
    x = torch.tensor([[-1.0, 2.0, 3.0]])
    for layer in (nn.ReLU(), nn.Tanh(), nn.Hardtanh(-5, 1)):
        (found,) = outputs(layer, x, tmp_path / "bundle")
        np.testing.assert_allclose(found, layer(x).numpy(), rtol=1e-5)


class Streamed(nn.Module):
    """A recurrent layer whose states are inputs and outputs, as a stream of sound or text needs it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        y, last = self.layer(x, states if len(states) > 1 else states[0])
        return y, *(last if isinstance(last, tuple) else (last,))


LAYERS = {
    "LSTM": (nn.LSTM(5, 9), 1),
    "two layers both ways": (nn.LSTM(5, 9, 2, bidirectional=True, batch_first=True), 4),
    "GRU": (nn.GRU(5, 9, 2), 2),
    "RNN": (nn.RNN(5, 9, bias=False), 1),
    "projected": (nn.LSTM(5, 9, 2, proj_size=4, bidirectional=True), 4),
    "projected, without biases": (nn.LSTM(5, 9, proj_size=4, bias=False, batch_first=True), 1),
}


@pytest.mark.filterwarnings("ignore:The tensor attributes")  # torch, of any LSTM
@pytest.mark.parametrize("name", LAYERS)
def test_states_of_recurrent_layers_go_in_and_come_out(name: str, tmp_path: Path) -> None:
    layer, states = LAYERS[name]
    sizes = (layer.proj_size or layer.hidden_size, layer.hidden_size)[: 2 if isinstance(layer, nn.LSTM) else 1]
    x = (torch.randn(3, 3, 5), *(torch.randn(states, 3, size) for size in sizes))
    network = read_network(Streamed(layer).eval(), x)
    compile_network(network, load_target("host"), tmp_path / "bundle")
    with torch.no_grad():
        expected = network.module(*x)
    with edgeprune.load_bundle(tmp_path / "bundle") as model:
        for a, e in zip(model(*(t.numpy() for t in x)), expected, strict=True):
            np.testing.assert_allclose(a, e.numpy(), rtol=1e-4, atol=1e-5)


class Stepped(nn.Module):
    """Rounds its activations to 8 bits, as quantised networks do: the last bit of a float may decide a step."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 32, 3), nn.Conv2d(32, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.last):
            y = layer(x)
            x = (y * 16e5).sin().round() + 0.0 * y
        return x


def test_the_golden_check_allows_what_rounding_alone_does(tmp_path: Path) -> None:
    module, inputs = net("residual")
    assert golden_pair(read_network(module, inputs)).rtol == 1e-4
    torch.manual_seed(0)
    restless = golden_pair(read_network(Stepped().eval(), (torch.zeros(1, 3, 16, 16),)))
    assert restless.rtol == 0.1
