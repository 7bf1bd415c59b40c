"""The blocks of a plan: of each layer as many stay as the plan says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor

from edgeprune.graph.ops.convolution import BLOCK, stored_blocks
from edgeprune.training.sparse.masks import Masked
from edgeprune.training.sparse.patterns import Blocks, most_kept
from edgeprune.training.sparse.schedule import Schedule
from edgeprune.training.sparse.sparsity import MAGNITUDE

BLOCKS = Blocks(BLOCK, 1)
"""What kernels store or leave out as a whole."""


class Planned(Masked):
    """Blocks go as in :class:`edgeprune.training.sparse.masks.Block`, of every layer to the density that it has in a
    plan; of layers without one, none.

    Args:
        densities: parameter -> what stays of its blocks, in per cent.
    """

    name: ClassVar[str] = "planned"

    def __init__(
        self, densities: Mapping[str, int], by: str = MAGNITUDE, schedule: str = "cubic", ramp: float = 0.6
    ) -> None:
        super().__init__(by)
        self.densities = dict(densities)
        self.schedule = Schedule(schedule, 1 - min(self.densities.values()) / 100, ramp)

    def kept(self, signals: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
        """Masks when the layer that loses most has lost a ``share``, and others their part of that."""
        way, found = share / self.schedule.final, {}
        for name, density in self.densities.items():
            worth = signals[name]
            now = math.ceil(100 - way * (100 - density))
            blocks = BLOCKS.weights(worth).numel()
            found[name] = most_kept(worth, BLOCKS, stored_blocks(blocks, now))
        return found
