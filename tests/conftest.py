"""What every test shares: a home of its own, so that nothing of the developer's is read or written."""

import os
import tempfile
from pathlib import Path

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # One folder for all workers of a run: a kernel that one test compiled, the next takes from there.
    if "EDGEPRUNE_TEST_HOME" not in os.environ:
        os.environ["EDGEPRUNE_TEST_HOME"] = tempfile.mkdtemp(prefix="edgeprune-test-home-")
    os.environ["EDGEPRUNE_HOME"] = os.environ["EDGEPRUNE_TEST_HOME"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh, empty home."""
    monkeypatch.setenv("EDGEPRUNE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
