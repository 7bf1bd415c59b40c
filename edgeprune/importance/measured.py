"""Loss curves: the calibration loss when one group alone is cut to k channels, for a handful of k.

Several papers call it layer-wise sensitivity (Li et al. 2017, "Pruning Filters for Efficient ConvNets", section 3.2, on
accuracy). Here it is a solver's objective, so what single groups cost has to add up to what a plan costs. Rises of the
loss do not: cuts sharpen each other, and their sum is half or a third of the joint rise. Their square roots do better.
Near its minimum a loss is about quadratic in the change of the outputs, so the root of its rise is about the length of
that change, and lengths add up where changes point the same way. ``benchmarks/objective.py`` compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from edgeprune.errors import BadInputError, UsageError
from edgeprune.graph.network import Network
from edgeprune.graph.trace import evaluating
from edgeprune.importance.criterion import Batches, LossFn, Scores, loss_of
from edgeprune.importance.curves import Curves
from edgeprune.models.batchnorm import statistics_of_batches
from edgeprune.models.inputs import Inputs, as_inputs, call
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.mask import masking
from edgeprune.pruning.plan import make_plan

SAMPLES = 256
"""Calibration samples that losses are measured on, always the same."""
POINTS = 8
"""Most widths of a group at which the loss is measured; between them it is interpolated."""
FLOOR = 1e-6
"""What the channels of a group are worth where the loss does not tell: this share of all that can be lost."""


def loss_curves(
    network: Network,
    scores: Scores,
    levels: Mapping[str, Sequence[int]],
    batches: Batches,
    loss_fn: LossFn | None = None,
    *,
    progress: Progress = SILENT,
) -> Curves:
    """What each width of a group retains of the square root of the loss that its channels can cost.

    Needs forward passes only: one over ``batches`` for each point, at most :data:`POINTS` a group. The network is
    masked in place and is bit for bit what it was afterwards.

    Args:
        scores: the channels of lowest score go first.
        levels: group -> widths that are offered, ascending, the last its size.
        batches: (input, target) pairs.
        loss_fn: as for :meth:`edgeprune.importance.criterion.Criterion.score`.

    Raises:
        UsageError: no batches.
        BadInputError: a loss that is not finite.
    """
    batches = list(batches)
    if not batches:
        raise UsageError("loss curves got an empty data set", hint="give at least one batch")
    channels = network.channels
    free = {g.name: g.size for g in channels.prunable if len(levels.get(g.name, ())) > 1}
    points = {name: _points([w for w in levels[name] if w]) for name in free}
    blocks = [b for b in channels.blocks if all(g in free and levels[g][0] == 0 for g in b.groups)]
    progress.stage("measuring loss curves", 1 + sum(len(p) - 1 for p in points.values()) + len(blocks))

    def measured(widths: Mapping[str, int]) -> float:
        found = joint_loss(network, scores, widths, batches, loss_fn)
        progress.advance()
        return found

    dense = measured({})
    losses = {name: [*(measured({name: w}) for w in points[name][:-1]), dense] for name in free}
    costs = {name: np.sqrt(_rises(found)) for name, found in losses.items()}
    # Smallest first: a block around others costs what they cost, and its own groups the rest.
    gone: dict[str, float] = {}
    for block in sorted(blocks, key=lambda b: len(b.groups)):
        known = sum(gone.get(g, costs[g][0]) for g in block.groups)
        own = [g for g in block.groups if g not in gone]
        rest = max(0.0, max(0.0, measured(dict.fromkeys(block.groups, 0)) - dense) ** 0.5 - known)
        gone |= {g: costs[g][0] + rest / len(own) for g in own}
    return _retained(free, points, costs, gone)


def joint_loss(
    network: Network, scores: Scores, widths: Mapping[str, int], batches: Batches, loss_fn: LossFn | None = None
) -> float:
    """The mean loss over ``batches`` with groups cut to ``widths``; batch norms take the statistics of each batch.

    Raises:
        PlanError: widths that do not fit.
        BadInputError: a loss that is not finite.
    """
    plan = make_plan(network.channels, widths, scores)
    total, count = 0.0, 0
    with (
        masking(network.module, network.channels, plan),
        evaluating(network.module),
        statistics_of_batches(network.module),
        torch.no_grad(),
    ):
        for x, y in batches:
            size = len(as_inputs(x)[0])
            total += float(loss_of(network.module, x, y, loss_fn)) * size
            count += size
    if not np.isfinite(total):
        cut = ", ".join(f"{name} at {width}" for name, width in widths.items()) or "no group cut"
        raise BadInputError(
            f"the loss on calibration samples is not finite with {cut}",
            hint="look for NaN in weights and data, and for a loss that diverges on them",
            widths=dict(widths),
        )
    return total / count


def with_own_outputs(module: nn.Module, batches: Batches) -> list[tuple[Inputs, Any]]:
    """The inputs of ``batches``, with what the module itself yields as targets, by the statistics of each batch."""
    with evaluating(module), statistics_of_batches(module), torch.no_grad():
        return [(x, call(module, x)) for x, _ in batches]


def _points(widths: Sequence[int]) -> list[int]:
    """At most :data:`POINTS` of the widths, the first and the last among them."""
    chosen = np.unique(np.linspace(0, len(widths) - 1, POINTS).round().astype(int))
    return [int(widths[i]) for i in chosen]


def _rises(losses: Sequence[float]) -> NDArray[np.float64]:
    """By how much each width raises the loss over the full one, the last: at least 0, and never less for less width.

    Where noise says otherwise, the nearest such values in the mean square (pool adjacent violators).
    """
    pools: list[tuple[float, int]] = []
    for loss in losses:
        mean, count = max(0.0, loss - losses[-1]), 1
        while pools and pools[-1][0] < mean:
            before, more = pools.pop()
            mean, count = (mean * count + before * more) / (count + more), count + more
        pools.append((mean, count))
    return np.repeat([m for m, _ in pools], [n for _, n in pools])


def _retained(
    sizes: Mapping[str, int],
    points: Mapping[str, Sequence[int]],
    costs: Mapping[str, NDArray[np.float64]],
    gone: Mapping[str, float],
) -> Curves:
    """Curves of all widths: what a width saves of the largest cost, and a floor that prefers more channels."""
    worst = sum(gone.get(name, costs[name][0]) for name in sizes)
    curves: Curves = {}
    for name, size in sizes.items():
        known, values = list(points[name]), costs[name]
        if name in gone:
            known, values = [0, *known], np.append(gone[name], values)
        cost = np.interp(np.arange(size + 1), known, values)
        curves[name] = values[0] - cost + FLOOR * (worst or 1.0) * np.arange(size + 1) / size
    return curves
