"""One operator at a time between two layers: it passes channels on rightly, or freezes them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.graph.groups import analyse
from edgeprune.graph.trace import trace
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink

X = (torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)),)
Operator = Callable[[Tensor], Tensor]

PASSING: list[Operator] = [
    lambda x: x**2,
    lambda x: 2**x,
    lambda x: x.exp(),
    lambda x: x.abs().sqrt(),
    lambda x: torch.where(x > 0, x, 0.5),
    lambda x: x.masked_fill(x > 0, 1.0),
    lambda x: x.masked_fill((x > 0) & (x < 1), 0.0),
    lambda x: x.double().type_as(x),
    lambda x: x.half().float(),
    lambda x: torch.addcmul(x, x, x),
    lambda x: torch.lerp(x, x * 2, 0.5),
    lambda x: x.sin() + x.cos() - x.atan() * x.erf(),
    lambda x: x.tanh().asin() * x.tanh().acos() + x.tanh().tan() + (0.9 * x.tanh()).atanh() * x.erfc(),
    lambda x: x.sinh() - x.cosh() + x.asinh(),
    lambda x: x.floor() - x.ceil() * x.round() + x.trunc() * x.frac() + x.isnan() + x.isinf(),
    lambda x: x.remainder(2) + torch.fmod(x, 0.3) - x // 0.7 + torch.div(x, 3, rounding_mode="trunc"),
    lambda x: torch.hypot(x, x + 1) + torch.logaddexp(x, 2 * x) + x**5,
    lambda x: F.logsigmoid(x) + F.celu(x) + F.selu(x) + F.tanhshrink(x),
    lambda x: F.hardshrink(x) + F.softshrink(x) + F.threshold(x, 0.1, 3.0),
    lambda x: F.glu(x, 1),
    lambda x: F.normalize(x),
    lambda x: 1 - x / 3,
    lambda x: x + torch.ones_like(x),
    lambda x: x.nan_to_num().clip(-1, 1).clamp_min(-0.5),
    lambda x: x.flip(2).roll(1, 3),
    lambda x: x.cumsum(2),
    lambda x: x.sort(3)[0] + x.topk(8, 2)[0],
    lambda x: x.repeat(1, 2, 1, 1),
    lambda x: x.tile(1, 3, 1, 1),
    lambda x: x.repeat_interleave(2, 1),
    lambda x: x.movedim(1, -1).swapaxes(1, 2),
    lambda x: x.permute(2, 3, 0, 1).permute(2, 3, 0, 1).contiguous(),
    lambda x: torch.stack([x, x], 1),
    lambda x: torch.stack([x, x], 2),
    lambda x: torch.hstack([x, x]),
    lambda x: x[..., None].squeeze(-1)[:, None],
    lambda x: x.select(2, 0),
    lambda x: x.unbind(3)[1],
    lambda x: x[:, :, 1:, ::2],
    lambda x: x.tensor_split(2, 1)[1],
    lambda x: torch.var_mean(x, (2, 3))[0],
    lambda x: x.max(2)[0] + x.amin(3) - x.std(2),
    lambda x: x.sum(1),
    lambda x: x.norm(dim=1),
    lambda x: F.pixel_unshuffle(F.pixel_shuffle(x, 2), 2),
    lambda x: F.channel_shuffle(x, 4),
    lambda x: F.fold(F.unfold(x, 2), (8, 8), 2),
    lambda x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2),  # type: ignore[misc]
    lambda x: F.grid_sample(x, torch.zeros(2, 4, 4, 2), align_corners=False),
    lambda x: F.interpolate(x, size=(16, 16), mode="bilinear", antialias=True),
    lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect") + F.pad(x, (1, 1, 1, 1), mode="circular"),
    lambda x: F.pad(x, (0, 0, 0, 0, 1, 1)),
    lambda x: F.interpolate(x, scale_factor=1.7, mode="bicubic") + F.adaptive_avg_pool2d(x, (13, 13)),
    lambda x: F.max_pool2d(x, 2, 1, dilation=2),
    lambda x: (x.flatten(2) @ x.flatten(2).transpose(1, 2)).sum(2),
    lambda x: torch.einsum("nchw,nkhw->nck", x, x).sum(1),
    lambda x: x.index_select(2, torch.tensor([0, 5]))[..., torch.tensor([1, 1, 0])],
]

FREEZING: list[Operator] = [
    lambda x: x.softmax(1),
    lambda x: x.mean(1),
    lambda x: x.amax(1),
    lambda x: x.var(1),
    lambda x: x.prod(1),
    lambda x: x.logsumexp(1),
    lambda x: x.argmax(1),
    lambda x: x.sort(1)[0],
    lambda x: x.cumsum(1),
    lambda x: x.flip(1),
    lambda x: x.roll(1, 1),
    lambda x: x[:, 0],
    lambda x: x[:, ::2],
    lambda x: x[:, [0, 1]],
    lambda x: x.index_select(1, torch.tensor([0, 1])),
    lambda x: x.narrow(1, 0, 4),
    lambda x: x.unbind(1)[0],
    lambda x: x.split([2, 6], 1)[0],
    lambda x: torch.chunk(x, 3, 1)[0],
    lambda x: x.unflatten(1, (2, 4)),
    lambda x: x.expand(2, 8, 8, 8),
    lambda x: 1 / (x + 10),
    lambda x: x / (x.abs() + 1),
    lambda x: torch.log(x.abs() + 1),
    lambda x: x.abs().add(1).rsqrt(),
    lambda x: (x.abs() + 1) ** -1,
    lambda x: x + torch.zeros(1, 8, 1, 1),
    lambda x: F.layer_norm(x, (8, 8, 8)),
    lambda x: F.local_response_norm(x, 3),
]


class Between(nn.Module):
    def __init__(self, operator: Operator) -> None:
        super().__init__()
        self.a, self.operator = nn.Conv2d(3, 8, 1), operator
        with torch.no_grad():
            features = self.features(*X).shape[1]
        self.head = nn.Linear(features, 3)

    def features(self, x: Tensor) -> Tensor:
        return self.operator(self.a(x)).float().flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


@pytest.mark.parametrize("operator", PASSING)
def test_passes(operator: Operator) -> None:
    torch.manual_seed(0)
    module = Between(operator).eval()
    graph = analyse(trace(module, X)).graph
    assert [g.name.split("[")[0] for g in graph.prunable] == ["a"], {g.name: g.frozen for g in graph.groups}
    for seed in range(3):
        rng = np.random.default_rng(seed)
        (group,) = graph.prunable
        plan = make_plan(
            graph, {group.name: int(rng.integers(1, group.size + 1))}, {group.name: rng.random(group.size)}
        )
        check_equal(mask(module, graph, plan), shrink(module, graph, plan), X, graph=graph, plan=plan)


@pytest.mark.parametrize("operator", FREEZING)
def test_freezes_and_names_the_operator_and_the_line(operator: Operator) -> None:
    graph = analyse(trace(Between(operator).eval(), X)).graph
    assert not graph.prunable
    reason = next(g.frozen for g in graph.groups if g.name.split("[")[0] == "a")
    assert "aten." in reason
    assert "test_pruning_operators.py:" in reason
