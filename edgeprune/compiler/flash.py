"""The size of a program's file, predicted from the tables for any widths.

A file is the constants of its kernels, padded, the code of each distinct kernel once, and what every program of this
network has: the driver, the tables of the plan, ELF headers. The first is known to the byte, the second as well as the
tables know it. The third is what a program has whose kernels are empty, or what the dense network's file has beyond
the other two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from edgeprune.compiler.link import board_sources
from edgeprune.compiler.lower import lower, unbuilt
from edgeprune.compiler.objects import compiler_versions
from edgeprune.compiler.program import Program, render, write_program
from edgeprune.compiler.ram import MemoryModel
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.files import write_whole
from edgeprune.graph.channels import KernelGraph
from edgeprune.home import home
from edgeprune.latency.model import LatencyModel
from edgeprune.targets import Target


class FlashModel:
    """Predicts the bytes of a program's file.

    Args:
        tables: of the kernels' code; at widths between those that were profiled it is interpolated, and too
            small where a width is no multiple of a block: the tails' code is not in its neighbours.
        program_bytes: of the file, beside the kernels' code and constants.
    """

    def __init__(self, memory: MemoryModel, tables: LatencyModel, program_bytes: float) -> None:
        self._memory, self._tables, self.program_bytes = memory, tables, program_bytes

    @classmethod
    def beside(cls, memory: MemoryModel, tables: LatencyModel, dense_bytes: int) -> FlashModel:
        """By the file of the dense network's program, which is met exactly.

        Raises:
            ProfileError: the tables do not cover the dense network.
        """
        return cls(memory, tables, dense_bytes - cls(memory, tables, 0).bytes({}))

    def bytes(self, widths: Mapping[str, int], densities: Mapping[str, int] | None = None) -> float:
        """The file of the program of a plan.

        Args:
            widths: group name -> channels, at least 1; groups that are not named have all their channels.
            densities: parameter -> what stays of the blocks of its weights, in per cent; of others all of them.

        Raises:
            PlanError: a group without channels. ProfileError: the tables do not cover a kernel.
        """
        memory = self._memory.in_blocks(densities or {})
        distinct = {(spec, json.dumps(dict(schedule), sort_keys=True)): spec for spec, schedule in memory.built(widths)}
        code = sum(self._tables.predict_kernel(spec).object_bytes for spec in distinct.values())
        return self.program_bytes + code + self._tables.stored_share * memory.weight_bytes(widths)


def empty_bytes(graph: KernelGraph, target: Target, book: ScheduleBook) -> int:
    """The file of a network's program with kernels of no code and no constants, linked; remembered at home.

    Raises:
        TargetError, UnsupportedOperatorError, MissingDependencyError, LinkError: as for the true program.
    """
    with TemporaryDirectory() as name:
        folder = Path(name)

        program = lower(graph, None, target, book, name="model", build=unbuilt(folder / "kernels.S")).program
        known = home() / "programs" / _digest(program, target)
        if not known.is_file():
            symbols = sorted({call.kernel.symbol for call in program.calls})
            (folder / "kernels.S").write_text("".join(_EMPTY_S.format(symbol=symbol) for symbol in symbols))
            file = write_program(program, target, folder)["program"]
            write_whole(known, str(file.stat().st_size))
        return int(known.read_text())


# A kernel of a GPU is known to the program by its launch, too (compiler/cuda/launch.py).
_EMPTY_S = """\
.globl __tvm_ffi_{symbol}
.globl ep_launch_{symbol}
.section .text.{symbol},"ax",%progbits
__tvm_ffi_{symbol}:
ep_launch_{symbol}:
.byte 0
.section .note.GNU-stack,"",%progbits
"""


def _digest(program: Program, target: Target) -> str:
    """Of all that decides the size."""
    found = hashlib.sha256(json.dumps([target.digest, dict(compiler_versions(target))]).encode())
    found.update(render(program).encode())
    for file in sorted(board_sources().glob("*.[ch]")):
        found.update(file.read_bytes())
    return found.hexdigest()[:32]
