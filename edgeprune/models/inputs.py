"""Inputs of networks: one tensor, or a tuple of them in the order of the network's forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

Inputs = Tensor | tuple[Tensor, ...]


def as_inputs(x: Inputs) -> tuple[Tensor, ...]:
    """The arguments of the network's forward."""
    return x if isinstance(x, tuple) else (x,)


def call(module: nn.Module, x: Inputs) -> Any:
    """What a module yields for one input or several."""
    return module(*as_inputs(x))


@contextmanager
def training_outputs(module: nn.Module) -> Iterator[None]:
    """Training mode inside the ``with`` block, for heads that yield something else there; what would make outputs
    random, or depend on what else is in a batch (dropout, batch norms), stays in evaluation mode.

    Each module's own training flag comes back after it.
    """
    modes = {m: m.training for m in module.modules()}
    module.train()
    for m in module.modules():
        if isinstance(m, _BatchNorm | _DropoutNd):
            m.eval()
    try:
        yield
    finally:
        for m, mode in modes.items():
            m.training = mode
