"""The recurrence of an LSTM, GRU or RNN layer, all of its steps in one kernel.

What depends on the input alone, the gates' products with it, comes ready from a dense kernel. Weights
of the state are packed so that one vector holds the same gate of neighbouring units, and all gates of a
unit are made in one tile (Hochreiter and Schmidhuber, 1997; Cho et al., 2014; gates in torch's order).
A projection (Sak et al., 2014) is a second product in each step, of the units' results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from edgeprune.compiler.functions import ACTIVATIONS
from edgeprune.compiler.kernels.base import Constants, Rule, Schedule
from edgeprune.compiler.kernels.emit import Emitter, Expr, Function, T, block_count, function, narrowing
from edgeprune.graph.ops.recurrent import Recurrence
from edgeprune.graph.spec import KernelSpec
from edgeprune.targets import Target


class Recurrent(Rule):
    """recurrent: gates (T, N, G * H) plain -> states (T, N, H); ``kind`` as in ``GATES``; ``reverse`` from the end.

    A second input is the state before the first step, (N, H) in any shape, a third one the cells of an LSTM. With
    T + 1 steps in the output, the last holds the cells that an LSTM ends with. With ``projected`` states are (T, N, P);
    with cells behind them it gives what is to be projected, (T, N, H).
    """

    name = "recurrent"

    def matches(self, spec: KernelSpec) -> bool:
        return spec.op == "recurrent" and not [s for s in spec.epilogue if s != "bias"]

    def space(self, spec: KernelSpec, target: Target) -> list[Schedule]:
        return [{"rule": self.name}]

    def constants(self, spec: KernelSpec, schedule: Schedule, target: Target) -> list[int]:
        sizes, width = Recurrence.of(spec), target.lanes
        units = block_count(sizes.units, width) * width
        projection = [sizes.units * block_count(sizes.states, width) * width] if sizes.projected else []
        return [sizes.gates * units * sizes.states, sizes.gates * units, *projection]

    def pack(self, spec: KernelSpec, schedule: Schedule, target: Target, weight: Any, bias: Any) -> Constants:
        """(G * H, P) -> [block of units][state][gate][lane]; bias -> [block][gate][lane].

        A projection (P, H) lies transposed below those weights, and becomes [block of states][unit][lane].
        """
        sizes, lanes = Recurrence.of(spec), target.lanes
        gates, units, states = sizes.gates, sizes.units, sizes.states
        rows = np.asarray(weight).reshape(-1, units, states)
        whole = np.zeros((gates, block_count(units, lanes) * lanes, states + 1), np.float32)
        whole[:, :units, :states] = rows[:gates]
        if "bias" in spec.epilogue:
            whole[:, :units, states] = np.asarray(bias).reshape(gates, units)
        by_block = whole.reshape(gates, -1, lanes, states + 1)
        packed = [by_block[..., :states].transpose(1, 3, 0, 2), by_block[..., states].transpose(1, 0, 2)]
        if sizes.projected:
            projection = np.zeros((units, block_count(states, lanes) * lanes), np.float32)
            projection[:, :states] = rows[gates]
            packed.append(projection.reshape(units, -1, lanes).transpose(1, 0, 2))
        return [np.ascontiguousarray(p.reshape(-1)) for p in packed]

    def scratch(self, spec: KernelSpec, schedule: Schedule, target: Target) -> int:
        """What is not part of the output: the cells of an LSTM, and of what is projected either side."""
        sizes, lanes = Recurrence.of(spec), target.lanes
        rows = [sizes.units] if spec.attr("kind") == "lstm" and not sizes.cells else []
        if sizes.projected:
            rows.append(sizes.states if sizes.cells else sizes.units)
        return sum(sizes.batch * block_count(row, lanes) * lanes for row in rows)

    def build(self, name: str, spec: KernelSpec, schedule: Schedule, target: Target) -> Function:
        sizes = Recurrence.of(spec)
        steps, blocks, shown = (
            sizes.steps,
            block_count(sizes.units, target.lanes),
            block_count(sizes.states, target.lanes),
        )

        def body(e: Emitter) -> None:
            layer = _Layer(e, sizes)

            def step(at: Expr, before: Expr | None) -> None:
                with T.parallel(0, sizes.batch * blocks) as index:
                    layer.units(at, before, index // blocks, index % blocks)
                if sizes.projected:
                    with T.parallel(0, sizes.batch * shown) as index:
                        layer.project(at, index // shown, index % shown)

            def turn(i: Expr) -> Expr:
                return steps - 1 - i if spec.attr("reverse") else i

            step(turn(0), None)
            if steps > 1:
                with T.serial(0, steps - 1) as i:
                    step(turn(i + 1), turn(i))

        constants = self.constants(spec, schedule, target)
        return function(name, spec, schedule, target, constants, body, scratch=self.scratch(spec, schedule, target))


class _Layer:
    """What is written of a step. Where a step before is None, it is the first."""

    def __init__(self, e: Emitter, sizes: Recurrence) -> None:
        self._e, self._sizes = e, sizes
        self._kind = e.spec.attr("kind")
        self._padded = block_count(sizes.units, e.lanes) * e.lanes

    def units(self, at: Expr, before: Expr | None, n: Expr, block: Expr) -> None:
        """A vector of units of sample ``n`` at step ``at``."""
        e, gates, states = self._e, self._sizes.gates, self._sizes.states
        weight, bias = e.constants[:2]
        acc = e.registers(gates * _chains(gates))
        for g in range(gates):
            acc[g] = e.load(bias, (block * gates + g) * e.lanes)
        if (earlier := self._state_before(before, n)) is not None:
            buffer, row = earlier
            self._multiply(acc, buffer, row, weight, block * states, states, gates)
        found = [acc[g] for g in range(gates)]
        self._parted(self._sizes.units, block, found, lambda *part: self._finish(at, before, n, *part))

    def project(self, at: Expr, n: Expr, block: Expr) -> None:
        """A vector of states of sample ``n`` from the units of step ``at``."""
        e, units = self._e, self._sizes.units
        acc = e.registers(_chains(1))
        acc[0] = e.const(0.0)
        buffer, row = self._results(at, n)
        self._multiply(acc, buffer, row, e.constants[2], block * units, units, 1)

        def store(parts: list[Expr], first: Expr, lanes: int) -> None:
            buffer, row = self._states(at, n)
            e.store(buffer, parts[0], row + first, lanes)

        self._parted(self._sizes.states, block, [acc[0]], store)

    def _multiply(self, acc: Any, buffer: Any, row: Expr, weight: Any, first: Expr, terms: int, each: int) -> None:
        """Add to ``each`` vectors the products of ``terms`` values from ``row`` on with rows of weights.

        Where a term has few vectors, sums go on in several chains, for an addition waits for the one before it.
        """
        e, chains = self._e, _chains(each)
        whole = terms // chains

        def add(k: Expr, chain: int) -> None:
            value = e.splat(buffer[row + k])
            for g in range(each):
                at = chain * each + g
                acc[at] = acc[at] + value * e.load(weight, ((first + k) * each + g) * e.lanes)

        for at in range(each, chains * each):
            acc[at] = e.const(0.0)
        if whole:
            with T.serial(0, whole) as turn:
                for chain in range(chains):
                    add(turn * chains + chain, chain)
        for k in range(whole * chains, terms):
            add(k, 0)
        for chain in range(1, chains):
            for g in range(each):
                acc[g] = acc[g] + acc[chain * each + g]

    def _parted(
        self, size: int, block: Expr, vectors: list[Expr], write: Callable[[list[Expr], Expr, int], None]
    ) -> None:
        """``write`` vectors of block ``block`` of ``size`` values, the last of them in parts that are not beyond it:
        the parts, the index of their first value, how many.
        """
        lanes = self._e.lanes
        full, rest = divmod(size, lanes)
        if full:
            with T.If(block < full), T.Then():
                write(vectors, block * lanes, lanes)
        if rest:
            with T.If(block == full), T.Then():
                for start, width in narrowing(rest, lanes):
                    parts = [T.Shuffle([v], list(range(start, start + width))) for v in vectors]
                    write(parts, full * lanes + start, width)

    def _state_before(self, before: Expr | None, n: Expr) -> tuple[Any, Expr] | None:
        """Where the state of sample ``n`` before a step lies. None for zeros."""
        if before is not None:
            return self._states(before, n)
        return (self._e.inputs[1], n * self._sizes.states) if len(self._e.inputs) > 1 else None

    def _states(self, at: Expr, n: Expr) -> tuple[Any, Expr]:
        """Where the states of a step lie. Those that are projected beside cells are kept for one step."""
        e, sizes = self._e, self._sizes
        if sizes.projected and sizes.cells:
            return e.scratch, n * block_count(sizes.states, e.lanes) * e.lanes
        return e.output, (at * sizes.batch + n) * sizes.row

    def _results(self, at: Expr, n: Expr) -> tuple[Any, Expr]:
        """Where what the units give lies: where it is projected without cells, behind these for one step."""
        e, sizes = self._e, self._sizes
        if sizes.projected and not sizes.cells:
            return e.scratch, (sizes.batch + n) * self._padded
        return e.output, (at * sizes.batch + n) * sizes.row

    def _finish(self, at: Expr, before: Expr | None, n: Expr, state: list[Expr], unit: Expr, lanes: int) -> None:
        """The results of ``lanes`` units from ``unit`` on, from the gates' products with the old states."""
        e, sizes = self._e, self._sizes
        step = at * sizes.batch + n
        x = [e.load(e.inputs[0], (step * sizes.gates + g) * sizes.units + unit, lanes) for g in range(sizes.gates)]

        def act(name: str, value: Expr) -> Expr:
            (kept,) = e.keep(ACTIVATIONS[name](e.algebra(lanes), value), lanes=lanes)
            return kept

        if self._kind == "lstm":
            entered, kept, new, shown = (
                act(name, x[g] + state[g]) for g, name in enumerate(("sigmoid", "sigmoid", "tanh", "sigmoid"))
            )
            value = entered * new
            cells, cell = self._cells(n)
            if before is not None:
                value = kept * e.load(cells, cell + unit, lanes) + value
            elif len(e.inputs) > 2:
                value = kept * e.load(e.inputs[2], n * sizes.units + unit, lanes) + value
            (value,) = e.keep(value, lanes=lanes)
            e.store(cells, value, cell + unit, lanes)
            value = shown * act("tanh", value)
        elif self._kind == "gru":
            reset, update = (act("sigmoid", x[g] + state[g]) for g in (0, 1))
            new = act("tanh", x[2] + reset * state[2])
            value = (e.const(1.0, lanes) - update) * new
            if (earlier := self._state_before(before, n)) is not None:
                buffer, row = earlier
                value = value + update * e.load(buffer, row + unit, lanes)
        else:
            value = ACTIVATIONS[self._kind.removeprefix("rnn_")](e.algebra(lanes), x[0] + state[0])
        buffer, row = self._results(at, n)
        e.store(buffer, value, row + unit, lanes)

    def _cells(self, n: Expr) -> tuple[Any, Expr]:
        e, sizes = self._e, self._sizes
        if sizes.cells:
            return e.output, (sizes.steps * sizes.batch + n) * sizes.row
        return e.scratch, n * self._padded


def _chains(each: int) -> int:
    """How many sums of products run side by side, where a term has ``each`` vectors."""
    return max(1, 4 // each)
