"""The size of a program's file, from tables of code and the constants that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.compiler.compile import compile_network
from edgeprune.compiler.elf import loaded_bytes
from edgeprune.compiler.flash import FlashModel, empty_bytes
from edgeprune.compiler.manifest import Manifest
from edgeprune.compiler.objects import find_object
from edgeprune.compiler.ram import MemoryModel
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.errors import BundleError
from edgeprune.graph.network import read_network
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.model import LatencyModel
from edgeprune.latency.records import KernelRecord
from edgeprune.models.zoo import build
from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink
from edgeprune.targets import Target, load_target

TARGET = load_target("host")


def records_of(manifest: Manifest, target: Target = TARGET) -> list[KernelRecord]:
    found = []
    for kernel in manifest.kernels:
        spec = KernelSpec.from_json(kernel.spec)
        built = find_object(spec, kernel.schedule, target)
        assert built is not None
        found.append(KernelRecord(spec, kernel.schedule, "ok", 1.0, 0.0, 1.0, 1, built.bytes))
    return found


def test_the_file_of_a_plan_is_predicted_within_half_a_percent(tmp_path: Path) -> None:
    dense = read_network(build("resnet20"), (torch.zeros(1, 3, 16, 16),))
    random = np.random.default_rng(0)
    widths = {g.name: int(random.integers(1, g.size + 1)) for g in dense.channels.prunable}
    plan = make_plan(dense.channels, widths, {g.name: random.random(g.size) for g in dense.channels.groups})
    small = read_network(shrink(dense.module, dense.channels, plan), dense.example_inputs)
    before, after = (compile_network(n, TARGET, tmp_path / name) for n, name in ((dense, "dense"), (small, "small")))
    memory = MemoryModel(dense.kernels, dense.channels, TARGET, ScheduleBook(TARGET))
    tables = LatencyModel([*records_of(before), *records_of(after)])
    model = FlashModel.beside(memory, tables, before.memory.flash)
    assert model.bytes({}) == before.memory.flash
    assert model.bytes(widths) == pytest.approx(after.memory.flash, rel=0.005)
    assert memory.weight_bytes(widths) == after.memory.weights


@pytest.mark.parametrize("name", ["host", "rpi3", "jetson_nano"])
def test_the_file_is_predicted_though_no_program_was_linked(name: str, tmp_path: Path) -> None:
    target = load_target(name)
    network = read_network(build("resnet8"), (torch.zeros(1, 3, 16, 16),))
    empty = empty_bytes(network.kernels, target, ScheduleBook(target))
    manifest = compile_network(network, target, tmp_path / "net")
    memory = MemoryModel(network.kernels, network.channels, target, ScheduleBook(target))
    tables = LatencyModel(records_of(manifest, target))
    assert 0 < empty < manifest.memory.flash / 2
    assert FlashModel(memory, tables, empty).bytes({}) == pytest.approx(manifest.memory.flash, rel=0.005)


def test_an_empty_program_is_linked_once(monkeypatch, home: Path) -> None:
    network = read_network(build("resnet8"), (torch.zeros(1, 3, 16, 16),))
    book = ScheduleBook(TARGET)
    first = empty_bytes(network.kernels, TARGET, book)
    assert [int(p.read_text()) for p in (home / "programs").iterdir()] == [first]
    monkeypatch.setattr("edgeprune.compiler.flash.write_program", None)
    assert empty_bytes(network.kernels, TARGET, book) == first
    with pytest.raises(TypeError):
        empty_bytes(network.kernels, load_target("rpi3"), ScheduleBook(load_target("rpi3")))


def test_what_is_no_object_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "kernel.o").write_bytes(b"no ELF")
    with pytest.raises(BundleError, match="no object file"):
        loaded_bytes(tmp_path / "kernel.o")
