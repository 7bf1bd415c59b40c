"""L0: gates that shut, of channels or of single weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from edgeprune.errors import UsageError
from edgeprune.graph.channels import ChannelGraph
from edgeprune.methods import chosen
from edgeprune.training.checkpoint import like, optimizer_state, restore_optimizer
from edgeprune.training.sparse.channels import Channels
from edgeprune.training.sparse.masks import weights_gone
from edgeprune.training.sparse.patterns import lowest_channels
from edgeprune.training.sparse.schedule import Schedule
from edgeprune.training.sparse.sparsity import Scorer, Sparsity, silence, weights_of
from edgeprune.training.sparse.strength import Strength
from edgeprune.training.tasks.task import Score

_BETA, _LOW, _HIGH = 2 / 3, -0.1, 1.1
"""Temperature and stretch of the hard concrete distribution (Louizos et al. 2018, section 4)."""
_OPEN = 2.5
"""Where gates begin: open with a probability of 0.98."""


def final(places: Tensor) -> Tensor:
    """What gates are in the end, 0 to 1: exactly 0 where they are shut."""
    return _stretched(torch.sigmoid(places))


def drawn(places: Tensor) -> Tensor:
    """A draw of gates, 0 to 1, each exactly 0 or 1 with a probability of its own; has a gradient."""
    noise = torch.rand_like(places).clamp(1e-6, 1 - 1e-6)
    return _stretched(torch.sigmoid((noise.log() - torch.log1p(-noise) + places) / _BETA))


def open_chance(places: Tensor) -> Tensor:
    """The probability that a draw is not 0; the sum is the expected number of open gates, the L0 norm."""
    return torch.sigmoid(places - _BETA * math.log(-_LOW / _HIGH))


def _stretched(values: Tensor) -> Tensor:
    return (values * (_HIGH - _LOW) + _LOW).clamp(0, 1)


class L0(Sparsity):
    """Gates on channels or weights, shut by a penalty on their expected number (Louizos et al. 2018, arXiv:1712.01312).

    Gates are trained beside the weights for the first part of the training; then each is what it most likely is, its
    weights are multiplied by it, and what is 0 stays 0. A channel's gate is on all that writes it: filters, biases,
    norms. The penalty's strength follows the share that is shut.

    Args:
        of: ``channels`` or ``weights``.
        target: the share of gates that is shut in the end; 0: what the strength alone makes of it.
        strength: of the penalty, relative to the loss, at the start.
        drop: the most that the task's figure may lose meanwhile; 0: as much as it takes.
        ramp: the part of the training in which gates are trained.
        lr: of the gates, with Adam.
    """

    name: ClassVar[str] = "l0"

    def stand_in(self) -> Sparsity | None:
        return weights_gone(self.strength) if self.of == "weights" else None

    def __init__(
        self,
        of: str = "channels",
        target: float = 0.5,
        strength: float = 0.1,
        drop: float = 0.0,
        ramp: float = 0.6,
        lr: float = 0.1,
    ) -> None:
        kinds: dict[str, Literal["channels", "weights"]] = {"channels": "channels", "weights": "weights"}
        self.of = kinds[chosen("sparsity 'l0'", "of", of, tuple(kinds))]
        if not lr > 0:
            raise UsageError(f"gates cannot be trained with a learning rate of {lr:g}")
        self.strength, self.schedule, self.lr = Strength(strength, target, drop), Schedule("linear", target, ramp), lr
        self._graph: ChannelGraph | None = None
        self._gates: _OfChannels | _OfWeights | None = None
        self._masks: dict[str, Tensor] = {}
        self._step, self._steps = 0, 1
        self._pressure = 0.0

    def prepare(self, graph: ChannelGraph | None = None, scorer: Scorer | None = None) -> None:
        self._graph = graph

    def begin(self, module: nn.Module, steps: int) -> None:
        self._step, self._steps = 0, steps
        self.strength.begin(int(self.schedule.ramp * steps))
        self._pressure = self.strength.value
        kind = _OfWeights(module) if self.of == "weights" else _OfChannels(Channels(self._graph, self.name), module)
        self._gates, self._raw = kind, _copies(kind.tensors(module))
        self._masks = {n: t != 0 for n, t in self._raw.items()} if self.of == "weights" else {}
        self._optimizer = torch.optim.Adam(kind.places.values(), lr=self.lr)
        self._drawn: dict[str, Tensor] = {}

    def before(self, module: nn.Module) -> None:
        if self._gates is None:
            return
        self._drawn = {name: drawn(places) for name, places in self._gates.places.items()}
        self._write(module, self._drawn)

    def graded(self, module: nn.Module) -> None:
        """Gradients of gated weights become those of gates and of the weights behind them."""
        if self._gates is None:
            return
        slopes = self._gates.slopes(module, self._raw)
        count = sum(p.numel() for p in self._gates.places.values())
        total = torch.zeros(())
        for name, places in self._gates.places.items():
            total = total + (self._drawn[name] * slopes[name].to(places)).sum()
            total = total + self._pressure / count * open_chance(places).sum()
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(total)
        self._optimizer.step()
        with torch.no_grad():
            for name, tensor in self._gates.tensors(module).items():
                if tensor.grad is not None:
                    self._gates.gate(name, tensor.grad, self._drawn)
                tensor.copy_(self._raw[name])

    def stepped(self, module: nn.Module, lr: float) -> None:
        self._step += 1
        if self._gates is None:
            silence(dict(module.named_parameters()), self._masks)
            return
        silence(self._gates.tensors(module), self._masks)
        self._raw = _copies(self._gates.tensors(module))
        part = self._step / self._steps
        # Expected, not counted: gates take a while to shut, and meanwhile the strength would grow without need.
        chances = [open_chance(p.detach()) for p in self._gates.places.values()]
        gone = 1 - sum(float(c.sum()) for c in chances) / sum(c.numel() for c in chances)
        planned = self.schedule.share(part)
        self.strength.follow(gone, planned)
        self._pressure = self.strength.value if gone < planned or not self.strength.target else 0.0
        ended = self._step >= int(self.schedule.ramp * self._steps)
        self._write(module, self._last(self._gates) if ended else _finals(self._gates))
        if ended:
            self._masks = {n: t.detach() != 0 for n, t in self._gates.tensors(module).items()}
            self._gates, self._raw = None, {}

    def epoch_ended(self, module: nn.Module, score: Score) -> None:
        self.strength.judge(score)

    @property
    def judges(self) -> bool:
        return self.strength.judges

    @property
    def settled(self) -> bool:
        return self._gates is None

    def state(self) -> dict[str, Any]:
        gates = self._gates
        return {
            "step": self._step,
            "strength": self.strength.state(),
            "pressure": self._pressure,
            "masks": self._masks,
            "raw": self._raw,
            "places": None if gates is None else gates.places,
            "optimizer": None if gates is None else optimizer_state(self._optimizer),
        }

    def restore(self, module: nn.Module, state: dict[str, Any]) -> None:
        self._step, self._pressure, self._masks = state["step"], state["pressure"], state["masks"]
        self.strength.restore(state["strength"])
        weights = dict(module.named_parameters())
        self._raw = {name: like(weights[name], raw) for name, raw in state["raw"].items()}
        if self._gates is None or state["places"] is None:
            self._gates = None
            return
        with torch.no_grad():
            for name, places in self._gates.places.items():
                places.copy_(state["places"][name])
        restore_optimizer(self._optimizer, state["optimizer"])

    def _last(self, gates: _OfChannels | _OfWeights) -> dict[str, Tensor]:
        """What gates are for good. The lowest are shut, too, until the target is met; one of each kind stays open."""
        found = _finals(gates)
        for name, places in gates.places.items():
            if not (found[name] > 0).any():
                found[name].view(-1)[places.argmax()] = 1
        if self.strength.held or not self.strength.target:
            return found
        flat = {name: p.detach().flatten() for name, p in gates.places.items()}
        stays = lowest_channels(flat, self.strength.target)
        return {name: v * stays[name].view(v.shape) for name, v in found.items()}

    def _write(self, module: nn.Module, values: Mapping[str, Tensor]) -> None:
        assert self._gates is not None
        with torch.no_grad():
            for name, tensor in self._gates.tensors(module).items():
                tensor.copy_(self._raw[name])
                self._gates.gate(name, tensor, values)


def _finals(gates: _OfChannels | _OfWeights) -> dict[str, Tensor]:
    return {name: final(p.detach()) for name, p in gates.places.items()}


def _copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in tensors.items()}


def _new(shape: torch.Size) -> Tensor:
    return torch.full(shape, _OPEN, requires_grad=True)


class _OfWeights:
    """A gate on each weight."""

    def __init__(self, module: nn.Module) -> None:
        self.places = {name: _new(w.shape) for name, w in weights_of(module).items()}

    def tensors(self, module: nn.Module) -> dict[str, nn.Parameter]:
        return weights_of(module)

    def gate(self, name: str, tensor: Tensor, values: Mapping[str, Tensor]) -> None:
        """Multiply a parameter, or its gradient, by its gates."""
        tensor.mul_(values[name].detach())

    def slopes(self, module: nn.Module, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Of the loss by each gate."""
        return {
            name: torch.zeros_like(w) if w.grad is None else w.grad * raw[name]
            for name, w in weights_of(module).items()
        }


class _OfChannels:
    """A gate on each channel of the groups that may lose some."""

    def __init__(self, channels: Channels, module: nn.Module) -> None:
        self._channels = channels
        self.places = {g.name: _new(torch.Size([g.size])) for g in channels.groups}

    def tensors(self, module: nn.Module) -> dict[str, nn.Parameter]:
        wanted = self._channels.parameters(module)
        return {name: p for name, p in module.named_parameters() if name in wanted}

    def gate(self, name: str, tensor: Tensor, values: Mapping[str, Tensor]) -> None:
        for group, view in self._channels.views(name, tensor):
            view.mul_(values[group].detach().reshape(-1, *[1] * (view.dim() - 1)))

    def slopes(self, module: nn.Module, raw: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {name: torch.zeros(places.shape) for name, places in self.places.items()}
        for name, tensor in self.tensors(module).items():
            if tensor.grad is not None:
                for group, view in self._channels.views(name, tensor.grad * raw[name]):
                    found[group] += view.flatten(1).sum(1)
        return found
