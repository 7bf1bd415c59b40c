"""What kernels do, counted: the counts of a convolution by hand, and what every rule's counts have in common."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import pytest
import torch
from conv_specs import conv

from edgeprune.compiler.kernels.registry import rule_named, schedules_for
from edgeprune.compiler.kernels.tile import tile_cycles
from edgeprune.graph.network import read_network
from edgeprune.graph.spec import KernelSpec
from edgeprune.models.zoo import build
from edgeprune.targets import load_target

TARGETS = ("x86_64_avx512", "x86_64_avx2", "rpi4", "armv7_generic")


def work(spec: KernelSpec, schedule: dict, name: str = "x86_64_avx2"):
    return rule_named(schedule).work(spec, schedule, load_target(name))


def test_a_direct_convolution_by_hand():
    """16 to 16 channels of 1x1 at 4x4: 8 lanes, two blocks of filters, one row of 16 pixels in tiles of 4."""
    found = work(conv(16, 16, 4), {"rule": "conv_direct", "blocks": 2, "columns": 4})
    assert found.cycles == pytest.approx(4 * 16 * tile_cycles(2, 4))
    assert found.loops == 4 * 2, "each tile goes through two blocks of input channels"
    assert found.stores == 16 * 2
    assert found.weight_bytes == 4 * (16 * 16 + 16)
    assert (found.read_bytes, found.written_bytes) == (4 * 256, 4 * 256)
    assert found.again_bytes == found.read_bytes, "both blocks of filters are one group"


def test_inputs_are_read_once_for_each_group_of_filters():
    found = work(conv(16, 64, 4), {"rule": "conv_direct", "blocks": 2, "columns": 4})
    assert found.again_bytes == 4 * found.read_bytes


def test_rows_outside_the_image_cost_nothing():
    """Of the 3x3 taps of a 4x4 image, 2 of 12 rows lie outside."""
    inner, whole = (
        work(conv(16, 16, 4, kernel), {"rule": "conv_direct", "blocks": 2, "columns": 4}) for kernel in (3, 1)
    )
    assert inner.cycles == pytest.approx(whole.cycles * 9 * 10 / 12)


@pytest.mark.parametrize("rule", ["conv_direct", "conv_winograd"])
def test_widths_of_one_vector_more_cost_one_vector_more(rule):
    target = load_target("x86_64_avx2")
    schedule = next(s for s in schedules_for(conv(32, 32, 16, 3), target) if s["rule"] == rule)
    narrow, wide, odd = (work(conv(32, n, 16, 3), schedule) for n in (32, 64, 33))
    assert wide.stores > narrow.stores
    assert narrow.cycles <= odd.cycles < wide.cycles
    assert odd.written_bytes == pytest.approx(narrow.written_bytes * 5 / 4)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("model", ["mobilenet_v3_small", "unet_small"])
def test_every_kernel_of_a_network_counts(name, model):
    """With each of its schedules, and more where a kernel is wider."""
    target, size = load_target(name), 64
    network = read_network(build(model).eval(), (torch.zeros(1, 3, size, size),))
    for spec in {n.spec.key: n.spec for n in network.kernels.nodes}.values():
        for schedule in schedules_for(spec, target)[:4]:
            found = asdict(work(spec, schedule, name))
            assert all(math.isfinite(v) and v >= 0 for v in found.values()), (str(spec), found)
            assert found["calls"] == 1
            assert found["stores"] > 0
            twice = replace(spec).with_widths(**{axis: 2 * w for axis, w in spec.widths.items()})
            more = asdict(work(twice, schedule, name))
            assert all(more[k] >= found[k] for k in found if k != "loops"), (str(spec), schedule, found, more)
