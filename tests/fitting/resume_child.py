"""Fits that are killed at random moments and gone on with: one JSON line for each, about what came of it.

    resume_child.py FOLDER DEVICE MOMENTS SEED

This process imports all that a fit needs and then only forks: every fit begins at once, with nothing of another's.
DEVICE is ``fake:`` or ``local:``; each fit has a board of its own.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from edgeprune.budget.promise import Promise
from edgeprune.deploy.status import status
from edgeprune.devices.protocol import Device
from edgeprune.devices.registry import open_device
from edgeprune.fitting.fit import fit
from edgeprune.fitting.options import FitOptions
from edgeprune.fitting.run_folder import RunRecord
from edgeprune.latency.store import ProfileStore
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.pruning.widths import WIDTHS_FILE
from edgeprune.targets import load_target
from edgeprune.training.data import load_data

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))
from forks import in_a_fork

NET = Path(__file__).with_name("tiny_net.py")
OPTIONS = FitOptions(
    epochs=1, lr=0.1, batch_size=32, patience_s=8.0, profile=ProfileOptions(points=2, step=8, tune=1), baseline=True
)


def one(folder: Path, device: Device, resume: bool) -> None:
    real = device.url.startswith("local:")
    # Where time is time, a network of a part of a millisecond, far enough from its limit to be judged in a moment.
    record = RunRecord.of(
        "zoo:resnet8?width=2" if real else f"{NET}:net", input_shape=(1, 3, 32, 32) if real else (1, 3, 8, 8)
    )
    with ProfileStore(folder / "store.sqlite3") as store:
        fit(
            record.load(),
            load_target("host"),
            device,
            store,
            folder / "run",
            Promise.parse("60%"),
            data=None if real else load_data(f"{NET}:data"),
            options=replace(OPTIONS, criterion="l2", baseline=False, margin=0.1, fill=0.7) if real else OPTIONS,
            record=record,
            resume=resume,
        )


def facts(folder: Path, device: Device) -> dict[str, Any]:
    events = [json.loads(line) for line in (folder / "run" / "stages.jsonl").read_text().splitlines()]
    ended, twice = set[str](), []
    for event in events:
        if event["event"] == "began" and event["stage"] in ended:
            twice.append(event["stage"])
        if event["event"] == "ended":
            ended.add(event["stage"])
    plan = json.loads((folder / "run" / WIDTHS_FILE).read_text())["plan"]["keep"]
    stages = folder / "run" / "stages"
    trained = max(stages.glob("recovered-*/" + WIDTHS_FILE))
    installed = json.loads((stages / "installed.json").read_text())
    return {
        "plan": plan,
        "trained_plan": json.loads(trained.read_text())["plan"]["keep"],
        "twice": twice,
        "begun_again": [s for s, n in Counter(e["stage"] for e in events if e["event"] == "began").items() if n > 1],
        "current": status(device).current == installed["release"],
        "kept": all(v["outcome"] == "kept" for v in installed["verdicts"]),
        "left": [str(p.relative_to(folder)) for p in folder.rglob("*.partial*")],
    }


def main(folder: Path, scheme: str, moments: int, seed: int) -> None:
    def board(name: str) -> tuple[Path, Device]:
        (folder / name).mkdir(parents=True)
        return folder / name, open_device(f"{scheme}{folder / name / 'board'}")

    whole, device = board("whole")
    began = time.monotonic()
    assert in_a_fork(partial(one, whole, device, False)) == 0
    seconds = time.monotonic() - began
    print(json.dumps({"moment_s": None, "seconds": seconds, **facts(whole, device)}), flush=True)
    rng = random.Random(seed)
    for number in range(moments):
        for attempt in range(8):
            here, device = board(f"killed-{number}-{attempt}")
            moment, began = rng.uniform(0, seconds), time.monotonic()
            killed = in_a_fork(partial(one, here, device, False), moment)
            if killed:
                break
            # It was done before: the first one had kernels to build, whose objects all others find.
            seconds = time.monotonic() - began
        had = sorted(p.stem for p in (here / "run" / "stages").glob("*.json")) if (here / "run").exists() else []
        resumable = "request" in had
        again = in_a_fork(partial(one, here, device, resumable))
        found = facts(here, device) if again == 0 else {}
        print(json.dumps({"moment_s": moment, "killed": killed != 0, "had": had, "again": again, **found}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
