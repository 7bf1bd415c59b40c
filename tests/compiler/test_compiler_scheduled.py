"""No kernel is left as a naive loop nest: results are written in vectors, by loops that threads share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
import tvm
from compiler_nets import NETS, net
from kernel_harness import kernel
from long_tests import long
from tvm_ffi import structural_walk

from edgeprune.compiler.kernels.emit import T, function
from edgeprune.compiler.kernels.registry import RULES, rule_named, schedules_for
from edgeprune.graph.network import read_network
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.graph.walks import View
from edgeprune.models.zoo import ZOO, build
from edgeprune.targets import Target, load_target

TARGETS = [load_target(n) for n in ("x86_64_avx512", "x86_64_avx2", "rpi4", "armv7_generic")]
LEAST = 0.65
"""Share of the results that must be written in vectors, and in parallel: tails and borders are neither."""
UNKNOWN = 16
"""Rounds that a loop counts as whose length is data."""
SMALL = 2048
"""Results below which a kernel need not be parallel."""


@dataclass
class Written:
    """Values that a function writes to its output: how many, in vectors, inside a parallel loop; and what it reads."""

    values: int = 0
    in_vectors: int = 0
    in_parallel: int = 0
    read: int = 0
    read_in_vectors: int = 0


def written(function_: Any) -> Written:
    *inputs, output = function_.params
    found = Written()

    def count_reads(value: Any, rounds: int) -> None:
        def load(expression: Any) -> None:
            if type(expression).__name__ == "TensorLoad" and any(expression.source.same_as(p) for p in inputs):
                lanes = int(getattr(expression.indices[0], "lanes", 1))
                found.read += rounds * lanes
                found.read_in_vectors += rounds * lanes * (lanes > 1)

        structural_walk(value, load)

    def visit(statement: Any, rounds: int, parallel: bool) -> None:
        if type(statement).__name__ == "BufferStore":
            count_reads(statement.value, rounds)
        match type(statement).__name__:
            case "For":
                shared = parallel or statement.kind == tvm.tirx.ForKind.PARALLEL
                # The length of a loop over stored blocks is data.
                length = int(statement.extent) if isinstance(statement.extent, tvm.tirx.IntImm) else UNKNOWN
                visit(statement.body, rounds * length, shared)
            case "BufferStore" if statement.buffer.same_as(output):
                lanes = getattr(statement.indices[0], "lanes", 1)
                found.values += rounds * int(lanes)
                found.in_vectors += rounds * int(lanes) * (int(lanes) > 1)
                found.in_parallel += rounds * int(lanes) * parallel
            case "SeqStmt":
                for part in statement.seq:
                    visit(part, rounds, parallel)
            case "IfThenElse":
                visit(statement.then_case, rounds, parallel)
                if statement.else_case is not None:
                    visit(statement.else_case, rounds, parallel)
            case _:
                if hasattr(statement, "body"):
                    visit(statement.body, rounds, parallel)

    visit(function_.body, 1, False)
    return found


def fault(spec: KernelSpec, function_: Any) -> str:
    """Why a kernel counts as unscheduled, or an empty string."""
    found = written(function_)
    if not found.values:
        return "writes nothing"
    # A reduction reads in vectors, and writes the one value that is left of them.
    scalar = found.in_vectors < LEAST * found.values and found.read_in_vectors <= LEAST * found.read
    if scalar and spec.output.channels * spec.output.shape[-1] > 1:
        return f"{found.in_vectors} of {found.values} values in vectors"
    if found.values > SMALL and found.in_parallel < LEAST * found.values:
        return f"{found.in_parallel} of {found.values} values in parallel"
    return ""


@cache
def specs_of(name: str) -> list[KernelSpec]:
    network = (
        read_network(build(name), (torch.zeros(ZOO[name].input_shape),)) if name in ZOO else read_network(*net(name))
    )
    return list({node.spec.key: node.spec for node in network.kernels.nodes}.values())


@pytest.mark.parametrize("name", long([*ZOO, *(n for n in NETS if n not in ZOO)], ["resnet50"]))
def test_every_kernel_of_a_network_is_scheduled(name: str) -> None:
    specs = specs_of(name)
    assert len(specs) > 3
    for i, spec in enumerate(specs):
        target = TARGETS[i % len(TARGETS)]
        schedule = schedules_for(spec, target)[0]
        assert not fault(spec, rule_named(schedule).build("k", spec, schedule, target)), (str(spec), target.name)


def plain(*shape: int) -> TensorSpec:
    return TensorSpec(shape, "plain")


WINDOW = {"kernel": (4, 4), "stride": (2, 2), "padding": (1, 1), "dilation": (1, 1)}
CUBE = {"kernel": (3, 3, 3), "stride": (1, 1, 1), "padding": (1, 1, 1), "dilation": (1, 1, 1)}
HALF = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
POINT = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0), "dilation": (1, 1)}
FAMILIES = {
    "stored blocks": kernel(
        "conv2d",
        [TensorSpec((1, 64, 14, 14))],
        TensorSpec((1, 96, 14, 14)),
        ("bias", "relu"),
        groups=1,
        density=25,
        **POINT,
    ),
    "stored blocks of rows": kernel("dense", [plain(32, 64)], plain(32, 96), ("bias",), density=25),
    "conv_transposed": kernel(
        "conv_transpose2d", [TensorSpec((1, 40, 14, 14))], TensorSpec((1, 20, 28, 28)), ("bias",), groups=1, **WINDOW
    ),
    "softmax": kernel("softmax", [plain(16, 300)], plain(16, 300), axis=1, log=False),
    "softmax over channels": kernel("softmax", [plain(1, 20, 30, 30)], plain(1, 20, 30, 30), axis=1, log=False),
    "strided": kernel(
        "strided",
        [plain(1, 60, 28, 28)],
        plain(1, 28, 28, 60),
        walk0=View.identity((1, 60, 28, 28)).permuted((0, 2, 3, 1)).walk.to_attr(),
    ),
    "concat": kernel("concat", [TensorSpec((1, c, 28, 28)) for c in (13, 50, 7)], TensorSpec((1, 70, 28, 28))),
    "pad": kernel(
        "pad",
        [TensorSpec((1, 40, 14, 14))],
        TensorSpec((1, 40, 16, 16)),
        top=1,
        left=1,
        mode="constant",
        value=0.0,
    ),
    "reduce": kernel("reduce", [plain(1, 50, 30, 30)], plain(1, 1, 30, 30), kind="max", dims=(1,)),
    "reduce along rows": kernel("reduce", [plain(1, 50, 900)], plain(1, 50, 1), kind="sum", dims=(2,)),
    "normalize": kernel("normalize", [plain(1, 64, 192)], plain(1, 64, 192), size=192, eps=1e-5),
    "join": kernel(
        "join",
        [plain(1, 20, 150), plain(1, 30, 150)],
        plain(1, 50, 150),
        axis=1,
        sizes=(20, 30),
        walk0=View.identity((1, 20, 150)).walk.to_attr(),
        walk1=View.identity((1, 30, 150)).walk.to_attr(),
    ),
    "volume": kernel(
        "conv3d",
        [TensorSpec((1, 20, 4 * 14, 14))],
        TensorSpec((1, 40, 4 * 14, 14)),
        ("bias",),
        groups=1,
        slices=(4, 4),
        **CUBE,
    ),
    "places": kernel("max_places2d", [TensorSpec((1, 40, 28, 28))], TensorSpec((1, 40, 14, 14)), **HALF),
    "unpool": kernel("max_unpool2d", [TensorSpec((1, 40, 14, 14))] * 2, TensorSpec((1, 40, 28, 28)), **HALF),
    "sample": kernel(
        "grid_sample",
        [TensorSpec((1, 40, 14, 14)), plain(1, 2, 20, 20)],
        TensorSpec((1, 40, 20, 20)),
        mode="bilinear",
        padding="zeros",
        align_corners=False,
    ),
    "take": kernel("take", [plain(1, 50, 96), plain(60)], plain(1, 60, 96), axis=1),
    "take along rows": kernel("take", [plain(64, 50), plain(60)], plain(64, 60), axis=1),
    "layout": kernel("layout", [TensorSpec((1, 21, 30, 30))], plain(1, 21, 30, 30)),
    "blocked layout of one channel": kernel("layout", [plain(1, 1, 30, 30)], TensorSpec((1, 1, 30, 30))),
    "blocked layout": kernel("layout", [plain(1, 40, 30, 30)], TensorSpec((1, 40, 30, 30))),
    "frame": kernel(
        "image",
        [TensorSpec((1, 60, 64, 3), "plain", "uint8")],
        plain(1, 3, 60, 64),
        order=(2, 1, 0),
        scale=(0.5, 0.5, 0.5),
        shift=(0.0, 0.1, 0.2),
    ),
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_is_scheduled(name: str, target: Target) -> None:
    spec = FAMILIES[name]
    for schedule in schedules_for(spec, target):
        assert not fault(spec, rule_named(schedule).build("k", spec, schedule, target))


def test_every_rule_was_looked_at() -> None:
    specs = [s for name in (*ZOO, *NETS) for s in specs_of(name)] + list(FAMILIES.values())
    seen = {s["rule"] for spec in specs for s in schedules_for(spec, TARGETS[0])}
    assert seen == {rule.name for rule in RULES}


def test_a_naive_loop_nest_is_found_out() -> None:
    spec, target = kernel("elementwise", [plain(1, 4096)], plain(1, 4096), ("relu",)), TARGETS[0]

    def naive(e: Any) -> None:
        with T.serial(0, 4096) as i:
            e.store(e.output, e.inputs[0][i], i, 1)

    def serial(e: Any) -> None:
        with T.serial(0, 256) as i:
            e.store(e.output, e.load(e.inputs[0], i * 16), i * 16)

    assert fault(spec, function("k", spec, {}, target, [], naive)) == "0 of 4096 values in vectors"
    assert fault(spec, function("k", spec, {}, target, [], serial)) == "0 of 4096 values in parallel"
    assert fault(spec, function("k", spec, {}, target, [], lambda e: None)) == "writes nothing"
