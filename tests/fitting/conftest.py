from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.fitting.run_folder import RunRecord
from edgeprune.latency.store import ProfileStore
from edgeprune.models.loading import LoadedModel
from edgeprune.targets import Target, load_target
from edgeprune.training.data import DataSet, load_data

NET = Path(__file__).with_name("tiny_net.py")


@pytest.fixture(scope="session")
def record() -> RunRecord:
    return RunRecord.of(f"{NET}:net", input_shape=(1, 3, 8, 8))


@pytest.fixture
def model(record: RunRecord) -> LoadedModel:
    return record.load()


@pytest.fixture(scope="session")
def target() -> Target:
    return load_target("host")


@pytest.fixture(scope="session")
def data() -> DataSet:
    return load_data(f"{NET}:data")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProfileStore]:
    """One for all: the virtual clock gives every fake device the same profile."""
    with ProfileStore(tmp_path_factory.mktemp("store") / "profiles.sqlite3") as opened:
        yield opened
