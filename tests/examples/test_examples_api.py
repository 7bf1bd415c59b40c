"""The example of the Python API runs, and makes what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "api.py"


@pytest.mark.long
def test_the_example_runs_without_a_board(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLE), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "kept: latency" in done.stdout
    assert "simulated" in done.stdout
    for name in ("layer.png", "milliseconds.png", "table.jsonl", "run/report.html", "run/bundle/model"):
        assert (tmp_path / name).is_file(), name
