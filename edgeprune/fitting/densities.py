"""Densities in planning: which layers are offered fewer blocks of their weights, and what is lost with these.

What a layer's blocks retain is in the unit of the channels' curves. All blocks of a layer are worth as much as the
channels that it writes, for without either there is nothing, or where nobody chooses these (a classifier's classes) as
those that it reads; where several layers write or read them, each has an equal part.
Of that, some blocks retain their share of what the criterion says of single weights, those with most of it first; of
absolute weights, where the criterion scores whole channels alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.in_blocks import layers_for_blocks
from edgeprune.errors import ProfileError, UsageError
from edgeprune.fitting.sparse import scorer
from edgeprune.graph.channels import ChannelGraph, KernelGraph
from edgeprune.graph.network import Network
from edgeprune.graph.ops.convolution import BLOCK, stored_blocks
from edgeprune.graph.spec import KernelSpec
from edgeprune.importance.curves import Curves
from edgeprune.importance.single_weights import of_weights
from edgeprune.latency.densities import WHOLE, Densities, Density
from edgeprune.latency.grids import grid_for
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.problem import bindings_of
from edgeprune.pruning.plan import Plan
from edgeprune.targets import Target
from edgeprune.training.data import DataSet
from edgeprune.training.sparse.planned import Planned
from edgeprune.training.sparse.sparsity import MAGNITUDE, Scorer, weights_by
from edgeprune.training.tasks.task import Task

GAIN = 0.02
"""By how much of its latency a layer has to be quicker at some widths for a density to be offered: the solver would
find no use for others, and each is one more choice.
"""


@dataclass(frozen=True, slots=True)
class Ranking:
    """What weights go by: a criterion that has a number for each, and what computes it."""

    by: str
    scorer: Scorer


def check_densities(wanted: Sequence[int], target: Target) -> None:
    """Refuse densities where no kernel makes use of them.

    Raises:
        UsageError: on a GPU.
    """
    if wanted and target.kind != "cpu":
        raise UsageError(f"kernels for {target.name} store all weights", hint="leave --densities away")


def densities_of(
    network: Network,
    wanted: Sequence[int],
    curves: Curves,
    levels: Mapping[str, tuple[int, ...]],
    model: LatencyModel,
    ranking: Ranking | None = None,
) -> Densities:
    """The layers that are offered densities, and what each retains there.

    Those are offered at which a layer is quicker by :data:`GAIN` than at all higher ones, at some widths.

    Args:
        wanted: in per cent, ascending.
        curves: what the groups' widths retain.
        levels: group -> widths that are offered.
        ranking: of single weights; None: by their absolute values.

    Raises:
        ProfileError: the profile knows none of these densities of any layer.
    """
    layers, nodes = layers_for_blocks(network.kernels) if wanted else {}, {n.name: n for n in network.kernels.nodes}
    known = {name: [d for d in wanted if _profiled(model, nodes[name].spec.with_density(d))] for name in layers}
    if layers and not any(known.values()):
        raise ProfileError(
            f"the profile knows no layer at a density of {', '.join(map(str, wanted))} %",
            hint=f"run: edgeprune profile with --densities {','.join(map(str, wanted))}, then try again",
        )
    sides = {side: _layers_at(side, network.kernels, network.channels) for side in ("out", "in")}
    parameters = dict(network.module.named_parameters())
    offers: dict[str, tuple[int, ...]] = {}
    worths: dict[str, float] = {}
    for name, weight in layers.items():
        node, parameter = nodes[name], parameters.get(weight)
        bindings = bindings_of(node, network.channels)
        worth = 0.0
        for side, layers_at in sides.items():
            groups = set(bindings[side].groups) & curves.keys()
            worth = worth or sum(float(curves[g][-1]) / layers_at[g] for g in groups)
        if parameter is None or len(parameter) != node.spec.output.channels or not worth > 0:
            continue
        grids = tuple(g[g > 0] for g in (grid_for(b, levels) for b in bindings.values()))
        offered: list[int] = []
        best = model.table(node.spec, grids=grids, estimate=True).latency_ms
        for density in reversed(known[name]):
            latency = model.table(node.spec.with_density(density), grids=grids, estimate=True).latency_ms
            if (latency < (1 - GAIN) * best).any():
                offered.insert(0, density)
                best = np.minimum(best, latency)
        if offered:
            offers[name], worths[name] = (*offered, WHOLE), worth
    scored = {layers[name]: parameters[layers[name]] for name in offers}
    by, how = (ranking.by, ranking.scorer) if ranking else (MAGNITUDE, None)
    signals = weights_by(by, network.module, scored, how) if scored else {}
    return {
        name: Density(layers[name], levels, worths[name] * retained(signals[layers[name]].cpu().numpy(), levels))
        for name, levels in offers.items()
    }


def retained(signal: NDArray[Any], densities: Sequence[int]) -> NDArray[np.float64]:
    """Share of what a layer's weights, (O, …), are worth in its best blocks, at each density.

    Args:
        signal: what each weight is worth, at least 0.

    Returns:
        Shape (len(densities),).
    """
    sizes = signal.reshape(len(signal), -1).astype(np.float64)
    blocks = np.sort(np.add.reduceat(sizes, np.arange(0, len(sizes), BLOCK), axis=0), axis=None)[::-1]
    if not blocks.any():
        return np.ones(len(densities))
    summed = np.cumsum(blocks) / blocks.sum()
    found: NDArray[np.float64] = summed[[stored_blocks(blocks.size, d) - 1 for d in densities]]
    return found


def ranking_of(
    criterion: str, network: Network, data: DataSet | None = None, task: Task | None = None, batch_size: int = 64
) -> Ranking | None:
    """How weights are ranked in a run by a criterion: by that, where it has a number for each; else None."""
    try:
        found = of_weights(criterion)
    except UsageError:
        return None
    if found.needs_data and data is None:
        return None
    return Ranking(criterion, scorer(network, data, task, batch_size))


def planned_blocks(plan: Plan, ranking: Ranking | None = None) -> tuple[Planned, ...]:
    """What makes the blocks of a plan 0 while its network is trained, or at once.

    Args:
        ranking: the plan's; without one absolute weights decide, and as many stay.
    """
    if not plan.in_blocks:
        return ()
    found = Planned(plan.in_blocks, ranking.by if ranking else MAGNITUDE)
    found.prepare(scorer=ranking.scorer if ranking else None)
    return (found,)


def _profiled(model: LatencyModel, spec: KernelSpec) -> bool:
    records = model.family(spec)
    return bool(records) and all(r.ok for r in records)


def _layers_at(side: str, kernels: KernelGraph, channels: ChannelGraph) -> Counter[str]:
    """How many layers with weights write ("out") or read ("in") the channels of each group."""
    layers = [n for n in kernels.nodes if n.weights.weight and side in n.spec.widths]
    return Counter(g for n in layers for g in set(bindings_of(n, channels)[side].groups))
