"""What plans of a network with zeros among its weights take in a program that stores them without (docs/STORAGE.md)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgeprune.compiler.compile import weights_of
from edgeprune.compiler.folding import State
from edgeprune.compiler.lower import lower, unbuilt
from edgeprune.compiler.program import Program
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.compiler.storage import AUTO, DENSE, SPARSE, share_of_zeros, stored
from edgeprune.graph.network import Network
from edgeprune.training.sparse.sparsity import Sparsity

MAY_BECOME_SPARSE = SPARSE / 4
"""Share of zeros from which on a plan may leave a network of which ``auto`` compresses some."""


class PlannedStorage:
    """How the constants of a network's program, and of those of its plans, are stored.

    Which ones are compressed depends on their values, so a program is laid out, without building kernels.

    Args:
        storage, ram_limited: see :func:`edgeprune.compiler.storage.stored`.
        becomes: what makes the zeros that weights will have in the end, where they are to become sparse.

    Attributes:
        dense: whether all are dense, whatever the plan is.
        stored_share: of the bytes of the dense network's constants those that the file has.
        decoded_share: of these bytes those that are decoded into RAM.
    """

    def __init__(
        self,
        network: Network,
        book: ScheduleBook,
        storage: str = AUTO,
        *,
        ram_limited: bool,
        becomes: Sequence[Sparsity] = (),
    ) -> None:
        self._book, self._storage, self._ram_limited, self._becomes = book, storage, ram_limited, becomes
        limited = ram_limited and book.target.kind != "cuda"
        least = MAY_BECOME_SPARSE if storage == AUTO else 0.0
        self.dense = (
            storage == DENSE or (storage == AUTO and limited) or share_of_zeros(self._weights(network)) <= least
        )
        self.stored_share, self.decoded_share = 1.0, 0.0
        if not self.dense:
            program = self._program(network)
            decoded = program.decoded_bytes
            whole = max(1, program.plain_bytes + decoded)
            self.stored_share, self.decoded_share = program.weight_bytes / whole, decoded / whole

    def decoded_bytes(self, network: Network) -> int:
        """RAM for decoded weights in the program of a network: this one, or one that a plan leaves of it. On a GPU,
        whose memory holds all weights anyway, there is none beside them.

        Raises:
            UnsupportedOperatorError: nothing builds one of its kernels.
        """
        return 0 if self.dense or self._book.target.kind == "cuda" else self._program(network).decoded_bytes

    def _program(self, network: Network) -> Program:
        weights, target = self._weights(network), self._book.target
        made = lower(network.kernels, weights, target, self._book, name="model", build=unbuilt(Path()))
        share = share_of_zeros(weights)
        return stored(made.program, target, self._storage, share, ram_limited=self._ram_limited)

    def _weights(self, network: Network) -> State:
        """Those that the network will have."""
        if not self._becomes:
            return weights_of(network)
        module = copy.deepcopy(network.module)
        for each in self._becomes:
            each.at_once(module)
        return weights_of(replace(network, module=module))
