"""Accuracy at equal measured latency after equal recovery: ``exact`` against other methods, on two data sets.

    python benchmarks/accuracy.py --folder runs/accuracy [--data glyphs] [--seeds 0 1 2] [--budget 55 30]
                                  [--only exact …] [--quick] [--report] [--json]

Data: 500 Han characters in fonts that were not trained on (``glyphs.py``), and pairs of overlapping handwritten digits
(``digit_pairs.py``): the first has many classes that look alike, the second shows what people have written. On both,
networks of this size are wrong often enough to tell methods apart.

For each data set and seed a small residual network is trained. Every method prunes it to 55 and 30 % of its latency,
as measured on this computer: its knob is turned until its network, compiled by edgeprune with the schedules of one
profile, is within 1.5 % of that in a race with all others. A method that has no such network has both its nearest, the
faster and the slower one, recovered, and its accuracy at the target is interpolated, where these are within 10 % of the
target; one that leaps from further below to at most 15 % above is taken at the slower network, in its favour; nothing
is said of others. Each network is recovered alike: batch norms measured anew, the same epochs, rates, order of images
and shifts, labels alone.

Methods: ``exact`` with channels by ``--criterion`` and widths by ``--objective``, by default l2 and measured losses;
and with what the rivals have, the summed importance of channels by ``--rivals`` (``exact-importance``). The rivals are
``uniform`` (widths between the timed ones, too), ``greedy`` (in the manner of NetAdapt) and ``knapsack`` (of HALP);
Torch-Pruning's global magnitude and global Taylor, each with free widths and with multiples of 8 (``pip install
torch-pruning``, or the extra ``test``; where it is missing, so are its rows, which misses the bar). ``macs``, a ranking
by importance for each multiply-add, is compared by the importance that it keeps.

Each finished part is a file in the folder: an interrupted run goes on, parts can be run one by one, and ``--report``
shows what there is. ``--quick`` tries the whole chain in minutes, and proves nothing.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

# Before torch is imported: threads that wait asleep, beside whatever else runs here.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from bars import told
from contest import DATA, QUICK, TRAINED, Contest, Folder, Settings, load_images, note
from outcomes import Estimate, bars_of, cells, comparisons, saliencies, shown
from rivals import has_torch_pruning

from edgeprune.importance.curves import OBJECTIVES

BUDGETS, SEEDS = (55, 30), (0, 1, 2)
SCHEMA = "edgeprune.accuracy/1"


def settings_of(arguments: argparse.Namespace) -> Settings:
    given = {f.name: v for f in fields(Settings) if (v := getattr(arguments, f.name, None)) is not None}
    return replace(QUICK if arguments.quick else Settings(), **given)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path("runs/accuracy"))
    parser.add_argument(
        "--fonts", type=Path, help="where the fonts are, or are downloaded to; by default in the folder"
    )
    parser.add_argument("--data", nargs="+", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--budget", nargs="+", type=int, default=list(BUDGETS))
    parser.add_argument("--only", nargs="+", choices=TRAINED, default=list(TRAINED), help="methods to recover")
    parser.add_argument("--criterion", help="by which exact ranks the channels of a group")
    parser.add_argument("--rivals", help="criterion of the other methods that read saliency")
    parser.add_argument("--objective", choices=OBJECTIVES, help="what widths are worth to exact")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--recovery", type=int, help="epochs after pruning")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--report", action="store_true", help="compute nothing")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    settings = settings_of(arguments)
    folder = Folder(arguments.folder, None if arguments.report else settings)
    if not arguments.report:
        if not has_torch_pruning():
            note("torch-pruning is not installed: its rows will be missing")
        for name in arguments.data:
            data = load_images(name, arguments.folder, arguments.fonts or arguments.folder / "fonts", settings)
            contest = Contest(data, folder, settings)
            for seed in arguments.seeds:
                contest.run(seed, arguments.budget, arguments.only)
    where = (arguments.data, arguments.seeds, arguments.budget)
    rows = cells(folder, *where)
    compared, kept = comparisons(rows, arguments.data, arguments.budget), saliencies(folder, *where)
    if not arguments.json:
        shown(folder, arguments.data, arguments.seeds, compared)
    expected = len(arguments.data) * len(arguments.seeds) * len(arguments.budget) * len(TRAINED)
    dense = {n: [folder.read(f"{n}/dense-{s}") for s in arguments.seeds] for n in arguments.data}
    body = {
        "settings": folder.read("settings") or asdict(settings),
        "dense": dense,
        "rows": rows,
        "compared": [plain(row) for row in compared],
        "saliency": [plain(row) for row in kept],
    }
    return told(SCHEMA, body, bars_of(rows, compared, kept, expected), arguments.json)


def plain(row: dict[str, object]) -> dict[str, object]:
    return {k: v.to_json() if isinstance(v, Estimate) else v for k, v in row.items()}


if __name__ == "__main__":
    sys.exit(main())
