"""Sparsity in a run: what was asked for, told of the network that it is of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from torch import Tensor, nn

from edgeprune.errors import UsageError
from edgeprune.fitting.planner import calibration, scoring
from edgeprune.graph.network import Network
from edgeprune.importance.single_weights import of_weights, weight_signals
from edgeprune.training.data import DataSet
from edgeprune.training.sparse.registry import sparsities_of
from edgeprune.training.sparse.sparsity import MAGNITUDE, Scorer, Sparsity
from edgeprune.training.tasks.task import Task


def sparsities(
    asked: str,
    of: Literal["channels", "weights"],
    network: Network,
    data: DataSet | None = None,
    task: Task | None = None,
    batch_size: int = 64,
) -> tuple[Sparsity, ...]:
    """Those of a chain that are of ``channels``, or of ``weights``, ready for a training of the network's module."""
    found = tuple(s for s in sparsities_of(asked) if s.of == of)
    for sparsity in found:
        sparsity.prepare(network.channels, scorer(network, data, task, batch_size))
    return found


def scorer(network: Network, data: DataSet | None = None, task: Task | None = None, batch_size: int = 64) -> Scorer:
    """What single weights of a module like the network's are worth, by the name of a criterion."""

    def score(by: str, module: nn.Module, wanted: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        batches = None if data is None else calibration(data, batch_size)
        loss = None if task is None else scoring(task)
        return weight_signals(replace(network, module=module), by, wanted, batches, loss)

    return score


def expected(asked: str) -> tuple[Sparsity, ...]:
    """What makes zeros at once where those of a chain will be in the end, about: plans count what is stored then."""
    found = (s.stand_in() for s in sparsities_of(asked) if s.of == "weights")
    return tuple(s for s in found if s is not None)


def check_sparsity(asked: str, *, has_data: bool, trains: bool) -> None:
    """Refuse what cannot be done, before anything is measured.

    Args:
        trains: whether the network is trained: with ``finetune`` among the recoveries, and epochs.

    Raises:
        UsageError: an unknown sparsity, a criterion that scores no weights, or data or a training that it needs.
    """
    for sparsity in sparsities_of(asked):
        name = sparsity.name
        if sparsity.trains and not (has_data and trains):
            raise UsageError(
                f"sparsity '{name}' is learned in a training", hint="take edgeprune fit with --data and --epochs"
            )
        if sparsity.by != MAGNITUDE and of_weights(sparsity.by).needs_data and not has_data:
            raise UsageError(f"sparsity '{name}' by '{sparsity.by}' needs data", hint=f"give --data, or by={MAGNITUDE}")
