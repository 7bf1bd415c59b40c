"""model.c: what the fixed C sources are given to run."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from kernel_harness import kernel

from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.layouts import ALIGNMENT
from edgeprune.compiler.objects import KernelObject, build_object, default_schedule
from edgeprune.compiler.program import Buffer, Call, Port, Program, render, timing_program, write_program
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.targets import load_target

AVX2 = load_target("x86_64_avx2")
IMAGE = TensorSpec((1, 3, 2, 2))
TO_BLOCKED = kernel("layout", [TensorSpec(IMAGE.shape, "plain")], IMAGE)
RELU = kernel("elementwise", [IMAGE], IMAGE, ("relu",))
CONV = kernel(
    "conv2d",
    [IMAGE],
    TensorSpec((1, 5, 2, 2)),
    ("bias", "relu"),
    kernel=(1, 1),
    stride=(1, 1),
    padding=(0, 0),
    dilation=(1, 1),
    groups=1,
)


def stub(symbol: str) -> KernelObject:
    return KernelObject(symbol, Path(f"{symbol}.o"))


def tiny() -> Program:
    x, blocked, y = Buffer("arena", 0, 12), Buffer("arena", 64, 32), Buffer("arena", 192, 32)
    weights = (Buffer("weights", 0, 24), Buffer("weights", 128, 8))
    calls = (
        Call("x.blocked", TO_BLOCKED, {"rule": "layout"}, stub("ep_b"), (x, blocked)),
        Call("conv", CONV, {"rule": "conv_direct"}, stub("ep_a"), (blocked, *weights, y)),
    )
    ports = (Port("x", (1, 3, 2, 2), 0),), (Port("y", (1, 5, 2, 2), 192), Port("row", (1, 20), 192))
    return Program("tiny", calls, *ports, arena_bytes=320, weight_bytes=160, weights=np.zeros(40, np.float32))


def kernels() -> list[tuple[KernelSpec, Schedule, KernelObject]]:
    specs = [TO_BLOCKED, CONV, RELU]
    return [(spec, default_schedule(spec, AVX2), stub(f"ep_{i}")) for i, spec in enumerate(specs)]


def test_a_network(golden: Callable[[str, str], None]) -> None:
    golden("network.c", render(tiny()))


def test_kernels_to_be_timed(golden: Callable[[str, str], None]) -> None:
    golden("timing.c", render(timing_program("timing", kernels(), AVX2)))


def test_the_memory_of_a_timing_program_is_that_of_its_largest_kernel() -> None:
    program = timing_program("timing", kernels(), AVX2)
    alone = [timing_program("one", [k], AVX2) for k in kernels()]
    assert program.arena_bytes == max(p.arena_bytes for p in alone)
    assert program.weight_bytes == max(p.weight_bytes for p in alone)
    for call in program.calls:
        for space, size in (("arena", program.arena_bytes), ("weights", program.weight_bytes)):
            end = 0
            for buffer in sorted((b for b in call.buffers if b.space == space), key=lambda b: b.offset):
                assert buffer.offset % ALIGNMENT == 0
                assert buffer.offset >= end, "buffers of one call overlap"
                end = buffer.offset + 4 * buffer.elements
            assert end <= size


HOSTILE = 'a */ "; #include </etc/passwd>\n\\ ??/ é \x00 %s {"'


def test_hostile_names_stay_names(tmp_path: Path) -> None:
    """They are in a C comment, in C strings, and in the JSON that the program prints."""
    target = load_target("host")
    built = build_object(RELU, default_schedule(RELU, target), target)
    program = timing_program(HOSTILE, [(RELU, default_schedule(RELU, target), built)], target)
    port = Port(HOSTILE, (1, 3, 2, 2), 0)
    call = replace(program.calls[0], name=HOSTILE)
    program = replace(program, calls=(call,), inputs=(port,), outputs=(port,))
    clean = "a _/ __ _include _/etc/passwd___ __/ _ _ _s __"
    assert render(program).count(clean) == 5
    path = write_program(program, target, tmp_path)["program"]
    done = subprocess.run([path, "info"], capture_output=True, text=True, check=True)
    info = json.loads(done.stdout)
    assert [info["name"], info["inputs"][0]["name"], info["outputs"][0]["name"], *info["kernels"]] == [clean] * 4
