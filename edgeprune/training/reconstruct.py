"""Reconstruction: the weights that are left are re-solved, so that each layer yields again what it did before.

No labels and no training: least squares on a few hundred samples, layer after layer. The inputs are those of the
pruned network, whose earlier layers are solved already, and the outputs are those of the dense one, so what earlier
layers could not make up for, later ones may (He et al. 2017, "Channel Pruning for Accelerating Very Deep Neural
Networks", section 3.2; Luo et al. 2017, "ThiNet", section 3.3).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgeprune.errors import BadInputError
from edgeprune.graph.trace import evaluating
from edgeprune.jsonable import Jsonable
from edgeprune.models.inputs import Inputs, call
from edgeprune.models.linear_layers import (
    Layer,
    drawn_positions,
    given,
    linear_layers,
    matrix,
    outputs,
    rows,
    set_matrix,
)
from edgeprune.progress import SILENT, Progress

SAMPLES = 256
"""Samples that layers are solved on."""
POSITIONS = 16_384
"""Positions of a layer's output that are looked at, at most about, over all samples."""
HELD_OUT = 4
"""One batch of so many is not solved on: it says how strongly the old weights should count."""
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""How strongly: what pulls each weight to its old value, relative to the mean square of the inputs."""
NOTHING = 1e-5
"""Squared error, relative to the outputs' variance, up to which a layer is left as it is: it may be rounding."""
MOST_INPUTS = 8192
"""Inputs of a layer, kernel included, up to which it is solved."""
MOST_WORK = 1e11
"""Cubes of the inputs of all systems of a layer with zeros among its weights, up to which it is solved."""


@dataclass(frozen=True, slots=True)
class Rebuilt(Jsonable):
    """One layer: squared error of its outputs, relative to their variance, before and after; on samples it was not
    solved on.
    """

    layer: str
    before: float
    after: float


def reconstruct(
    small: nn.Module,
    dense: nn.Module,
    kept: Mapping[str, Tensor],
    batches: Iterable[Inputs],
    *,
    progress: Progress = SILENT,
) -> tuple[Rebuilt, ...]:
    """Re-solve the weights and biases of the convolutions and linear layers of a pruned network, in place.

    Weights are pulled to their old values, as strongly as is best on samples that were held out; a layer whose outputs
    on these do not get nearer stays as it is. Batch norms keep their statistics: outputs become what they were.
    What is 0 stays 0: outputs whose weights are 0 at the same places are solved together, for the others. Where too
    many differ, as where single weights of a wide layer are 0, that would take too long (:data:`MOST_WORK`), and the
    layer stays as it is. An output all of whose weights are 0 stays as it is, with its bias.

    Args:
        dense: the network that ``small`` was shrunk from.
        kept: layer -> which of its outputs in ``dense`` it still has, as numbers; absent: all.
        batches: inputs.

    Raises:
        BadInputError: no batch, or activations that are not finite; the weights are as they were.
    """
    batches = list(batches)
    if not batches:
        raise BadInputError("reconstruction was given no batches", hint="give it some training samples")
    whole, layers = linear_layers(dense), linear_layers(small)
    order = [name for name in _called(small, layers, batches[0]) if name in whole]
    before = {name: p.detach().clone() for name, p in small.named_parameters()}
    try:
        with evaluating(small, dense), torch.no_grad():
            wanted = _targets(dense, {name: whole[name] for name in order}, kept, batches, progress)
            progress.stage("re-solving layers", len(order))
            found = []
            for name in order:
                if (rebuilt := _solved(small, name, layers[name], wanted.pop(name), batches)) is not None:
                    found.append(rebuilt)
                progress.advance()
        return tuple(found)
    except BaseException:
        with torch.no_grad():
            for name, p in small.named_parameters():
                p.copy_(before[name])
        raise


def _called(module: nn.Module, layers: Mapping[str, Layer], x: Inputs) -> list[str]:
    """The layers that can be solved, in the order in which they run."""
    ran = dict[str, None]()
    # Of a weight that several layers share, what is best for one of them is not for the others.
    owners = Counter(id(p) for p in dict(module.named_parameters(remove_duplicate=False)).values())

    def solvable(layer: Layer) -> bool:
        if not layer.weight.numel() or layer.weight[0].numel() > MOST_INPUTS:
            return False
        return all(owners[id(p)] == 1 for p in layer.parameters(recurse=False))

    known = {name: layer for name, layer in layers.items() if solvable(layer)}
    with evaluating(module), torch.no_grad(), _watching(known, lambda name, x, y: ran.setdefault(name)):
        call(module, x)
    return [*ran]


def _places(positions: int, batches: int) -> Tensor | None:
    """Which positions of an output in one batch are looked at; None for all. Drawn, and the same of equal numbers: one
    of so many would fall on the same columns of every image.
    """
    return drawn_positions(positions, max(1, POSITIONS // batches))


def _targets(
    dense: nn.Module,
    layers: Mapping[str, Layer],
    kept: Mapping[str, Tensor],
    batches: Sequence[Inputs],
    progress: Progress,
) -> dict[str, list[list[Tensor]]]:
    """What layers should yield: by layer and batch, one entry for each time that it is called."""
    found: dict[str, list[list[Tensor]]] = {name: [] for name in layers}

    def see(name: str, _: Tensor, y: Tensor) -> None:
        values = outputs(layers[name], y)
        at = _places(len(values), len(batches))
        values = values if at is None else values[at]
        found[name][-1].append(values[:, kept[name]] if name in kept else values.clone())

    progress.stage("running the dense network", len(batches))
    with _watching(layers, see):
        for x in batches:
            for calls in found.values():
                calls.append([])
            call(dense, x)
            progress.advance()
    return found


class _Reached(Exception):
    """All that a pass was for has been seen."""


@dataclass(slots=True)
class _Sums:
    """Second moments of inputs (g, i + 1, i + 1), with outputs (g, i + 1, o), and of outputs; a 1 stands behind the
    inputs.
    """

    inputs: Tensor
    mixed: Tensor
    square: Tensor
    total: Tensor
    count: int

    @classmethod
    def of(cls, x: Tensor, y: Tensor) -> _Sums:
        x = torch.cat([x, x.new_ones(*x.shape[:2], 1)], 2)
        return cls(
            (x.transpose(1, 2) @ x).double(),
            (x.transpose(1, 2) @ y).double(),
            y.double().square().sum(),
            y.double().sum(1),
            x.shape[1],
        )

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(*(getattr(self, n) + getattr(other, n) for n in ("inputs", "mixed", "square", "total", "count")))

    def error(self, weights: Tensor) -> float:
        """Of the outputs by these weights (g, i + 1, o): squared, relative to the outputs' variance."""
        squares = (weights * (self.inputs @ weights)).sum() - 2 * (weights * self.mixed).sum() + self.square
        return float(squares / self.variance) if self.variance else math.inf

    @property
    def variance(self) -> float:
        """Of the outputs, summed over positions; 0 where it is no more than rounding."""
        found = float(self.square - self.total.square().sum() / max(1, self.count))
        return found if found > 1e-9 * float(self.square) else 0.0

    @property
    def finite(self) -> bool:
        return all(bool(t.isfinite().all()) for t in (self.inputs, self.mixed, self.square))


def _solved(
    small: nn.Module, name: str, layer: Layer, wanted: list[list[Tensor]], batches: Sequence[Inputs]
) -> Rebuilt | None:
    """Solve one layer; None where there is nothing to be made up for."""
    train, test = _moments(small, name, layer, wanted, batches)
    if train is None:
        return None
    test = test or train
    if not (train.finite and test.finite):
        raise BadInputError(
            f"what layer '{name}' reads or yields is not finite",
            hint="the weights before it or the samples hold NaN or infinity",
            node=name,
        )
    if not test.variance:  # it always yields the same
        return None
    old = matrix(layer).double()
    systems = _systems(old != 0)
    if sum(float(len(s.inputs)) ** 3 for s in systems) > MOST_WORK:
        return None
    biases = torch.zeros(old.shape[0], 1, old.shape[2], dtype=torch.double)
    if layer.bias is not None:
        biases = layer.bias.detach().double().reshape(old.shape[0], 1, -1)
    old = torch.cat([old, biases], 1)
    before = test.error(old)
    if before < NOTHING:
        return None
    free = layer.bias is not None
    errors = {ridge: test.error(_solution(train, old, ridge, systems, free=free)) for ridge in RIDGES}
    best = min(errors, key=errors.__getitem__)
    if not errors[best] < before:
        return Rebuilt(name, before, before)
    weights = _solution(train if test is train else train + test, old, best, systems, free=free)
    set_matrix(layer, weights[:, :-1].to(layer.weight.dtype))
    if layer.bias is not None:
        layer.bias.copy_(weights[:, -1].flatten())
    return Rebuilt(name, before, errors[best])


@dataclass(frozen=True, slots=True)
class _System:
    """Outputs of one group of a layer that read the same inputs, by their numbers."""

    group: int
    inputs: Tensor
    outputs: Tensor


def _systems(present: Tensor) -> list[_System]:
    """What is solved together: outputs with weights at the same places.

    Args:
        present: (g, i, o), which weights are not 0.
    """
    found = []
    for group, places in enumerate(present):
        patterns, which = torch.unique(places, dim=1, return_inverse=True)
        for number, pattern in enumerate(patterns.unbind(1)):
            if pattern.any():
                found.append(_System(group, pattern.nonzero().flatten(), (which == number).nonzero().flatten()))
    return found


def _solution(sums: _Sums, old: Tensor, ridge: float, systems: Sequence[_System], *, free: bool) -> Tensor:
    """The weights (g, i + 1, o) of all systems; others are the old ones."""
    solved, bias = old.clone(), torch.tensor([old.shape[1] - 1])
    for system in systems:
        at = torch.cat([system.inputs, bias])
        inputs = sums.inputs[system.group][at[:, None], at][None]
        mixed, before = (x[system.group][at[:, None], system.outputs][None] for x in (sums.mixed, old))
        found = _ridge(_Sums(inputs, mixed, sums.square, sums.total, sums.count), before, ridge, free=free)
        solved[system.group, at[:, None], system.outputs] = found[0]
    return solved


def _ridge(sums: _Sums, old: Tensor, ridge: float, *, free: bool) -> Tensor:
    """Weights of least squares that are pulled to the old ones; the bias alone is not, where it is ``free``, and stays
    as it is elsewhere.
    """
    inputs, mixed = sums.inputs, sums.mixed
    n = inputs.shape[1] - 1
    strength = ridge * inputs[:, :n, :n].diagonal(dim1=1, dim2=2).mean(1).clamp(min=torch.finfo(torch.double).tiny)
    pull = torch.diag_embed(strength[:, None].expand(-1, n + 1).clone())
    if not free:
        pull = pull[:, :n, :n]
        solved = torch.linalg.solve(inputs[:, :n, :n] + pull, mixed[:, :n] + pull @ old[:, :n])
        return torch.cat([solved, old[:, n:]], 1)
    pull[:, n, n] = 1e-9 * sums.count
    found: Tensor = torch.linalg.solve(inputs + pull, mixed + pull @ old)
    return found


def _moments(
    small: nn.Module, name: str, layer: Layer, wanted: list[list[Tensor]], batches: Sequence[Inputs]
) -> tuple[_Sums | None, _Sums | None]:
    """From the pruned network's inputs of the layer and the outputs that it should have: of the batches that it is
    solved on, and of those that are held out; added up as they come, for each is as large as the square of the inputs.
    """
    found: list[_Sums | None] = [None, None]
    for number, (x, calls) in enumerate(zip(batches, wanted, strict=True)):
        left, held = [*reversed(calls)], number % HELD_OUT == HELD_OUT - 1

        def see(_: str, x: Tensor, y: Tensor, left: list[Tensor] = left, held: bool = held) -> None:
            goal = left.pop()
            seen = rows(layer, x, _places(len(outputs(layer, y)), len(batches)))
            sums = _Sums.of(seen, goal.reshape(len(goal), len(seen), -1).transpose(0, 1))
            before = found[held]
            found[held] = sums if before is None else before + sums
            if not left:
                raise _Reached

        with _watching({name: layer}, see), suppress(_Reached):
            call(small, x)
    return found[0], found[1]


@contextmanager
def _watching(layers: Mapping[str, Layer], see: Callable[[str, Tensor, Tensor], object]) -> Iterator[None]:
    """``see`` gets the name, the input and the output of each of these layers as it runs."""
    hooks = [
        layer.register_forward_hook(
            lambda _, inputs, named, y, name=name: (see(name, given(inputs, named), y), None)[1], with_kwargs=True
        )
        for name, layer in layers.items()
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
