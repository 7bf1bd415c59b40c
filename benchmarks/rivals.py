"""Methods that prune one network to a predicted latency: edgeprune's solvers, Torch-Pruning, a ranking by MACs.

Each method offers a network for every aim in table milliseconds, and says how to make it again. Torch-Pruning has no
latency of its own: its knob is ``pruning_ratio``, which is turned until the tables predict the aim.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import Budget, Problem
from edgeprune.errors import InfeasibleBudgetError
from edgeprune.fitting.planner import Planner, shrunk
from edgeprune.graph.channels import ChannelGraph
from edgeprune.graph.network import Network, read_network
from edgeprune.importance.curves import Curves, Saliency
from edgeprune.pruning.plan import Plan, make_plan

RATIO_STEPS = 1024
"""``pruning_ratio`` is a multiple of one part in so many: less than one channel of most networks."""
MAX_PRUNING_RATIO = 0.9
"""Of one layer: Torch-Pruning's guard against layers that a global ranking would empty."""

Widths = tuple[int, ...]
Recipe = Mapping[str, Any]
"""How a network is made again, as JSON: ``plan``, or ``pruning_ratio`` with ``round_to`` and ``taylor``."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network that a method offers.

    Attributes:
        widths: of every group of the dense network.
        predicted_ms: by the tables.
        saliency: retained, as the solvers count it; None for a method that chooses channels by other scores.
    """

    widths: Widths
    predicted_ms: float
    saliency: float | None
    recipe: Recipe


class Method(Protocol):
    """A way to prune the network that it was made for."""

    def propose(self, aim_ms: float) -> Candidate:
        """The network that it prefers among those predicted to take at most ``aim_ms``.

        Raises:
            InfeasibleBudgetError: there is none.
        """
        ...


class Workpiece:
    """A dense network from which pruned ones are made by recipe; it stays as it is.

    Args:
        batches: images and labels, for importance by gradients.
    """

    def __init__(self, network: Network, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        self.network, self._batches = network, batches

    def make(self, recipe: Recipe) -> Network:
        """A pruned network with the weights that are left of the dense one."""
        if "plan" in recipe:
            return shrunk(self.network, Plan.from_json(dict(recipe["plan"])))
        return read_network(self.torch_pruned(recipe), self.network.example_inputs)

    def torch_pruned(self, recipe: Recipe) -> nn.Module:
        """What Torch-Pruning's global ranking leaves, with its own defaults (Fang et al. 2023, "DepGraph")."""
        import torch_pruning as tp

        module = copy.deepcopy(self.network.module)
        importance = tp.importance.GroupMagnitudeImportance(p=2)
        if recipe["taylor"]:
            importance = tp.importance.GroupTaylorImportance()
            for parameter, gradient in zip(module.parameters(), self._gradients, strict=True):
                parameter.grad = gradient.clone()
        heads = [m for m in module.modules() if isinstance(m, nn.Linear)]
        pruner = tp.pruner.BasePruner(
            module,
            self.network.example_inputs,
            importance=importance,
            global_pruning=True,
            pruning_ratio=recipe["pruning_ratio"],
            max_pruning_ratio=MAX_PRUNING_RATIO,
            ignored_layers=heads[-1:],
            round_to=recipe["round_to"],
        )
        pruner.step()
        module.zero_grad(set_to_none=True)
        return module

    @cached_property
    def _gradients(self) -> list[Tensor]:
        """Of the cross entropy, summed over batches; in evaluation mode, as edgeprune's own criterion takes them."""
        module = copy.deepcopy(self.network.module).eval()
        with torch.enable_grad():
            for x, y in self._batches:
                torch.autograd.backward(F.cross_entropy(module(x), y))
        return [p.grad for p in module.parameters() if p.grad is not None]


def all_widths(channels: ChannelGraph, width: Callable[[str], int]) -> Widths:
    return tuple(width(g.name) for g in channels.groups)


class Solver:
    """One of edgeprune's solvers.

    Args:
        finer: offer widths between those that were timed, as the project does for its own uniform baseline.
    """

    def __init__(self, network: Network, planner: Planner, *, finer: bool = False) -> None:
        self._network = network
        self._propose = planner.finer if finer else planner.propose

    def propose(self, aim_ms: float) -> Candidate:
        found = self._propose(Budget(aim_ms))
        return _planned(self._network, found.plan, found.latency_ms, found.worth)


class MacsRanking:
    """One list of all channels by saliency for each multiply-add; from its end as many go as have to.

    Args:
        levels: remove channels from one width that the problem offers to the next, not one by one.
    """

    def __init__(self, network: Network, problem: Problem, saliency: Saliency, *, levels: bool = False) -> None:
        self._network, self._saliency = network, saliency
        self._names = [c.name for c in problem.choices]
        offered = [c.levels if levels else tuple(range(1, c.levels[-1] + 1)) for c in problem.choices]
        worth = [saliency.scores[name] / macs_of_channel(network, name) for name in self._names]
        self._prefixes = removals(worth, offered)
        self._costs = Evaluator(problem).costs(self._prefixes)[:, 0]

    def propose(self, aim_ms: float) -> Candidate:
        fits = np.flatnonzero(self._costs <= aim_ms)
        if not len(fits):
            raise InfeasibleBudgetError("no prefix of the ranking is as fast", latency_ms=float(self._costs.min()))
        widths = dict(zip(self._names, map(int, self._prefixes[fits[0]]), strict=True))
        plan = make_plan(self._network.channels, widths, self._saliency.scores)
        return _planned(self._network, plan, float(self._costs[fits[0]]), kept(self._saliency.curves, widths))


def removals(worth: Sequence[NDArray[np.float64]], levels: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Widths after each removal of the channels that are worth least of all, step by step.

    Args:
        worth: of the channels of each group, in any order.
        levels: widths that each group may have, ascending, the last its size.

    Returns:
        Shape (removals + 1, groups), beginning with full widths.
    """
    steps: list[tuple[float, int]] = []
    for group, (values, widths) in enumerate(zip(worth, levels, strict=True)):
        best = np.sort(values)[::-1]
        steps += [(float(best[low:high].mean()), group) for low, high in pairwise(widths)]
    # Within a group the next step down is always worth less, so its widths are met in order.
    at = [len(widths) - 1 for widths in levels]
    found = [[widths[-1] for widths in levels]]
    for _, group in sorted(steps):
        at[group] -= 1
        found.append([widths[i] for widths, i in zip(levels, at, strict=True)])
    return np.array(found, dtype=np.int64)


def kept(curves: Curves, widths: Mapping[str, int]) -> float:
    """Share of what full widths retain: what solvers maximise."""
    return sum(float(curves[n][w]) for n, w in widths.items()) / sum(float(curves[n][-1]) for n in widths)


def macs_of_channel(network: Network, group: str) -> float:
    """Multiply-adds that go with one channel of a group, in all kernels that write or read it."""
    total = 0.0
    for node in network.kernels.nodes:
        for axis, binding in node.axes.items():
            total += node.spec.macs * binding.groups.count(group) / node.spec.widths[axis]
    return total


class TorchPruning:
    """Torch-Pruning's global ranking.

    Args:
        predict: table milliseconds of the widths of all groups.
        taylor: by its Taylor importance; else by its group magnitude (l2).
        round_to: as Torch-Pruning calls it.
    """

    def __init__(
        self, workpiece: Workpiece, predict: Callable[[Widths], float], *, taylor: bool, round_to: int | None
    ) -> None:
        self._workpiece, self._predict = workpiece, predict
        self._recipe = {"taylor": taylor, "round_to": round_to}
        self._widths: dict[int, Widths] = {}

    def propose(self, aim_ms: float) -> Candidate:
        # The smallest ratio that is fast enough: latency all but falls with it.
        low, high = -1, int(RATIO_STEPS * MAX_PRUNING_RATIO)
        if self._cost(high) > aim_ms:
            raise InfeasibleBudgetError("no pruning_ratio is as fast", latency_ms=self._cost(high))
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if self._cost(middle) <= aim_ms else (middle, high)
        return Candidate(self._widths_at(high), self._cost(high), None, self._at(high))

    def _at(self, step: int) -> dict[str, Any]:
        return {**self._recipe, "pruning_ratio": step / RATIO_STEPS}

    def _cost(self, step: int) -> float:
        return self._predict(self._widths_at(step))

    def _widths_at(self, step: int) -> Widths:
        if step not in self._widths:
            module = self._workpiece.torch_pruned(self._at(step))
            self._widths[step] = widths_in(module, self._workpiece.network.channels)
        return self._widths[step]


def widths_in(module: nn.Module, channels: ChannelGraph) -> Widths:
    """Widths of the groups of a dense network in a pruned one, read off the shapes of its tensors."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}

    def width(name: str) -> int:
        members = channels[name].members
        owner = next((m for m in members if m.role == "out"), members[0])
        return tensors[owner.param].shape[owner.dim] // owner.repeat

    return all_widths(channels, width)


def _planned(network: Network, plan: Plan, predicted_ms: float, saliency: float) -> Candidate:
    return Candidate(all_widths(network.channels, plan.width), predicted_ms, saliency, {"plan": plan.to_json()})


def has_torch_pruning() -> bool:
    try:
        import torch_pruning  # noqa: F401
    except ImportError:
        return False
    return True
