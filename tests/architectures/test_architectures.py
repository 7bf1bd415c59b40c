from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from architectures import ARCHITECTURES, Architecture
from architectures import registry as registry_module
from edgeprune.graph.trace import trace


def tensors(value: object) -> Iterator[Tensor]:
    """Every tensor a network returned, out of tuples, lists and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from tensors(v)
    else:
        assert isinstance(value, tuple | list)
        for v in value:
            yield from tensors(v)


@torch.no_grad()
def outputs(architecture: Architecture, scale: float = 1.0) -> list[Tensor]:
    return list(tensors(architecture.factory()(*(x * scale for x in architecture.inputs()))))


def test_names_are_unique():
    assert len(ARCHITECTURES) == len(registry_module._TABLE)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_builds_the_same_network_twice_and_depends_on_its_input(name):
    architecture = ARCHITECTURES[name]
    state = torch.get_rng_state()
    first, again, other = outputs(architecture), outputs(architecture), outputs(architecture, scale=-0.5)
    assert torch.equal(state, torch.get_rng_state())
    assert first
    for a, b, c in zip(first, again, other, strict=True):
        assert torch.isfinite(a).all()
        assert torch.equal(a, b)
        assert (a - c).abs().max() > 1e-3 * a.abs().max(), "nothing of the input arrives"
    for x in architecture.inputs():
        assert x.shape[0] == 1


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_exports(name):
    architecture = ARCHITECTURES[name]
    module, inputs = architecture.factory(), architecture.inputs()
    assert not any(m.training for m in module.modules())
    program = trace(module, inputs)
    with torch.no_grad():
        expected, got = (list(tensors(f(*inputs))) for f in (module, program.module()))
    for a, b in zip(expected, got, strict=True):
        torch.testing.assert_close(b, a)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_is_small_but_no_toy(name):
    module = ARCHITECTURES[name].factory()
    assert 5e4 < sum(p.numel() for p in module.parameters()) < 6e6
    convolutions = [m for m in module.modules() if isinstance(m, nn.modules.conv._ConvNd)]
    assert convolutions
