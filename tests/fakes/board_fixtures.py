"""Fixtures that folders of tests share: this computer's target, a fake device, an empty store."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.devices.fake import FakeDevice
from edgeprune.latency.store import ProfileStore
from edgeprune.targets import Target, load_target


@pytest.fixture(scope="session")
def target() -> Target:
    return load_target("host")


@pytest.fixture
def device(tmp_path: Path) -> FakeDevice:
    return FakeDevice(tmp_path / "device")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ProfileStore]:
    with ProfileStore(tmp_path / "profiles.sqlite3") as opened:
        yield opened
