from __future__ import annotations

import pytest
from kernel_harness import kernel

from edgeprune.compiler.kernels.base import vector_registers
from edgeprune.compiler.kernels.conv import DirectConv, tiled
from edgeprune.compiler.kernels.tile import SPARE, tile_columns
from edgeprune.compiler.objects import default_schedule
from edgeprune.compiler.schedules import Chosen, ScheduleBook
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.latency.records import KernelRecord
from edgeprune.targets import load_target

TARGET = load_target("x86_64_avx2")


def conv(cin: int, cout: int, size: int = 8) -> KernelSpec:
    attrs = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    return kernel("conv2d", [TensorSpec((1, cin, size, size))], TensorSpec((1, cout, size, size)), ("bias",), **attrs)


def record(spec: KernelSpec, columns: int, status: str = "ok") -> KernelRecord:
    error = "" if status == "ok" else "no tile fits"
    return KernelRecord(
        spec, {"rule": "conv_direct", "blocks": 1, "columns": columns}, status, 5.0, samples=1, error=error
    )


def test_an_empty_book_gives_defaults() -> None:
    assert ScheduleBook(TARGET).choose(conv(8, 8)) == Chosen(default_schedule(conv(8, 8), TARGET), "default")


def test_a_measured_kernel_gets_its_schedule_before_any_relative() -> None:
    book = ScheduleBook(TARGET, [record(conv(8, 16), 3), record(conv(8, 8), 5)])
    assert book.choose(conv(8, 8)) == Chosen(record(conv(8, 8), 5).schedule, "profile")


@pytest.mark.parametrize(("cin", "cout", "columns"), [(12, 12, 3), (30, 30, 5), (8, 32, 7), (1, 1, 3)])
def test_another_width_gets_the_schedule_of_the_nearest(cin: int, cout: int, columns: int) -> None:
    book = ScheduleBook(TARGET, [record(conv(8, 8), 3), record(conv(32, 32), 5), record(conv(8, 40), 7)])
    chosen = book.choose(conv(cin, cout))
    assert (chosen.source, chosen.schedule["columns"]) == ("transfer", columns)


def test_nearest_is_by_ratio() -> None:
    """From 24, 12 is nearer than 60, although 36 channels lie between 24 and 60 and 12 to the other."""
    book = ScheduleBook(TARGET, [record(conv(24, 6), 3), record(conv(24, 100), 5)])
    assert book.choose(conv(24, 30)).schedule["columns"] == 5  # 3.3 times and 5 times


def test_the_choice_does_not_depend_on_the_order_of_records() -> None:
    records = [record(conv(8, 8), 3), record(conv(32, 32), 5)]  # 16 is as far from both
    choices = {
        ScheduleBook(TARGET, order).choose(conv(16, 16)).schedule["columns"] for order in (records, records[::-1])
    }
    assert len(choices) == 1


def test_another_family_and_failed_records_are_not_used() -> None:
    book = ScheduleBook(TARGET, [record(conv(8, 8, size=9), 3), record(conv(8, 8), 5, "failed")])
    assert book.choose(conv(8, 8)).source == "default"


@pytest.mark.parametrize("width", [7, 14, 28, 56])
@pytest.mark.parametrize("cout", [12, 20, 28, 44, 60])
def test_tiles_with_a_narrow_block_leave_registers_to_spare(cout: int, width: int) -> None:
    """Without any, LLVM keeps an accumulator on the stack; with all blocks alike it finds room for all."""
    for schedule in DirectConv().space(conv(16, cout, width), TARGET):
        for group, columns in tiled(cout, width, schedule, TARGET):
            blocks = len(group.widths)
            if len(set(group.widths)) == 1:
                assert columns == min(schedule["columns"], width)
            else:
                assert columns == 1 or blocks * columns + blocks + SPARE <= vector_registers(TARGET)


def test_fewer_columns_for_a_narrow_block_are_those_of_the_fewest_cycles() -> None:
    """56 is 14 times 4; with tiles of 5 the last one would have one column."""
    assert tile_columns((8, 4), 6, 56, TARGET) == 4
    assert tile_columns((8, 8, 4), 4, 56, TARGET) == 3
    assert tile_columns((16, 16, 4), 8, 56, load_target("x86_64_avx512")) == 8
