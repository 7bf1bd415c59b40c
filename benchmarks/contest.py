"""One data set of ``accuracy.py``: dense networks, plans at equal latency, recovered networks, each a file."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import digit_pairs
import glyphs
import numpy as np
import torch
from equal_latency import Meter, levelled, telling
from rivals import Candidate, MacsRanking, Method, Recipe, Solver, TorchPruning, Widths, Workpiece, has_torch_pruning
from safetensors.torch import load_file, save_file
from torch import nn

from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import Problem
from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.deploy.trials import on_trial
from edgeprune.devices.local.device import LocalDevice
from edgeprune.errors import InfeasibleBudgetError
from edgeprune.files import write_whole
from edgeprune.fitting.objective import saliency_of
from edgeprune.fitting.planner import Planner, calibration
from edgeprune.graph.network import Network, read_network
from edgeprune.importance.curves import IMPORTANCE
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.records import KernelRecord
from edgeprune.latency.store import ProfileStore
from edgeprune.models.zoo.layers import conv_bn
from edgeprune.models.zoo.resnet import BasicBlock, ResNet
from edgeprune.profiling.profile import ProfileOptions, profile
from edgeprune.targets import Target, load_target
from edgeprune.training.augment import shifts
from edgeprune.training.data import DataSet
from edgeprune.training.evaluate import accuracy
from edgeprune.training.finetune import train
from edgeprune.training.halves import Arrays
from edgeprune.training.recalibrate import recalibrate
from edgeprune.training.tasks.classification import classification

DATA = ("glyphs", "digits")
OWN, ALIKE, RIVALS = "exact", "exact-importance", ("uniform", "greedy", "knapsack")
"""edgeprune with its own objective; its solver with that of the rivals, which are solvers as well."""
TORCH_PRUNING = {
    "tp-magnitude": (False, None),
    "tp-magnitude-8": (False, 8),
    "tp-taylor": (True, None),
    "tp-taylor-8": (True, 8),
}
"""Name -> by gradients, round_to."""
TRAINED = (OWN, ALIKE, *RIVALS, *TORCH_PRUNING)
BY_SALIENCY = (ALIKE, *RIVALS, "macs")

BATCH, SHIFT = 64, 2
WATCHED = 256
"""Test images that an epoch of training is watched with; results are of all."""
SEED_OF_IMAGES = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """What has to be equal for results to be compared; the folder keeps it.

    Attributes:
        criterion, objective: of ``exact``: which channels of a group go first, and what widths are worth.
        rivals: the criterion of the other methods that read saliency; widths are worth its sum to them, as in their
            papers.
        classes: of the glyphs.
        pairs: images of digits in the training half and in the test half.
        widths, depth: of the stages of the network, and its blocks in each.
        epochs, recovery: of the dense network and of a pruned one; the peaks of their rates.
        points: most widths that are timed for a group.
    """

    criterion: str = "l2"
    objective: str = "loss"
    rivals: str = "taylor"
    classes: int = 500
    pairs: tuple[int, int] = digit_pairs.SAMPLES
    widths: tuple[int, ...] = (24, 48, 96)
    depth: int = 2
    epochs: int = 10
    lr: float = 0.1
    recovery: int = 2
    recovery_lr: float = 0.05
    points: int = 12


QUICK = Settings(classes=20, pairs=(2_000, 500), widths=(16, 32, 32), depth=1, epochs=2, recovery=1, points=4)


class Folder:
    """The files of a run."""

    def __init__(self, path: Path, settings: Settings | None = None) -> None:
        """Raises SystemExit if it holds results of other settings."""
        self.path = path
        if settings is not None:
            said = json.loads(json.dumps(asdict(settings)))
            if self.once("settings", lambda: said) != said:
                raise SystemExit(f"{path} holds results of other settings; give another --folder, or those settings")

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """The JSON of a part that is finished, or made now."""
        if (found := self.read(name)) is None:
            found = make()
            self.write(name, found)
        return found

    def read(self, name: str) -> Any:
        file = self.path / f"{name}.json"
        return json.loads(file.read_text()) if file.exists() else None

    def write(self, name: str, said: Any) -> None:
        file = self.path / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, json.dumps(said, indent=1))


def note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def cell_name(data: str, seed: int, recipe: Recipe) -> str:
    """Of a recovered network; methods and budgets that make the same one share it."""
    return f"{data}/cell-{seed}-{digest_of(recipe)}"


def plans_name(data: str, seed: int, budget: int) -> str:
    return f"{data}/plans-{seed}-{budget}"


def digest_of(recipe: Recipe) -> str:
    """Tells networks of one workpiece apart."""
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def load_images(name: str, folder: Path, fonts: Path, settings: Settings) -> DataSet:
    """A data set, drawn once for the folder; images have mean 0 and deviation 1 over the training half."""
    file = folder / name / "images.npz"
    if not file.exists():
        note(f"drawing {name}")
        file.parent.mkdir(parents=True, exist_ok=True)
        images = (
            glyphs.drawn(fonts, settings.classes, seed=SEED_OF_IMAGES)
            if name == "glyphs"
            else digit_pairs.composed(settings.pairs, seed=SEED_OF_IMAGES)
        )
        unfinished = file.with_suffix(".unfinished.npz")
        np.savez_compressed(unfinished, **asdict(images))
        unfinished.rename(file)
    with np.load(file) as arrays:
        x, y = ({half: torch.from_numpy(arrays[f"{k}_{half}"]) for half in ("train", "test")} for k in "xy")
    floats = {half: pixels.float() / 255 for half, pixels in x.items()}
    mean, deviation = floats["train"].mean(), floats["train"].std()
    train_half, test_half = (Arrays((floats[half] - mean) / deviation, y[half]) for half in ("train", "test"))
    return DataSet(train_half, test_half, name)


def residual_network(classes: int, settings: Settings, seed: int) -> nn.Module:
    """A ResNet for one grey channel of 32 x 32, which its stem halves."""
    widths = settings.widths
    stages = [(width, settings.depth, 1 if i == 0 else 2) for i, width in enumerate(widths)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet(conv_bn(1, widths[0], 3, stride=2), widths[0], BasicBlock, stages, classes).eval()


class Contest:
    """Methods against each other on one data set; what is finished is read from the folder."""

    def __init__(self, data: DataSet, folder: Folder, settings: Settings) -> None:
        self.data, self.folder, self.settings = data, folder, settings
        self.home = folder.path / data.name

    def run(self, seed: int, budgets: Sequence[int], only: Sequence[str]) -> None:
        """Everything of one seed that is not finished: the dense network, plans, recoveries."""
        dense = self.dense(seed)
        batches = [(b.inputs, b.targets) for b in calibration(self.data)]
        workpiece = Workpiece(read_network(dense, (torch.zeros(self.data.input_shape),)), batches)
        unplanned = [b for b in budgets if self.folder.read(plans_name(self.data.name, seed, b)) is None]
        if unplanned:
            self.plan(workpiece, seed, unplanned)
        for budget in budgets:
            offered = self.folder.read(plans_name(self.data.name, seed, budget))["measured"]
            for method, plans in ((m, offered.get(m, ())) for m in only):
                for plan in (plans[i] for i in telling([p["used"] for p in plans])):
                    said = f"{self.data.name} {seed}, {budget} %, {method} ({plan['used']:.3f})"
                    self._cell(workpiece, seed, plan["recipe"], said)

    def _cell(self, workpiece: Workpiece, seed: int, recipe: Recipe, said: str) -> None:
        """A network recovered, unless that very one was."""
        name = cell_name(self.data.name, seed, recipe)
        found = self.folder.once(name, lambda: self._recovered(workpiece.make(recipe), seed))
        note(f"{said}: {found['before']:.4f}, recovered {found['accuracy']:.4f}")

    def dense(self, seed: int) -> nn.Module:
        """The trained network of a seed."""
        module, settings = self.network(seed), self.settings
        weights = self.home / f"dense-{seed}.safetensors"

        def make() -> dict[str, float]:
            note(f"{self.data.name}: training the dense network of seed {seed}")
            found = self._trained(module, epochs=settings.epochs, lr=settings.lr, seed=seed)
            weights.parent.mkdir(parents=True, exist_ok=True)
            save_file({k: v.contiguous() for k, v in module.state_dict().items()}, weights)
            return found

        said = self.folder.once(f"{self.data.name}/dense-{seed}", make)
        note(f"{self.data.name} {seed}, dense: {said['accuracy']:.4f}")
        module.load_state_dict(load_file(weights))
        return module.eval()

    def network(self, seed: int) -> nn.Module:
        """The network before it is trained."""
        return residual_network(self.data.classes, self.settings, seed)

    def _recovered(self, small: Network, seed: int) -> dict[str, float]:
        recalibrate(small.module, (batch.inputs for batch in calibration(self.data)))
        before = accuracy(small.module, *self._test)
        found = self._trained(small.module, epochs=self.settings.recovery, lr=self.settings.recovery_lr, seed=seed)
        macs = sum(n.spec.macs for n in small.kernels.nodes)
        return {"before": before, **found, "macs": macs}

    def _trained(self, module: nn.Module, *, epochs: int, lr: float, seed: int) -> dict[str, float]:
        """Train a network, dense or pruned alike."""
        began, test = time.monotonic(), self._test
        watched = replace(self.data, test=Arrays(test.x[:WATCHED], test.y[:WATCHED]))
        train(module, watched, epochs=epochs, lr=lr, batch_size=BATCH, seed=seed, augment=shifts(SHIFT))
        return {
            "accuracy": accuracy(module, *test),
            "parameters": sum(p.numel() for p in module.parameters()),
            "seconds": time.monotonic() - began,
        }

    @property
    def _test(self) -> Arrays:
        assert isinstance(self.data.test, Arrays)
        return self.data.test

    def plan(self, workpiece: Workpiece, seed: int, budgets: Sequence[int]) -> None:
        """What all methods offer for each budget: at the same predicted latency, and at the same measured one."""
        network, target, name = workpiece.network, load_target("host"), self.data.name
        device = LocalDevice(self.folder.path / "device")
        levels, records = self._profiled(network, target, device)
        book = ScheduleBook(target, records)

        def compiled(small: Network, out: Path) -> object:
            return compile_network(small, target, out, book=book, name=name)

        alike, methods, dense_ms = self.methods(workpiece, LatencyModel(records), levels, target.width_step)
        dense = self.home / "bundles" / "dense"
        if not (dense / "manifest.json").exists():
            compiled(network, dense)
        for share, budget in ((b / 100, b) for b in budgets):
            note(f"{name} {seed}, {budget} %: to the same latency")
            with on_trial(device) as trials:
                meter = Meter(trials, compiled, dense, self.home / "bundles", self.home / "latencies.json")
                found = levelled(methods, workpiece, share, dense_ms, meter, note)
            said = {
                "predicted": {m: saliency(method, share * dense_ms) for m, method in alike.items()},
                "measured": {
                    m: [{"used": t.used(share), **asdict(t.candidate)} for t in ts] for m, ts in found.items()
                },
            }
            self.folder.write(plans_name(name, seed, budget), said)

    def _profiled(
        self, network: Network, target: Target, device: LocalDevice
    ) -> tuple[Mapping[str, Widths], Sequence[KernelRecord]]:
        """Widths that groups are offered, and what was measured of kernels at them."""
        options = ProfileOptions(points=self.settings.points, tune=2)
        note(f"{self.data.name}: kernels")
        with ProfileStore(self.folder.path / "profile.sqlite3") as store:
            found = profile(network.kernels, network.channels, target, device, store, options)
            note(f"{self.data.name}: {found.measured} kernels measured, {found.reused} known")
            return found.levels, list(found.profile.records())

    def methods(
        self, workpiece: Workpiece, model: LatencyModel, levels: Mapping[str, Widths], step: int
    ) -> tuple[dict[str, Method], dict[str, Method], float]:
        """Methods of one objective that choose among the widths that were timed, for equal predictions; all of them,
        for equal measurements, where those that would leap over a target may choose other widths; the dense ms.
        """
        network, settings = workpiece.network, self.settings
        own, theirs = (settings.criterion, settings.objective), (settings.rivals, IMPORTANCE)
        worth = {
            (criterion, objective): saliency_of(
                network, levels, criterion=criterion, objective=objective, data=self.data, task=classification()
            )
            for criterion, objective in dict.fromkeys((own, theirs))
        }
        summed, given = worth[theirs], dict.fromkeys(BY_SALIENCY, theirs) | {OWN: own}
        planners = {
            method: Planner(
                network,
                worth[given[method]],
                model,
                levels,
                solver=method if method in RIVALS else OWN,
                criterion_name=given[method][0],
                step=step,
            )
            for method in (OWN, ALIKE, *RIVALS)
        }
        problem = planners[OWN].problem
        alike: dict[str, Method] = {m: Solver(network, planners[m]) for m in (ALIKE, *RIVALS)}
        alike["macs"] = MacsRanking(network, problem, summed, levels=True)
        methods = {
            OWN: Solver(network, planners[OWN]),
            **alike,
            "uniform": Solver(network, planners["uniform"], finer=True),
            "macs": MacsRanking(network, problem, summed),
        }
        predict = predictor(network, problem)
        if has_torch_pruning():
            for rival, (taylor, round_to) in TORCH_PRUNING.items():
                methods[rival] = TorchPruning(workpiece, predict, taylor=taylor, round_to=round_to)
        return alike, methods, predict(tuple(g.size for g in network.channels.groups))


def saliency(method: Method, aim_ms: float) -> float | None:
    """What a method keeps at a predicted latency; None if it has no such network."""
    try:
        found: Candidate = method.propose(aim_ms)
    except InfeasibleBudgetError:
        return None
    return found.saliency


def predictor(network: Network, problem: Problem) -> Callable[[Widths], float]:
    """Table milliseconds of the widths of all groups, those between the timed ones interpolated."""
    evaluator = Evaluator(problem)
    index: Mapping[str, int] = {g.name: i for i, g in enumerate(network.channels.groups)}
    places = [index[c.name] for c in problem.choices]
    return lambda widths: evaluator.latency_ms([widths[i] for i in places])
