from __future__ import annotations

import functools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from architectures import ARCHITECTURES, registry
from edgeprune.graph.trace import trace, user_outputs


def tensors(value: object) -> Iterator[Tensor]:
    """Every tensor a network returned, out of tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    else:
        assert isinstance(value, tuple | list | dict)
        for v in value.values() if isinstance(value, dict) else value:
            yield from tensors(v)


@torch.no_grad()
def outputs(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    return list(tensors(module(*inputs)))


pytestmark = pytest.mark.long  # of what other tests are made of, not of the project


@functools.cache
def built(name: str) -> nn.Module:
    return ARCHITECTURES[name].factory()


def test_names_are_unique():
    assert len(ARCHITECTURES) == len(registry._TABLE)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_builds_the_same_network_and_inputs_again(name):
    architecture = ARCHITECTURES[name]
    state = torch.get_rng_state()
    first = outputs(built(name), architecture.inputs())
    again = outputs(architecture.factory(), architecture.inputs())
    assert torch.equal(state, torch.get_rng_state())
    assert first
    for a, b in zip(first, again, strict=True):
        assert torch.isfinite(a).all()
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_output_depends_on_the_inputs(name):
    inputs = ARCHITECTURES[name].inputs()
    assert all(x.shape[0] == 1 for x in inputs)
    pairs = zip(outputs(built(name), inputs), outputs(built(name), tuple(-0.5 * x for x in inputs)), strict=True)
    for a, b in pairs:
        assert (a - b).abs().max() > 1e-2 * a.abs().max()


@pytest.mark.filterwarnings("ignore:The tensor attributes .*_flat_weights:UserWarning")  # the exporter on LSTM, GRU
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_exports(name):
    module, inputs = built(name), ARCHITECTURES[name].inputs()
    assert not any(m.training for m in module.modules())
    assert len(user_outputs(trace(module, inputs))) == len(outputs(module, inputs))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_is_small_but_no_toy(name):
    assert 5e4 < sum(p.numel() for p in built(name).parameters()) < 6e6
    assert any(isinstance(m, nn.modules.conv._ConvNd) for m in built(name).modules())
