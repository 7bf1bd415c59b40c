"""How well fits use and keep their budgets: 4 networks at 80, 55 and 30 % of their latency, on this computer.

    python benchmarks/budget.py [--network resnet18 …] [--budget 80 …] [--size 112] [--json]

Nothing is trained. Each network is profiled once; each fit is then measured from outside: the installed program in
turns with the dense one, 151 times.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from bars import bar, told

from edgeprune.budget.promise import Limit, Promise
from edgeprune.deploy.timing import Turns
from edgeprune.deploy.trials import on_trial
from edgeprune.devices.local.device import LocalDevice
from edgeprune.errors import EdgepruneError
from edgeprune.fitting.fit import fit
from edgeprune.fitting.options import FitOptions
from edgeprune.latency.store import ProfileStore
from edgeprune.models.loading import load_model
from edgeprune.profiling.profile import ProfileOptions
from edgeprune.targets import load_target

NETWORKS = {
    "resnet20": (1, 3, 64, 64),
    "resnet18": (1, 3, 224, 224),
    "mobilenet_v2": (1, 3, 224, 224),
    "squeezenet": (1, 3, 224, 224),
}
"""At the sizes that they are made for. ResNet-18 on smaller images waits for its 47 MB of weights: on a computer whose
memory others use as well, the ratio of two of its programs moves by 5 % within minutes (``--size 112`` shows it)."""
BUDGETS = (80, 55, 30)
EMPTIEST, FULLEST = 0.95, 1.00
TURNS = 151
"""A network that waits for memory differs by 6 % between launches on a shared computer; this many know its median
within 1 %."""


def one(
    network: str, size: int | None, percent: int, folder: Path, store: ProfileStore, options: FitOptions
) -> dict[str, Any]:
    """One fit, and what the installed program takes beside the dense one, as a share of its budget."""
    device, out = LocalDevice(folder / "device"), folder / f"{network}-{percent}"
    promise = Promise(Limit(percent / 100, relative=True))
    began = time.monotonic()
    row: dict[str, Any] = {"network": network, "budget": percent}
    try:
        shape = NETWORKS[network] if size is None else (1, 3, size, size)
        model = load_model(f"zoo:{network}", input_shape=shape, seed=0)
        result = fit(model, load_target("host"), device, store, out, promise, options=options)
    except EdgepruneError as error:
        return {**row, "failed": error.message, "minutes": (time.monotonic() - began) / 60}
    minutes = (time.monotonic() - began) / 60
    with on_trial(device) as trials:
        turns = Turns(trials.installed(), trials.keep(out / "dense"))
        pairs = [turns() for _ in range(TURNS)]
    ratios = [median(t.samples_ms) / median(t.dense_ms) for t in pairs]
    halves = [median(half) for half in (ratios[: TURNS // 2], ratios[TURNS // 2 :])]
    verdict = result.verdicts[0]
    return {
        **row,
        "failed": None,
        "dense_ms": result.dense.latency_ms,
        "used": median(ratios) / (percent / 100),
        "drift": halves[1] / halves[0] - 1,
        "verdict": str(verdict.outcome),
        "verdict_used": verdict.share_of_limit,
        "margin": result.margin,
        "rounds": [v.share_of_limit for r in result.rounds if (v := r.measured.judgement.of("latency"))],
        "smaller_networks": sum(k.startswith("tighter") for k in result.history),
        "saliency": result.plan.predicted["saliency_retained"],
        "minutes": minutes,
        "evidence": result.evidence,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=NETWORKS)
    parser.add_argument("--budget", action="append", type=int)
    parser.add_argument("--size", type=int, help="of the images, instead of what each network is made for")
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    options = FitOptions(
        criterion="l2", epochs=0, baseline=False, profile=ProfileOptions(points=arguments.points, tune=1)
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder, ProfileStore(Path(folder) / "profiles.sqlite3") as store:
        for network in arguments.network or NETWORKS:
            for percent in arguments.budget or BUDGETS:
                rows.append(one(network, arguments.size, percent, Path(folder), store, options))
                if not arguments.json:
                    show(rows[-1])
    failed = sum(row["failed"] is not None for row in rows)
    inside = sum(row["failed"] is None and EMPTIEST <= row["used"] <= FULLEST for row in rows)
    bars = [
        bar("fits inside [0.95, 1.00] of their budget", inside, len(rows), inside == len(rows)),
        bar("fits that failed", failed, 0, failed == 0),
    ]
    return told("edgeprune.budget-benchmark/1", {"rows": rows}, bars, arguments.json)


def show(row: dict[str, Any]) -> None:
    if row["failed"] is not None:
        print(
            f"{row['network']:14} {row['budget']} %: FAILED after {row['minutes']:.1f} min: {row['failed']}", flush=True
        )
        return
    print(
        f"{row['network']:14} {row['budget']} % of {row['dense_ms']:7.3f} ms: {row['used']:.3f} of it used "
        f"({row['drift']:+.1%} from the first half of {TURNS} turns to the second; verdict {row['verdict_used']:.3f}), "
        f"rounds at {', '.join(f'{fill:.3f}' for fill in row['rounds'])}, {row['smaller_networks']} smaller ones, "
        f"{row['saliency']:.3f} of saliency, {row['minutes']:.1f} min, {row['evidence']}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
