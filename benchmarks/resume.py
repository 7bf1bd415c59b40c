"""Kills a fit without warning at random moments, and goes on with it: what is lost, and what is made twice.

    python benchmarks/resume.py [--moments 40] [--json]

On ``fake:``, where the same plan has to come of it as without a kill, and on ``local:``, where it has to be the plan
that was trained; both installed, verified, and with no finished stage made again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bars import bar, told

CHILD = Path(__file__).parents[1] / "tests" / "fitting" / "resume_child.py"


def kills(scheme: str, moments: int, seed: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(CHILD), folder, scheme, str(moments), str(seed)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    whole, *rows = [json.loads(line) for line in done.stdout.splitlines()]
    for row in rows:
        same = row.get("plan") == (whole["plan"] if scheme == "fake:" else row.get("trained_plan"))
        row["right"] = bool(same and row["again"] == 0 and row["current"] and row["kept"] and not row["twice"])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = {scheme: kills(scheme, arguments.moments, arguments.seed) for scheme in ("fake:", "local:")}
    bars = []
    for scheme, rows in found.items():
        right = sum(row["right"] for row in rows)
        bars.append(bar(f"fits on {scheme} that ended right after a kill", right, len(rows), right == len(rows)))
        for row in rows if not arguments.json else ():
            last = row["had"][-1] if row["had"] else "nothing"
            word = "right" if row["right"] else "WRONG"
            print(f"{scheme:7} killed at {row['moment_s']:5.1f} s with {len(row['had'])} stages ({last}): {word}")
    return told("edgeprune.resume-benchmark/1", {"kills": found}, bars, arguments.json)


if __name__ == "__main__":
    sys.exit(main())
