"""What ``prune`` and ``frontier`` are asked about, opened: a network, a stored profile of a board, saliency."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from edgeprune.api.arguments import (
    Data,
    Inputs,
    Model,
    Shape,
    TaskArgument,
    open_data,
    open_model,
    open_target,
    open_task,
)
from edgeprune.api.opened import Where, board_of
from edgeprune.api.progress import reporting
from edgeprune.api.shipped import knows, shipped_for
from edgeprune.budget.effort import UNLIMITED, Effort
from edgeprune.compiler.flash import FlashModel, empty_bytes
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.devices.protocol import Device
from edgeprune.fitting.densities import check_densities, densities_of, ranking_of
from edgeprune.fitting.objective import check_objective, saliency_of
from edgeprune.fitting.planned_ram import PlannedRam
from edgeprune.fitting.planned_storage import PlannedStorage
from edgeprune.fitting.planner import Planner, with_removable
from edgeprune.fitting.ruled import check_rule, ruled
from edgeprune.fitting.run_folder import RunRecord
from edgeprune.fitting.sparse import expected
from edgeprune.fitting.teaching import prepared
from edgeprune.graph.network import Network, read_network
from edgeprune.home import store_path
from edgeprune.importance.curves import Saliency
from edgeprune.importance.registry import criterion
from edgeprune.importance.rules import capped
from edgeprune.latency.model import NetworkPrediction
from edgeprune.latency.store import Profile, ProfileStore
from edgeprune.models.loading import LoadedModel
from edgeprune.profiling.estimated import estimated_of
from edgeprune.profiling.fingerprint import fingerprint_of
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.progress import Progress
from edgeprune.targets import Target
from edgeprune.training.data import DataSet
from edgeprune.training.tasks.task import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Arguments that say which network is planned, for which board, by which profile and objective."""

    model: Model
    target: str | Target
    device: str | Device | None
    data: Data
    task: TaskArgument
    pixels: str | None
    example_inputs: Inputs
    weights: Where
    input_shape: Shape
    example: Where
    seed: int
    threads: int
    points: int
    step: int | None
    blocks: bool
    densities: tuple[int, ...]
    tune: int
    store: Where
    allow_mismatch: bool
    criterion: str
    objective: str
    rule: str | None = None
    sparsity: str = ""

    def open(self) -> Opened:
        """The network and the data; nothing of the board yet.

        Raises:
            UsageError, ModelLoadError, TargetError: what was asked for makes no sense.
        """
        check_objective(self.objective, has_data=self.data is not None)
        criterion(self.criterion)
        check_rule(self.rule or "", has_data=self.data is not None)
        task, kind = open_task(self.task), open_target(self.target)
        loaded, record = open_model(
            self.model, self.example_inputs, self.weights, self.input_shape, self.example, self.seed
        )
        data = open_data(self.data, self.seed, task=task, inputs=loaded.example_inputs, pixels=self.pixels)
        return Opened(self, kind, loaded, record, task, data)


@dataclass(frozen=True, slots=True)
class Opened:
    """A question with its network and data at hand."""

    question: Question
    target: Target
    loaded: LoadedModel
    record: RunRecord | None
    task: Task | None
    data: DataSet | None

    @contextmanager
    def planning(
        self,
        *,
        ram_limited: bool,
        solver: str,
        effort: Effort = UNLIMITED,
        progress: bool | Progress | None,
    ) -> Iterator[Planning]:
        """The planner, by the profile of the board in the store; the board is asked which one it is.

        Raises:
            ProfileError, ProfileMismatchError: the store does not cover the network on this device.
            UsageError: the criterion needs data, and there are none.
        """
        asked, data, task = self.question, self.data, self.task
        check_densities(asked.densities, self.target)
        network = read_network(self.loaded.module, self.loaded.example_inputs, self.loaded.interface)
        with reporting(progress) as bar, self._profile(network, bar) as profile:
            if asked.blocks:
                network = with_removable(network, bar)
            own = [n.spec for n in network.kernels.nodes]
            book = ScheduleBook(self.target, profile.records())
            becomes = expected(asked.sparsity)
            stored = PlannedStorage(network, book, ram_limited=ram_limited)
            storage = PlannedStorage(network, book, ram_limited=ram_limited, becomes=becomes) if becomes else stored
            now = estimated_of(profile, self.target, own).storing(stored.stored_share)
            tables, dense = now.storing(storage.stored_share), now.network(own)
            ram = PlannedRam(network, book, limited=ram_limited, storage=storage)
            bar.stage("linking an empty program")
            program_bytes = empty_bytes(network.kernels, self.target, book)
            dense_flash_bytes = FlashModel(ram.memory, now, program_bytes).bytes({})
            flash = FlashModel(ram.memory, tables, program_bytes)
            if data is not None:
                data, task, _ = prepared(network, data, task, bar)
            options = ProfileOptions(
                threads=asked.threads, points=asked.points, step=asked.step, tune=asked.tune, blocks=asked.blocks
            )
            levels = options.levels(network.channels, self.target)
            saliency = saliency_of(
                network,
                levels,
                criterion=asked.criterion,
                objective=asked.objective,
                data=data,
                task=task,
                seed=asked.seed,
                progress=bar,
            )
            if asked.rule:
                levels = capped(levels, ruled(asked.rule, network, saliency.scores, data, task))
            planner = Planner(
                network,
                saliency,
                tables,
                levels,
                solver=solver,
                criterion_name=asked.criterion,
                rule_name=asked.rule or "",
                program_bytes=dense_flash_bytes - dense.flash_bytes,
                ram=ram,
                flash=flash,
                densities=densities_of(
                    network,
                    asked.densities,
                    saliency.curves,
                    levels,
                    tables,
                    ranking_of(asked.criterion, network, data, task),
                ),
                effort=effort,
                progress=bar,
            )
            yield Planning(network, planner, saliency, ram, dense, dense_flash_bytes, tables.evidence, bar, data, task)

    @contextmanager
    def _profile(self, network: Network, progress: Progress) -> Iterator[Profile]:
        """The profile of the board in the store. Where no board is named and the store has none of the target, one that
        edgeprune ships, if there is one; the board is not asked then.
        """
        asked, path = self.question, store_path(self.question.store)
        if asked.device is None and not knows(path, self.target):
            with shipped_for(network, self.target, asked.threads) as shipped:
                if shipped is not None:
                    progress.note(f"planned by the profile that edgeprune ships for {self.target.name}")
                    yield shipped
                    return
        with board_of(asked.device, self.target) as board, ProfileStore(path) as store:
            fingerprint = fingerprint_of(self.target, board.describe(), asked.threads, network.kernels)
            yield store.find(fingerprint, allow_mismatch=asked.allow_mismatch)


@dataclass(frozen=True, slots=True)
class Planning:
    """What plans are made with.

    Attributes:
        dense: what the tables predict of the dense network; ``dense_flash_bytes``: of its program's file.
        evidence: of predicted figures.
        data, task: as the network takes them.
    """

    network: Network
    planner: Planner
    saliency: Saliency
    ram: PlannedRam
    dense: NetworkPrediction
    dense_flash_bytes: float
    evidence: str
    progress: Progress
    data: DataSet | None
    task: Task | None
