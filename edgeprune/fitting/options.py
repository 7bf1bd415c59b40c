"""Options of a fit, with the defaults that the command line and the Python API show."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeprune.budget.effort import USUAL, Effort
from edgeprune.budget.registry import get_solver
from edgeprune.budget.verdict import PATIENCE_S
from edgeprune.compiler.storage import AUTO, check_storage
from edgeprune.errors import UsageError
from edgeprune.fitting.objective import check_objective
from edgeprune.fitting.recoveries import WHOLE, recoveries_of
from edgeprune.fitting.ruled import check_rule
from edgeprune.fitting.sparse import check_sparsity
from edgeprune.importance.curves import IMPORTANCE
from edgeprune.importance.registry import criterion
from edgeprune.jsonable import Jsonable
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.training.early_stop import VALIDATION, check_early_stop
from edgeprune.training.precision import FLOAT32, check_precision
from edgeprune.training.sparse.schedule import Schedule
from edgeprune.training.tasks.task import Task


@dataclass(frozen=True, slots=True)
class FitOptions(Jsonable):
    """How a network is fitted.

    Attributes:
        criterion, objective: which channels of a group go first, and what the widths of a plan are worth.
        rule: what plans may keep at most, from scores alone; empty where the budget alone decides.
        sparsity: what becomes 0 while it is trained, joined by ``+``; empty: nothing.
        passes, schedule: in how many steps the budget is approached, each scored and recovered, and how large they are.
        recover: what wins accuracy back, steps joined by ``+``.
        time_limit_s: seconds after which a solver's best plan so far is taken; None: it ends by itself.
        gap: between plan and bound, relative, at which ``exact`` stops.
        rounds: most passes of solve, compile, measure.
        fill: part of a limit that a plan should use; below it in all of them another round is spent.
        margin: part of the latency limit that the first plan leaves free; None: as much as launches differ there.
        patience_s: most seconds that one verdict is measured for.
        tighter: how often a trained network that turns out over its budget is shrunk further, trained and tried again.
        epochs, lr, batch_size, distil_weight, temperature, early_stop, validation, precision: fine-tuning
            (training/finetune.py).
        task, pixels: how the task and the reading of images were named; empty where nothing was said.
        weight_storage: how weights lie in programs (compiler/storage.py).
        baseline: also make the uniform-width network of the same latency, for the report.
    """

    solver: str = "exact"
    criterion: str = "taylor"
    rule: str = ""
    sparsity: str = ""
    passes: int = 1
    schedule: str = "cubic"
    recover: str = WHOLE
    objective: str = IMPORTANCE
    rounds: int = 8
    fill: float = 0.97
    margin: float | None = None
    patience_s: float = PATIENCE_S
    tighter: int = 3
    epochs: int = 3
    lr: float = 0.02
    batch_size: int = 64
    distil_weight: float = 0.5
    temperature: float = 4.0
    early_stop: int | None = None
    validation: float = VALIDATION
    precision: str = FLOAT32
    seed: int = 0
    task: str = ""
    pixels: str = ""
    baseline: bool = True
    time_limit_s: float | None = USUAL.time_limit_s
    gap: float = USUAL.gap
    allow_mismatch: bool = False
    weight_storage: str = AUTO
    profile: ProfileOptions = field(default_factory=ProfileOptions)

    @property
    def effort(self) -> Effort:
        """Of the solver for one question; raises UsageError where it makes no sense."""
        return Effort(self.time_limit_s, self.gap)

    def check(self, *, has_data: bool) -> None:
        """Raises UsageError for options that do not go together, before anything is measured."""
        if criterion(self.criterion).needs_data and not has_data:
            raise UsageError(f"criterion {self.criterion} needs data", hint="give --data, or --criterion l2")
        check_rule(self.rule, has_data=has_data)
        trains = "finetune" in recoveries_of(self.recover) and self.epochs > 0
        check_sparsity(self.sparsity, has_data=has_data, trains=trains)
        self._check_training(trains=has_data and trains)
        Schedule(self.schedule, 0.0)
        if self.passes < 1:
            raise UsageError(f"{self.passes} passes make no network", hint="give 1 or more")
        if self.rounds < 1 or not 0 < self.fill <= 1 or not self.patience_s > 0 or not 0 <= (self.margin or 0) < 1:
            raise UsageError(
                f"{self.rounds} rounds, a fill of {self.fill}, a margin of {self.margin} and {self.patience_s} s of "
                "patience make no sense"
            )
        if self.epochs < 0 or self.batch_size < 1:
            raise UsageError(f"{self.epochs} epochs of batches of {self.batch_size} make no sense")
        check_objective(self.objective, has_data=has_data)
        check_storage(self.weight_storage)
        Effort(self.time_limit_s, self.gap)
        get_solver(self.solver)

    def _check_training(self, *, trains: bool) -> None:
        check_early_stop(self.early_stop, self.validation)
        check_precision(self.precision)
        asked = {"early_stop": self.early_stop is not None, "precision": self.precision != FLOAT32}
        if not trains and (found := [name for name, given in asked.items() if given]):
            raise UsageError(
                f"{' and '.join(found)} are of a training, and nothing is trained",
                hint="give --data, --epochs, and finetune among the recoveries",
            )

    def check_trainer(self, task: Task | None) -> None:
        """Raises UsageError where a task's own trainer does not do what the options ask of a training."""
        asked = {
            "sparsity": bool(self.sparsity),
            "densities": bool(self.profile.densities),
            "early_stop": self.early_stop is not None,
            "precision": self.precision != FLOAT32,
        }
        found = [name for name, given in asked.items() if given]
        if found and task is not None and task.finetune is not None:
            raise UsageError(
                f"task '{task.name}' has a trainer of its own, which knows of no {' and no '.join(found)}",
                hint="leave its finetune out, or these options away",
            )
