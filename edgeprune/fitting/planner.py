"""Planning: saliency and latency tables in, plans and smaller networks out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import Any

from edgeprune.budget.effort import UNLIMITED, Effort
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import TOLERANCE, Budget, Problem, Solution, Stop
from edgeprune.budget.reach import infeasible
from edgeprune.budget.registry import get_solver
from edgeprune.budget.solving import Solved
from edgeprune.budget.witness import Witness
from edgeprune.compiler.flash import FlashModel
from edgeprune.errors import InfeasibleBudgetError, ProfileError, UnsupportedOperatorError
from edgeprune.fitting.planned_ram import PlannedRam
from edgeprune.fitting.search import Proposal
from edgeprune.graph.network import Network, read_network
from edgeprune.graph.spec import KernelSpec
from edgeprune.importance.criterion import LossFn, OfModule, Scores
from edgeprune.importance.curves import Saliency
from edgeprune.importance.registry import criterion
from edgeprune.latency.densities import Densities
from edgeprune.latency.grids import finer
from edgeprune.latency.model import LEVEL, LatencyModel
from edgeprune.latency.problem import build_problem, kernels_at, usable_levels
from edgeprune.progress import SILENT, Progress
from edgeprune.pruning.blocks import removable
from edgeprune.pruning.mask import check_equal, mask
from edgeprune.pruning.plan import Plan, make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.training.data import DataSet
from edgeprune.training.halves import Batch, batches_of, spread
from edgeprune.training.tasks.task import Step, Task

CALIBRATION = 512
"""Training samples that saliency and batch-norm statistics are taken from."""
CUT_SHORT = (Stop.TIME_LIMIT, Stop.NODE_LIMIT, Stop.INTERRUPTED)
"""Why a solver that could have proven more did not."""
PACKINGS = 8
"""Plans that are looked at until the program of one keeps the limits of flash and RAM, with all that it takes."""


def calibration(data: DataSet, batch_size: int = 64, most: int = CALIBRATION) -> Iterator[Batch]:
    """At most ``most`` training samples from all over the data, mixed, in batches; always the same."""
    return batches_of(data.train, batch_size, spread(data.train, most))


def score(
    network: Network,
    name: str,
    data: DataSet | None = None,
    task: Task | None = None,
    *,
    batch_size: int = 64,
    seed: int = 0,
) -> Scores:
    """Saliency of every channel by the named criterion, on the calibration samples of ``data``.

    Args:
        task: what the loss of a criterion that needs one is; classification if None.

    Raises:
        UsageError: unknown criterion, or one that needs data and got none.
    """
    found = criterion(name, seed=seed)
    if data is None:
        return found.score(network, None)
    return found.score(network, calibration(data, batch_size), None if task is None else scoring(task))


def scoring(task: Task) -> LossFn:
    """The loss that channels are scored by; a distance from the network itself has no gradient, and is none."""
    return task.scoring if task.scoring_step is None else running(task.scoring_step)


def running(step: Step) -> LossFn:
    """A step as a loss."""
    return OfModule(lambda module, inputs, targets: step(module, Batch(inputs, targets)))


class Planner:
    """The planner: from saliency and latency tables to plans. It alone builds and solves the pruning problem.

    Args:
        saliency: what channels and widths are worth.
        model: already corrected by what was measured; predicted figures carry its evidence level.
        levels: group -> widths that are offered.
        rule_name: the rule that these keep to, if there is one.
        program_bytes: flash of the program beyond what the tables say. Often below 0: a linked
            program has the code of equal kernels once, and none of the symbols of object files.
        step: widths between those that were timed are multiples of it.
        ram: what programs of plans allocate; None: that is neither predicted nor limited.
        flash: the files of plans' programs, with the code of equal kernels once; None: as the tables add up.
        densities: of the layers of whose weights blocks may go.
        effort: of the solver for one question.

    Attributes:
        dropped: group -> width -> why it is not offered: a kernel that failed there.

    Raises:
        ProfileError: the profile does not cover the network.
    """

    def __init__(
        self,
        network: Network,
        saliency: Saliency,
        model: LatencyModel,
        levels: Mapping[str, tuple[int, ...]],
        *,
        solver: str,
        criterion_name: str,
        rule_name: str = "",
        program_bytes: float = 0.0,
        step: int = 1,
        ram: PlannedRam | None = None,
        flash: FlashModel | None = None,
        densities: Densities | None = None,
        effort: Effort = UNLIMITED,
        progress: Progress = SILENT,
    ) -> None:
        self._network, self._saliency, self._model, self._progress = network, saliency, model, progress
        self._solver, self._criterion, self._program_bytes, self._step = solver, criterion_name, program_bytes, step
        self._ram, self._flash, self._effort, self._rule = ram, flash, effort, rule_name
        self._densities: Densities = densities or {}
        self._levels, self.dropped = usable_levels(network.kernels, network.channels, levels, model)
        self.problem = self._at(self._levels)

    @cached_property
    def _finer(self) -> Problem:
        """The problem with levels between the timed widths; unchanged where the tables do not reach these."""
        levels = {name: finer(widths, self._step) for name, widths in self._levels.items()}
        try:
            usable, _ = usable_levels(self._network.kernels, self._network.channels, levels, self._model)
            return self._at(usable)
        except (ProfileError, UnsupportedOperatorError) as e:
            self._progress.note(f"no plans of finer widths: {e.message}")
            return self.problem

    def _at(self, levels: Mapping[str, tuple[int, ...]]) -> Problem:
        kernels, channels = self._network.kernels, self._network.channels
        problem = build_problem(
            kernels, channels, self._saliency.curves, levels, self._model, densities=self._densities, estimate=True
        )
        rows = () if self._ram is None else self._ram.rows(problem, levels)
        return replace(problem, base_flash_bytes=problem.base_flash_bytes + self._program_bytes, ram=rows)

    def propose(self, budget: Budget) -> Proposal[Plan]:
        """The plan of highest retained saliency that the solver finds inside the budget.

        Raises:
            InfeasibleBudgetError: nothing reaches the budget.
        """
        return self._solved(self.problem, budget)

    def finer(self, budget: Budget) -> Proposal[Plan]:
        """As :meth:`propose`, with levels between the timed widths."""
        return replace(self._solved(self._finer, budget), estimated=True)

    def between(self, low: Proposal[Plan], high: Proposal[Plan]) -> Proposal[Plan] | None:
        """The plan half-way between two, width by width; None if there is none between."""
        choices = self._finer.choices
        ends = [tuple(c.levels.index(x.plan.level(c.name)) for x in (low, high)) for c in choices]
        # A block is removed completely or not at all, so there is no width between 0 and the first one.
        apart = [i for i, (c, (a, b)) in enumerate(zip(choices, ends, strict=True)) if a != b and c.levels[min(a, b)]]
        halves = [a for a, _ in ends]
        for i in apart:
            halves[i] += int((ends[i][1] - ends[i][0]) / 2)
        if len(apart) > 1 and halves == [a for a, _ in ends]:
            for i in apart[: len(apart) // 2]:
                halves[i] = ends[i][1]
        solution = Evaluator(self._finer).solution(halves, self._solver)
        found = self._proposal(solution, {"between_ms": [low.latency_ms, high.latency_ms]})
        return None if found.key == low.key else replace(found, estimated=True)

    def ram_bytes(self, solution: Solution) -> int | None:
        """What the program of a solver's answer allocates, to the byte; None where that is not known."""
        return None if self._ram is None else self._ram.of(self._plan(solution, {}))

    def _solved(self, problem: Problem, budget: Budget) -> Proposal[Plan]:
        """The solver's plan. What its program takes may be more than the solver's figures say: an arena is packed with
        a gap, or kernels that were one function in the dense network are several. Where that breaks a limit, the solver
        gets a lower one.
        """
        solver = get_solver(self._solver)
        solve = partial(solver.solve, effort=self._effort, progress=self._progress)
        first = solution = solve(problem, budget)
        if first.stop in CUT_SHORT:
            more = "more saliency" if first.gap is None else f"{first.gap:.2%} more saliency"
            self._progress.note(
                f"{self._solver} stopped ({first.stop.value}) after {first.seconds:.1f} s: a plan may retain {more}"
            )
        room = budget
        for _ in range(PACKINGS):
            # Under a lower limit, a bound speaks of fewer plans than there are.
            found = self._proposal(
                solution
                if solution is first
                else replace(solution, bound=first.bound, stop=Stop.HEURISTIC, witness=first.witness),
                {"steps": solution.steps, "budget": budget.to_json(), "between_timed": problem is not self.problem},
            )
            lower = _lower(budget, room, found, solution)
            if lower is None:
                return found
            room = lower
            try:
                solution = solve(problem, room)
            except InfeasibleBudgetError as e:
                # The lower limit also rules out plans without a gap, so nothing is proven about the one asked for.
                took = {"flash_bytes": found.flash_bytes, "ram_bytes": found.ram_bytes or 0}
                raise infeasible(budget, {**e.details, **took}, proven=False) from e
        raise infeasible(budget, found.plan.predicted, proven=False)

    def _proposal(self, solution: Solution, method: Mapping[str, Any]) -> Proposal[Plan]:
        plan = self._plan(solution, method)
        plan = replace(plan, predicted={**plan.predicted, **self._interval(solution)})
        ram = None if self._ram is None else self._ram.of(plan)
        if ram is not None:
            plan = replace(plan, predicted={**plan.predicted, "ram_bytes": ram})
        flash = solution.flash_bytes
        if self._flash is not None and not plan.empty:
            flash = self._flash.bytes({group: plan.width(group) for group in plan.sizes}, plan.in_blocks)
            plan = replace(plan, predicted={**plan.predicted, "flash_bytes": flash})
        key = (*sorted(plan.keep.items()), *sorted(plan.densities.items()))
        return Proposal(
            plan,
            key,
            solution.latency_ms,
            flash,
            solution.saliency,
            dense=not plan.changes,
            estimated=self._untimed(solution),
            ram_bytes=solution.ram_bytes if ram is None else ram,
        )

    def _untimed(self, solution: Solution) -> bool:
        """Whether some kernel of a plan was never timed: it may turn out not to build."""
        found = (self._model.record(s) for s in self._kernels(solution))
        return any(record is None or not record.ok for record in found)

    def _kernels(self, solution: Solution) -> list[KernelSpec]:
        kernels, channels = self._network.kernels, self._network.channels
        widths, chosen = self._chosen(solution)
        densities = {node: chosen[d.weight] for node, d in self._densities.items()}
        return kernels_at(kernels, channels, self._levels, widths, densities)

    def _chosen(self, solution: Solution) -> tuple[dict[str, int], dict[str, int]]:
        """Width of each group that has a choice, and density of each weight that has one."""
        chosen = {c.name: w for c, w in zip(self.problem.choices, solution.widths, strict=True)}
        densities = {d.weight: chosen.pop(d.weight) for d in self._densities.values()}
        return chosen, densities

    def _interval(self, solution: Solution) -> dict[str, Any]:
        """Where the latency of a plan lies, by what is not known of its kernels."""
        found = self._model.network(self._kernels(solution))
        if not found.latency_ms:
            return {}
        low, high = (solution.latency_ms * x / found.latency_ms for x in found.interval_ms)
        return {"latency_interval_ms": [low, high], "level": LEVEL}

    def _plan(self, solution: Solution, method: Mapping[str, Any]) -> Plan:
        widths, densities = self._chosen(solution)
        return make_plan(
            self._network.channels,
            widths,
            self._saliency.scores,
            densities=densities,
            predicted={
                "latency_ms": solution.latency_ms,
                "flash_bytes": solution.flash_bytes,
                "saliency_retained": solution.saliency,
                "evidence": self._model.evidence,
            },
            method={
                "solver": self._solver,
                "criterion": self._criterion,
                "objective": self._saliency.objective,
                "latency_correction": self._model.correction,
                **({"rule": self._rule} if self._rule else {}),
                **method,
            },
            certificate=_certificate(solution),
        )

    def solved(self, plan: Plan) -> Solved:
        """The question that a plan of this planner answers, and the answer with its certificate, checked.

        A plan between two others answers the question for what it is predicted to cost; nothing is proven of it.

        Raises:
            VerificationError: the certificate does not hold: a fault of the solver.
        """
        said, method = plan.certificate, plan.method
        problem = self._finer if method.get("between_timed", True) else self.problem
        levels = [c.levels.index(plan.level(c.name)) for c in problem.choices]
        answer = Evaluator(problem).solution(levels, self._solver, steps=method.get("steps", 0))
        budget = Budget(**method["budget"]) if "budget" in method else Budget(latency_ms=answer.latency_ms)
        if said:
            answer = replace(
                answer,
                bound=said["saliency_upper_bound"],
                stop=Stop(said["stop"]),
                witness=None if said["witness"] is None else Witness.from_json(said["witness"]),
            )
        found = Solved(problem, budget, answer)
        found.check()
        return found


def _lower(budget: Budget, room: Budget, found: Proposal[Plan], solution: Solution) -> Budget | None:
    """Limits for the solver that are lower than ``room`` by what a plan takes beyond its figures; None where the plan
    keeps the true ones.
    """
    lower = {}
    for name, took, said in (
        ("flash_bytes", found.flash_bytes, solution.flash_bytes),
        ("ram_bytes", found.ram_bytes, solution.ram_bytes),
    ):
        limit = getattr(budget, name)
        if limit is not None and took is not None and said is not None and took > limit * (1 + TOLERANCE):
            lower[name] = max(1.0, min(getattr(room, name), limit - (took - said)))
    return replace(room, **lower) if lower else None


def _certificate(solution: Solution) -> dict[str, Any]:
    if solution.bound is None:
        return {}
    return {
        "saliency_upper_bound": solution.bound,
        "gap": solution.gap,
        "stop": solution.stop.value,
        "witness": None if solution.witness is None else solution.witness.to_json(),
    }


def with_removable(network: Network, progress: Progress = SILENT) -> Network:
    """The network with its removable blocks: those without which it runs and agrees with the masked network."""
    progress.stage("trying blocks")
    channels, refused = removable(network.module, network.channels, network.example_inputs)
    for name, why in refused.items():
        progress.note(f"block '{name}' stays: {why}")
    return replace(network, channels=channels)


def shrunk(network: Network, plan: Plan) -> Network:
    """The smaller network, proven equal to the masked one on the example input.

    Raises:
        VerificationError, PlanError: the networks are not equal, or the plan does not fit.
    """
    module = shrink(network.module, network.channels, plan)
    masked = mask(network.module, network.channels, plan)
    check_equal(masked, module, network.example_inputs, graph=network.channels, plan=plan)
    return read_network(module, network.example_inputs, network.interface)
