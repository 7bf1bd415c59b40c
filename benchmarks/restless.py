"""Whether ``make demo`` holds on a restless computer: run again and again while one core is loaded and released.

    python benchmarks/restless.py [--runs 10] [--seed 0] [--quiet-runs 1] [--json]

A process of its own multiplies and waits in turns of 5 to 40 seconds, at random. The bar is exit 0 every time, each
run at most 8 minutes loaded and 6 without a load, set-up excluded.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bars import bar, told

ROOT = Path(__file__).parents[1]
LOADED_S, QUIET_S = 480.0, 360.0
SHORTEST_S, LONGEST_S = 5.0, 40.0


def load(seed: int) -> None:
    """Keep one core busy for a while, leave it alone for a while, for ever."""
    rng, x = random.Random(seed), 1
    while True:
        end = time.monotonic() + rng.uniform(SHORTEST_S, LONGEST_S)
        while time.monotonic() < end:
            for _ in range(10_000):
                x = x * 1103515245 + 12345 & 0x7FFFFFFF
        time.sleep(rng.uniform(SHORTEST_S, LONGEST_S))


def demo(loaded: bool, seed: int) -> dict[str, Any]:
    """One run of the demo, as ``make demo`` runs it after set-up."""
    shutil.rmtree(ROOT / "runs" / "demo", ignore_errors=True)
    other = multiprocessing.Process(target=load, args=(seed,), daemon=True)
    if loaded:
        other.start()
    began = time.monotonic()
    try:
        command = [sys.executable, str(ROOT / "examples" / "demo.py")]
        environment = {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"}  # as in the Makefile
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    finally:
        if loaded:
            other.kill()
            other.join()
    seconds = time.monotonic() - began
    said = [line for line in done.stdout.splitlines() if line.startswith(("verdict", "from outside", "FAILED"))]
    limit = LOADED_S if loaded else QUIET_S
    return {"loaded": loaded, "exit": done.returncode, "seconds": seconds, "in_time": seconds <= limit, "said": said}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--quiet-runs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = []
    for number in range(arguments.quiet_runs + arguments.runs):
        rows.append(demo(number >= arguments.quiet_runs, arguments.seed + number))
        if not arguments.json:
            row = rows[-1]
            print(f"{'loaded' if row['loaded'] else 'quiet'}: exit {row['exit']} in {row['seconds']:.0f} s", flush=True)
            for line in row["said"]:
                print(f"    {line}", flush=True)
    bars = []
    for kind, limit in ((True, LOADED_S), (False, QUIET_S)):
        mine, name = [row for row in rows if row["loaded"] is kind], "loaded" if kind else "quiet"
        right, slowest = sum(row["exit"] == 0 for row in mine), max((row["seconds"] for row in mine), default=0.0)
        bars.append(bar(f"{name} runs with exit 0", right, len(mine), right == len(mine)))
        bars.append(bar(f"slowest {name} run, s", slowest, limit, slowest <= limit))
    return told("edgeprune.restless-benchmark/1", {"rows": rows}, bars, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
