"""kill -9 of a sampled profile (docs/FAULTS.md, 25): what was reported is stored, and the next run goes on from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from long_tests import long


@pytest.mark.parametrize("moments", long([4, 20], [20]))
def test_fault_25_kill_9_of_a_sampled_profile_at_random_moments(moments, tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("killed_child.py")), str(tmp_path), str(moments), "3"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    whole, *rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == moments
    for row in rows:
        before, after = row["before"], row.get("after")
        assert row["again"] == 0, done.stderr[-3000:]
        assert len(before["kernels"]) >= before["reported"], "what was reported is stored"
        assert before["kernels"].items() <= after["kernels"].items(), "and stays"
        assert before["networks"].items() <= after["networks"].items()
        assert row["measured"] == len(after["kernels"].keys() - before["kernels"].keys()), "and is not measured again"
        # What else is measured depends on what is known: it need not be the very same kernels.
        both = after["kernels"].keys() & whole["kernels"].keys()
        assert len(both) > len(whole["kernels"]) / 2
        assert all(after["kernels"][key] == whole["kernels"][key] for key in both)
    assert sum(row["killed"] for row in rows) >= moments / 2
    assert len({len(row["before"]["kernels"]) for row in rows}) > 1, "the moments differ"
