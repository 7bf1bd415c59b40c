"""Zeros at removed channels: what keeps them, and what a change in place undoes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink


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
        (lambda x: x.sin() + x.tan() + x.asin() * x.atan() + x.sinh() - x.asinh() + x.atanh() + x.erf(), True),
        (lambda x: x.floor() + x.ceil() + x.trunc() + x.round() * x.frac(), True),
        (lambda x: x % 3 + torch.fmod(x, 2) + torch.div(x, 3, rounding_mode="floor") + x**7, True),
        (lambda x: torch.hypot(x, 2 * x), True),
        (torch.cos, False),
        (torch.cosh, False),
        (torch.acos, False),
        (torch.erfc, False),
        (torch.sigmoid, False),
        (lambda x: x + 1, False),
        (lambda x: x.clamp(0.5, 1), False),
        (lambda x: x**0, False),
        (lambda x: torch.where(x > 0, x, 2.0), False),
        (shifted_through_a_view, False),
        (lambda x: x + torch.tensor(1.0), False),
        (lambda x: x * torch.tensor(2.0), True),
        (lambda x: x + True, False),
        (lambda x: F.hardtanh(x), True),
        (lambda x: F.hardtanh(x, 0.5, 1.0), False),
        (lambda x: torch.cat([F.relu(x), x], 3), True),
        (lambda x: torch.stack([F.relu(x), x], 4).sum(4), True),
        (lambda x: x + x.sum(1, keepdim=True), False),
        (lambda x: x + x.mean((2, 3), keepdim=True), True),
        (lambda x: torch.sigmoid(x) * x.amax((2, 3), keepdim=True), True),
    ],
)
def test_sum_over_channels(between: Callable[[Tensor], Tensor], zero: bool) -> None:
    frozen = analyse(trace(Summed(between), (torch.randn(1, 3, 4, 4),))).graph["a"].frozen
    assert (not frozen) == zero
    assert zero or "would not count as zeros: aten.sum" in frozen


class Beside(nn.Module):
    """As :class:`Summed`; what is between also has a convolution to one channel, and parameters."""

    def __init__(self, between: Callable[[nn.Module, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.between, self.b = nn.Conv2d(3, 6, 1), between, nn.Conv2d(1, 2, 1)
        self.one, self.scale = nn.Conv2d(3, 1, 1), nn.Parameter(torch.rand(1))
        self.each, self.mix = nn.Parameter(torch.rand(6, 1, 1)), nn.Parameter(torch.rand(4, 4))
        self.rows = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self, self.a(x), x).sum(1, keepdim=True))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("between", "zero"),
    [
        (lambda m, y, x: y + m.each, True),
        (lambda m, y, x: y + m.scale, False),
        (lambda m, y, x: y + m.one(x), False),
        (lambda m, y, x: y * m.one(x), True),
        (lambda m, y, x: torch.sigmoid(y) * m.each, True),
        (lambda m, y, x: torch.sigmoid(y) * m.scale, False),
        (lambda m, y, x: torch.sigmoid(y) * m.one(x), False),
        (lambda m, y, x: m.one(x).expand_as(y), False),
        (lambda m, y, x: y + x[:, :1], False),
        # Channels stand in dimension 1, and the layer writes the last: a bias is not zero where a channel is gone.
        (lambda m, y, x: m.rows(y), False),
        # Columns come from the right operand alone.
        (lambda m, y, x: (m.mix @ torch.sigmoid(y.flatten(2)[..., :4].transpose(1, 2))).transpose(1, 2), False),
        (lambda m, y, x: (m.mix @ y.flatten(2)[..., :4].transpose(1, 2)).transpose(1, 2), True),
        (lambda m, y, x: torch.einsum("tu,ncu->nct", m.mix, torch.sigmoid(y).flatten(2)[..., :4]), False),
        (lambda m, y, x: torch.einsum("tu,ncu->nct", m.mix, y.flatten(2)[..., :4]), True),
    ],
)
def test_what_is_repeated_along_channels_is_not_zero_there(
    between: Callable[[nn.Module, Tensor, Tensor], Tensor], zero: bool
) -> None:
    torch.manual_seed(0)
    module, x = Beside(between), torch.randn(1, 3, 4, 4)
    if module.between(module, module.a(x), x).dim() == 3:  # type: ignore[no-untyped-call]
        module.b = nn.Conv1d(1, 2, 1)  # type: ignore[assignment]
    graph = analyse(trace(module, (x,))).graph
    assert (not graph["a"].frozen) == zero, graph["a"].frozen
    plan = make_plan(
        graph, {g.name: max(1, g.size // 2) for g in graph.prunable}, {g.name: range(g.size) for g in graph.prunable}
    )
    check_equal(mask(module, graph, plan), shrink(module, graph, plan), (x,), graph=graph, plan=plan)
