from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.errors import ModelLoadError
from edgeprune.models.zoo import ZOO, build, input_shape

# Millions of parameters: of the papers where they name them at these settings, else counted by hand from the tables.
MILLIONS = {
    "mobilenet_v2": 3.50,
    "mobilenet_v3_small": 2.54,
    "resnet8": 0.08,
    "resnet18": 11.69,
    "resnet20": 0.27,
    "resnet50": 25.56,
    "squeezenet": 1.24,
    "unet_small": 0.54,
    "vgg11_bn": 9.49,
}


@pytest.mark.parametrize("name", list(ZOO))
def test_sizes_and_outputs(name: str) -> None:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        module = build(name)
        out = module(torch.randn(input_shape(name)))
    assert sum(p.numel() for p in module.parameters()) / 1e6 == pytest.approx(MILLIONS[name], abs=0.006)
    assert not module.training
    assert out.shape[0] == 1
    assert torch.isfinite(out).all()
    assert 0.02 < out.std() < 20, "activations vanish or explode"


@pytest.mark.parametrize("name", list(ZOO))
def test_options_reach_the_network(name: str) -> None:
    options = {"num_classes": 7, "in_channels": 1, "width": 0.5}
    module = build(name, **options)
    shape = input_shape(name, **options)
    assert shape[1] == 1
    with torch.no_grad():
        assert module(torch.zeros(shape)).shape[1] == 7
    assert all(c.in_channels % 8 == 0 or c.in_channels == 1 for c in module.modules() if isinstance(c, nn.Conv2d))


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_state_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first = build("resnet20", seed=3).state_dict()
    assert torch.equal(torch.rand(3), expected)
    second, other = build("resnet20", seed=3).state_dict(), build("resnet20", seed=4).state_dict()
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


def test_no_batch_norm_is_the_identity() -> None:
    norms = [m for m in build("resnet20").modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) == 21
    for norm in norms:
        assert norm.running_mean.std() > 1e-3
        assert (norm.running_var - 1).abs().max() > 1e-3
        assert norm.weight.std() > 0.01
        assert norm.momentum == 0.1
        assert not norm.training


@pytest.mark.parametrize("name", ["resnet20", "squeezenet", "unet_small", "mobilenet_v3_small"])
def test_exports(name: str) -> None:
    torch.export.export(build(name, width=0.5), (torch.zeros(input_shape(name)),))


def test_unknown_names_and_options() -> None:
    with pytest.raises(ModelLoadError, match="resnet18") as caught:
        build("resnet_20")
    assert "'resnet20'" in caught.value.hint
    with pytest.raises(ModelLoadError, match="wdith"):
        build("resnet20", wdith=2)
    with pytest.raises(ModelLoadError, match="positive"):
        build("resnet20", width=-1)
    with pytest.raises(ModelLoadError, match="multiple of 32"):
        build("vgg11_bn", image=40)
