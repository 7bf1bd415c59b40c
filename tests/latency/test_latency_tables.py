"""Tables from records: exact where measured, refused or flagged where not."""

from __future__ import annotations

import numpy as np
import pytest
from latency_samples import bilinear, concat, conv, depthwise, failed, record, swept

from edgeprune.errors import ProfileError
from edgeprune.latency import table_from_records

WIDTHS = {"in": (8, 16, 32), "out": (8, 24)}


def test_a_full_grid_comes_back_cell_by_cell():
    table = table_from_records(swept(conv(32, 24), WIDTHS)[::-1])
    assert table.axes == ("in", "out")
    assert [g.tolist() for g in table.grids] == [[8, 16, 32], [8, 24]]
    assert not table.estimated.any()
    for i, cin in enumerate(WIDTHS["in"]):
        for j, cout in enumerate(WIDTHS["out"]):
            assert table.latency_ms[i, j] == pytest.approx(bilinear(conv(cin, cout)) * 1e-6)
            assert table.flash_bytes[i, j] == 900 + cin * cout * 9 * 4


def test_prediction_between_on_and_outside_the_grid():
    table = table_from_records(swept(conv(32, 24), WIDTHS))
    between = table.predict({"in": 12, "out": 10})
    assert between.source == "interpolated"
    assert between.latency_ms == pytest.approx(bilinear(conv(12, 10)) * 1e-6)
    assert between.weight_bytes == pytest.approx(12 * 10 * 9 * 4)
    on = table.predict({"in": 16, "out": 24})
    assert (on.source, on.latency_ms) == ("table", table.latency_ms[1, 1])
    assert on.spread_ms == pytest.approx(on.latency_ms / 50)
    assert table.predict({"in": 1, "out": 99}).latency_ms == table.latency_ms[0, 1]
    with pytest.raises(ProfileError, match="in"):
        table.predict({"out": 8})


def test_one_axis_for_a_depthwise_kernel():
    table = table_from_records(swept(depthwise(32), {"out": (8, 16, 32)}))
    assert table.axes == ("out",)
    assert table.predict({"out": 24}).latency_ms == pytest.approx(bilinear(depthwise(24)) * 1e-6)


class TestMissing:
    """Missing latencies and failed kernels (docs/FAULTS.md, 6 and 26): a hole is named, never a silent zero."""

    def test_a_hole_is_named_by_its_widths(self):
        records = [r for r in swept(conv(32, 24), WIDTHS) if r.spec.widths != {"in": 16, "out": 24}]
        with pytest.raises(ProfileError, match=r"\(16, 24\)") as caught:
            table_from_records(records)
        assert caught.value.details["missing"] == [[16, 24]]

    def test_a_failed_kernel_is_a_hole_that_says_why(self):
        records = [r for r in swept(conv(32, 24), WIDTHS) if r.spec.widths != {"in": 16, "out": 24}]
        with pytest.raises(ProfileError, match="compiler ran out of registers"):
            table_from_records([*records, failed(conv(16, 24), "compiler ran out of registers")])

    def test_an_estimate_is_flagged_and_lies_where_a_bilinear_cost_puts_it(self):
        records = [r for r in swept(conv(32, 24), WIDTHS) if r.spec.widths != {"in": 16, "out": 24}]
        table = table_from_records(records, estimate=True)
        assert np.argwhere(table.estimated).tolist() == [[1, 1]]
        assert table.latency_ms[1, 1] == pytest.approx(bilinear(conv(16, 24)) * 1e-6)
        assert table.predict({"in": 16, "out": 24}).source == "interpolated"
        assert table.predict({"in": 16, "out": 8}).source == "table"

    def test_four_corners_and_a_centre_are_enough(self):
        corners = swept(conv(32, 32), {"in": (8, 32), "out": (8, 32)})
        table = table_from_records([*corners, record(conv(16, 16), bilinear(conv(16, 16)))], estimate=True)
        assert table.estimated.sum() == 4
        expected = [[bilinear(conv(i, o)) * 1e-6 for o in (8, 16, 32)] for i in (8, 16, 32)]
        assert table.latency_ms == pytest.approx(np.array(expected))

    def test_nothing_is_extrapolated(self):
        records = [r for r in swept(conv(32, 24), WIDTHS) if r.spec.widths != {"in": 32, "out": 24}]
        with pytest.raises(ProfileError, match=r"\(32, 24\)"):
            table_from_records(records, estimate=True)

    def test_only_the_wanted_widths_must_be_there(self):
        # Another node of the same family was measured on a grid of its own.
        records = [*swept(conv(32, 24), WIDTHS), record(conv(20, 48))]
        with pytest.raises(ProfileError, match="lacks"):
            table_from_records(records)
        grids = [np.array(WIDTHS["in"]), np.array(WIDTHS["out"])]
        table = table_from_records(records, grids=grids)
        assert not table.estimated.any()
        finer = table_from_records(records, grids=[np.array([8, 12]), np.array([8])], estimate=True)
        assert finer.estimated.tolist() == [[False], [True]]
        assert finer.latency_ms[1, 0] == pytest.approx(bilinear(conv(12, 8)) * 1e-6)

    def test_a_family_that_only_failed_says_why(self):
        with pytest.raises(ProfileError, match="no tile fits"):
            table_from_records([failed(conv(8, 8))])

    def test_no_records_make_no_table(self):
        with pytest.raises(ProfileError, match="there are none"):
            table_from_records([])

    @pytest.mark.parametrize("bad", [0.0, -5.0, float("nan")])
    def test_a_row_that_is_no_measurement_is_refused(self, bad):
        with pytest.raises(ProfileError, match="median_ns"):
            table_from_records([*swept(conv(32, 24), WIDTHS), record(conv(64, 24), bad, spread_ns=0, min_ns=0)])


def test_two_families_make_no_table():
    with pytest.raises(ProfileError, match=r"@16x16.* is no .*@8x8"):
        table_from_records([record(conv(8, 8, 8)), record(conv(8, 8, 16))])


def test_concat_parts_of_one_total_share_a_cell():
    table = table_from_records(
        [record(concat(8, 8), 100.0), record(concat(4, 12), 300.0), record(concat(8, 16), 500.0)]
    )
    assert table.grids[0].tolist() == [16, 24]
    assert table.latency_ms.tolist() == pytest.approx([200e-6, 500e-6])
