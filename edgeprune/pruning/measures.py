"""Measures of sparsity: what a plan takes from a network, counted in several ways, for none of them says it all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from edgeprune.graph.network import Network
from edgeprune.jsonable import Jsonable
from edgeprune.latency.densities import WHOLE, at_density
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.slices import survivors


@dataclass(frozen=True, slots=True)
class Sparsity(Jsonable):
    """What is gone of a network, and of how much.

    Attributes:
        weights, weights_left: of all parameters; tied ones once. ``nonzero_left``: those left that are not 0.
        units, units_left: channels that layers write; those of inputs are none of the network's.
        layers, layers_left: kernels with weights.
        macs, macs_left: multiply-adds of an inference; blocks of weights that a plan takes are none.
        mass, mass_left: sum of the absolute weights of the dense network, and of those that the plan leaves of it.
    """

    weights: int
    weights_left: int
    nonzero_left: int
    units: int
    units_left: int
    layers: int
    layers_left: int
    macs: int
    macs_left: int
    mass: float
    mass_left: float

    @property
    def absolute(self) -> int:
        """Weights that are gone or 0."""
        return self.weights - self.nonzero_left

    @property
    def parameter(self) -> float:
        """Share of the weights that are gone or 0."""
        return 1 - self.nonzero_left / max(1, self.weights)

    @property
    def relative(self) -> float:
        """Share of the absolute weight mass that is gone."""
        return 1 - self.mass_left / self.mass if self.mass else 0.0

    @property
    def structural(self) -> float:
        """Share of the channels that are gone."""
        return 1 - self.units_left / max(1, self.units)

    @property
    def weighted(self) -> float:
        """Share of the multiply-adds that are gone: channels, weighted by what they take to compute."""
        return 1 - self.macs_left / max(1, self.macs)

    @property
    def of_layers(self) -> float:
        """Share of the layers that are gone."""
        return 1 - self.layers_left / max(1, self.layers)

    def shares(self) -> dict[str, float]:
        """All that are shares, by name."""
        return {
            "parameter": self.parameter,
            "relative": self.relative,
            "structural": self.structural,
            "weighted": self.weighted,
            "layers": self.of_layers,
        }


def sparsity(dense: Network, small: Network, plan: Plan) -> Sparsity:
    """Measures of a network that was shrunk by a plan, trained further or not.

    Raises:
        PlanError: the plan does not fit the dense network.
    """
    alive, parameters = survivors(dense.module, dense.channels, plan), dict(dense.module.named_parameters())
    mass = {name: float(p.detach().abs().double().sum()) for name, p in parameters.items()}
    left = {name: _mass(p.detach(), alive[name]) if name in alive else mass[name] for name, p in parameters.items()}
    blocks = plan.in_blocks
    groups = [g for g in dense.channels.groups if any(m.role == "out" for m in g.members)]
    return Sparsity(
        weights=_weights(dense.module),
        weights_left=_weights(small.module),
        nonzero_left=sum(int(p.count_nonzero()) for p in small.module.parameters()),
        units=sum(g.size for g in groups),
        units_left=sum(plan.width(g.name) for g in groups),
        layers=_layers(dense),
        layers_left=_layers(small),
        macs=sum(n.spec.macs for n in dense.kernels.nodes),
        macs_left=sum(at_density(n.spec, blocks.get(n.weights.weight, WHOLE)).macs for n in small.kernels.nodes),
        mass=sum(mass.values()),
        mass_left=sum(left.values()),
    )


def _weights(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _layers(network: Network) -> int:
    return sum(bool(n.weights.weight) for n in network.kernels.nodes)


def _mass(weights: Tensor, dims: dict[int, Tensor]) -> float:
    """Of the absolute weights that survive."""
    left = reduce(lambda w, at: w.index_select(at[0], at[1].nonzero().flatten()), dims.items(), weights.abs())
    return float(torch.sum(left, dtype=torch.double))
