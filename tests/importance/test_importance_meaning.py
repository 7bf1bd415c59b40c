"""What the scores of single criteria are, against what torch says of small networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.errors import UsageError
from edgeprune.graph.network import Network, read_network
from edgeprune.importance import hessian as hessian_module
from edgeprune.importance.hessian import ESTIMATES, HessianDiagonal, hessian_products
from edgeprune.importance.predictor import sampled
from edgeprune.importance.registry import criterion, rule
from edgeprune.importance.rules import capped


class Two(nn.Module):
    """Two layers, smooth, small enough for a Hessian."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.first(x)))


@pytest.fixture
def two() -> Network:
    torch.manual_seed(0)
    return read_network(Two(), (torch.randn(1, 5),))


def batches(count: int = 2, size: int = 6) -> list[tuple[Tensor, Tensor]]:
    draw = torch.Generator().manual_seed(3)
    return [(torch.randn(size, 5, generator=draw), torch.randint(0, 3, (size,), generator=draw)) for _ in range(count)]


def hessian(network: Network, data: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, dict[str, slice]]:
    """The Hessian of the mean loss by all parameters side by side, formed."""
    module = network.module
    names = {n: p.shape for n, p in module.named_parameters()}
    places, at = {}, 0
    for name, shape in names.items():
        places[name] = slice(at, at := at + shape.numel())
    x, y = (torch.cat(parts) for parts in zip(*data, strict=True))

    def loss(flat: Tensor) -> Tensor:
        parameters = {n: flat[places[n]].view(shape) for n, shape in names.items()}
        return F.cross_entropy(torch.func.functional_call(module, parameters, (x,)), y)

    flat = torch.cat([p.detach().flatten() for p in module.parameters()])
    return torch.autograd.functional.hessian(loss, flat), places


def test_products_are_those_of_the_hessian(two: Network) -> None:
    data = batches()
    exact, places = hessian(two, data)
    of = dict(two.module.named_parameters())
    vector = {n: torch.randn(p.shape, generator=torch.Generator().manual_seed(1)) for n, p in of.items()}
    found = hessian_products(two, of, [vector], data, None)
    assert found is not None
    expected = exact @ torch.cat([v.flatten() for v in vector.values()])
    for name, at in places.items():
        np.testing.assert_allclose(found[0][name].flatten(), expected[at], rtol=1e-3, atol=1e-6)


def test_batches_of_other_sizes_weigh_by_their_samples(two: Network) -> None:
    (x, y), of = batches(1)[0], dict(two.module.named_parameters())
    vector = {n: p.detach() for n, p in of.items()}
    whole, parts = (hessian_products(two, of, [vector], d, None) for d in ([(x, y)], [(x[:4], y[:4]), (x[4:], y[4:])]))
    assert whole is not None
    assert parts is not None
    for name in of:
        np.testing.assert_allclose(parts[0][name], whole[0][name], rtol=1e-4, atol=1e-7)


def test_a_tied_parameter_is_one_variable() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3, bias=False)
            self.b = nn.Linear(3, 3, bias=False)
            self.b.weight = self.a.weight
            self.head = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.b(torch.tanh(self.a(x))))

    torch.manual_seed(0)
    tied = Tied()
    of = dict(tied.named_parameters(remove_duplicate=False))
    data = [(torch.randn(4, 3), torch.randint(0, 3, (4,)))]
    network = Network(tied, (data[0][0][:1],), None, None)  # type: ignore[arg-type]
    vector = {n: p.detach() for n, p in of.items()}
    found = hessian_products(network, of, [vector], data, None)
    assert found is not None
    exact, places = hessian(network, data)
    expected = exact @ torch.cat([p.detach().flatten() for p in tied.parameters()])
    np.testing.assert_allclose(found[0]["a.weight"].flatten(), expected[places["a.weight"]], rtol=1e-3, atol=1e-6)
    assert torch.equal(found[0]["a.weight"], found[0]["b.weight"])


def test_the_exact_diagonal_and_what_estimates_it(two: Network) -> None:
    data, of = batches(), dict(two.module.named_parameters())
    exact, places = hessian(two, data)
    said = HessianDiagonal("exact").diagonal(two, of, data, None)
    guessed = HessianDiagonal("hutchinson", probes=1000).diagonal(two, of, data, None)
    assert said is not None
    assert guessed is not None
    for name, at in places.items():
        np.testing.assert_allclose(said[name].flatten(), exact.diagonal()[at], rtol=1e-3, atol=1e-6)
        # The variance of one probe is twice the squares beside the diagonal, summed.
        beside = (exact.square().sum(1) - exact.diagonal().square())[at]
        allowed = 5 * (2 * beside / 1000).sqrt() + 1e-6
        assert ((guessed[name].flatten() - exact.diagonal()[at]).abs() <= allowed).all()


def test_signs_are_drawn_alike_however_many_are_held_at_once(two: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    of = dict(two.module.named_parameters())
    whole = HessianDiagonal("hutchinson", probes=5).diagonal(two, of, batches(), None)
    monkeypatch.setattr(hessian_module, "AT_ONCE", 2 * sum(p.numel() for p in of.values()))
    parts = HessianDiagonal("hutchinson", probes=5).diagonal(two, of, iter(batches()), None)
    assert whole is not None
    assert parts is not None
    for name in of:
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-6)


def test_fisher_is_the_mean_of_squared_gradients_of_samples(two: Network) -> None:
    data, of = batches(), dict(two.module.named_parameters())
    said = HessianDiagonal("fisher").diagonal(two, of, data, None)
    assert said is not None
    total = {n: torch.zeros(p.shape) for n, p in of.items()}
    for x, y in data:
        for one in range(len(x)):
            loss = F.cross_entropy(two.module(x[one : one + 1]), y[one : one + 1])
            for name, g in zip(of, torch.autograd.grad(loss, [*of.values()]), strict=True):
                total[name] += g.square() / 12
    for name in of:
        np.testing.assert_allclose(said[name], total[name], rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("estimate", ESTIMATES)
def test_second_order_scores_are_half_of_the_diagonal_by_squares(two: Network, estimate: str) -> None:
    data = batches()
    of = {n: p for n, p in two.module.named_parameters() if n.startswith("first")}
    diagonal = HessianDiagonal(estimate).diagonal(two, of, data, None)
    assert diagonal is not None
    each = {n: 0.5 * diagonal[n] * p.detach().square() for n, p in of.items()}
    expected = (each["first.weight"].sum(1) + each["first.bias"]).clamp(min=0)
    found = criterion(f"hessian_diagonal:estimate={estimate}").score(two, data)["first"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-10)


def test_contributions_and_rows_are_of_all_weights(two: Network) -> None:
    data = batches()
    exact, places = hessian(two, data)
    weights = torch.cat([p.detach().flatten() for p in two.module.parameters()])
    rows = exact @ weights
    for form, values in (("contribution", weights * rows), ("row", rows)):
        at = values[places["first.weight"]].view(4, 5).sum(1) + values[places["first.bias"]]
        found = criterion(f"hessian_product:form={form}").score(two, data)["first"]
        np.testing.assert_allclose(found, at.abs(), rtol=1e-3, atol=1e-6)


def test_the_exact_diagonal_of_a_large_network_is_refused() -> None:
    class Large(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 3))

    network = read_network(Large(), (torch.randn(1, 200),))
    with pytest.raises(UsageError, match="the exact diagonal of 40,200 weights") as caught:
        criterion("hessian_diagonal:estimate=exact").score(network, [(torch.randn(2, 200), torch.tensor([0, 1]))])
    assert "hutchinson" in caught.value.hint


def test_targets_that_cannot_be_taken_apart_are_said_so(two: Network) -> None:
    x, _ = batches(1)[0]
    with pytest.raises(UsageError, match="targets of single samples"):
        criterion("hessian_diagonal").score(two, [(x, torch.tensor(1.0))], lambda out, y: out.sum() * y)


def test_loss_change_is_the_loss_without_the_channel(two: Network) -> None:
    data, first = batches(), two.module.get_submodule("first")
    assert isinstance(first, nn.Linear)

    def loss() -> float:
        with torch.no_grad():
            return float(np.mean([F.cross_entropy(two.module(x), y).item() for x, y in data]))

    dense, found = loss(), criterion("loss_change").score(two, data)["first"]
    for c in range(4):
        before = first.weight.detach().clone(), first.bias.detach().clone()
        with torch.no_grad():
            first.weight[c], first.bias[c] = 0, 0
        assert found[c] == pytest.approx(abs(loss() - dense), rel=1e-4, abs=1e-6)
        with torch.no_grad():
            first.weight.copy_(before[0])
            first.bias.copy_(before[1])


def test_few_evaluations_share_a_change_by_magnitude(two: Network) -> None:
    found, norms = (criterion(n).score(two, batches())["first"] for n in ("loss_change:evaluations=1", "l2"))
    together = np.argsort(norms)
    for pair in (together[:2], together[2:]):
        assert found[pair[0]] / found[pair[1]] == pytest.approx(norms[pair[0]] / norms[pair[1]], rel=1e-2)


class Chain(nn.Module):
    """A channel of the first layer is read by a convolution; the second layer's by a linear one, flattened."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 3, 3, stride=2, padding=1)
        self.head = nn.Linear(3 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.b(F.relu(self.a(x)))).flatten(1))


def test_reconstruction_is_what_least_squares_cannot_make_up_for() -> None:
    torch.manual_seed(0)
    net = Chain()
    x = torch.randn(64, 2, 6, 6)
    found = criterion("reconstruction:damping=1e-9").score(read_network(net, (x[:1],)), [(x, None)])
    with torch.no_grad():
        hidden = F.relu(net.a(x))
        of_conv = F.unfold(hidden, 3, padding=1, stride=2).transpose(1, 2).reshape(-1, 4 * 9).double()
        of_head = F.relu(net.b(hidden)).flatten(1).double()
    for group, rows, weights, size in (
        ("a", of_conv, net.b.weight.detach().flatten(1).T.double(), 4),
        ("b", of_head, net.head.weight.detach().T.double(), 3),
    ):
        goal = rows @ weights
        for c in range(size):
            rest = torch.ones(size, 9, dtype=torch.bool)
            rest[c] = False
            kept = rows[:, rest.flatten()]
            error = (goal - kept @ torch.linalg.lstsq(kept, goal).solution).square().sum() / goal.square().sum()
            assert found[group][c] == pytest.approx(float(error), rel=1e-3), (group, c)


def test_a_channel_that_others_can_say_is_worth_nothing() -> None:
    torch.manual_seed(0)
    net = Chain()
    with torch.no_grad():
        net.a.weight[3], net.a.bias[3] = net.a.weight[1], net.a.bias[1]
    x = torch.randn(32, 2, 6, 6)
    found = criterion("reconstruction:damping=1e-6").score(read_network(net, (x[:1],)), [(x, None)])["a"]
    assert found[[1, 3]].max() < 1e-3 * found[[0, 2]].min()


def test_reconstruction_says_what_nothing_reads() -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Conv2d(2, 4, 1), nn.ConvTranspose2d(4, 2, 2, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.first(x)))

    network = read_network(Embedded(), (torch.randn(1, 2, 4, 4),))
    with pytest.raises(UsageError, match="none reads width group 'first'"):
        criterion("reconstruction").score(network, [(torch.randn(2, 2, 4, 4), None)])


def test_batch_norm_scales_and_what_stands_for_them() -> None:
    class Normed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.bn, self.b = nn.Conv2d(2, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 3, 1)
            self.head = nn.Conv2d(3, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(F.relu(self.b(F.relu(self.bn(self.a(x))))))

    torch.manual_seed(0)
    net = Normed()
    with torch.no_grad():
        net.bn.weight.copy_(torch.tensor([0.5, -2.0, 0.1, 1.0]))
    found = criterion("bn_scale").score(read_network(net, (torch.randn(1, 2, 4, 4),)))
    np.testing.assert_allclose(found["a"], [0.5, 2.0, 0.1, 1.0])
    norms = net.b.weight.detach().flatten(1).norm(dim=1)
    np.testing.assert_allclose(found["b"], 2 * norms / norms.max(), rtol=1e-5)


def test_batch_norm_scales_need_batch_norms(two: Network) -> None:
    with pytest.raises(UsageError, match="needs batch norms"):
        criterion("bn_scale").score(two)


def test_filters_near_the_others_are_worth_least() -> None:
    class Line(nn.Sequential):
        def __init__(self) -> None:
            super().__init__(nn.Linear(1, 4, bias=False), nn.ReLU(), nn.Linear(4, 2))

    net = Line()
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.0], [1.0], [2.0], [9.0]]))
    found = criterion("geometric_median").score(read_network(net, (torch.randn(1, 1),)))["0"]
    np.testing.assert_allclose(found, np.array([12, 10, 10, 24]) / 3)


COUPLED: dict[str, Callable[[Tensor], Tensor]] = {
    "joint": lambda norms: norms.square().sum(0).sqrt(),
    "sum": lambda norms: norms.sum(0),
    "mean": lambda norms: norms.mean(0),
    "max": lambda norms: norms.amax(0),
}


@pytest.mark.parametrize("combine", COUPLED)
def test_layers_that_share_channels_are_combined(combine: str) -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(2, 4, 1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.a(x)
            return self.head(F.relu(x + self.b(F.relu(x))))

    torch.manual_seed(0)
    net = Residual()
    norms = torch.stack([layer.weight.detach().double().flatten(1).norm(dim=1) for layer in (net.a, net.b)])
    found = criterion(f"l2:combine={combine}").score(read_network(net, (torch.randn(1, 2, 4, 4),)))
    np.testing.assert_allclose(found["a"], COUPLED[combine](norms))


SCORES = {"a": np.array([1.0, 2.0, 3.0, 10.0]), "b": np.array([0.5, 0.5, 0.5, 0.5, 0.5])}


@pytest.mark.parametrize(
    ("asked", "a", "b"),
    [
        ("threshold:value=2", 3, 1),
        ("threshold:value=0", 4, 5),
        ("threshold:value=99", 1, 1),
        ("deviation:k=1", 4, 5),
        ("deviation:k=0", 1, 5),
        ("relative:share=0.25", 2, 5),
        ("ratio:remove=0.5", 2, 3),
        ("ratio:remove=0.99", 1, 1),
        ("global_ratio:remove=0.5", 4, 1),
        ("global_ratio:remove=0", 4, 5),
        ("global_ratio:remove=0.7", 3, 1),
    ],
)
def test_rules(asked: str, a: int, b: int) -> None:
    assert rule(asked).choose(SCORES) == {"a": a, "b": b}


@pytest.mark.parametrize("asked", ["ratio:remove=1", "ratio:remove=-0.1", "relative:share=2", "threshold:value=-1"])
def test_shares_that_make_no_sense(asked: str) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        rule(asked)


def test_a_threshold_has_no_usual_value() -> None:
    with pytest.raises(UsageError, match="needs value"):
        rule("threshold")


def test_levels_end_at_what_a_rule_keeps() -> None:
    levels = {"a": (2, 4, 8), "b": (0, 4, 8), "c": (8,)}
    assert capped(levels, {"a": 5, "b": 4}) == {"a": (2, 4, 5), "b": (0, 4), "c": (8,)}


# -- what is learned, and what backs off ------------------------------------------------------------------


def test_a_dynamic_threshold_goes_as_far_as_the_judge_allows() -> None:
    scores = {"a": np.array([0.1, 0.3, 0.5, 1.0]), "b": np.array([0.2, 2.0])}
    judged: list[dict[str, int]] = []

    def judge(widths: dict[str, int]) -> float:
        judged.append(widths)
        return 0.9 if sum(widths.values()) >= 4 else 0.5

    found = rule("dynamic:drop=0.1,steps=10").choose(scores, judge)
    # 0.1 and 0.2 of b's largest go first (0.1 each of the largest), then 0.3: three left are too few.
    assert found == {"a": 3, "b": 1}
    assert judged[0] == {"a": 4, "b": 2}
    assert any(sum(widths.values()) < 4 for widths in judged)
    assert len(judged) == 11
    assert rule("dynamic:drop=0").choose(scores, lambda widths: float(sum(widths.values()))) == {"a": 4, "b": 2}
    with pytest.raises(UsageError, match="data"):
        rule("dynamic").choose(scores)


def test_a_predictor_ranks_channels_that_it_never_measured() -> None:
    torch.manual_seed(3)
    module: Any = nn.Sequential(
        nn.Conv2d(3, 40, 3), nn.ReLU(), nn.Conv2d(40, 30, 3), nn.ReLU(), nn.Flatten(), nn.Linear(480, 4)
    )
    with torch.no_grad():  # channels of very different worth
        module[0].weight *= torch.logspace(-2, 0.5, 40)[torch.randperm(40)].view(-1, 1, 1, 1)
        module[2].weight *= torch.logspace(-2, 0.5, 30)[torch.randperm(30)].view(-1, 1, 1, 1)
    network = read_network(module, (torch.randn(1, 3, 8, 8),))
    generator = torch.Generator().manual_seed(0)
    batches = [(torch.randn(64, 3, 8, 8, generator=generator), torch.randint(0, 4, (64,), generator=generator))] * 2
    predictor = criterion("predictor", evaluations=24, seed=1)
    predicted = predictor.score(network, batches)
    measured = criterion("loss_change", evaluations=10_000).score(network, batches)
    norms = criterion("l2").score(network)
    sample = set(sampled([norms[g.name] for g in network.channels.prunable], 24).tolist())
    assert len(sample) < 30
    start = 0
    for name, values in predicted.items():
        unseen = [i for i in range(values.size) if start + i not in sample]
        start += values.size
        ranks = [x[unseen].argsort().argsort() for x in (values, measured[name])]
        assert np.corrcoef(*ranks)[0, 1] > 0.6
