"""Kernels built in other processes: the same objects, in order, and no fault of one reaches another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_kernels import TARGET, relu, requests

from edgeprune.compiler import workers
from edgeprune.compiler.failures import KernelBuildError
from edgeprune.compiler.objects import KernelObject, build_object, symbol_of
from edgeprune.compiler.workers import build_all


@pytest.fixture(autouse=True)
def none_left_over(home: Path) -> Iterator[None]:
    workers.WAITING.end()
    yield
    workers.WAITING.end()


def built(found: object) -> KernelObject:
    assert isinstance(found, KernelObject), found
    return found


def test_objects_come_in_order_and_are_those_of_this_process(tmp_path: Path, home: Path) -> None:
    asked = requests(8, 16, 24, 8)
    found = [built(o) for o in build_all(asked, TARGET, workers=2)]
    assert [o.symbol for o in found] == [symbol_of(*r, TARGET) for r in asked]
    assert {o.path.parent for o in found} == {home / "objects"}
    here = [build_object(*r, TARGET, tmp_path) for r in asked]
    assert [o.path.read_bytes() for o in found] == [o.path.read_bytes() for o in here]


def test_processes_are_kept_and_none_starts_for_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    list(build_all(requests(8), TARGET))
    first = workers.WAITING.take()
    assert first is not None
    workers.WAITING.keep(first)
    list(build_all(requests(16), TARGET))
    assert workers.WAITING.take() is first
    workers.WAITING.keep(first)
    workers.WAITING.end()
    monkeypatch.setattr(workers, "COMMAND", ("false",))
    assert all(isinstance(o, KernelObject) for o in build_all(requests(8, 16), TARGET))


def test_one_that_does_not_build_fails_alone() -> None:
    good, other = requests(8, 16)
    bad = (relu(8), {"rule": "elementwise", "unroll": "many"}), (relu(8), {"rule": "none such"})
    first, *failed, last = build_all([good, *bad, other], TARGET)
    assert isinstance(first, KernelObject)
    assert isinstance(last, KernelObject)
    for error in failed:
        assert isinstance(error, KernelBuildError)
        assert error.details["spec"] == relu(8).to_json()
    assert "none such" in str(failed[-1])


def test_a_compiler_that_crashes_is_named_and_takes_nobody_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-c", "import os; input(); os.abort()"))
    (crashed,) = build_all(requests(8), TARGET)
    assert isinstance(crashed, KernelBuildError)
    assert "elementwise 8 @2x2+relu" in str(crashed)
    assert "was killed by SIGABRT" in str(crashed)
    assert not len(workers.WAITING)
    monkeypatch.undo()


def test_a_worker_that_was_killed_while_idle_is_replaced() -> None:
    list(build_all(requests(8), TARGET))
    idle = workers.WAITING.take()
    assert idle is not None
    idle.process.kill()
    idle.process.wait()
    workers.WAITING.keep(idle)
    (found,) = build_all(requests(16), TARGET)
    assert isinstance(found, KernelObject)


def test_a_script_needs_no_main_guard_and_leaves_no_process_behind(tmp_path: Path, home: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from edgeprune.compiler.workers import WAITING, build_all\n"
        "from edgeprune.graph.spec import KernelSpec, TensorSpec\n"
        "from edgeprune.targets import load_target\n"
        "image = TensorSpec((1, 8, 2, 2))\n"
        "spec = KernelSpec('elementwise', (image,), image, (), ('relu',))\n"
        "request = spec, {'rule': 'elementwise'}\n"
        "assert len(list(build_all([request, request], load_target('x86_64_avx2')))) == 2\n"
        "assert not any(name.split('.')[0] == 'tvm' for name in sys.modules), 'TVM was loaded here'\n"
        "idle = WAITING.take()\n"
        "WAITING.keep(idle)\n"
        "print(idle.process.pid)\n"
    )
    (tmp_path / "json.py").write_text("raise SystemExit('a file of the current folder was loaded')\n")
    done = subprocess.run(
        [sys.executable, "-P", str(script)],
        cwd=tmp_path,
        env={**os.environ, "EDGEPRUNE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for pid in done.stdout.split():
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
