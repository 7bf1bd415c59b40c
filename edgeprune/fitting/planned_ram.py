"""Peak RAM in planning: the rows that a solver keeps below a limit, and the figure of a plan, to the byte."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from edgeprune.budget.problem import Problem, Row
from edgeprune.compiler.ram import MemoryModel
from edgeprune.compiler.ram_rows import ram_rows
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.errors import UnsupportedOperatorError
from edgeprune.fitting.planned_storage import PlannedStorage
from edgeprune.graph.network import Network, read_network
from edgeprune.pruning.plan import Plan
from edgeprune.pruning.shrink import shrink


class PlannedRam:
    """What programs of plans of one network allocate.

    Args:
        book: the schedules that programs are compiled with.
        limited: RAM has a limit: a solver is given rows, which take time to make, and a plan without some block is
            traced, for its figure does not follow from the dense network's graph.
        storage: how weights lie in programs; dense if it is not told. Where some are decoded into RAM, plans are traced
            as well, and rows have the share of the dense network's constants that is.

    Attributes:
        memory: of programs of plans that have all blocks.
    """

    def __init__(
        self, network: Network, book: ScheduleBook, *, limited: bool, storage: PlannedStorage | None = None
    ) -> None:
        self._network, self._book, self._limited = network, book, limited
        self._storage = None if storage is None or storage.dense else storage
        self.memory = self._model_of(network)
        self._traced: dict[Hashable, int] = {}

    @property
    def dense_bytes(self) -> int:
        """Bytes of the dense network's program; raises UnsupportedOperatorError for a kernel that nothing builds."""
        return self._taken(self._network, self.memory)

    def rows(self, problem: Problem, levels: Mapping[str, tuple[int, ...]]) -> tuple[Row, ...]:
        """The rows of a problem with these levels; none where RAM has no limit.

        Raises:
            UnsupportedOperatorError: nothing builds a kernel at some of these widths.
        """
        if not self._limited:
            return ()
        return ram_rows(self.memory, levels, {c.name: i for i, c in enumerate(problem.choices)})

    def of(self, plan: Plan) -> int | None:
        """Bytes that the program of a plan allocates; None where nothing builds it, or where a block is gone and RAM
        has no limit.
        """
        try:
            if self._storage is not None and not plan.changes:
                return self.dense_bytes
            if self._storage is None and not plan.empty:
                memory = self.memory.in_blocks(plan.in_blocks)
                return memory.at({group: plan.width(group) for group in plan.sizes}).ram
            return self._traced_bytes(plan) if self._limited or not plan.empty else None
        except UnsupportedOperatorError:
            # It costs the plan its round, where it is built.
            return None

    def _traced_bytes(self, plan: Plan) -> int:
        key = (*sorted(plan.keep.items()), *sorted(plan.in_blocks.items()))
        if key not in self._traced:
            network = self._network
            module = shrink(network.module, network.channels, plan)
            small = read_network(module, network.example_inputs, network.interface)
            self._traced[key] = self._taken(small, self._model_of(small).in_blocks(plan.in_blocks))
        return self._traced[key]

    def _taken(self, network: Network, memory: MemoryModel) -> int:
        return memory.at({}).ram + (0 if self._storage is None else self._storage.decoded_bytes(network))

    def _model_of(self, network: Network) -> MemoryModel:
        share = 0.0 if self._storage is None else self._storage.decoded_share
        return MemoryModel(network.kernels, network.channels, self._book.target, self._book, share)
