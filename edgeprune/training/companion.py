"""What takes part in a training beside the loss and the optimizer: masks, penalties, gates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor, nn

from edgeprune.training.tasks.task import Score


class Companion(Protocol):
    """Sees each step of a training. Several of them take part in the order in which they are given.

    What it does to the module lasts: where a training fails, the weights are put back by the training itself, and
    what the companion added to the module by its :meth:`finish`, which is called in any case.
    """

    def begin(self, module: nn.Module, steps: int) -> None:
        """Called before the first step.

        Args:
            steps: of the whole training.
        """

    def own_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters inside the module that the companion trains itself: the optimizer leaves them alone."""
        ...

    def penalty(self, module: nn.Module) -> Tensor | None:
        """A scalar that is added to the loss of a step."""
        ...

    def stepped(self, module: nn.Module, lr: float) -> None:
        """Called after each step of the optimizer, with the learning rate of that step."""

    def epoch_ended(self, module: nn.Module, score: Score) -> None:
        """Called after each epoch, with the task's figure."""

    def finish(self, module: nn.Module) -> None:
        """Called once after the last step, or where the training failed."""


class Silent:
    """A companion that does nothing: the base of those that take part in some moments alone."""

    def begin(self, module: nn.Module, steps: int) -> None: ...

    def own_parameters(self) -> Iterable[nn.Parameter]:
        return ()

    def penalty(self, module: nn.Module) -> Tensor | None:
        return None

    def stepped(self, module: nn.Module, lr: float) -> None: ...

    def epoch_ended(self, module: nn.Module, score: Score) -> None: ...

    def finish(self, module: nn.Module) -> None: ...
