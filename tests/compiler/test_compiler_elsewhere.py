"""Kernels built by an executor: the same objects, whoever built them, and no fault of a worker ends the rest."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from distributed import LocalCluster
from small_kernels import TARGET, relu, requests

from edgeprune.compiler import elsewhere, workers
from edgeprune.compiler.elsewhere import building_on
from edgeprune.compiler.failures import KernelBuildError
from edgeprune.compiler.objects import KernelObject, build_object, symbol_of
from edgeprune.compiler.workers import build_all
from edgeprune.errors import DeviceUnreachableError


@pytest.fixture(autouse=True)
def nobody_here(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is built is built elsewhere: the processes of this computer end at once."""
    workers.WAITING.end()
    monkeypatch.setattr(workers, "COMMAND", ("false",))


class Counting(ThreadPoolExecutor):
    """Counts what it is given, and may give something else back."""

    def __init__(self, instead=None) -> None:
        super().__init__(2)
        self.given, self._instead = 0, instead

    def submit(self, fn, /, *args, **kwargs) -> Future:
        self.given += 1
        return super().submit(self._instead or fn, *args, **kwargs)


def check(asked: list[workers.Request], found: list[KernelObject | KernelBuildError], folder: Path) -> None:
    for request, built in zip(asked, found, strict=True):
        assert isinstance(built, KernelObject), built
        assert built.symbol == symbol_of(*request, TARGET)
        assert built.path.read_bytes() == build_object(*request, TARGET, folder).path.read_bytes()


def test_objects_of_an_executor_are_those_of_this_computer(home: Path, tmp_path: Path) -> None:
    asked = requests(8, 16, 24, 8)
    with Counting() as executor, building_on(executor):
        check(asked, list(build_all(asked, TARGET)), tmp_path)
        check(asked, list(build_all(asked, TARGET)), tmp_path)
    assert executor.given == 3, "what is known is not built again"
    assert len(list((home / "objects").glob("*.o"))) == 3


def test_it_is_asked_inside_the_block_alone() -> None:
    with Counting() as executor, building_on(executor), building_on(None):
        (lost,) = build_all(requests(8), TARGET)
    assert isinstance(lost, KernelBuildError)
    assert executor.given == 0


def test_a_kernel_that_does_not_build_fails_alone(tmp_path: Path) -> None:
    good, bad = requests(8)[0], (relu(16), {"rule": "none such"})
    with Counting() as executor, building_on(executor):
        failed, built = build_all([bad, good], TARGET)
    check([good], [built], tmp_path)
    assert isinstance(failed, KernelBuildError)
    assert "none such" in failed.message
    assert failed.details["spec"] == relu(16).to_json()


def _dies(question: object) -> object:
    raise MemoryError("the worker was killed")


def _older(question: object) -> object:
    return {"symbol": "ep_of_another_version", "object": b""}


@pytest.mark.parametrize(("instead", "told"), [(_dies, "the worker was killed"), (_older, "another version")])
def test_what_comes_of_a_worker_is_checked(home: Path, instead, told: str) -> None:
    with Counting(instead) as executor, building_on(executor):
        (failed,) = build_all(requests(8), TARGET)
    assert isinstance(failed, KernelBuildError)
    assert told in failed.message
    assert not list((home / "objects").glob("*.o"))


def test_a_dask_cluster_builds_them(tmp_path: Path) -> None:
    asked = requests(8, 16)
    where = {"host": "127.0.0.1", "dashboard_address": None, "protocol": "tcp", "processes": False}
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, **where) as cluster,
        building_on(cluster.scheduler_address),
    ):
        check(asked, list(build_all(asked, TARGET)), tmp_path)


def test_a_scheduler_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "PATIENCE_S", 0.2)
    with pytest.raises(DeviceUnreachableError, match="no Dask scheduler"), building_on("tcp://127.0.0.1:9"):
        pass
