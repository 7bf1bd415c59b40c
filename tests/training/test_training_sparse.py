"""Sparsity: masks, proximal steps and gates end in exact zeros, as many as were asked for, and none comes back."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from edgeprune.errors import UsageError
from edgeprune.graph.network import read_network
from edgeprune.training.data import DataSet
from edgeprune.training.finetune import train
from edgeprune.training.halves import Arrays
from edgeprune.training.sparse.gates import L0, drawn, final, open_chance
from edgeprune.training.sparse.lasso import L1, GroupLasso
from edgeprune.training.sparse.masks import Block, Kept, Masked, NofM, Weight
from edgeprune.training.sparse.patterns import Blocks, Single, lowest_gone, n_of_m
from edgeprune.training.sparse.registry import SPARSITIES, sparsities_of
from edgeprune.training.sparse.schedule import SCHEDULES, Schedule
from edgeprune.training.sparse.sparsity import weights_of, zeros_in
from edgeprune.training.sparse.strength import Strength
from edgeprune.training.tasks.task import Score


def small(seed: int = 0) -> Any:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 4),
    )


@pytest.fixture(scope="module")
def data() -> DataSet:
    """Images whose class is the brightest quarter."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(256, 3, 8, 8, generator=g)
    y = torch.randint(4, (256,), generator=g)
    for i, k in enumerate(y.tolist()):
        x[i, :, 4 * (k // 2) : 4 * (k // 2) + 4, 4 * (k % 2) : 4 * (k % 2) + 4] += 1
    return DataSet(Arrays(x[:192], y[:192]), Arrays(x[192:], y[192:]), "quarters")


@pytest.fixture(scope="module")
def trained(data: DataSet) -> Any:
    """What sparsity is made of: a network that knows its classes. It is copied."""
    module = small()
    train(module, data, epochs=8, batch_size=16)
    return module


def share(module: nn.Module) -> float:
    zeros, all_of_them = zeros_in(module)
    return zeros / all_of_them


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 9), st.integers(1, 9), st.integers(1, 5), st.integers(1, 4), st.floats(0, 0.95), st.integers(0, 99)
)
def test_the_lowest_blocks_go_as_brute_force_says(
    out: int, into: int, rows: int, columns: int, gone: float, seed: int
) -> None:
    g = np.random.default_rng(seed)
    values = {"a": torch.from_numpy(g.random((out, into, 3))), "b": torch.from_numpy(g.random((into, out)))}
    masks = lowest_gone(values, Blocks(rows, columns), gone)
    units = []
    for name, v in values.items():
        found = []
        for r in range(0, v.shape[0], rows):
            for c in range(0, v.shape[1], columns):
                block = v[r : r + rows, c : c + columns]
                found.append((float(block.mean()), name, r, c, block.numel()))
        found.sort(reverse=True)
        units += found[max(1, math.ceil(0.01 * len(found))) :]
    total, left = sum(v.numel() for v in values.values()), gone
    expected = {name: torch.ones_like(v, dtype=torch.bool) for name, v in values.items()}
    lost = 0
    for _, name, r, c, n in sorted(units):
        if lost + n > left * total + 1e-9:
            break
        lost += n
        expected[name][r : r + rows, c : c + columns] = False
    for name, mask in masks.items():
        assert torch.equal(mask, expected[name])


def test_of_each_run_of_inputs_the_two_largest_stay() -> None:
    values = torch.rand(5, 10, 3, 3, generator=torch.Generator().manual_seed(0))
    mask = n_of_m(values, 2, 4)
    for o in range(5):
        for y in range(3):
            for x in range(3):
                for start in (0, 4):
                    run, kept = values[o, start : start + 4, y, x], mask[o, start : start + 4, y, x]
                    assert kept.sum() == 2
                    assert run[kept].min() >= run[~kept].max()
    assert mask[:, 8:].all()  # the run is not whole
    assert n_of_m(torch.rand(3, 1, 3, 3), 2, 4).all()  # a depthwise layer has no runs


def test_a_share_of_each_layer_or_of_all() -> None:
    values = {"large": torch.full((10, 10), 2.0), "small": torch.full((10, 10), 1.0)}
    of_all = lowest_gone(values, Single(), 0.4)
    assert of_all["large"].all()
    assert of_all["small"].sum() == 20
    of_each = lowest_gone(values, Single(), 0.4, "layer")
    assert [int(m.sum()) for m in of_each.values()] == [60, 60]
    spared = lowest_gone(values, Single(), 0.9)
    assert spared["small"].sum() == 1  # though each of its weights is below all others


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_grow_to_their_share_and_stay(name: str) -> None:
    schedule = Schedule(name, 0.9, ramp=0.5)
    shares = [schedule.share(t / 100) for t in range(101)]
    assert shares == sorted(shares)
    assert shares[50:] == [0.9] * 51
    assert shares[0] == (0.9 if name == "once" else 0)
    # By hand, half of the ramp: 1 - (1 - .5)^3 of it; half of it; what leaves the root of a tenth.
    assert shares[25] == pytest.approx(
        {"cubic": 0.9 * 0.875, "linear": 0.45, "geometric": 1 - 0.1**0.5, "once": 0.9}[name]
    )


MASKS = [Weight(remove=0.8), Block(remove=0.6, rows=4, columns=2), NofM(1, 4), Weight(remove=0.5, scope="layer")]


@pytest.mark.parametrize("mask", MASKS, ids=lambda m: m.name)
def test_masked_weights_never_revive(mask: Masked, data: DataSet) -> None:
    module, seen = small(), []

    class Watch(type(mask)):  # type: ignore[misc]
        def stepped(self, module: nn.Module, lr: float) -> None:
            super().stepped(module, lr)
            seen.append({name: (w == 0).clone() for name, w in weights_of(module).items()})

    mask.__class__ = Watch
    before = {name: w.detach().clone() for name, w in weights_of(module).items()}
    train(module, data, epochs=4, batch_size=32, companions=[mask])
    counts = [sum(int(z.sum()) for z in zeros.values()) for zeros in seen]
    assert counts[0] < counts[-1]
    assert counts == sorted(counts)
    for earlier, later in itertools.pairwise(seen):
        assert all((later[name] >= earlier[name]).all() for name in earlier)
    moved = weights_of(module)
    assert all(not torch.equal(before[n][moved[n] != 0], moved[n][moved[n] != 0]) for n in before)


@pytest.mark.parametrize(
    ("asked", "expected"), [("weight:remove=0.8", 0.8), ("weight:remove=0.8,scope=layer", 0.8), ("l1:target=0.7", 0.7)]
)
def test_trainings_end_in_the_share_that_was_asked_for(asked: str, expected: float, data: DataSet) -> None:
    module = small()
    train(module, data, epochs=8, batch_size=16, companions=sparsities_of(asked))
    assert share(module) == pytest.approx(expected, abs=0.02)
    assert module[1].bias.tolist() != [0.0] * 16  # biases and norms are no part of it


def test_at_once_is_the_last_mask_and_again_changes_nothing() -> None:
    module = small()
    mask = Weight(remove=0.7)
    mask.at_once(module)
    assert share(module) == pytest.approx(0.7, abs=0.001)
    largest = sorted((abs(float(v)) for w in weights_of(small()).values() for v in w.detach().flatten()), reverse=True)
    stay = [abs(float(v)) for w in weights_of(module).values() for v in w.detach().flatten() if v != 0]
    assert sorted(stay, reverse=True) == largest[: len(stay)]
    after = [w.detach().clone() for w in weights_of(module).values()]
    mask.at_once(module)
    assert all(torch.equal(a, w) for a, w in zip(after, weights_of(module).values(), strict=True))


def test_signals_decide_where_they_are_given() -> None:
    module, asked = small(), []

    def scorer(name: str, module: nn.Module, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
        asked.append(name)
        return {n: torch.arange(w.numel()).view(w.shape).double() for n, w in wanted.items()}

    mask = Weight(remove=0.5, by="taylor", scope="layer")
    with pytest.raises(UsageError, match="taylor"):
        mask.at_once(small())
    mask.prepare(None, scorer)
    mask.at_once(module)
    assert asked == ["taylor"]
    for w in weights_of(module).values():
        zero = (w == 0).flatten()
        assert zero[: w.numel() // 2].all()
        assert not zero[w.numel() // 2 :].any()


@pytest.mark.parametrize("asked", ["weight:remove=0.9", "n_m", "block:rows=4", "l1", "l0:of=weights"])
def test_what_was_0_before_stays_0(asked: str, data: DataSet) -> None:
    module = small()
    Weight(remove=0.3).at_once(module)
    zeros = {name: (w == 0).clone() for name, w in weights_of(module).items()}
    train(module, data, epochs=1, companions=sparsities_of(asked))
    assert all((w[zeros[name]] == 0).all() for name, w in weights_of(module).items())


def test_masks_follow_permuted_channels() -> None:
    """Equivariance: a network with its outputs in another order has the mask in that order."""
    values = torch.rand(8, 6, 3, 3, generator=torch.Generator().manual_seed(1))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(2))
    assert torch.equal(n_of_m(values, 1, 2)[order], n_of_m(values[order], 1, 2))
    found, permuted = (lowest_gone({"w": v}, Single(), 0.5)["w"] for v in (values, values[order]))
    assert torch.equal(found[order], permuted)


def test_a_network_that_comes_sparse_stays_so(data: DataSet) -> None:
    module = small()
    Block(remove=0.5, rows=8).at_once(module)
    zeros = {name: (w == 0).clone() for name, w in weights_of(module).items()}
    other = small()
    other.load_state_dict(module.state_dict())
    train(module, data, epochs=2, companions=[Kept()])
    assert all(torch.equal(w == 0, zeros[name]) for name, w in weights_of(module).items())
    train(other, data, epochs=2)
    assert share(other) < 0.01  # what training does otherwise


def dead(module: Any) -> list[int]:
    """Channels of the two convolutions whose filters, biases and norms are all exactly 0."""
    first = (module[0].weight.flatten(1) == 0).all(1) & (module[1].weight == 0) & (module[1].bias == 0)
    second = (module[3].weight.flatten(1) == 0).all(1) & (module[3].bias == 0)
    return [int(first.sum()), int(second.sum())]


@pytest.mark.parametrize("asked", ["group_lasso:target=0.5", "l0:target=0.5"])
def test_channels_die_whole(asked: str, data: DataSet, trained: Any) -> None:
    module = copy.deepcopy(trained)
    network = read_network(module, (torch.zeros(1, 3, 8, 8),))
    (sparsity,) = sparsities_of(asked)
    sparsity.prepare(network.channels)
    history = train(module, data, epochs=12, batch_size=16, companions=[sparsity])
    count = sum(dead(module))
    assert 0.5 <= count / 40 <= 0.65
    # None is half dead: a filter of zeros has neither a bias nor a norm left.
    zero_filters = int((module[0].weight.flatten(1) == 0).all(1).sum()) + int(
        (module[3].weight.flatten(1) == 0).all(1).sum()
    )
    assert zero_filters == count
    assert history.accuracy[-1] > 0.9  # of four classes


def test_gates_of_weights_leave_zeros_that_training_keeps(data: DataSet, trained: Any) -> None:
    module = copy.deepcopy(trained)
    history = train(module, data, epochs=12, batch_size=16, companions=sparsities_of("l0:of=weights,target=0.6"))
    assert 0.599 <= share(module) <= 0.75
    assert history.accuracy[-1] > 0.9


def test_gates_are_drawn_as_their_formula_says() -> None:
    torch.manual_seed(0)
    for place in (-3.0, -1.0, 0.0, 2.0):
        draws = drawn(torch.full((20000,), place))
        assert float((draws > 0).double().mean()) == pytest.approx(float(open_chance(torch.tensor(place))), abs=0.01)
        assert draws.min() >= 0
        assert draws.max() <= 1
    ends = final(torch.tensor([-9.0, -2.5, -2.3, 0.0, 9.0]))
    assert ends[0] == ends[1] == 0
    assert 0 < ends[2] < 0.02
    assert ends[3] == 0.5
    assert ends[4] == 1


def test_slopes_of_gates_are_those_of_autograd() -> None:
    """A gate's gradient, taken from those of the gated weights, is what a network with gates in its graph has."""
    module = small()
    network = read_network(module, (torch.zeros(1, 3, 8, 8),))
    gates = L0()
    gates.prepare(network.channels)
    gates.begin(module, 10)
    torch.manual_seed(5)
    gates.before(module)
    x = torch.rand(4, 3, 8, 8)
    module.eval()
    torch.autograd.backward(module(x).square().sum())
    assert gates._gates is not None
    found = gates._gates.slopes(module, gates._raw)
    raw = {name: t.clone() for name, t in gates._raw.items()}
    chosen = {name: v.detach().requires_grad_() for name, v in gates._drawn.items()}
    first, second = (next(g.name for g in network.channels.prunable if g.size == size) for size in (16, 24))
    z1, z2 = chosen[first], chosen[second]

    def by_hand(t: Tensor) -> Tensor:
        t = nn.functional.conv2d(t, raw["0.weight"] * z1.view(-1, 1, 1, 1), padding=1)
        mean, var = module[1].running_mean, module[1].running_var
        t = nn.functional.batch_norm(t, mean, var, raw["1.weight"] * z1, raw["1.bias"] * z1)
        t = nn.functional.conv2d(t.relu(), raw["3.weight"] * z2.view(-1, 1, 1, 1), raw["3.bias"] * z2, padding=1)
        out: Tensor = module[7](t.relu().mean((2, 3)))
        return out

    torch.autograd.backward(by_hand(x).square().sum())
    for name, z in chosen.items():
        assert z.grad is not None
        torch.testing.assert_close(found[name], z.grad, rtol=1e-4, atol=1e-5)


def test_a_proximal_step_is_soft_thresholding() -> None:
    module: Any = nn.Sequential(nn.Linear(50, 40))
    l1 = L1(target=0, strength=2.0)
    l1.begin(module, 10)
    before = module[0].weight.detach().clone()
    scale = before.square().mean().sqrt()
    l1.stepped(module, lr=0.1)
    expected = nn.functional.softshrink(before, 0.2 * float(scale))
    torch.testing.assert_close(module[0].weight.detach(), expected)
    assert (expected == 0).any()
    assert torch.equal(module[0].weight == 0, expected == 0)


def test_strength_follows_what_is_gone_and_gives_way_to_accuracy() -> None:
    strength = Strength(1.0, 0.5, drop=0.05)
    strength.follow(gone=0.1, planned=0.3)
    grown = strength.value
    strength.follow(gone=0.4, planned=0.3)
    assert grown > 1
    assert strength.value == pytest.approx(1)
    strength.judge(Score("accuracy", 0.9))
    assert not strength.held
    strength.judge(Score("accuracy", 0.8))
    assert strength.held
    assert strength.value == pytest.approx(0.5)
    strength.follow(gone=0.1, planned=0.3)
    assert strength.value < 0.5  # too little is gone, and yet it does not grow
    strength.judge(Score("accuracy", 0.88))
    assert not strength.held
    error = Strength(1.0, 0.5, drop=0.05)
    error.judge(Score("perplexity", 3.0, "", higher_is_better=False))
    error.judge(Score("perplexity", 3.2, "", higher_is_better=False))
    assert error.held


def test_the_same_seed_gives_the_same_zeros(data: DataSet) -> None:
    made = []
    for _ in range(2):
        module = small()
        network = read_network(module, (torch.zeros(1, 3, 8, 8),))
        (sparsity,) = sparsities_of("l0:target=0.3")
        sparsity.prepare(network.channels)
        train(module, data, epochs=2, companions=[sparsity], seed=3)
        made.append([p.detach().clone() for p in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*made, strict=True))


@pytest.mark.parametrize(
    "asked",
    [
        "nothing",
        "weight:remove=1",
        "weight:remove=-0.1",
        "weight:schedule=sudden",
        "weight:scope=row",
        "weight:ramp=0",
        "block:rows=0",
        "n_m:n=4,m=4",
        "n_m:n=0,m=4",
        "l1:strength=0",
        "l1:target=1",
        "l1:drop=-1",
        "l0:of=filters",
        "l0:lr=0",
        "weight+weight",
        "weight+",
    ],
)
def test_what_makes_no_sense_is_refused(asked: str) -> None:
    with pytest.raises(UsageError):
        sparsities_of(asked)


def test_channels_are_needed_by_what_is_of_channels(data: DataSet) -> None:
    module = small()
    before = [p.detach().clone() for p in module.parameters()]
    with pytest.raises(UsageError, match="none that may go"):
        train(module, data, epochs=1, companions=[GroupLasso()])
    assert all(torch.equal(a, p) for a, p in zip(before, module.parameters(), strict=True))


def test_each_of_the_list_loads() -> None:
    assert [s.name for s in sparsities_of("+".join(SPARSITIES))] == list(SPARSITIES)
