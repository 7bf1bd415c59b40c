"""A task: the loss that a network is trained by, the figure that it is judged by, and how its outputs are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from edgeprune.errors import UsageError
from edgeprune.jsonable import Jsonable
from edgeprune.training.distill import match, strength
from edgeprune.training.halves import Batch


class Accumulator(Protocol):
    """A metric that is being computed: batches are added, the figure is asked for at the end."""

    def update(self, outputs: Any, targets: Any) -> None:
        """Add a batch: outputs as the network (or ``postprocess``) gives them, targets as the data have them."""
        ...

    def compute(self) -> float | Mapping[str, float]:
        """The figure; a mapping of figures by name, of which the first is the metric's, where there are several."""
        ...


@dataclass(frozen=True, slots=True)
class Metric:
    """What a network is judged by.

    Attributes:
        name: for people: ``mAP 50-95``.
        start: a fresh :class:`Accumulator`.
        unit: ``fraction`` (0 to 1, shown as per cent), or any other; empty for a bare number.
        higher_is_better: False for errors.
    """

    name: str
    start: Callable[[], Accumulator]
    unit: str = "fraction"
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Score(Jsonable):
    """The figure of a metric, taken from a network's outputs.

    Attributes:
        others: further figures that the same pass gave, by name.
        samples: how many samples it was taken from.
    """

    name: str
    value: float
    unit: str = "fraction"
    higher_is_better: bool = True
    samples: int = 0
    others: dict[str, float] = field(default_factory=dict)


Loss = Callable[[Any, Any], Tensor]
Step = Callable[[nn.Module, Batch], Tensor]
Trainer = Callable[..., Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class Task:
    """What a network is for.

    Attributes:
        name: for people, and in reports.
        metric: how the network is judged, from the outputs of its program on the device.
        loss: (outputs, targets) -> scalar. None: the dense network's outputs are the only teacher.
        step: (module, batch) -> scalar, in place of ``loss``: it runs the module itself. For losses that need what
            heads yield in training mode only. While channels are scored it is called in training mode, too, with batch
            norms and dropout in evaluation mode.
        finetune: (module, data, \\*, epochs, lr, batch_size, seed, teacher, distil_weight, temperature, task, progress)
            -> history or None, in place of edgeprune's own trainer: trains the module in place.
        postprocess: outputs -> what the metric reads (decoded boxes, say).
        targets: where targets come from: the ``data``; the ``dense`` network's outputs; the ``inputs`` themselves.
        distil: (outputs, the dense network's outputs, temperature) -> scalar; how pruned outputs are drawn to them.
        saliency: (outputs, targets) -> scalar that channels are scored by; ``loss`` or ``step`` by default. Without
            them, or where targets are the dense network's outputs, from which it is at no distance, the strength of the
            outputs, which needs no labels.
        prepared: outputs -> what ``loss`` and ``distil`` read in training.
    """

    name: str
    metric: Metric
    loss: Loss | None = None
    step: Step | None = None
    finetune: Trainer | None = None
    postprocess: Callable[[Any], Any] | None = None
    targets: Literal["data", "dense", "inputs"] = "data"
    distil: Callable[[Any, Any, float], Tensor] = match
    saliency: Loss | None = None
    prepared: Callable[[Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.loss is not None and self.step is not None:
            raise UsageError(f"task {self.name!r} has a loss and a step", hint="give one of them")
        if self.targets not in ("data", "dense", "inputs"):
            raise UsageError(f"task {self.name!r}: targets come from data, dense or inputs, not {self.targets!r}")

    @property
    def scoring_step(self) -> Step | None:
        """The ``step``, where channels are scored by it, and not by :attr:`scoring`."""
        return None if self.saliency is not None or self.targets == "dense" else self.step

    @property
    def scoring(self) -> Loss:
        """The loss that channels are scored by, where it is not a step."""
        own = None if self.targets == "dense" else self.loss
        return self.saliency or own or (lambda outputs, targets: strength(outputs))

    def read(self, outputs: Any) -> Any:
        """Outputs as the metric reads them."""
        return outputs if self.postprocess is None else self.postprocess(outputs)


@dataclass(slots=True)
class _Mean:
    function: Callable[[Any, Any], Any]
    total: float = 0.0
    count: int = 0

    def update(self, outputs: Any, targets: Any) -> None:
        values = torch.as_tensor(self.function(outputs, targets)).detach().double()
        size = len(next(t for t in tree_leaves(outputs) if isinstance(t, Tensor)))
        self.total += float(values.sum() if values.dim() else values * size)
        self.count += values.numel() if values.dim() else size

    def compute(self) -> float:
        return self.total / max(self.count, 1)


def mean_metric(
    name: str, function: Callable[[Any, Any], Any], unit: str = "fraction", *, higher_is_better: bool = True
) -> Metric:
    """A metric that is a mean over all samples.

    Args:
        function: (outputs, targets) of a batch -> the value of each sample, (n,), or one number that is their mean.
    """
    return Metric(name, lambda: _Mean(function), unit, higher_is_better)
