"""The same kernels for ARM, run under QEMU's user mode: whole networks against torch, and every kind of tile."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from block_nets import Head, X
from compiler_nets import net
from long_tests import long
from torch import nn

from edgeprune.compiler.compile import compile_network, weights_of
from edgeprune.compiler.in_blocks import found_in_blocks
from edgeprune.compiler.kernels.registry import schedules_for
from edgeprune.compiler.schedules import ScheduleBook
from edgeprune.graph.network import read_network
from edgeprune.latency.records import KernelRecord
from edgeprune.targets import Target, load_target

QEMU = {"aarch64": "qemu-aarch64-static", "armv7l": "qemu-arm-static"}
MUSL = {"aarch64": "aarch64-linux-musl", "armv7l": "arm-linux-musleabihf"}

if missing := [q for q in QEMU.values() if shutil.which(q) is None]:
    pytest.skip(f"{' and '.join(missing)} missing: apt-get install qemu-user-static", allow_module_level=True)

# One worker runs them all: a C library for 32-bit ARM takes a minute to build, which others would only wait for.
pytestmark = pytest.mark.xdist_group("arm")


def static(name: str) -> Target:
    """The target, linked with a C library that needs nothing of the emulated system."""
    target = load_target(name)
    return target.model_copy(update={"zig_target": MUSL[target.arch]})


TARGETS = [static("aarch64_generic"), static("rpi3"), static("armv7_generic")]


def check(bundle: Path, target: Target, threads: int = 1) -> None:
    """The program's own check of the golden sample, in the emulator."""
    golden = json.loads((bundle / "manifest.json").read_text())["golden"]
    command = [QEMU[target.arch], str(bundle / "model"), "check", "--threads", str(threads)]
    command += [a for f in golden["inputs"] for a in ("--input", str(bundle / f))]
    command += [a for f in golden["outputs"] for a in ("--expect", str(bundle / f))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["ok"] is True
    assert result["max_abs_diff"] <= 1e-4 * result["scale"]


NAMES = (
    "residual", "squeeze_excite", "pyramid", "two_inputs", "decoder", "views", "tokens", "line", "plumbing", "geometry",
)  # fmt: skip
EACH = [(name, target.name) for name in NAMES for target in TARGETS]
TURNS = {(name, TARGETS[i % len(TARGETS)].name) for i, name in enumerate(NAMES)}  # every network, on one of the boards


@pytest.mark.parametrize(("name", "target"), long(EACH, set(EACH) - TURNS))
def test_a_network_gives_what_torch_gives(name: str, target: str, tmp_path: Path) -> None:
    module, inputs = net(name)
    board = static(target)
    compile_network(read_network(module, inputs), board, tmp_path / "bundle", name=name)
    check(tmp_path / "bundle", board, threads=2)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("rule", ["conv_direct", "conv_winograd"])
def test_every_kind_of_tile_of_a_convolution(rule: str, target: Target, tmp_path: Path) -> None:
    """A net of convolutions, each with another schedule; widths that are no multiple of the block."""
    widths = (3, 9, 14, 5, 23, 6)
    layers = [nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(widths)]
    module, x = nn.Sequential(*layers).eval(), torch.randn(1, 3, 10, 13)
    network = read_network(module, (x,))
    records = []
    for i, node in enumerate(network.kernels.nodes):
        found = [s for s in schedules_for(node.spec, target) if s["rule"] == rule]
        if found:
            records.append(KernelRecord(node.spec, found[i * 5 % len(found)], "ok", 1.0, samples=1))
    assert len(records) >= len(layers) - 1
    manifest = compile_network(network, target, tmp_path / "bundle", book=ScheduleBook(target, records))
    assert sum(k.schedule["rule"] == rule for k in manifest.kernels) == len(records)
    check(tmp_path / "bundle", target)


@pytest.mark.parametrize("target", TARGETS[1:], ids=lambda t: t.name)
def test_weights_that_are_zero_in_blocks(target: Target, tmp_path: Path) -> None:
    """Four vectors a weight block, in both orders of the loops."""
    network = read_network(Head().eval(), (X,))
    stored = [spec for spec in found_in_blocks(network.kernels, weights_of(network)) if spec is not None]
    records = [
        KernelRecord(spec, schedules_for(spec, target)[2 * (i % 2)], "ok", 1.0, samples=1)
        for i, spec in enumerate(stored)
    ]
    assert {r.schedule.get("order") for r in records} == {"pixels", "rows", None}
    book = ScheduleBook(target, records)
    compile_network(network, target, tmp_path / "bundle", book=book, block_sparse="always")
    check(tmp_path / "bundle", target)


def test_the_tile_for_cores_that_complete_in_order(tmp_path: Path) -> None:
    """Taps beside the image, a tile that is not whole, an odd number of blocks, channels behind the whole blocks."""
    target = static("rpi3")
    layers = [
        nn.Conv2d(3, 9, 3, padding=1),
        nn.Conv2d(9, 15, 3, padding=1),
        nn.Conv2d(15, 22, 1),
        nn.Conv2d(22, 4, (3, 5), padding=(4, 2), dilation=(2, 1)),
        nn.Conv2d(4, 17, 7, padding=3, stride=(2, 1)),
        nn.Conv2d(17, 10, (2, 1)),
    ]
    network = read_network(nn.Sequential(*layers).eval(), (torch.randn(1, 3, 11, 19),))
    records = []
    for node in network.kernels.nodes:
        found = [s for s in schedules_for(node.spec, target) if s.get("in_order")]
        records += [KernelRecord(node.spec, s, "ok", 1.0, samples=1) for s in found]
    # Not the first layer, whose image is plain, nor the fourth, which has one block of channels.
    assert [tuple(r.spec.widths.values()) for r in records] == [(9, 15), (15, 22), (4, 17), (17, 10)]
    compile_network(network, target, tmp_path / "bundle", book=ScheduleBook(target, records))
    check(tmp_path / "bundle", target)


def test_volumes_on_cores_that_complete_in_order(tmp_path: Path) -> None:
    """Whole taps in assembler, of slices that exist and of some that do not."""
    target = static("rpi3")
    layers = [nn.Conv3d(3, 9, 3, padding=1), nn.Conv3d(9, 15, (3, 3, 2), padding=(2, 1, 0)), nn.Conv3d(15, 9, 1)]
    network = read_network(nn.Sequential(*layers).eval(), (torch.randn(1, 3, 3, 5, 19),))
    records = []
    for node in network.kernels.nodes:
        found = [s for s in schedules_for(node.spec, target) if s.get("in_order")]
        records += [KernelRecord(node.spec, s, "ok", 1.0, samples=1) for s in found]
    assert [r.spec.op for r in records] == ["conv3d", "conv2d"]
    compile_network(network, target, tmp_path / "bundle", book=ScheduleBook(target, records))
    check(tmp_path / "bundle", target)


def test_a_schedule_for_cores_that_complete_in_order_builds_at_any_width(tmp_path: Path) -> None:
    """What was measured at one width is used at others, where the tile may not fit."""
    target = static("rpi3")
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 2, 1)]
    network = read_network(nn.Sequential(*layers).eval(), (torch.randn(1, 3, 9, 9),))
    schedule = {"rule": "conv_direct", "blocks": 2, "columns": 8, "in_order": True}
    convs = [node.spec for node in network.kernels.nodes if node.spec.op == "conv2d"]
    records = [KernelRecord(spec, schedule, "ok", 1.0, samples=1) for spec in convs]
    assert len(records) == len(layers)
    compile_network(network, target, tmp_path / "bundle", book=ScheduleBook(target, records))
    check(tmp_path / "bundle", target)


def test_only_a_core_that_completes_in_order_is_offered_its_tile() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, padding=1))
    spec = read_network(layers, (torch.randn(1, 3, 16, 16),)).kernels.nodes[1].spec
    offered = {t: any(s.get("in_order") for s in schedules_for(spec, load_target(t))) for t in ("rpi3", "rpi4", "host")}
    assert offered == {"rpi3": True, "rpi4": False, "host": False}
