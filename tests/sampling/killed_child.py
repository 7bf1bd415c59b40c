"""Sampled profiles that are killed at random moments and gone on with: one JSON line for each, about what came of it.

    killed_child.py FOLDER MOMENTS SEED

The first line is of a profile that nobody killed. This process imports all that a profile needs and then only forks.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import scipy.stats  # noqa: F401 (a profile imports it late)
import torch
from torch import nn

from edgeprune.devices.fake import FakeDevice
from edgeprune.graph.network import read_network
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.measure import TimingOptions
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.sampling.sampled import profiled
from edgeprune.targets import load_target

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))
from forks import in_a_fork
from idle_kernels import idle_kernels

OPTIONS = ProfileOptions(points=4, step=4, tune=2, sampled=True, timing=TimingOptions(warmup=0, repeats=2))


class Reports:
    """Progress that writes down for good how many kernels it is told are done."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "reported", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._of_kernels = False

    def stage(self, name: str, total: int | None = None) -> None:
        self._of_kernels = "kernels" in name

    def note(self, text: str) -> None: ...

    def advance(self, n: int = 1) -> None:
        if self._of_kernels:
            os.write(self._file, b"." * n)


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)).eval()


def one(folder: Path) -> None:
    traced = read_network(network(), (torch.zeros(1, 3, 8, 8),))
    with ProfileStore(folder / "p.sqlite3") as store:
        device = FakeDevice(folder / "board")
        done = profiled(traced, load_target("host"), device, store, OPTIONS, progress=Reports(folder))
    (folder / "measured").write_text(str(done.measured))


def stored(folder: Path) -> dict[str, Any]:
    """What the store holds by now, and how much of it was reported."""
    reported = (folder / "reported").stat().st_size if (folder / "reported").exists() else 0
    if not (folder / "p.sqlite3").exists():
        return {"reported": reported, "kernels": {}, "networks": {}}
    with ProfileStore(folder / "p.sqlite3") as store:
        profiles = store.profiles()
        kernels = {r.spec.key: r.median_ns for p in profiles for r in p.records()}
        networks = {n.key: n.latency_ns for p in profiles for n in p.networks()}
    return {"reported": reported, "kernels": kernels, "networks": networks}


def main(folder: Path, moments: int, seed: int) -> None:
    def place(name: str) -> Path:
        (folder / name).mkdir(parents=True)
        return folder / name

    # Twice: the first one has programs to link, whose sources' objects all others find.
    for name in ("built", "whole"):
        whole, began = place(name), time.monotonic()
        assert in_a_fork(partial(one, whole)) == 0
        seconds = time.monotonic() - began
    print(json.dumps({"measured": int((whole / "measured").read_text()), **stored(whole)}), flush=True)
    rng = random.Random(seed)
    for number in range(moments):
        here = place(f"killed-{number}")
        # Each in its own part of the time, so that few moments, too, are early and late ones.
        moment = 0.05 + 0.9 * (number + rng.random()) / moments
        killed = in_a_fork(partial(one, here), moment * seconds)
        before = stored(here)
        again = in_a_fork(partial(one, here))
        said = {"measured": int((here / "measured").read_text()), "after": stored(here)} if again == 0 else {}
        print(json.dumps({"killed": killed != 0, "again": again, "before": before, **said}), flush=True)


if __name__ == "__main__":
    with idle_kernels(Path(sys.argv[1]) / "home"):
        main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
