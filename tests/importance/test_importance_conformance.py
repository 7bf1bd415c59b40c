"""The suite that every registered criterion passes, and what each one means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.errors import BadInputError, UsageError
from edgeprune.graph.network import Network, read_network
from edgeprune.importance.criterion import Scores
from edgeprune.importance.registry import CRITERIA, criterion

DATA = [
    (
        torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(i)),
        torch.randint(0, 5, (4,), generator=torch.Generator().manual_seed(i)),
    )
    for i in range(3)
]
ASKED = [
    *CRITERIA,
    "activation:statistic=apoz",
    "taylor:combine=mean",
    "hessian_diagonal:estimate=hutchinson,probes=2",
    "hessian_product:form=row",
    "loss_change:evaluations=6",
    "predictor:evaluations=8",
]
"""Every criterion as it is, and with options."""
OF_DIRECTION = {"random", "geometric_median", "gradient", "hessian_product:form=row"}
"""A channel that is all zeros is not worth least by these: they look at where weights lie, or would go."""


class Net(nn.Module):
    """Residual, depthwise, concatenation, flatten; a dropout that would show a missing eval()."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.dw, self.back = nn.Conv2d(6, 6, 3, padding=1, groups=6), nn.Conv2d(6, 6, 1)
        self.side, self.drop = nn.Conv2d(6, 4, 1), nn.Dropout(0.5)
        self.fc, self.head = nn.Linear(10 * 4, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)))
        x = x + self.back(F.relu(self.dw(x)))
        x = F.adaptive_avg_pool2d(torch.cat([x, self.side(x)], 1), 2)
        return self.head(self.drop(F.gelu(self.fc(x.flatten(1)))))


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    found = Net()
    nn.init.uniform_(found.bn.weight, 0.5, 1.5)
    return found


def read(module: nn.Module) -> Network:
    return read_network(module, (torch.randn(1, 3, 8, 8),))


def score(name: str, module: nn.Module, **options: Any) -> Scores:
    return criterion(name, **options).score(read(module), DATA)


@pytest.mark.parametrize("name", ASKED)
class TestConformance:
    def test_shape_type_and_range(self, name: str, net: Net) -> None:
        scores = score(name, net)
        assert {g: s.shape for g, s in scores.items()} == {"stem": (6,), "side": (4,), "fc": (7,)}
        for s in scores.values():
            assert s.dtype == np.float64
            assert np.isfinite(s).all()
            assert (s >= 0).all()

    def test_deterministic(self, name: str, net: Net) -> None:
        first = score(name, net)
        torch.manual_seed(1)
        np.random.seed(1)
        second = score(name, net)
        assert all(np.array_equal(first[g], second[g]) for g in first)

    def test_module_is_left_as_it_was(self, name: str, net: Net) -> None:
        net.train()
        net.bn.eval()
        net.stem.weight.requires_grad_(False)
        net.fc.weight.grad = torch.ones_like(net.fc.weight)
        state = {k: v.clone() for k, v in net.state_dict().items()}
        score(name, net)
        assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
        assert [n for n, p in net.named_parameters() if p.grad is not None] == ["fc.weight"]
        assert (net.fc.weight.grad == 1).all()
        assert [n for n, p in net.named_parameters() if not p.requires_grad] == ["stem.weight"]
        assert net.training
        assert not net.bn.training

    def test_scores_with_gradients_off_outside(self, name: str, net: Net) -> None:
        expected = score(name, net)
        with torch.no_grad():
            scores = score(name, net)
        assert all(np.array_equal(scores[g], expected[g]) for g in scores)

    def test_dead_channel_is_worth_least(self, name: str, net: Net) -> None:
        if name in OF_DIRECTION:
            pytest.skip("not by this one")
        tensors = dict(net.named_parameters())
        with torch.no_grad():
            for group in read(net).channels.prunable:
                for m in group.members:
                    if m.role == "out" and m.param in tensors:
                        tensors[m.param][m.start + 2 * m.repeat : m.start + 3 * m.repeat] = 0
        for s in score(name, net).values():
            assert s[2] == 0 == s.min()

    def test_data_is_asked_for_if_needed(self, name: str, net: Net) -> None:
        c = criterion(name)
        if not c.needs_data:
            c.score(read(net))
            return
        with pytest.raises(UsageError, match="needs data"):
            c.score(read(net))
        with pytest.raises(UsageError, match="empty"):
            c.score(read(net), [])

    def test_not_a_number_is_refused(self, name: str, net: Net) -> None:
        if name == "random":
            pytest.skip("the control knows nothing")
        with torch.no_grad():
            net.side.weight[0] = torch.nan
        with pytest.raises(BadInputError, match="not finite"):
            score(name, net)

    def test_the_order_of_batches_does_not_matter(self, name: str, net: Net) -> None:
        forward, backward = (criterion(name).score(read(net), data) for data in (DATA, DATA[::-1]))
        for group, scores in forward.items():
            np.testing.assert_allclose(backward[group], scores, rtol=1e-4, atol=1e-7)

    def test_channels_that_change_places_take_their_scores_along(self, name: str, net: Net) -> None:
        if name == "random" or "hutchinson" in name:
            pytest.skip("drawn by places")
        before = score(name, net)
        order = {"stem": [3, 0, 5, 1, 4, 2], "side": [2, 3, 0, 1], "fc": [6, 1, 0, 5, 2, 3, 4]}
        tensors = {**dict(net.named_parameters()), **dict(net.named_buffers())}
        for group in read(net).channels.prunable:
            for m in group.members:
                places = torch.arange(tensors[m.param].shape[m.dim])
                of_group = places[m.start : m.start + group.size * m.repeat].view(group.size, m.repeat)
                places[m.start : m.start + group.size * m.repeat] = of_group[order[group.name]].flatten()
                with torch.no_grad():
                    tensors[m.param].copy_(tensors[m.param].index_select(m.dim, places))
        for group, scores in score(name, net).items():
            np.testing.assert_allclose(scores, before[group][order[group]], rtol=2e-3, atol=1e-6, err_msg=group)


TIED = {"activation:statistic=apoz", "hessian_diagonal:estimate=hutchinson,probes=2"}
"""Fractions of few values, and curvatures below zero."""


@pytest.mark.parametrize("name", sorted({*ASKED} - TIED))
def test_channels_that_differ_are_told_apart(name: str, net: Net) -> None:
    for s in score(name, net).values():
        assert len(set(s)) == len(s)


@pytest.mark.parametrize(("name", "degree"), [("l1", 1), ("l2", 1)])
def test_scale(name: str, degree: int, net: Net) -> None:
    before = score(name, net)
    with torch.no_grad():
        net.side.weight.mul_(3)
    after = score(name, net)
    np.testing.assert_allclose(after["side"], 3**degree * before["side"])
    np.testing.assert_array_equal(after["stem"], before["stem"])


def test_magnitude_sums_over_all_filters_of_a_group(net: Net) -> None:
    weights = [w.detach().double().flatten(1) for w in (net.stem.weight, net.dw.weight, net.back.weight)]
    np.testing.assert_allclose(score("l1", net)["stem"], sum(w.abs().sum(1) for w in weights))
    np.testing.assert_allclose(score("l2", net)["stem"], torch.cat(weights, 1).norm(dim=1))


def test_taylor_is_the_first_order_change_of_the_loss(net: Net) -> None:
    """Against finite differences: scale all that writes a channel by (1 - h)."""
    net.double().eval()
    network = read(net.float())
    net.double()
    data = [(x.double(), y) for x, y in DATA[:1]]
    scores = criterion("taylor").score(network, data)
    tensors = dict(net.named_parameters())

    def loss() -> float:
        with torch.no_grad():
            return F.cross_entropy(net(data[0][0]), data[0][1]).item()

    h = 1e-6
    for group in network.channels.prunable:
        writes = [tensors[m.param] for m in group.members if m.role == "out" and m.param in tensors]
        for c in range(group.size):
            losses = []
            for factor in (1 + h, (1 - h) / (1 + h), 1 / (1 - h)):
                with torch.no_grad():
                    for t in writes:
                        t[c] *= factor
                losses.append(loss())
            np.testing.assert_allclose(
                scores[group.name][c], abs(losses[0] - losses[1]) / (2 * h), rtol=1e-4, atol=1e-8
            )


def test_taylor_averages_absolute_changes_over_batches_and_takes_a_loss(net: Net) -> None:
    network, taylor = read(net), criterion("taylor")
    each = [taylor.score(network, [batch])["fc"] for batch in DATA]
    np.testing.assert_allclose(taylor.score(network, DATA)["fc"], np.mean(each, axis=0))
    doubled = taylor.score(network, DATA, lambda out, y: 2 * F.cross_entropy(out, y))["fc"]
    np.testing.assert_allclose(doubled, 2 * taylor.score(network, DATA)["fc"], rtol=1e-5)


def test_random_follows_its_seed(net: Net) -> None:
    assert not np.array_equal(score("random", net)["stem"], score("random", net, seed=1)["stem"])


def test_unknown_names_and_options_list_what_exists() -> None:
    with pytest.raises(UsageError, match="no criterion 'l3'") as caught:
        criterion("l3")
    assert all(name in caught.value.hint for name in CRITERIA)
    with pytest.raises(UsageError, match="'l1' does not take rows") as caught:
        criterion("l1", rows=3)
    assert "combine=joint" in caught.value.hint
    with pytest.raises(UsageError, match="'l1' does not take 'joint'"):
        criterion("l1:joint")
    with pytest.raises(UsageError, match="combine of criterion 'l1' cannot be 'all'") as caught:
        criterion("l1:combine=all")
    assert "joint, sum, mean, max" in caught.value.hint
    with pytest.raises(UsageError, match="probes of criterion 'hessian_diagonal' cannot be 'few'"):
        criterion("hessian_diagonal:probes=few")
    assert all(criterion(name).name == name for name in CRITERIA)


def activations(net: Net) -> dict[str, list[Tensor]]:
    """By group: what layers with weights read, channels first, from torch itself."""
    seen: dict[str, list[Tensor]] = {"stem": [], "side": [], "fc": []}
    net.eval()
    with torch.no_grad():
        for x, _ in DATA:
            first = F.relu(net.bn(net.stem(x)))
            inner = F.relu(net.dw(first))
            both = first + net.back(inner)
            pooled = F.adaptive_avg_pool2d(torch.cat([both, net.side(both)], 1), 2)
            for group, tensors in (("stem", (first, inner, both, pooled[:, :6])), ("side", (pooled[:, 6:],))):
                seen[group].append([t.movedim(1, 0).flatten(1).double() for t in tensors])
            seen["fc"].append([F.gelu(net.fc(pooled.flatten(1))).T.double()])
    return {g: [torch.cat(parts, 1) for parts in zip(*batches, strict=True)] for g, batches in seen.items()}


@pytest.mark.parametrize(
    ("name", "statistic"),
    [
        ("apoz", lambda t: (t != 0).double().mean(1)),
        ("mean_abs", lambda t: t.abs().mean(1)),
        ("mean", lambda t: t.mean(1).abs()),
        ("l2", lambda t: t.square().mean(1).sqrt()),
    ],
)
@pytest.mark.parametrize(("combine", "of_sites"), [("mean", np.mean), ("sum", np.sum), ("max", np.max)])
def test_activations_are_those_that_layers_read(
    name: str, statistic: Any, combine: str, of_sites: Any, net: Net
) -> None:
    """A residual sum, a depthwise layer, a part of a concatenation, and channels that were flattened."""
    found = score(f"activation:statistic={name},combine={combine}", net)
    for group, tensors in activations(net).items():
        expected = of_sites([statistic(t).numpy() for t in tensors], axis=0)
        np.testing.assert_allclose(found[group], expected, rtol=1e-6, err_msg=group)


def test_a_batch_of_another_size_is_watched_as_well(net: Net) -> None:
    network, uneven = read(net), [(x[i:j], y[i:j]) for x, y in DATA[:1] for i, j in ((0, 3), (3, 4))]
    whole, parts = (criterion("activation").score(network, data) for data in (DATA[:1], uneven))
    for group, values in whole.items():
        np.testing.assert_allclose(parts[group], values, rtol=1e-6)


class Squared(nn.Module):
    """Its graph has as many operators as its batch has samples."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        for _ in range(x.shape[0] - 1):
            x = x + 0
        return self.head(x)


def test_a_graph_that_depends_on_the_batch_is_run_by_samples() -> None:
    torch.manual_seed(0)
    net, x = Squared(), torch.randn(5, 4)
    found = criterion("activation:statistic=apoz").score(
        read_network(net, (x[:1],)), [(x, torch.zeros(5, dtype=torch.long))]
    )
    with torch.no_grad():
        expected = (net.first(x) > 0).double().mean(0).numpy()
    np.testing.assert_allclose(found["first"], expected)
