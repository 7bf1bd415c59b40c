"""What takes part in a training beside the loss and the optimizer: masks, penalties, gates."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from edgeprune.training.tasks.task import Score


class Companion(Protocol):
    """Sees each step of a training. Several of them take part in the order in which they are given.

    What it does to weights lasts. Where a training fails, the training puts them back.
    """

    def begin(self, module: nn.Module, steps: int) -> None:
        """Called before the first step.

        Args:
            steps: of the whole training.
        """

    def before(self, module: nn.Module) -> None:
        """Called before the loss of each step is computed."""

    def penalty(self, module: nn.Module) -> Tensor | None:
        """A scalar that is added to the loss of a step."""
        ...

    def graded(self, module: nn.Module) -> None:
        """Called when a step's gradients are known, before the optimizer takes them."""

    def stepped(self, module: nn.Module, lr: float) -> None:
        """Called after each step of the optimizer, with the learning rate of that step."""

    def epoch_ended(self, module: nn.Module, score: Score) -> None:
        """Called after each epoch, with the task's figure."""

    def finish(self, module: nn.Module) -> None:
        """Called once after the last step, or where the training failed."""


class Silent:
    """A companion that does nothing: the base of those that take part in some moments alone."""

    def begin(self, module: nn.Module, steps: int) -> None: ...

    def before(self, module: nn.Module) -> None: ...

    def penalty(self, module: nn.Module) -> Tensor | None:
        return None

    def graded(self, module: nn.Module) -> None: ...

    def stepped(self, module: nn.Module, lr: float) -> None: ...

    def epoch_ended(self, module: nn.Module, score: Score) -> None: ...

    def finish(self, module: nn.Module) -> None: ...
