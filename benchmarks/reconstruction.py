"""What least squares win back without labels and without training.

    python benchmarks/reconstruction.py [--criterion l2 taylor …] [--latency 55%] [--seeds 0] [--folder F] [--json]

A residual network is trained on pairs of overlapping handwritten digits (``digit_pairs.py``, 100 classes), profiled on
this computer, and pruned with each criterion to a share of its latency as the profile predicts it. Told is the accuracy
on 16,000 test images, computed by torch, of the pruned network as it is, after each recovery that needs no training,
and what of the loss was won back, over the better of ``none`` and ``recalibrate``. The bar is half of it, for ``l2``
and ``taylor`` together.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

# Before torch is imported: threads that wait asleep, beside whatever else runs here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from bars import bar, told
from contest import Contest, Folder, Settings, load_images, note

import edgeprune
from edgeprune.training.evaluate import accuracy
from edgeprune.training.halves import Arrays

RECOVERIES = ("none", "recalibrate", "reconstruct", "reconstruct+recalibrate")
CRITERIA = [
    "random",
    "l2",
    "geometric_median",
    "taylor",
    "hessian_diagonal",
    "hessian_product",
    "reconstruction",
    "activation",
]
JUDGED, WON_BACK = ("l2", "taylor"), 0.5


def measured(contest: Contest, seed: int, criteria: list[str], latency: str, home: Path) -> list[dict[str, Any]]:
    """A row for each criterion."""
    module, data = contest.dense(seed), contest.data
    assert isinstance(data.test, Arrays)
    test = (data.test.x, data.test.y)
    shared: dict[str, Any] = {"example_inputs": (torch.zeros(data.input_shape),), "device": "local:"}
    shared |= {"store": home / "profile.sqlite3", "points": 6, "tune": 1}
    edgeprune.profile(module, sampled=True, **shared)
    dense, rows = accuracy(module, *test), []
    for criterion in criteria:
        found: dict[str, float] = {}
        for recover in RECOVERIES:
            with tempfile.TemporaryDirectory(prefix="edgeprune-reconstruction-") as out:
                asked: dict[str, Any] = {"criterion": criterion, "recover": recover, "data": data, "out": f"{out}/run"}
                pruned = edgeprune.prune(module, latency=latency, **asked, **shared)
                found[recover] = accuracy(pruned.module, *test)
        row: dict[str, Any] = {
            "seed": seed,
            "criterion": criterion,
            "dense": dense,
            "share": pruned.latency_ms / pruned.dense_ms,
        }
        left = max(found["none"], found["recalibrate"])
        rows.append({**row, **found, "lost": dense - left, "won": found["reconstruct"] - left})
        said = ", ".join(f"{name} {found[name]:.4f}" for name in RECOVERIES)
        note(f"{criterion}: dense {dense:.4f}; {said}; {rows[-1]['won'] / rows[-1]['lost']:.0%} won back")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--criterion", nargs="+", default=CRITERIA)
    parser.add_argument("--latency", default="55%")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--folder", type=Path, help="where data and trained networks are kept")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    settings, rows = Settings(), []
    with tempfile.TemporaryDirectory(prefix="edgeprune-reconstruction-") as temporary:
        home = given.folder or Path(temporary)
        data = load_images("digits", home, home / "fonts", settings)
        contest = Contest(data, Folder(home, settings), settings)
        for seed in given.seeds:
            rows += measured(contest, seed, given.criterion, given.latency, home)
    judged = [row for row in rows if row["criterion"] in JUDGED]
    bars = []
    if judged:
        share = sum(row["won"] for row in judged) / sum(row["lost"] for row in judged)
        bars.append(bar("of the accuracy lost, won back by least squares", share, WON_BACK, share >= WON_BACK))
    return told("edgeprune.benchmark-reconstruction/1", {"rows": rows}, bars, given.json)


if __name__ == "__main__":
    sys.exit(main())
