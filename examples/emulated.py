"""The main job on boards nobody has to own: ``make emulated``.

A residual network is trained, profiled on ``emulated:a53`` over its serial console, pruned there to half of
its latency, installed beside the dense one, compared with torch and rolled back. Then the board is switched
on a second time and both networks are timed again; and both go to ``emulated:rpi3`` over its console.

The a53's clock counts instructions as nanoseconds, the rpi3's means nothing (docs/EMULATED.md). Exits 0 only if

- the installed network keeps its budget, and was predicted within 5 %;
- outputs of the boards are those of torch within 1e-4 of the largest;
- the second boot gives the same latencies within 0.1 %;
- after rolling back the dense network is current and gives its outputs, on both boards.

``--short`` does it with a quarter of the channels and few images, and without the rpi3: what the tests run.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mnist import mnist

from edgeprune.budget.promise import Limit, Promise
from edgeprune.compiler.compile import compile_network
from edgeprune.deploy.flash import flash
from edgeprune.deploy.installed import bench_installed, installed
from edgeprune.deploy.rollback import rollback
from edgeprune.deploy.standard import Standard
from edgeprune.deploy.status import status
from edgeprune.devices.emulator.images import prepare
from edgeprune.devices.protocol import Device
from edgeprune.devices.registry import open_device
from edgeprune.fitting.fit import fit
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.result import FitResult
from edgeprune.graph.network import Network, read_network
from edgeprune.latency.store import ProfileStore
from edgeprune.models.loading import LoadedModel, load_model
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.progress import Silent
from edgeprune.targets import load_target
from edgeprune.training.data import DataSet, check
from edgeprune.training.finetune import train

SIZE, SEED = 16, 0
BUDGET = 0.5
LARGEST_DIFFERENCE = 1e-4
LARGEST_ERROR = 0.05
LARGEST_CHANGE = 1e-3
COMPARED = 4
"""Images whose outputs are compared with torch's, beside the golden one."""
# The clock of emulated:rpi3 is that of this computer: no budget is held against it.
NO_BUDGET_MS = 1e9


@dataclass(frozen=True)
class Job:
    """How much of it: a long and a short form."""

    model: str
    boots_again: tuple[str, ...]  # networks that are timed again
    login: bool  # whether they go to a board with a login as well
    images: int  # the program on the board is tested on so many
    training: int
    epochs: int
    points: int
    rounds: int


LONG = Job(
    "zoo:resnet20?in_channels=1",
    boots_again=("dense", "pruned"),
    login=True,
    images=300,
    training=4000,
    epochs=2,
    points=4,
    rounds=3,
)
SHORT = replace(
    LONG,
    model="zoo:resnet8?in_channels=1&width=0.5",
    boots_again=("pruned",),
    login=False,
    images=20,
    training=200,
    epochs=1,
    points=2,
)


class Log(Silent):
    """What happens when, on stderr."""

    def __init__(self) -> None:
        self.began = time.monotonic()

    def stage(self, name: str, total: int | None = None) -> None:
        self.note(name)

    def note(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("runs/emulated"))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    job, log = SHORT if options.short else LONG, Log()
    prepare(progress=log)
    options.out.mkdir(parents=True, exist_ok=True)
    data = images_of(job)
    model = load_model(job.model, input_shape=(1, 1, SIZE, SIZE), seed=SEED)
    log.note("training the dense network")
    train(model.module, data, epochs=job.epochs, lr=0.05, batch_size=64, seed=SEED)
    network = read_network(model.module, model.example_inputs)
    report = {"a53": on_a53(job, model, network, data, options.out, log)}
    bundles = {"dense": options.out / "dense", "pruned": options.out / "run" / "bundle"}
    networks = {"dense": network, "pruned": report["a53"].pop("network")}
    report["again"] = again({name: bundles[name] for name in job.boots_again}, log)
    if job.login:
        report["rpi3"] = on_rpi3(bundles, networks, data, log)
    report["seconds"] = time.monotonic() - log.began
    report["failures"] = failures_of(report)
    if options.json:
        print(json.dumps(report, indent=1))
    else:
        show(report)
    for failure in report["failures"]:
        log.note(f"FAILED: {failure}")
    return 1 if report["failures"] else 0


def images_of(job: Job) -> DataSet:
    kept = {"train": job.training, "test": job.images}
    return check({key: value[: kept[key[2:]]] for key, value in mnist(SIZE).items()}, "mnist")


def on_a53(job: Job, model: LoadedModel, network: Network, data: DataSet, out: Path, log: Log) -> dict[str, Any]:
    """Profile, fit, flash, compare, roll back."""
    target = load_target("emulated_a53")
    compile_network(network, target, out / "dense", name="dense")
    store = out / "profiles.sqlite3"
    store.unlink(missing_ok=True)  # this is to be measured, not remembered
    with switched_on("emulated:a53", log) as board, ProfileStore(store) as opened:
        log.note("flashing the dense network")
        dense = flash(out / "dense", board)
        result = fit(
            model,
            target,
            board,
            opened,
            out / "run",
            Promise(Limit(BUDGET, relative=True)),
            data=data,
            options=FitOptions(
                epochs=job.epochs,
                rounds=job.rounds,
                baseline=False,
                seed=SEED,
                profile=ProfileOptions(points=job.points, tune=1),
            ),
            progress=log,
        )
        pruned = result.pruned.network
        log.note("comparing, rolling back")
        rows = {"pruned": difference(board, pruned, data)}
        back = rollback(board)
        rows["rolled back"] = difference(board, network, data)
        return {
            **figures_of(result),
            "difference": rows,
            "back": back.release == dense.release == status(board).current,
            "network": pruned,
        }


def figures_of(result: FitResult) -> dict[str, Any]:
    predicted, measured = result.plan.predicted["latency_ms"], result.pruned.latency_ms
    return {
        "evidence": result.evidence,
        "clock": result.info.clock,
        "budget_ms": result.budget.latency_ms,
        "predicted_ms": predicted,
        "error": (predicted - measured) / measured,
        "met": result.met,
        "rounds": [
            {"predicted_ms": r.proposal.latency_ms, "measured_ms": r.measured.judgement.latency_ms}
            for r in result.rounds
        ],
        "networks": {
            v.name: {
                "latency_ms": v.latency_ms,
                "accuracy": v.accuracy,
                "flash_bytes": v.manifest.memory.flash,
                "peak_ram_bytes": v.manifest.memory.peak_ram,
            }
            for v in (result.dense, result.pruned)
        },
    }


def again(bundles: dict[str, Path], log: Log) -> dict[str, float]:
    """Latencies on a board that was switched on anew."""
    found = {}
    with switched_on("emulated:a53", log) as board:
        for name, bundle in bundles.items():
            log.note(f"flashing and timing the {name} network again")
            flash(bundle, board)
            found[name] = bench_installed(board).median_ms
    return found


def on_rpi3(bundles: dict[str, Path], networks: dict[str, Network], data: DataSet, log: Log) -> dict[str, Any]:
    rows, releases = {}, {}
    with switched_on("emulated:rpi3", log) as board:
        for name, bundle in bundles.items():
            log.note(f"flashing the {name} network")
            releases[name] = flash(bundle, board, standard=Standard(Promise(Limit(NO_BUDGET_MS)))).release
            rows[name] = difference(board, networks[name], data)
        log.note("rolling back")
        back = rollback(board)
        rows["rolled back"] = difference(board, networks["dense"], data)
        return {"difference": rows, "back": back.release == releases["dense"] == status(board).current}


def difference(board: Device, network: Network, data: DataSet) -> float:
    """Of the installed program's outputs from torch's, over the largest of these."""
    x = data.test[0][:COMPARED]
    (raw,) = installed(board).run([np.ascontiguousarray(x.numpy()).tobytes()], len(x))
    with torch.no_grad():
        expected = network.module.eval()(x).numpy()
    actual = np.frombuffer(raw, np.float32).reshape(expected.shape)
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def boards_of(report: dict[str, Any]) -> list[str]:
    return [board for board in ("a53", "rpi3") if board in report]


def failures_of(report: dict[str, Any]) -> list[str]:
    a53, failures = report["a53"], []
    if not a53["met"]:
        failures.append("the budget is not kept")
    if abs(a53["error"]) > LARGEST_ERROR:
        failures.append(f"predicted and measured latency are {abs(a53['error']):.2%} apart")
    for name, ms in report["again"].items():
        change = abs(ms / a53["networks"][name]["latency_ms"] - 1)
        if change > LARGEST_CHANGE:
            failures.append(f"{name}: the second boot's latency is {change:.3%} apart")
    for board in boards_of(report):
        failures += [
            f"{board}: {name}: outputs are {apart:.2g} apart from torch's"
            for name, apart in report[board]["difference"].items()
            if not apart <= LARGEST_DIFFERENCE
        ]
        if not report[board]["back"]:
            failures.append(f"{board}: the dense network is not current again")
    return failures


def show(report: dict[str, Any]) -> None:
    a53 = report["a53"]
    print(f"emulated:a53 ({a53['evidence']}, instructions as nanoseconds)")
    print(
        f"{'network':12}{'predicted ms':>13}{'ms':>10}{'second boot':>13}{'accuracy':>10}{'flash kB':>10}{'RAM kB':>8}"
    )
    for name, v in a53["networks"].items():
        predicted = f"{a53['predicted_ms']:.4f}" if name == "pruned" else ""
        second = f"{report['again'][name]:.4f}" if name in report["again"] else ""
        print(
            f"{name:12}{predicted:>13}{v['latency_ms']:10.4f}{second:>13}{v['accuracy']:10.2%}"
            f"{v['flash_bytes'] / 1e3:10.0f}{v['peak_ram_bytes'] / 1e3:8.0f}"
        )
    print(f"budget {a53['budget_ms']:.4f} ms; predicted and measured are {abs(a53['error']):.2%} apart")
    for board in boards_of(report):
        apart = ", ".join(f"{name} {value:.1e}" for name, value in report[board]["difference"].items())
        print(f"emulated:{board}: outputs apart from torch's: {apart}")
    print(f"{report['seconds']:.0f} s in all")


@contextmanager
def switched_on(url: str, log: Log) -> Iterator[Device]:
    log.note(f"switching {url} on")
    with closing(open_device(url)) as board:
        yield board


if __name__ == "__main__":
    sys.exit(main())
