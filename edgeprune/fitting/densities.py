"""Densities in planning: which layers are offered fewer blocks of their weights, and what is lost with these.

What a layer's blocks retain is in the unit of the channels' curves. All blocks of a layer are worth as much as the
channels that it writes, for without either there is nothing; where several layers write them, each has an equal part.
Of that, some blocks retain their share of the absolute weights, those with most of these first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.in_blocks import layers_for_blocks
from edgeprune.errors import ProfileError, UsageError
from edgeprune.graph.channels import ChannelGraph, KernelGraph
from edgeprune.graph.network import Network
from edgeprune.graph.ops.convolution import BLOCK, stored_blocks
from edgeprune.graph.spec import KernelSpec
from edgeprune.importance.curves import Curves
from edgeprune.latency.densities import WHOLE, Densities, Density
from edgeprune.latency.grids import grid_for
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.problem import bindings_of
from edgeprune.pruning.plan import Plan
from edgeprune.targets import Target
from edgeprune.training.sparse.planned import Planned

GAIN = 0.02
"""By how much of its latency a layer has to be quicker at some widths for a density to be offered: the solver would
find no use for others, and each is one more choice.
"""


def check_densities(wanted: Sequence[int], target: Target, *, ram_limited: bool) -> None:
    """Refuse densities where no kernel makes use of them.

    Raises:
        UsageError: on a GPU; and beside a limit of RAM, for the places of stored blocks take some that plans do not
            count.
    """
    if wanted and target.kind != "cpu":
        raise UsageError(f"kernels for {target.name} store all weights", hint="leave --densities away")
    if wanted and ram_limited:
        raise UsageError(
            "the places of stored blocks take RAM that plans do not count", hint="give --densities or --ram, not both"
        )


def densities_of(
    network: Network,
    wanted: Sequence[int],
    curves: Curves,
    levels: Mapping[str, tuple[int, ...]],
    model: LatencyModel,
) -> Densities:
    """The layers that are offered densities, and what each retains there.

    Those are offered at which a layer is quicker by :data:`GAIN` than at all higher ones, at some widths.

    Args:
        wanted: in per cent, ascending.
        curves: what the groups' widths retain.
        levels: group -> widths that are offered.

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
    writers, parameters = _writers(network.kernels, network.channels), dict(network.module.named_parameters())
    found: dict[str, Density] = {}
    for name, weight in layers.items():
        node, parameter = nodes[name], parameters.get(weight)
        bindings = bindings_of(node, network.channels)
        written = set(bindings["out"].groups) & curves.keys()
        worth = sum(float(curves[g][-1]) / writers[g] for g in written)
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
            shares = retained(parameter.detach().cpu().numpy(), (*offered, WHOLE))
            found[name] = Density(weight, (*offered, WHOLE), worth * shares)
    return found


def retained(weight: NDArray[np.float32], densities: Sequence[int]) -> NDArray[np.float64]:
    """Share of a layer's absolute weights, (O, …), in its best blocks, at each density: shape (len(densities),)."""
    sizes = np.abs(weight.reshape(len(weight), -1).astype(np.float64))
    blocks = np.sort(np.add.reduceat(sizes, np.arange(0, len(sizes), BLOCK), axis=0), axis=None)[::-1]
    if not blocks.any():
        return np.ones(len(densities))
    summed = np.cumsum(blocks) / blocks.sum()
    found: NDArray[np.float64] = summed[[stored_blocks(blocks.size, d) - 1 for d in densities]]
    return found


def planned_blocks(plan: Plan) -> tuple[Planned, ...]:
    """What makes the blocks of a plan 0 while its network is trained, or at once."""
    return (Planned(plan.in_blocks),) if plan.in_blocks else ()


def _profiled(model: LatencyModel, spec: KernelSpec) -> bool:
    records = model.family(spec)
    return bool(records) and all(r.ok for r in records)


def _writers(kernels: KernelGraph, channels: ChannelGraph) -> Counter[str]:
    """How many layers with weights write the channels of each group."""
    layers = [n for n in kernels.nodes if n.weights.weight and "out" in n.spec.widths]
    return Counter(g for n in layers for g in set(bindings_of(n, channels)["out"].groups))
