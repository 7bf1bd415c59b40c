"""The size of a program's file, predicted from the tables for any widths.

A file is the constants of its kernels, padded, the code of each distinct kernel once, and what every program of this
network has: the driver, the tables of the plan, ELF headers. The first is known to the byte, the second as well as the
tables know it, and the third is what the dense network's file has beyond these two.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from edgeprune.compiler.ram import MemoryModel
from edgeprune.latency.model import LatencyModel


class FlashModel:
    """Predicts the bytes of a program's file.

    Args:
        tables: of the kernels' code; at widths between those that were profiled it is interpolated, and too
            small where a width is no multiple of a block: the tails' code is not in its neighbours.
        dense_bytes: the file of the dense network's program.

    Raises:
        ProfileError: the tables do not cover the dense network.
    """

    def __init__(self, memory: MemoryModel, tables: LatencyModel, dense_bytes: int) -> None:
        self._memory, self._tables = memory, tables
        self.program_bytes = 0.0
        self.program_bytes = dense_bytes - self.bytes({})

    def bytes(self, widths: Mapping[str, int]) -> float:
        """The file of the program of a plan.

        Args:
            widths: group name -> channels, at least 1; groups that are not named have all their channels.

        Raises:
            PlanError: a group without channels. ProfileError: the tables do not cover a kernel.
        """
        distinct = {
            (spec, json.dumps(dict(schedule), sort_keys=True)): spec for spec, schedule in self._memory.built(widths)
        }
        code = sum(self._tables.predict_kernel(spec).object_bytes for spec in distinct.values())
        return self.program_bytes + code + self._memory.weight_bytes(widths)
