"""Every criterion at equal measured latency, before and after equal recovery; and least squares without labels.

    python benchmarks/methods.py --folder runs/methods [--network residual separable] [--seeds 0 1 2] [--budget 55]
                                 [--criterion l2 …] [--family classifier language generator] [--quick] [--report]
                                 [--json]

Data are pairs of overlapping handwritten digits (``digit_pairs.py``), 100 classes. For each seed a residual network and
one of depthwise-separable blocks are trained. For every criterion ``exact`` prunes each to 55 % of its latency as
measured on this computer, in a race of all criteria (``equal_latency.py``). Of the pruned network, the accuracy of the
compiled program is told

* ``bare``: as it is;
* ``recalibrated``: with the statistics of batch norms measured anew;
* ``reconstructed``: layers re-solved by least squares; no labels, no training;
* ``tuned``: recalibrated, then trained for the epochs of ``--recovery``;
* ``both``: reconstructed, and trained alike.

A criterion that is not better than ``random`` (beyond the 95 % interval of their difference in pairs over seeds, where
there are several) is marked. The bar: of the accuracy that pruning loses, measured after recalibration alone where that
loses less, least squares win back at least half (``l2`` and ``taylor``, mean of networks and seeds).

Three families of networks are pruned hard besides, with bars of their own (``families.py``).

Each finished part is a file in the folder: an interrupted run goes on, and ``--report`` shows what there is.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

# Before torch is imported: threads that wait asleep, beside whatever else runs here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import families
import numpy as np
import torch
from bars import bar, told
from contest import QUICK, Contest, Folder, Settings, digest_of, load_images, note, plans_name, residual_network
from equal_latency import spoken, telling
from outcomes import Estimate
from rivals import Method, Recipe, Solver, Widths, Workpiece
from torch import Tensor, nn

from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.library import load_bundle
from edgeprune.fitting.objective import saliency_of
from edgeprune.fitting.planner import Planner
from edgeprune.fitting.recover import Lesson, recover
from edgeprune.graph.network import Network, read_network
from edgeprune.importance.curves import IMPORTANCE
from edgeprune.importance.registry import CRITERIA
from edgeprune.latency.model import LatencyModel
from edgeprune.models.zoo.layers import conv_bn
from edgeprune.models.zoo.mobilenet_v2 import InvertedResidual
from edgeprune.pruning.plan import Plan
from edgeprune.targets import load_target
from edgeprune.training.augment import shifts
from edgeprune.training.data import DataSet
from edgeprune.training.finetune import train
from edgeprune.training.halves import Arrays
from edgeprune.training.tasks.classification import classification

SCHEMA = "edgeprune.benchmark-methods/1"
STATES = ("bare", "recalibrated", "reconstructed", "tuned", "both")
VARIANTS = ("activation:statistic=apoz", "hessian_diagonal:estimate=hutchinson", "hessian_product:form=row")
ASKED = (*CRITERIA, *VARIANTS)
LABEL_FREE, WON_BACK = ("l2", "taylor"), 0.5
TESTED = 4000
"""Test images that compiled programs are run on."""


class Separable(nn.Module):
    """MobileNetV2's blocks at the size of small images."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        shapes = ((24, 24, 1, 2), (24, 32, 2, 4), (32, 32, 1, 4), (32, 64, 2, 4), (64, 64, 1, 4), (64, 96, 1, 4))
        self.stem = conv_bn(1, 24, 3, stride=2, activation=nn.ReLU6)
        self.blocks = nn.Sequential(*(InvertedResidual(i, o, stride, t) for i, o, stride, t in shapes))
        self.last, self.head = conv_bn(96, 256, activation=nn.ReLU6), nn.Linear(256, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.last(self.blocks(self.stem(x))).mean((2, 3)))
        return logits


NETWORKS = ("residual", "separable")


class Criteria(Contest):
    """One network, pruned by each criterion."""

    def __init__(self, network: str, data: DataSet, folder: Folder, settings: Settings, asked: Sequence[str]) -> None:
        super().__init__(replace(data, name=network), folder, settings)
        self._kind, self._asked = network, asked

    def network(self, seed: int) -> nn.Module:
        if self._kind == "residual":
            return residual_network(self.data.classes, self.settings, seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return Separable(self.data.classes).eval()

    def compare(self, seed: int, budget: int) -> None:
        """Everything of one seed that is not finished."""
        dense = self.dense(seed)
        workpiece = Workpiece(read_network(dense, (torch.zeros(self.data.input_shape),)), ())
        self.folder.once(f"{self._kind}/program-{seed}", lambda: self._by_program(workpiece.network))
        if self.folder.read(plans_name(self._kind, seed, budget)) is None:
            self.plan(workpiece, seed, [budget])
        offered = self.folder.read(plans_name(self._kind, seed, budget))["measured"]
        if missing := [name for name in self._asked if name not in offered]:
            raise SystemExit(f"plans of {self._kind} lack {', '.join(missing)}: remove them, or give another --folder")
        for name in self._asked:
            for plan in telling_plans(offered[name]):
                recipe: Recipe = plan["recipe"]
                made = partial(self._recovered_each, workpiece, recipe, seed)
                found = self.folder.once(cell(self._kind, seed, recipe), made)
                said = ", ".join(f"{state} {found[state]:.4f}" for state in STATES)
                note(f"{self._kind} {seed}, {budget} %, {name} ({plan['used']:.3f}): {said}")

    def methods(
        self, workpiece: Workpiece, model: LatencyModel, levels: Mapping[str, Widths], step: int
    ) -> tuple[dict[str, Method], dict[str, Method], float]:
        network, methods, dense_ms = workpiece.network, dict[str, Method](), 0.0
        for name in self._asked:
            note(f"{self._kind}: scores by {name}")
            worth = saliency_of(
                network, levels, criterion=name, objective=IMPORTANCE, data=self.data, task=classification()
            )
            planner = Planner(network, worth, model, levels, solver="exact", criterion_name=name, step=step)
            methods[name] = Solver(network, planner)
            dense_ms = model.network(n.spec for n in network.kernels.nodes).latency_ms
        return {}, methods, dense_ms

    def _recovered_each(self, workpiece: Workpiece, recipe: Recipe, seed: int) -> dict[str, float]:
        plan, small = Plan.from_json(dict(recipe["plan"])), workpiece.make(recipe)
        found = {"bare": self._by_program(small)}
        for name, chain in (("recalibrated", "recalibrate"), ("reconstructed", "reconstruct")):
            one = replace(small, module=copy.deepcopy(small.module))
            recover(Lesson(one, workpiece.network, plan, self.data, classification()), chain)
            found[name] = self._by_program(one)
            self._tuned(one.module, seed)
            found["tuned" if name == "recalibrated" else "both"] = self._by_program(one)
        return found

    def _tuned(self, module: nn.Module, seed: int) -> None:
        settings = self.settings
        train(
            module,
            self.data,
            epochs=settings.recovery,
            lr=settings.recovery_lr,
            batch_size=64,
            seed=seed,
            augment=shifts(2),
        )

    def _by_program(self, network: Network) -> float:
        """Accuracy of the compiled network."""
        test = self.data.test
        assert isinstance(test, Arrays)
        with tempfile.TemporaryDirectory(prefix="edgeprune-methods-") as here:
            compile_network(network, load_target("host"), Path(here) / "bundle", name=self._kind)
            with load_bundle(Path(here) / "bundle") as program:
                x, y = test.x[:TESTED].numpy(), test.y[:TESTED].numpy()
                right = [int(np.argmax(program(image[None])[0])) == label for image, label in zip(x, y, strict=True)]
        return fmean(right)


def cell(network: str, seed: int, recipe: Recipe) -> str:
    """Of a recovered network; criteria that make the same one share it."""
    return f"{network}/methods-{seed}-{digest_of(recipe)}"


def telling_plans(offered: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [offered[i] for i in telling([p["used"] for p in offered])]


def at_the_budget(folder: Folder, network: str, seed: int, budget: int, criterion: str) -> dict[str, float] | None:
    """Accuracies of a criterion at the target: of the network inside the window, or between two. None if not known."""
    plans = (folder.read(plans_name(network, seed, budget)) or {"measured": {}})["measured"].get(criterion, ())
    told = telling_plans(plans)
    found = [folder.read(cell(network, seed, p["recipe"])) for p in told]
    if not told or None in found:
        return None
    used = [p["used"] for p in told]
    return {state: spoken(used, [f[state] for f in found]) for state in STATES} | {"used": fmean(used)}


def rows_of(
    folder: Folder, networks: Sequence[str], seeds: Sequence[int], budget: int, asked: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for each network and criterion of which something is known."""
    rows = []
    for network in networks:
        dense = {s: folder.read(f"{network}/program-{s}") for s in seeds}
        control = {s: at_the_budget(folder, network, s, budget, "random") for s in seeds}
        for name in asked:
            known = {s: at_the_budget(folder, network, s, budget, name) for s in seeds}
            found = {s: said for s, said in known.items() if said is not None}
            if not found:
                continue
            row: dict[str, Any] = {"network": network, "criterion": name, "seeds": [*found]}
            row |= {state: Estimate.of([f[state] for f in found.values()]).to_json() for state in STATES}
            row |= {"used": [f["used"] for f in found.values()], "dense": fmean(dense[s] for s in found)}
            pairs = [f["both"] - by["both"] for s, f in found.items() if (by := control[s]) is not None]
            if pairs and name != "random":
                over = Estimate.of(pairs)
                row |= {"over_random": over.to_json(), "beats_random": over.mean - (over.half or 0.0) > 0}
            left = {s: max(f["bare"], f["recalibrated"]) for s, f in found.items()}
            won = sum(f["reconstructed"] - left[s] for s, f in found.items())
            lost = sum(dense[s] - left[s] for s in found)
            row |= {"lost": lost, "won": won, "won_back": won / lost if lost > 0 else None}
            rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/methods"))
    parser.add_argument("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--budget", type=int, default=55)
    parser.add_argument("--criterion", nargs="+", default=list(ASKED))
    parser.add_argument("--family", nargs="*", choices=[*families.PARTS], default=[*families.PARTS])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--recovery", type=int, help="epochs after pruning")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report", action="store_true", help="compute nothing")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    of_settings = {f.name for f in fields(Settings)} - {"criterion"}
    asked = {name: v for name in of_settings if (v := getattr(given, name, None)) is not None}
    settings = replace(QUICK if given.quick else Settings(), **asked)
    folder = Folder(given.folder, None if given.report else settings)
    if not given.report:
        data = load_images("digits", given.folder, given.folder / "fonts", settings)
        for network in given.network:
            contest = Criteria(network, data, folder, settings, given.criterion)
            for seed in given.seeds:
                contest.compare(seed, given.budget)
    rows = rows_of(folder, given.network, given.seeds, given.budget, given.criterion)
    if not given.json:
        print(f"{'':10} {'criterion':38} {'dense':>7} " + " ".join(f"{s:>14}" for s in STATES) + "  won back")
        for row in rows:
            marked = "" if row.get("beats_random", True) else "  not better than random"
            said = " ".join(f"{row[s]['mean']:14.4f}" for s in STATES)
            name = f"{row['network']:10} {row['criterion']:38}"
            back = "" if row["won_back"] is None else f"{row['won_back']:7.0%}"
            print(f"{name} {row['dense']:7.4f} {said}  {back:7}{marked}")
    free = [row for row in rows if row["criterion"] in LABEL_FREE]
    bars = []
    if free:
        share = sum(row["won"] for row in free) / max(sum(row["lost"] for row in free), 1e-9)
        bars.append(bar("of the accuracy lost, won back by least squares", share, WON_BACK, share >= WON_BACK))
    hard = families.known(given.family, given.seeds, Folder(given.folder / "families"), report=given.report)
    bars += families.bars_of(hard)
    return told(SCHEMA, {"rows": rows, "families": hard}, bars, given.json)


if __name__ == "__main__":
    sys.exit(main())
