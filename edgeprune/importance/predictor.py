"""A pruning predictor: a small network learns, from channels whose removal was measured, what the others are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.errors import UsageError
from edgeprune.graph.network import Network
from edgeprune.importance.activation import Activation
from edgeprune.importance.criterion import Batches, Criterion, LossFn, Scores
from edgeprune.importance.gradients import Gradient, Taylor
from edgeprune.importance.loss_change import first_samples, loss_without
from edgeprune.importance.magnitude import L1, L2
from edgeprune.importance.median import GeometricMedian

_IMITATED: tuple[type[Criterion], ...] = (L1, L2, GeometricMedian, Activation, Gradient, Taylor)
_BY = 1
"""By the l2 norm channels are sampled."""
_EPOCHS, _HIDDEN, _LR = 400, 32, 0.01
_TINY = 1e-12


class Predictor:
    """Predicts the change of the loss without a channel from other criteria and from where the channel stands.

    The loss is measured without single channels, a sample of them from all groups. A network of one hidden layer is
    trained on these: it takes the logarithms of six criteria, each channel's rank in its group by each of them, the
    group's size and place, and yields the logarithm of the change. Channels that were measured keep what was measured.

    Source: own combination; learning what to prune from measured effects is of He et al. 2018, arXiv:1802.03494 (a
    policy per layer) and Liu et al. 2019, arXiv:1903.10258 (a network that generates weights); this one learns per
    channel.

    Args:
        evaluations: channels that are measured, each a pass over 128 samples.
        seed: of the training.
    """

    name: ClassVar[str] = "predictor"
    needs_data: ClassVar[bool] = True

    def __init__(self, evaluations: int = 256, seed: int = 0) -> None:
        if evaluations < 8:
            raise UsageError(f"criterion '{self.name}' cannot learn from {evaluations} channels", hint="give 8 or more")
        self.evaluations, self.seed = evaluations, seed

    def score(self, network: Network, batches: Batches | None = None, loss_fn: LossFn | None = None) -> Scores:
        if batches is None:
            raise UsageError(f"criterion '{self.name}' needs data", hint="give batches of (input, target)")
        batches = list(batches)
        if not batches:
            raise UsageError(f"criterion '{self.name}' got an empty data set", hint="give at least one batch")
        groups = network.channels.prunable
        known = [c().score(network, batches, loss_fn) for c in _IMITATED]
        sample = sampled([known[_BY][g.name] for g in groups], self.evaluations)
        changes = self._measured(network, sample, batches, loss_fn)
        predicted = _learned(_features(network, known), sample, changes, self.seed)
        predicted[sample] = changes
        # Nothing that writes such a channel is other than 0.
        predicted[np.concatenate([(known[_BY][g.name] == 0) & (known[-1][g.name] == 0) for g in groups])] = 0
        ends = np.cumsum([g.size for g in groups])[:-1]
        return {g.name: part for g, part in zip(groups, np.split(predicted, ends), strict=True)}

    def _measured(
        self, network: Network, sample: NDArray[np.intp], batches: Sequence[Any], loss_fn: LossFn | None
    ) -> NDArray[np.float64]:
        """The change of the loss without each channel of the sample."""
        first, groups = first_samples(batches), network.channels.prunable
        owners = np.repeat(np.arange(len(groups)), [g.size for g in groups])
        starts = np.cumsum([0, *(g.size for g in groups)])
        dense, found = loss_without(network, {}, first, loss_fn), np.zeros(len(sample))
        for k, channel in enumerate(sample):
            group = groups[owners[channel]]
            if group.size > 1:  # the only one cannot go
                keep = tuple(i for i in range(group.size) if i != channel - starts[owners[channel]])
                found[k] = abs(loss_without(network, {group: keep}, first, loss_fn) - dense)
        return found


def sampled(norms: Sequence[NDArray[np.float64]], most: int) -> NDArray[np.intp]:
    """Numbers of channels, about ``most`` of them: of each group a share, at least two, by norms from the smallest
    to the largest.
    """
    every, start, found = sum(n.size for n in norms), 0, []
    for values in norms:
        count = min(values.size, max(2, round(most * values.size / every)))
        places = np.linspace(0, values.size - 1, count).round().astype(np.intp)
        found.append(start + np.sort(np.argsort(values, kind="stable")[places]))
        start += values.size
    return np.concatenate(found)


def _features(network: Network, known: Sequence[Scores]) -> NDArray[np.float64]:
    """What is known of each channel, (channels, features)."""
    groups, rows = network.channels.prunable, []
    for place, group in enumerate(groups):
        columns = []
        for scores in known:
            values = scores[group.name]
            columns += [np.log(values + _TINY), values.argsort(kind="stable").argsort(kind="stable") / group.size]
        columns += [np.full(group.size, np.log(group.size)), np.full(group.size, place / len(groups))]
        rows.append(np.stack(columns, 1))
    return np.concatenate(rows)


def _learned(
    features: NDArray[np.float64], sample: NDArray[np.intp], changes: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Changes of all channels, (channels,), as a network predicts them that was trained on the sample's."""
    mean, spread = features.mean(0), features.std(0)
    x = torch.from_numpy((features - mean) / np.where(spread > 0, spread, 1))
    target = torch.from_numpy(np.log(changes + max(_TINY, 1e-3 * float(np.median(changes)))))
    level, scale = target.mean(), target.std().clamp(min=1e-6)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        module = nn.Sequential(nn.Linear(x.shape[1], _HIDDEN), nn.Tanh(), nn.Linear(_HIDDEN, 1)).double()
        optimizer = torch.optim.AdamW(module.parameters(), lr=_LR, weight_decay=0.1)
        chosen = torch.from_numpy(sample)
        for _ in range(_EPOCHS):
            optimizer.zero_grad()
            error: Tensor = (module(x[chosen])[:, 0] - (target - level) / scale).square().mean()
            torch.autograd.backward(error)
            optimizer.step()
        with torch.no_grad():
            predicted: NDArray[np.float64] = torch.exp(module(x)[:, 0] * scale + level).numpy()
    return predicted
