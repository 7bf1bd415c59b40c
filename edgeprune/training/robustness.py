"""Robustness and generalisation: a network's figure under noise in its inputs, and on the halves of its data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from edgeprune.jsonable import Jsonable
from edgeprune.models.image_input import ImageInput
from edgeprune.models.inputs import as_inputs
from edgeprune.training.data import DataSet
from edgeprune.training.halves import Batch, Half, Over, Part, batches_of, spread
from edgeprune.training.tasks.task import Score

STRENGTHS = (0.1, 0.3)
"""Standard deviations of the noise, relative to those of the inputs: one that hardly anybody sees in an image, and one
that everybody sees."""


@dataclass(frozen=True, slots=True)
class NoiseScore(Jsonable):
    """A score under noise of a strength, which is relative to the standard deviation of the inputs."""

    strength: float
    score: Score


@dataclass(frozen=True, slots=True)
class Robustness(Jsonable):
    """The figure of one network on samples that were left as they are, on others, and under noise.

    Attributes:
        test: of the test half, which nothing was fitted to.
        train: of the training half; None where its targets were the dense network's own answers.
        noise: of the samples of ``test``, by strength; none where no input is a real number.
        on_device: whether outputs are the program's on the device, or torch's with the same weights.
    """

    test: Score
    train: Score | None
    noise: tuple[NoiseScore, ...]
    on_device: bool

    @property
    def gap(self) -> float | None:
        """How much better the training half is scored than the test half, in the metric's unit: the usual figure of
        generalisation. Below zero where the test half is scored better."""
        if self.train is None:
            return None
        gap = self.train.value - self.test.value
        return gap if self.test.higher_is_better else -gap


def robustness(
    score: Callable[[Half], Score],
    data: DataSet,
    *,
    samples: int,
    seed: int,
    on_device: bool,
    labelled: bool = True,
    frames: Mapping[int, ImageInput] | None = None,
) -> Robustness:
    """Score a network on the same samples under the same noise, whichever network it is.

    Gaussian noise is added to every input of real numbers; its standard deviation is that of the input over the samples
    of the training half, times each of :data:`STRENGTHS`. Strengths share one draw, sample by sample.

    Args:
        score: the figure of the network on a half; must not depend on how samples are batched.
        samples: of each half, at most; evenly spread over it.
        seed: of the noise, and of transforms that draw. Torch's global generator is left as it was.
        labelled: whether the targets of the training half are the data's own.
        frames: inputs, by place, that are camera frames: noise is rounded to grey levels and ends at 0 and 255, as a
            camera's does.

    Raises:
        BadInputError: the metric is no finite number there. Whatever ``score`` raises.
    """
    test, train = (Part(half, spread(half, samples)) for half in (data.test, data.train))
    deviations = input_deviations(train)

    def scored(half: Half) -> Score:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return score(half)

    noise = [
        NoiseScore(strength, scored(Noisy(test, tuple(strength * d for d in deviations), seed, dict(frames or {}))))
        for strength in STRENGTHS
        if any(deviations)
    ]
    return Robustness(scored(test), scored(train) if labelled else None, tuple(noise), on_device)


def input_deviations(half: Half) -> tuple[float, ...]:
    """The standard deviation of each input over all elements of all samples; 0 for integers and truth values."""
    sums: list[list[float]] = []
    for batch in batches_of(half):
        inputs = as_inputs(batch.inputs)
        sums = sums or [[0.0, 0.0, 0.0] for _ in inputs]
        for found, x in zip(sums, inputs, strict=True):
            if x.is_floating_point():
                values = x.double()
                found[0] += values.numel()
                found[1] += float(values.sum())
                found[2] += float(values.square().sum())
    return tuple(math.sqrt(max(0.0, s2 / n - (s / n) ** 2)) if n else 0.0 for n, s, s2 in sums)


@dataclass(frozen=True, slots=True)
class Noisy(Over):
    """A half with Gaussian noise in its inputs: that of a sample depends on the seed and its number alone.

    Attributes:
        deviations: of the noise, for each input; 0 leaves it as it is.
        frames: inputs, by place, that are made of camera frames.
    """

    deviations: Sequence[float]
    seed: int
    frames: Mapping[int, ImageInput]

    def take(self, chosen: Tensor) -> Batch:
        batch = self.half.take(chosen)
        # Targets that are computed of the inputs were computed of those without noise.
        inputs = as_inputs(batch.inputs)
        added: list[list[Tensor]] = [[] for _ in inputs]
        for row, number in enumerate(chosen.tolist()):
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            for place, x in enumerate(inputs):
                if self.deviations[place]:
                    drawn = torch.randn(x[row].shape, generator=generator)
                    added[place].append(x[row] + self.deviations[place] * drawn.to(x.dtype))
        noisy: list[Any] = [torch.stack(rows) if rows else x for rows, x in zip(added, inputs, strict=True)]
        for place, image in self.frames.items():
            noisy[place] = image.normalised(replace(image, data="nearest").frames(noisy[place].numpy())[0])
        return Batch(noisy[0] if isinstance(batch.inputs, Tensor) else tuple(noisy), batch.targets)
