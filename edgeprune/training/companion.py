"""What takes part in a training beside the loss and the optimizer: masks, penalties, gates."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor, nn

from edgeprune.training.tasks.task import Score


class Companion(Protocol):
    """Sees each step of a training. Several of them take part in the order in which they are given.

    What it does to weights lasts. Where a training fails, the training puts them back.
    """

    @property
    def judges(self) -> bool:
        """Whether it goes by the figures of epochs: these are then of samples held out of the training half."""
        ...

    @property
    def settled(self) -> bool:
        """Whether it has taken all that it will: an earlier epoch's weights are none to choose."""
        ...

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

    def state(self) -> dict[str, Any]:
        """What changed since :meth:`begin`, for a checkpoint: tensors, numbers, texts and None in lists and mappings by
        text.
        """
        ...

    def restore(self, module: nn.Module, state: dict[str, Any]) -> None:
        """Go on from where :meth:`state` was asked. Called after :meth:`begin`, once the module has the weights of
        that moment.
        """


class Silent:
    """A companion that does nothing: the base of those that take part in some moments alone."""

    @property
    def judges(self) -> bool:
        return False

    @property
    def settled(self) -> bool:
        return True

    def begin(self, module: nn.Module, steps: int) -> None: ...

    def before(self, module: nn.Module) -> None: ...

    def penalty(self, module: nn.Module) -> Tensor | None:
        return None

    def graded(self, module: nn.Module) -> None: ...

    def stepped(self, module: nn.Module, lr: float) -> None: ...

    def epoch_ended(self, module: nn.Module, score: Score) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def restore(self, module: nn.Module, state: dict[str, Any]) -> None: ...
