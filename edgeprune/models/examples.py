"""Example inputs of networks."""

from __future__ import annotations

import torch
from torch import Tensor


def noise_like(example: Tensor, generator: torch.Generator) -> Tensor:
    """Noise in the shape of an example; integers and truth values as they are, since they may be places in a table."""
    if not example.is_floating_point():
        return example.clone()
    return torch.randn(example.shape, generator=generator)
