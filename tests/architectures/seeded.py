"""Deterministic weights and inputs, with normalisations that are not the identity."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_BATCH = 4  # of which running statistics are taken: one image's last maps hold too few positions
_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm, _BatchNorm)


def seeded(make: Callable[[], nn.Module], shapes: tuple[tuple[int, ...], ...], seed: int = 0) -> nn.Module:
    """Run ``make`` under ``seed``, disturb every normalisation, return the network in ``eval`` mode.

    Weights keep the initialisation that the network gives them. The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = make().eval()
    disturb(module, noise(*((_BATCH, *shape[1:]) for shape in shapes)), torch.Generator().manual_seed(seed))
    return module


@torch.no_grad()
def disturb(module: nn.Module, inputs: tuple[Tensor, ...], generator: torch.Generator) -> None:
    """Draw scales, shifts and running statistics of every normalisation.

    Fresh ones are the identity, and a channel forgotten there would go unnoticed. Running statistics are
    drawn around those of ``inputs``, layer after layer, so that deep networks neither fade out nor explode.
    """
    for layer in module.modules():
        if isinstance(layer, _NORMS) and layer.weight is not None:
            layer.weight.uniform_(0.5, 1.5, generator=generator)
            layer.bias.uniform_(-0.3, 0.3, generator=generator)

    drawn = set()

    def draw_statistics(layer: _BatchNorm, args: tuple[Tensor, ...]) -> None:
        if layer in drawn:
            return
        drawn.add(layer)
        channels = args[0].transpose(0, 1).flatten(1)
        var, mean = torch.var_mean(channels, dim=1, correction=0)
        var = var.clamp(min=0.3 * var.mean().item() + 1e-4)
        layer.running_mean.normal_(generator=generator).mul_(0.2 * var.sqrt()).add_(mean)
        layer.running_var.uniform_(0.5, 1.5, generator=generator).mul_(var)

    hooks = [m.register_forward_pre_hook(draw_statistics) for m in module.modules() if isinstance(m, _BatchNorm)]
    module(*inputs)
    for hook in hooks:
        hook.remove()


def noise(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    """One standard normal tensor a shape, the same at each call."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)
