"""Watching activations: a network run on data, with a look at what chosen nodes of its graph yield.

Sizes are written into a traced program, so a module is traced again for each shape of batch that comes; nodes keep
their names. A network whose graph depends on the size of its batch is run one sample after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Interpreter, Node

from edgeprune.errors import EdgepruneError, UnsupportedOperatorError
from edgeprune.graph.trace import evaluating, trace

See = Callable[[str, Tensor], None]


class Watcher:
    """Runs one module and shows the values of some of its nodes.

    Args:
        nodes: names of fx nodes, as :class:`edgeprune.graph.channels.Activation` has them.
    """

    def __init__(self, module: nn.Module, nodes: Collection[str]) -> None:
        self._module, self._nodes = module, frozenset(nodes)
        self._programs: dict[tuple[torch.Size, ...], GraphModule | None] = {}

    def run(self, inputs: Sequence[Tensor], see: See) -> list[Any]:
        """Results of the module in evaluation mode; ``see`` gets each watched value as soon as it is there.

        Gradients flow where they are enabled. A network in place may change a value after it was seen.

        Args:
            see: called with the node's name and its value, shape as in the batch.

        Returns:
            What the module yields, one entry a batch that was run: a single one, or one a sample.

        Raises:
            UnsupportedOperatorError, ModelLoadError: the module cannot be traced on such inputs.
        """
        inputs = tuple(inputs)
        with evaluating(self._module):
            program = self._program(inputs)
            if program is not None:
                return [_Watched(program, self._nodes, see).run(*inputs)]
            samples = [tuple(x[i : i + 1] for x in inputs) for i in range(len(inputs[0]))]
            return [_Watched(self._whole(s), self._nodes, see).run(*s) for s in samples]

    def _program(self, inputs: tuple[Tensor, ...]) -> GraphModule | None:
        """The module traced on such inputs; None if a batch makes another graph of it, or none at all."""
        key = tuple(x.shape for x in inputs)
        if key not in self._programs:
            try:
                self._programs[key] = self._traced(inputs)
            except EdgepruneError:
                if len(inputs[0]) == 1:
                    raise
                self._programs[key] = None
        return self._programs[key]

    def _whole(self, inputs: tuple[Tensor, ...]) -> GraphModule:
        program = self._program(inputs)
        assert program is not None  # of a single sample, _program raises
        return program

    def _traced(self, inputs: tuple[Tensor, ...]) -> GraphModule:
        program: GraphModule = trace(self._module, inputs).module(check_guards=False)
        if missing := sorted(self._nodes - {n.name for n in program.graph.nodes}):
            raise UnsupportedOperatorError(
                f"{type(self._module).__name__} has no {', '.join(missing)} at inputs of shape "
                f"{[tuple(x.shape) for x in inputs]}",
                hint="let the operators of forward not depend on the size of the batch",
                nodes=missing,
            )
        return program


class _Watched(Interpreter):
    def __init__(self, program: GraphModule, nodes: Collection[str], see: See) -> None:
        super().__init__(program)
        self._wanted, self._see = nodes, see

    def run_node(self, n: Node) -> Any:
        value = super().run_node(n)
        if n.name in self._wanted:
            self._see(n.name, value)
        return value
