"""Robustness and generalisation: noise of a known strength, the same for every network, and the gap of the halves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.errors import BadInputError
from edgeprune.models.image_input import ImageInput
from edgeprune.training.data import DataSet
from edgeprune.training.evaluate import evaluate
from edgeprune.training.halves import Arrays, Batch, Half, Stacked, batches_of
from edgeprune.training.robustness import STRENGTHS, Noisy, Robustness, input_deviations, robustness
from edgeprune.training.tasks.task import Score, Task, mean_metric


def normal(n: int, seed: int = 0) -> Arrays:
    x = torch.randn(n, 2, 3, 3, generator=torch.Generator().manual_seed(seed)) * 4 + 7
    return Arrays(x, torch.arange(n) % 3)


def error(higher: bool = False) -> Task:
    """The mean of the outputs, whatever the targets: a metric whose figure under noise is known."""
    metric = mean_metric("spread", lambda y, _: y.flatten(1).mean(1), "", higher_is_better=higher)
    return Task("spread", metric)


class Squares(nn.Module):
    """How far inputs lie from their own mean, 7."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - 7).square()


def scored(task: Task, module: nn.Module, data: DataSet, **more: object) -> Robustness:
    options = {"samples": 1000, "seed": 3, "on_device": False, **more}
    return robustness(lambda half: evaluate(module, half, task), data, **options)


def test_noise_has_the_deviation_that_is_told() -> None:
    """Training inputs deviate by 4; test inputs lie at 7 all, so what is left of them is the square of the noise."""
    still = Arrays(torch.full((1000, 2, 3, 3), 7.0), torch.zeros(1000))
    found = scored(error(), Squares(), DataSet(normal(900), still, "normal", kind="other"))
    assert [n.strength for n in found.noise] == list(STRENGTHS)
    assert (found.test.value, found.train.value) == (0, pytest.approx(16, rel=0.05))
    for noise in found.noise:
        assert noise.score.value == pytest.approx(16 * noise.strength**2, rel=0.05)


def test_noise_is_a_matter_of_seed_and_sample_alone() -> None:
    half = normal(10)
    noisy = Noisy(half, (0.5,), 3, {})
    whole = noisy.take(torch.arange(10)).inputs
    one_by_one = torch.cat([noisy.take(torch.tensor([i])).inputs for i in range(10)])
    assert torch.equal(whole, one_by_one)
    assert torch.equal(whole[[7, 2]], noisy.take(torch.tensor([7, 2])).inputs)
    assert not torch.equal(whole, Noisy(half, (0.5,), 4, {}).take(torch.arange(10)).inputs)
    added = (whole - half.x) / 0.5
    assert torch.allclose(added, (Noisy(half, (2.0,), 3, {}).take(torch.arange(10)).inputs - half.x) / 2, atol=1e-5)
    flat = [tuple(a.flatten().tolist()) for a in added]
    assert len(set(flat)) == 10, "every sample has noise of its own"


def test_what_is_tried_is_the_same_for_every_network_and_leaves_chance_alone() -> None:
    seen: list[Tensor] = []

    class Draws:
        size, fixed = 6, False

        def take(self, chosen: Tensor) -> Batch:
            return Batch(chosen.float().reshape(-1, 1, 1, 1) + torch.rand(len(chosen), 1, 1, 1), chosen)

    def score(half: Half) -> Score:
        seen.append(torch.cat([b.inputs for b in batches_of(half)]))
        return Score("mean", float(seen[-1].mean()))

    data, before = DataSet(Draws(), Draws(), "draws", kind="other"), torch.random.get_rng_state()
    first = robustness(score, data, samples=4, seed=1, on_device=False)
    assert len(seen) == 2 + len(STRENGTHS)
    assert all(len(x) == 4 for x in seen)
    torch.rand(5)
    # The deviations of data that draw differ from call to call; what is scored without noise does not.
    again = robustness(score, data, samples=4, seed=1, on_device=False)
    assert (again.test, again.train) == (first.test, first.train)
    assert not torch.equal(before, torch.random.get_rng_state()), "only by the draw above"


@pytest.mark.parametrize(("higher", "sign"), [(True, 1), (False, -1)])
def test_the_gap_is_how_much_better_the_training_half_does(higher: bool, sign: int) -> None:
    train, test = (
        Arrays(torch.full((8, 1, 1, 1), 8.0), torch.zeros(8)),
        Arrays(torch.full((8, 1, 1, 1), 9.0), torch.zeros(8)),
    )
    data = DataSet(train, test, "two", kind="other")
    found = scored(error(higher), Squares(), data)
    assert (found.train.value, found.test.value, found.gap) == (1.0, 4.0, sign * (1.0 - 4.0))
    unlabelled = scored(error(higher), Squares(), data, labelled=False)
    assert (unlabelled.train, unlabelled.gap, unlabelled.test) == (None, None, found.test)


def test_integers_and_constants_get_no_noise() -> None:
    mixed = Stacked(
        (torch.randn(50, 4) * 3, torch.arange(50).reshape(50, 1), torch.full((50, 2), 5.0)), torch.zeros(50)
    )
    deviations = input_deviations(mixed)
    assert deviations == pytest.approx((float(np.std(mixed.inputs[0].numpy().astype(np.float64))), 0, 0), abs=1e-6)
    a, b, c = Noisy(mixed, deviations, 0, {}).take(torch.arange(50)).inputs
    assert not torch.equal(a, mixed.inputs[0])
    assert torch.equal(b, mixed.inputs[1])
    assert b.dtype == torch.int64
    assert torch.equal(c, mixed.inputs[2])
    words = DataSet(*[Stacked(torch.arange(20).reshape(20, 1), torch.zeros(20))] * 2, "words", kind="other")
    assert scored(error(), Float(), words).noise == ()


class Float(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.float()


def test_targets_are_those_of_the_inputs_without_noise() -> None:
    from edgeprune.training.halves import Targeted

    half = Targeted(Stacked(torch.randn(9, 3)), lambda batch: batch.inputs)
    batch = Noisy(half, (1.0,), 0, {}).take(torch.arange(9))
    assert torch.equal(batch.targets, half.half.inputs)
    assert not torch.equal(batch.inputs, batch.targets)


def test_noise_of_a_camera_ends_at_black_and_white_and_is_whole_levels() -> None:
    image = ImageInput(mean=(0.5,), std=(0.25,))
    levels = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 3), np.uint8)
    levels[0], levels[1] = 0, 255
    half = Arrays(image.normalised(levels), torch.zeros(20))
    noisy = Noisy(half, (0.3,), 5, {0: image}).take(torch.arange(20)).inputs
    frames, distance = image.frames(noisy.numpy())  # which refuses what is no frame
    assert distance < 0.01
    plain = Noisy(half, (0.3,), 5, {}).take(torch.arange(20)).inputs.numpy()
    expected = np.clip(np.rint((plain * 0.25 + 0.5) * 255), 0, 255).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(frames, expected)
    assert (frames[0] == 0).any()
    assert (frames[0] > 0).any()


def test_a_figure_that_is_none_is_refused() -> None:
    class Wild(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.where(x == x.round(), x, torch.nan)

    whole = Arrays(torch.arange(8.0).reshape(8, 1, 1, 1), torch.zeros(8))
    with pytest.raises(BadInputError, match="spread of task 'spread' is nan"):
        scored(error(), Wild(), DataSet(whole, whole, "whole", kind="other"))


def test_json_and_back() -> None:
    found = scored(error(), Squares(), DataSet(normal(5), normal(5, 1), "few"))
    assert Robustness.from_json(found.to_json()) == found
