"""L1 and group lasso by proximal steps: what shrinks to 0 is exactly 0, and stays so once enough of it is."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from edgeprune.graph.channels import ChannelGraph
from edgeprune.training.sparse.channels import Channels
from edgeprune.training.sparse.masks import weights_gone
from edgeprune.training.sparse.patterns import Single, lowest_channels, lowest_gone
from edgeprune.training.sparse.schedule import Schedule
from edgeprune.training.sparse.sparsity import Scorer, Sparsity, silence, weights_of
from edgeprune.training.sparse.strength import Strength
from edgeprune.training.tasks.task import Score

_SAMPLED = 50_000
"""Weights that a share of all is read off."""


class _Shrinking(Sparsity):
    """Shrinks over the first part of a training, ``ramp`` of it. Then what is 0 stays 0, and the rest is trained
    without a penalty, since it is too small by as much as it was shrunk.
    """

    def __init__(self, target: float, strength: float, drop: float, ramp: float) -> None:
        self.strength, self.schedule = Strength(strength, target, drop), Schedule("linear", target, ramp)
        self._step, self._steps = 0, 1
        self._scale: dict[str, float] = {}

    def begin(self, module: nn.Module, steps: int) -> None:
        self._step, self._steps = 0, steps
        self.strength.begin(int(self.schedule.ramp * steps))
        # A strength means the same in all layers: batch norms leave the scale of weights to chance.
        self._scale = {n: float(w.detach().square().mean().sqrt()) for n, w in weights_of(module).items()}

    def stepped(self, module: nn.Module, lr: float) -> None:
        self._step += 1
        part = self._step / self._steps
        if part <= self.schedule.ramp:
            gone, planned = self.gone, self.schedule.share(part)
            self.strength.follow(gone, planned)
            if not self.strength.target or gone < planned:
                most = self.reach(module, planned) if self.strength.target else math.inf
                with torch.no_grad():
                    self.shrink(module, min(most, lr * self.strength.value))
            ended = self._step == int(self.schedule.ramp * self._steps)
            if ended and self.gone < self.strength.target and not self.strength.held:
                self.cut(module, self.strength.target)
        self.hold(module)

    def epoch_ended(self, module: nn.Module, score: Score) -> None:
        self.strength.judge(score)

    @property
    def judges(self) -> bool:
        return self.strength.judges

    @property
    def settled(self) -> bool:
        return self._step >= int(self.schedule.ramp * self._steps)

    def state(self) -> dict[str, Any]:
        return {"step": self._step, "strength": self.strength.state(), "alive": self.alive}

    def restore(self, module: nn.Module, state: dict[str, Any]) -> None:
        self._step = state["step"]
        self.strength.restore(state["strength"])
        self.alive.update(state["alive"])

    @property
    @abstractmethod
    def alive(self) -> dict[str, Tensor]:
        """What is not 0, by name."""

    @property
    def gone(self) -> float:
        """The share that is 0."""
        return 1 - sum(int(a.sum()) for a in self.alive.values()) / max(1, sum(a.numel() for a in self.alive.values()))

    @abstractmethod
    def shrink(self, module: nn.Module, amount: float) -> None:
        """The proximal step: towards 0 by an amount relative to the layer's weights."""

    @abstractmethod
    def reach(self, module: nn.Module, share: float) -> float:
        """The amount by which a share is 0 and no more: a strength that grew too far takes not all at once."""

    @abstractmethod
    def cut(self, module: nn.Module, share: float) -> None:
        """At the end of the ramp, what is smallest is 0, too, until a share is."""

    @abstractmethod
    def hold(self, module: nn.Module) -> None:
        """Set to 0 again what was 0 before the optimizer's step."""


class L1(_Shrinking):
    """Each weight goes towards 0 by the strength, as soft thresholding does (Parikh and Boyd 2014, section 6.5.2).

    Args:
        target: the share of weights that is 0 in the end; 0: what the strength alone makes of it.
        strength: at the start, in root mean squares of a layer's weights, times the learning rate of each step.
        drop: the most that the task's figure may lose meanwhile (:class:`Strength`); 0: as much as it takes.
        ramp: the part of the training that shrinks.
    """

    name: ClassVar[str] = "l1"

    def __init__(self, target: float = 0.8, strength: float = 0.1, drop: float = 0.0, ramp: float = 0.6) -> None:
        super().__init__(target, strength, drop, ramp)

    def stand_in(self) -> Sparsity | None:
        return weights_gone(self.strength)
        self._masks: dict[str, Tensor] = {}

    def begin(self, module: nn.Module, steps: int) -> None:
        super().begin(module, steps)
        self._masks = {name: w.detach() != 0 for name, w in weights_of(module).items()}

    @property
    def alive(self) -> dict[str, Tensor]:
        return self._masks

    def shrink(self, module: nn.Module, amount: float) -> None:
        for name, w in weights_of(module).items():
            w.copy_(w.sign() * (w.abs() - amount * self._scale[name]).clamp_(min=0))
            self._masks[name] &= w != 0

    def reach(self, module: nn.Module, share: float) -> float:
        weights = weights_of(module)
        # A part of the weights of each layer tells where the share lies.
        step = max(1, sum(w.numel() for w in weights.values()) // _SAMPLED)
        sizes = [w.detach().flatten()[::step].abs() / (self._scale[n] or 1.0) for n, w in weights.items()]
        return _at(torch.cat(sizes), share)

    def cut(self, module: nn.Module, share: float) -> None:
        sizes = {n: w.detach().abs() / (self._scale[n] or 1.0) for n, w in weights_of(module).items()}
        for name, mask in lowest_gone(sizes, Single(), share).items():
            self._masks[name] &= mask

    def hold(self, module: nn.Module) -> None:
        silence(weights_of(module), self._masks)


class GroupLasso(_Shrinking):
    """All that writes a channel goes towards 0 together: filters, biases, norms (Wen et al. 2016, arXiv:1608.03665).

    A channel of n weights is drawn by the strength times the root of n, so that large ones are not spared (Yuan and Lin
    2006). Channels that reach 0 are worth nothing to any criterion of weights, and go first from every plan.

    Args:
        target: the share of all channels that is 0 in the end.
    """

    name: ClassVar[str] = "group_lasso"

    def __init__(self, target: float = 0.5, strength: float = 0.1, drop: float = 0.0, ramp: float = 0.6) -> None:
        super().__init__(target, strength, drop, ramp)
        self.of = "channels"
        self._graph: ChannelGraph | None = None
        self._alive: dict[str, Tensor] = {}

    def prepare(self, graph: ChannelGraph | None = None, scorer: Scorer | None = None) -> None:
        self._graph = graph

    def begin(self, module: nn.Module, steps: int) -> None:
        super().begin(module, steps)
        self._channels = Channels(self._graph, self.name)
        squares = self._channels.squares(module)
        self._alive = {name: s > 0 for name, s in squares.items()}
        # A channel of the usual size has this norm: the root of n, in the scale of its layers.
        self._usual = {name: float(s.mean().sqrt()) for name, s in squares.items()}

    @property
    def alive(self) -> dict[str, Tensor]:
        return self._alive

    def shrink(self, module: nn.Module, amount: float) -> None:
        factors = {}
        for name, squares in self._channels.squares(module).items():
            norms = squares.sqrt()
            factor = (1 - amount * self._usual[name] / norms.clamp(min=1e-30)).clamp(min=0)
            factor[norms.argmax()].clamp_(min=1e-3)  # a layer without channels is a network without outputs
            factors[name] = factor
            self._alive[name] &= factor > 0
        self._channels.multiply(module, factors)

    def reach(self, module: nn.Module, share: float) -> float:
        return _at(
            torch.cat([s.sqrt() / (self._usual[n] or 1.0) for n, s in self._channels.squares(module).items()]), share
        )

    def cut(self, module: nn.Module, share: float) -> None:
        norms = {n: s.sqrt() / (self._usual[n] or 1.0) for n, s in self._channels.squares(module).items()}
        for name, alive in lowest_channels(norms, share).items():
            self._alive[name] &= alive

    def hold(self, module: nn.Module) -> None:
        self._channels.multiply(module, {name: alive.double() for name, alive in self._alive.items()})


def _at(sizes: Tensor, share: float) -> float:
    """The size that a share of all does not exceed; sizes (n,), at least 0."""
    return float(sizes.kthvalue(min(len(sizes), max(1, math.ceil(share * len(sizes)))))[0])
