from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kernel_harness import kernel

from edgeprune.compiler import objects
from edgeprune.compiler.failures import KernelBuildError
from edgeprune.compiler.kernels import registry
from edgeprune.compiler.kernels.emit import Emitter, T, function
from edgeprune.compiler.kernels.movement import Elementwise
from edgeprune.compiler.objects import build_object, default_schedule, symbol_of
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.targets import load_target

TARGET = load_target("x86_64_avx2")


def relu(channels: int = 8) -> KernelSpec:
    image = TensorSpec((1, channels, 2, 2))
    return kernel("elementwise", [image], image, ("relu",))


SCHEDULE = default_schedule(relu(), TARGET)


def test_the_object_defines_the_symbol(tmp_path: Path) -> None:
    built = build_object(relu(), SCHEDULE, TARGET, tmp_path)
    assert built.symbol == symbol_of(relu(), SCHEDULE, TARGET)
    data = built.path.read_bytes()
    assert data.startswith(b"\x7fELF")
    assert f"__tvm_ffi_{built.symbol}".encode() in data
    assert 0 < built.bytes < len(data) / 2, "a program has neither its debug sections nor its relocations"
    assert list(tmp_path.iterdir()) == [built.path]


def test_a_built_kernel_is_taken_from_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_object(relu(), SCHEDULE, TARGET, tmp_path)
    first.path.write_bytes(b"as it was")
    monkeypatch.setattr(Elementwise, "build", lambda *a: pytest.fail("the kernel is built again"))
    assert build_object(relu(), SCHEDULE, TARGET, tmp_path) == first
    assert first.path.read_bytes() == b"as it was"


def test_without_a_folder_objects_go_to_the_home(home: Path) -> None:
    assert build_object(relu(), SCHEDULE, TARGET).path.parent == home / "objects"


def test_whatever_decides_the_code_is_in_the_symbol(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {**SCHEDULE, "unroll": 1}
    names = [
        symbol_of(relu(), SCHEDULE, TARGET),
        symbol_of(relu(9), SCHEDULE, TARGET),
        symbol_of(relu(), other, TARGET),
        symbol_of(relu(), SCHEDULE, load_target("x86_64_sse4")),
    ]
    monkeypatch.setitem(registry.SCHEDULES_VERSIONS, TARGET.arch, "next")
    names.append(symbol_of(relu(), SCHEDULE, TARGET))
    monkeypatch.undo()
    monkeypatch.setattr(objects, "compiler_versions", lambda target: {"apache-tvm": "next"})
    names.append(symbol_of(relu(), SCHEDULE, TARGET))
    assert len(set(names)) == len(names)
    monkeypatch.undo()
    assert symbol_of(relu(), dict(reversed(SCHEDULE.items())), TARGET) == names[0]


def test_the_symbol_is_the_same_in_another_process() -> None:
    """No hash seed, address or time in it: caches and profiles are shared."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1]); from test_compiler_objects import *; "
        "print(symbol_of(relu(), SCHEDULE, TARGET))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == symbol_of(relu(), SCHEDULE, TARGET)


@dataclass
class Broken(Elementwise):
    name: str = "broken"

    def build(self, name: str, spec: KernelSpec, schedule: Any, target: Any) -> Any:
        raise RuntimeError("no registers left")


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "RULES", (*registry.RULES, Broken()))


@pytest.mark.usefixtures("broken")
def test_a_broken_rule(tmp_path: Path) -> None:
    with pytest.raises(KernelBuildError, match=r"elementwise 8 @2x2\+relu .*x86_64_avx2.*no registers left") as caught:
        build_object(relu(), {"rule": "broken"}, TARGET, tmp_path)
    assert caught.value.details == {"spec": relu().to_json(), "schedule": {"rule": "broken"}}
    assert list(tmp_path.iterdir()) == []


def test_a_kernel_that_takes_memory_at_run_time_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(self: Elementwise, name: str, spec: KernelSpec, schedule: Any, target: Any) -> Any:
        def body(e: Emitter) -> None:
            large = T.alloc_buffer((1024,), "float32", scope="global")
            with T.serial(0, 1024) as i:
                T.buffer_store(large, e.inputs[0][i % 8], [i])
            e.store(e.output, e.load(large, 0), 0)

        return function(name, spec, schedule, TARGET, [], body)

    monkeypatch.setattr(Elementwise, "build", greedy)
    with pytest.raises(KernelBuildError, match="memory of its own"):
        build_object(relu(), SCHEDULE, TARGET, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_build_that_fails_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("edgeprune.files.os.replace", full)
    with pytest.raises(KernelBuildError, match="no space left"):
        build_object(relu(), SCHEDULE, TARGET, tmp_path)
    assert list(tmp_path.iterdir()) == []
