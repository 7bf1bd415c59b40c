"""The recurrence of an LSTM or GRU layer, all of its steps in one kernel.

What depends on the input alone, the gates' products with it, comes ready from a dense kernel. Weights
of the state are packed so that one vector holds the same gate of neighbouring units, and all gates of a
unit are made in one tile (Hochreiter and Schmidhuber, 1997; Cho et al., 2014; gates in torch's order).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from edgeprune.compiler.functions import ACTIVATIONS
from edgeprune.compiler.kernels.base import Constants, Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function, narrowing
from edgeprune.graph.ops.recurrent import GATES
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class Recurrent(Rule):
    """recurrent: gates (T, N, G * H) plain -> states (T, N, H); ``kind`` lstm or gru; ``reverse`` from the end.

    A second input is the state before the first step, (N, H) in any shape, a third one the cells of an LSTM. With
    T + 1 steps in the output, the last holds the cells that an LSTM ends with.
    """

    name = "recurrent"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "recurrent" and not [s for s in spec.epilogue if s != "bias"]

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        gates, hidden = GATES[spec.attr("kind")], spec.output.shape[2]
        width = block_count(hidden, target.lanes) * target.lanes
        return [gates * width * hidden, gates * width]

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        """(G * H, H) -> [block of units][unit of the state][gate][lane]; bias -> [block][gate][lane]."""
        gates, hidden, lanes = GATES[spec.attr("kind")], spec.output.shape[2], target.lanes
        blocks = block_count(hidden, lanes)
        whole = np.zeros((gates, blocks * lanes, hidden + 1), np.float32)
        whole[:, :hidden, :hidden] = np.asarray(weight).reshape(gates, hidden, hidden)
        whole[:, :hidden, hidden] = np.asarray(bias).reshape(gates, hidden)
        by_block = whole.reshape(gates, blocks, lanes, hidden + 1)
        packed = by_block[..., :hidden].transpose(1, 3, 0, 2).reshape(-1)
        return [np.ascontiguousarray(packed), by_block[..., hidden].transpose(1, 0, 2).reshape(-1).copy()]

    def scratch(self, spec: KernelSpec, schedule: Schedule, target: Target) -> int:
        """The cells of an LSTM that are not part of the output."""
        _, batch, hidden = spec.output.shape
        if _gives_cells(spec):
            return 0
        return batch * block_count(hidden, target.lanes) * target.lanes if spec.attr("kind") == "lstm" else 0

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        steps, batch, hidden = spec.inputs[0].shape[0], *spec.output.shape[1:]
        blocks = block_count(hidden, target.lanes)

        def body(e: Emitter) -> None:
            def step(at: Expr, before: Expr | None) -> None:
                with T.parallel(0, batch * blocks) as index:
                    _units(e, at, before, index // blocks, index % blocks)

            def turn(i: Expr) -> Expr:
                return steps - 1 - i if spec.attr("reverse") else i

            step(turn(0), None)
            if steps > 1:
                with T.serial(0, steps - 1) as i:
                    step(turn(i + 1), turn(i))

        constants = self.constants(spec, schedule, target)
        return function(name, spec, schedule, target, constants, body, scratch=self.scratch(spec, schedule, target))


def _gives_cells(spec: KernelSpec) -> bool:
    return spec.output.shape[0] > spec.inputs[0].shape[0]


def _state_before(e: Emitter, before: Expr | None, n: Expr) -> tuple[Any, Expr] | None:
    """Where the state of sample ``n`` before a step lies; ``before`` None: the first one. None for zeros."""
    _, batch, hidden = e.spec.output.shape
    if before is not None:
        return e.output, (before * batch + n) * hidden
    return (e.inputs[1], n * hidden) if len(e.inputs) > 1 else None


def _units(e: Emitter, at: Expr, before: Expr | None, n: Expr, block: Expr) -> None:
    """A vector of units of sample ``n`` at step ``at``; ``before`` None: it is the first step."""
    hidden = e.spec.output.shape[2]
    gates, lanes = GATES[e.spec.attr("kind")], e.lanes
    weight, bias = e.constants
    acc = e.registers(gates)
    for g in range(gates):
        acc[g] = e.load(bias, (block * gates + g) * lanes)
    if (earlier := _state_before(e, before, n)) is not None:
        buffer, row = earlier
        with T.serial(0, hidden) as k:
            state = e.splat(buffer[row + k])
            for g in range(gates):
                acc[g] = acc[g] + state * e.load(weight, ((block * hidden + k) * gates + g) * lanes)
    full, rest = divmod(hidden, lanes)
    if full:
        with T.If(block < full), T.Then():
            _finish(e, [acc[g] for g in range(gates)], at, before, n, block * lanes, 0, lanes)
    if rest:
        with T.If(block == full), T.Then():
            for start, width in narrowing(rest, lanes):
                parts = [T.Shuffle([acc[g]], list(range(start, start + width))) for g in range(gates)]
                _finish(e, parts, at, before, n, full * lanes, start, width)


def _finish(
    e: Emitter, state: list[Expr], at: Expr, before: Expr | None, n: Expr, first: Expr, start: int, lanes: int
) -> None:
    """New states of ``lanes`` units from ``first + start`` on, from the gates' products with the old ones."""
    _, batch, hidden = e.spec.output.shape
    gates, unit = GATES[e.spec.attr("kind")], first + start
    x = [e.load(e.inputs[0], ((at * batch + n) * gates + g) * hidden + unit, lanes) for g in range(gates)]
    to = (at * batch + n) * hidden + unit

    def act(name: str, value: Expr) -> Expr:
        (kept,) = e.keep(ACTIVATIONS[name](e.algebra(lanes), value), lanes=lanes)
        return kept

    if e.spec.attr("kind") == "lstm":
        entered, kept, new, shown = (
            act(name, x[g] + state[g]) for g, name in enumerate(("sigmoid", "sigmoid", "tanh", "sigmoid"))
        )
        if _gives_cells(e.spec):
            cells, cell = e.output, ((e.spec.output.shape[0] - 1) * batch + n) * hidden + unit
        else:
            cells, cell = e.scratch, n * block_count(hidden, e.lanes) * e.lanes + unit
        value = entered * new
        if before is not None:
            value = kept * e.load(cells, cell, lanes) + value
        elif len(e.inputs) > 2:
            value = kept * e.load(e.inputs[2], n * hidden + unit, lanes) + value
        (value,) = e.keep(value, lanes=lanes)
        e.store(cells, value, cell, lanes)
        e.store(e.output, shown * act("tanh", value), to, lanes)
        return
    reset, update = (act("sigmoid", x[g] + state[g]) for g in (0, 1))
    new = act("tanh", x[2] + reset * state[2])
    value = (e.const(1.0, lanes) - update) * new
    if (earlier := _state_before(e, before, n)) is not None:
        buffer, row = earlier
        value = value + update * e.load(buffer, row + unit, lanes)
    e.store(e.output, value, to, lanes)
