"""Inputs of networks: one tensor, or a tuple of them in the order of the network's forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.utils._pytree import tree_flatten

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


def yields_the_same(module: nn.Module, x: Inputs) -> bool:
    """Whether outputs have one structure and one set of shapes in training mode and in evaluation mode.

    No: heads of detectors, which yield feature maps while they are trained.
    """
    modes = {m: m.training for m in module.modules()}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        try:
            with training_outputs(module):
                trained = tree_flatten(call(module, x))
            module.eval()
            other = tree_flatten(call(module, x))
        finally:
            for m, mode in modes.items():
                m.training = mode
    shapes = [[v.shape if isinstance(v, Tensor) else None for v in leaves] for leaves, _ in (trained, other)]
    return trained[1] == other[1] and shapes[0] == shapes[1]


def train_mode(module: nn.Module, *, whole: bool = True) -> None:
    """Training mode; with ``whole=False`` of batch norms and dropout alone, so that heads yield what they yield in
    evaluation mode.
    """
    module.train(whole)
    for m in module.modules():
        if isinstance(m, _BatchNorm | _DropoutNd):
            m.train()
