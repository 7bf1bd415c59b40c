"""Zeros at removed channels: what keeps them, and what a change in place undoes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace


def shifted_through_a_view(x: Tensor) -> Tensor:
    x.flatten(2).add_(1)
    return x


class Summed(nn.Module):
    def __init__(self, between: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.between, self.b = nn.Conv2d(3, 6, 1), between, nn.Conv2d(1, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self.a(x)).sum(1, keepdim=True))


@pytest.mark.parametrize(
    ("between", "zero"),
    [
        (lambda x: x, True),
        (lambda x: F.relu(x) * torch.sigmoid(x), True),
        (lambda x: F.max_pool2d(F.gelu(x), 2), True),
        (lambda x: x.clamp(-1, 1), True),
        (lambda x: x.pow(2).sqrt(), True),
        (lambda x: F.relu_(x) - x.abs(), True),
        (torch.sigmoid, False),
        (lambda x: x + 1, False),
        (lambda x: x.clamp(0.5, 1), False),
        (lambda x: x**0, False),
        (lambda x: torch.where(x > 0, x, 2.0), False),
        (shifted_through_a_view, False),
    ],
)
def test_sum_over_channels(between: Callable[[Tensor], Tensor], zero: bool) -> None:
    frozen = analyse(trace(Summed(between), (torch.randn(1, 3, 4, 4),))).graph["a"].frozen
    assert (not frozen) == zero
    assert zero or "would not count as zeros: aten.sum" in frozen
