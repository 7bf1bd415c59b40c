"""Folded constants against the unfolded layers in torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.compiler.folding import folded
from edgeprune.graph.channels import KernelNode
from edgeprune.graph.network import read_network


def trained(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    """Statistics and affine values as after some training, a dead channel included."""
    generator = torch.Generator().manual_seed(0)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        if tensor is not None:
            tensor.data = torch.randn(tensor.shape, generator=generator)
    assert norm.running_var is not None
    norm.running_var.abs_()
    norm.running_var[0] = 0.0
    return norm


def single(module: nn.Module, x: Tensor) -> tuple[KernelNode, dict[str, object]]:
    """The one kernel with constants of a network, and the network's values."""
    network = read_network(module, (x,))
    (node,) = [n for n in network.kernels.nodes if n.weights.weight or n.weights.norm]
    return node, {k: v.numpy() for k, v in module.state_dict().items()}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("affine", [False, True])
@pytest.mark.parametrize("groups", [1, 6])
def test_convolution_and_batch_norm(bias: bool, affine: bool, groups: int) -> None:
    x = torch.randn(2, 6, 5, 5)
    norm = trained(nn.BatchNorm2d(6, affine=affine, eps=1e-3))
    module = nn.Sequential(nn.Conv2d(6, 6, 3, bias=bias, groups=groups), norm).eval()
    node, state = single(module, x)
    weight, offset = folded(node, state)  # type: ignore[arg-type]
    actual = F.conv2d(x, torch.from_numpy(weight), torch.from_numpy(offset), groups=groups)
    torch.testing.assert_close(actual, module(x), rtol=1e-5, atol=1e-4 * module(x).abs().max().item())


@pytest.mark.parametrize("affine", [False, True])
def test_a_batch_norm_alone_is_a_depthwise_convolution(affine: bool) -> None:
    x = torch.randn(1, 5, 3, 3)
    module = trained(nn.BatchNorm2d(5, affine=affine)).eval()
    node, state = single(module, x)
    assert node.spec.depthwise
    weight, offset = folded(node, state)  # type: ignore[arg-type]
    actual = F.conv2d(x, torch.from_numpy(weight), torch.from_numpy(offset), groups=5)
    torch.testing.assert_close(actual, module(x), rtol=1e-5, atol=1e-6 * module(x).abs().max().item())


@pytest.mark.parametrize("bias", [False, True])
def test_without_a_batch_norm_values_are_taken_as_they_are(bias: bool) -> None:
    module = nn.Linear(4, 3, bias=bias)
    node, state = single(module, torch.randn(2, 4))
    weight, offset = folded(node, state)  # type: ignore[arg-type]
    assert torch.equal(torch.from_numpy(weight), module.weight)
    assert torch.equal(torch.from_numpy(offset), module.bias if bias else torch.zeros(3))


def test_a_kernel_without_constants_has_none() -> None:
    network = read_network(nn.MaxPool2d(2), (torch.randn(1, 3, 4, 4),))
    assert all(folded(node, {}) == (None, None) for node in network.kernels.nodes)
