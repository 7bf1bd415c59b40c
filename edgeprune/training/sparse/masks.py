"""Masks: weights that are gone stay 0 while the rest is trained, and more go as the training proceeds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from copy import copy
from typing import Any, ClassVar

from torch import Tensor, nn

from edgeprune.errors import UsageError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.methods import chosen
from edgeprune.training.sparse.patterns import SCOPES, Blocks, Single, lowest_gone, n_of_m
from edgeprune.training.sparse.schedule import Schedule
from edgeprune.training.sparse.sparsity import MAGNITUDE, Scorer, Sparsity, silence, weights_by, weights_of
from edgeprune.training.sparse.strength import Strength

_UPDATES = 20
"""How often more weights go until the share is reached; between two of these times the rest adapts."""


class Masked(Sparsity):
    """Weights of the lowest signal go, along a schedule. None that is gone comes back."""

    trains: ClassVar[bool] = False
    schedule: Schedule

    def __init__(self, by: str = MAGNITUDE) -> None:
        self.by = by
        self.masks: dict[str, Tensor] = {}
        self._scorer: Scorer | None = None
        self._step, self._every, self._steps = 0, 1, 1

    def prepare(self, graph: ChannelGraph | None = None, scorer: Scorer | None = None) -> None:
        self._scorer = scorer

    @abstractmethod
    def kept(self, signals: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """Masks in which a share of the weights is gone, by what they are worth; -1 where a weight is gone already."""

    def begin(self, module: nn.Module, steps: int) -> None:
        self._start(module)
        self._step, self._steps = 0, steps
        self._every = max(1, int(steps * self.schedule.ramp / _UPDATES))
        self._update(module)

    def stepped(self, module: nn.Module, lr: float) -> None:
        self._step += 1
        # The last update is due when the ramp ends, wherever that lies between two others.
        if self._step % self._every == 0 or self._step == self._ramp:
            self._update(module)
        else:
            silence(weights_of(module), self.masks)

    @property
    def settled(self) -> bool:
        return self.schedule.name == "once" or self._step >= self._ramp

    def state(self) -> dict[str, Any]:
        return {"step": self._step, "masks": self.masks}

    def restore(self, module: nn.Module, state: dict[str, Any]) -> None:
        self._step, self.masks = state["step"], state["masks"]

    @property
    def _ramp(self) -> int:
        """The step in which the last of what goes is gone."""
        return max(1, int(self._steps * self.schedule.ramp))

    def stand_in(self) -> Sparsity:
        """By magnitude, which needs no data: how many go is the same."""
        found = copy(self)
        found.by = MAGNITUDE
        return found

    def at_once(self, module: nn.Module) -> None:
        self._start(module)
        self._step, self._steps = 1, 1
        self._update(module)

    def _start(self, module: nn.Module) -> None:
        """What is 0 at the start is gone already."""
        self.masks = {name: w.detach() != 0 for name, w in weights_of(module).items()}

    def _worth(self, module: nn.Module) -> Mapping[str, Tensor]:
        return weights_by(self.by, module, weights_of(module), self._scorer)

    def _update(self, module: nn.Module) -> None:
        share = self.schedule.share(self._step / self._steps)
        weights = weights_of(module)
        if share > 0:
            worth = {n: v.masked_fill(~self.masks[n], -1) for n, v in self._worth(module).items()}
            for name, mask in self.kept(worth, share).items():
                self.masks[name] = self.masks[name] & mask
        silence(weights, self.masks)


class _Lowest(Masked):
    """Units of a pattern go, those of the lowest signal."""

    def __init__(self, pattern: Blocks | Single, by: str, schedule: Schedule, scope: str) -> None:
        super().__init__(by)
        self.pattern, self.schedule = pattern, schedule
        self.scope = chosen(f"sparsity '{self.name}'", "scope", scope, SCOPES)

    def kept(self, signals: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        return lowest_gone(signals, self.pattern, share, self.scope)


class Weight(_Lowest):
    """Single weights go (Han et al. 2015; gradually: Zhu and Gupta 2017).

    Args:
        remove: the share of all weights that is gone at the end.
        by: the criterion that says which; ``magnitude``, or one that has a number for each weight.
        schedule, ramp: how it gets there (:class:`edgeprune.training.sparse.schedule.Schedule`).
        scope: ``global`` compares all weights, ``layer`` takes the share of each tensor.
    """

    name: ClassVar[str] = "weight"

    def __init__(
        self,
        remove: float = 0.5,
        by: str = MAGNITUDE,
        schedule: str = "cubic",
        ramp: float = 0.6,
        scope: str = "global",
    ) -> None:
        super().__init__(Single(), by, Schedule(schedule, remove, ramp), scope)


def weights_gone(strength: Strength) -> Weight | None:
    """What makes as many single weights 0 as a strength leads to; None where it may give way, or has no target."""
    return Weight(strength.target) if strength.target and not strength.drop else None


class Block(_Lowest):
    """Blocks of weights go, so that what is left is read and multiplied in runs (Narang et al. 2017).

    Args:
        rows, columns: outputs and inputs of a block; kernel positions go with them.
    """

    name: ClassVar[str] = "block"

    def __init__(
        self,
        remove: float = 0.5,
        rows: int = 16,
        columns: int = 1,
        by: str = MAGNITUDE,
        schedule: str = "cubic",
        ramp: float = 0.6,
        scope: str = "global",
    ) -> None:
        super().__init__(Blocks(rows, columns), by, Schedule(schedule, remove, ramp), scope)


class NofM(Masked):
    """Of each ``m`` inputs in a row ``n`` stay, of every output and kernel position (Mishra et al. 2021).

    Tensors of fewer than ``m`` inputs stay as they are.
    """

    name: ClassVar[str] = "n_m"

    def __init__(self, n: int = 2, m: int = 4, by: str = MAGNITUDE, ramp: float = 0.6) -> None:
        super().__init__(by)
        if not 1 <= n < m:
            raise UsageError(f"no {n} of {m} weights can stay", hint="give n from 1 to below m")
        self.n, self.m = n, m
        self.schedule = Schedule("linear", (m - n) / m, ramp)

    def kept(self, signals: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        # One more of each run goes at a time.
        left = max(self.n, round((1 - share) * self.m))
        return {name: n_of_m(values, left, self.m) for name, values in signals.items()}


class Kept(Masked):
    """Weights that are 0 at the start stay 0: of a network that comes sparse."""

    name: ClassVar[str] = "kept"

    def __init__(self) -> None:
        super().__init__()
        self.schedule = Schedule("once", 0.5)

    def _update(self, module: nn.Module) -> None:
        silence(weights_of(module), self.masks)

    def kept(self, signals: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        return self.masks
