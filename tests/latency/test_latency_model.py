"""Predictions for kernels and networks, and the correction by a measurement."""

from __future__ import annotations

import numpy as np
import pytest
from latency_samples import bilinear, conv, depthwise, failed, record, swept

from edgeprune.errors import ProfileError
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.graph.walks import View
from edgeprune.latency import LatencyModel
from edgeprune.latency.estimates import Estimates, Total
from edgeprune.latency.networks import Surplus

GRID = {"in": (8, 16, 32), "out": (8, 24)}


def test_a_measured_kernel_is_what_was_measured():
    p = LatencyModel(swept(conv(32, 24), GRID)).predict_kernel(conv(16, 24))
    assert p.source == "table"
    assert p.latency_ms == pytest.approx(bilinear(conv(16, 24)) * 1e-6)
    assert p.spread_ms == pytest.approx(p.latency_ms / 50)
    assert p.flash_bytes == 900 + 16 * 24 * 9 * 4


def test_a_width_between_measured_ones_is_interpolated_and_says_so():
    p = LatencyModel(swept(conv(32, 24), GRID)).predict_kernel(conv(20, 10))
    assert p.source == "interpolated"
    assert p.latency_ms == pytest.approx(bilinear(conv(20, 10)) * 1e-6)


@pytest.mark.parametrize("spec", [conv(64, 24), conv(4, 8), conv(16, 32)])
def test_a_width_outside_is_refused(spec):
    with pytest.raises(ProfileError, match="lacks"):
        LatencyModel(swept(conv(32, 24), GRID)).predict_kernel(spec)


def test_a_kernel_never_profiled_is_named():
    with pytest.raises(ProfileError, match="conv2d") as caught:
        LatencyModel(swept(conv(32, 24), GRID)).predict_kernel(conv(16, 24, 99))
    assert "edgeprune profile" in caught.value.hint


def test_a_failed_kernel_is_not_predicted_from_its_neighbours():
    records = [r for r in swept(conv(32, 24), GRID) if r.spec != conv(16, 24)]
    with pytest.raises(ProfileError, match="no tile fits"):
        LatencyModel([*records, failed(conv(16, 24))]).predict_kernel(conv(16, 24))


def test_the_last_record_of_a_kernel_counts():
    model = LatencyModel([record(conv(8, 8), 100.0), record(conv(8, 8), 300.0)])
    assert model.predict_kernel(conv(8, 8)).latency_ms == pytest.approx(300e-6)


def test_a_network_is_the_sum_of_its_kernels():
    model = LatencyModel([*swept(conv(32, 24), GRID), *swept(depthwise(32), {"out": (8, 32)})])
    specs = [conv(16, 24), depthwise(8), depthwise(20), conv(16, 24)]
    total = model.network(specs)
    assert total.latency_ms == pytest.approx(sum(bilinear(s) * 1e-6 for s in specs))
    assert total.spread_ms == pytest.approx(total.latency_ms / 50)
    assert total.flash_bytes == sum(model.predict_kernel(s).flash_bytes for s in specs)
    assert (total.kernels, total.interpolated) == (4, 1)


def test_a_correction_makes_the_prediction_the_measurement_and_leaves_bytes_alone():
    model = LatencyModel(swept(conv(32, 24), GRID))
    before = model.network([conv(16, 24), conv(20, 10)])
    after = model.corrected(measured_ms=before.latency_ms * 1.3, predicted_ms=before.latency_ms)
    assert after.network([conv(16, 24), conv(20, 10)]).latency_ms == pytest.approx(before.latency_ms * 1.3)
    assert after.network([conv(16, 24), conv(20, 10)]).flash_bytes == before.flash_bytes
    assert after.corrected(3.0, 2.0).correction == pytest.approx(1.3 * 1.5)
    assert model.correction == 1.0


@pytest.mark.parametrize(("measured", "predicted"), [(0.0, 1.0), (1.0, 0.0), (float("nan"), 1.0), (1.0, float("inf"))])
def test_a_measurement_that_is_none_corrects_nothing(measured, predicted):
    with pytest.raises(ProfileError, match="cannot correct"):
        LatencyModel(swept(conv(32, 24), GRID)).corrected(measured, predicted)


def test_a_depthwise_kernel_of_one_channel_is_a_plain_one_and_serves_both():
    dw = swept(depthwise(16), {"out": (1, 8, 16)}, lambda s: 1000.0 + s.output.channels)
    plain = swept(conv(16, 16), {"in": (1, 16), "out": (1, 16)}, lambda s: 9e6)
    model = LatencyModel([*dw[1:], *plain[1:], dw[0]])
    assert model.predict_kernel(depthwise(12)).latency_ms == pytest.approx(1012e-6)
    assert model.predict_kernel(depthwise(4)).latency_ms == pytest.approx(1004e-6)
    assert model.predict_kernel(conv(16, 8)).latency_ms == pytest.approx(9.0)
    assert model.table(depthwise(16)).grids[0].tolist() == [1, 8, 16]


def test_a_kernel_that_reads_through_a_walk_has_a_table_down_to_one_channel():
    """A dimension of size 1 is repeated, so that the kernel of one channel looks like one of another family."""
    plain = TensorSpec((1, 16, 6, 5), "plain")
    turned = View.identity(plain.shape).permuted((0, 1, 3, 2)).walk.to_attr()
    spec = KernelSpec("strided", (plain, plain), plain, (("walk0", turned), ("walk1", turned)), ("add",))
    assert spec.with_widths(out=1).family != spec.family
    model = LatencyModel(swept(spec, {"out": (1, 8, 16)}, lambda s: 1000.0 + s.output.channels))
    assert model.table(spec).grids[0].tolist() == [1, 8, 16]
    assert model.predict_kernel(spec.with_widths(out=4)).latency_ms == pytest.approx(1004e-6)
    assert model.predict_kernel(spec.with_widths(out=1)).latency_ms == pytest.approx(1001e-6)


def test_a_bad_record_does_not_become_a_model():
    with pytest.raises(ProfileError, match="median_ns"):
        LatencyModel([record(conv(8, 8), 0.0, spread_ns=0, min_ns=0)])


# -- with an estimator ---------------------------------------------------------------------------


class Stub:
    """Every kernel that was not measured takes 7 us, give or take a tenth; doubts of a sum are in common."""

    def __init__(self, *, placed: bool = False) -> None:
        self.placed = placed
        self.asked: list[KernelSpec] = []

    def estimate(self, specs):
        self.asked += specs
        n = len(specs)
        return Estimates(np.full(n, np.log(7000.0)), np.full(n, 0.1), np.full(n, 900.0), np.full(n, 50.0))

    def total(self, specs):
        return Total(1000.0 * len(specs), 100.0 * len(specs))


def test_cells_that_were_not_measured_are_estimated_and_others_are_not_asked_for():
    stub = Stub()
    table = LatencyModel(swept(conv(32, 24), GRID), estimator=stub).table(
        conv(32, 24), grids=(np.array([8, 64]), np.array([8, 12])), estimate=True
    )
    assert {tuple(s.widths.values()) for s in stub.asked} == {(8, 12), (64, 8), (64, 12)}
    assert table.estimated.tolist() == [[False, True], [True, True]]
    assert table.latency_ms[0, 0] == pytest.approx(bilinear(conv(8, 8)) * 1e-6)
    assert table.latency_ms[1] == pytest.approx(7000e-6 * np.exp(0.005))
    assert table.flash_bytes[1].tolist() == [950.0, 950.0]


def test_without_leave_to_estimate_a_cell_that_is_missing_is_refused():
    with pytest.raises(ProfileError, match="lacks"):
        LatencyModel(swept(conv(32, 24), GRID), estimator=Stub()).table(
            conv(32, 24), grids=(np.array([8]), np.array([8, 12]))
        )


def test_a_kernel_outside_of_what_was_measured_is_estimated():
    found = LatencyModel(swept(conv(32, 24), GRID), estimator=Stub()).predict_kernel(conv(64, 24))
    assert (found.source, found.latency_ms) == ("interpolated", pytest.approx(7000e-6 * np.exp(0.005)))
    with pytest.raises(ProfileError, match="no record"):
        LatencyModel(swept(conv(32, 24), GRID), estimator=Stub()).predict_kernel(conv(16, 24, 99))


def test_widths_that_no_kernel_has_are_refused():
    wide = depthwise(16).with_widths(out=16)
    double = KernelSpec(wide.op, wide.inputs, wide.output.with_channels(32), wide.attrs, wide.epilogue)
    assert double.multiplier == 2
    model = LatencyModel([record(double)], estimator=Stub())
    assert model.table(double, grids=(np.array([2, 32]),), estimate=True).latency_ms.shape == (2,)
    with pytest.raises(ProfileError, match="lacks"):
        model.table(double, grids=(np.array([3, 32]),), estimate=True)


def test_the_doubts_of_a_network_are_those_of_its_sum():
    model = LatencyModel(swept(conv(32, 24), GRID), estimator=Stub())
    found = model.network([conv(16, 24)] * 3 + [conv(64, 24)])
    assert found.latency_ms == pytest.approx(3 * bilinear(conv(16, 24)) * 1e-6 + 7000e-6 * np.exp(0.005))
    assert found.spread_ms / found.latency_ms == pytest.approx(1.349 * 0.1)
    low, high = found.interval_ms
    assert (low, high) == (
        pytest.approx(found.latency_ms * np.exp(-0.196), rel=1e-3),
        pytest.approx(found.latency_ms * np.exp(0.196), rel=1e-3),
    )
    assert model.network([]).interval_ms == (0.0, 0.0)


def test_what_whole_networks_take_beyond_their_kernels_corrects_everything():
    sums = [Total(1000.0 * n, 0.0) for n in (2, 4, 6)]
    surplus = Surplus(sums, [1.2 * s.latency_ns for s in sums])
    records = swept(conv(32, 24), GRID)
    plain = LatencyModel(records, estimator=Stub()).network([conv(16, 24)] * 4)
    model = LatencyModel(records, estimator=Stub(), surplus=surplus)
    found = model.network([conv(16, 24)] * 4)
    assert found.latency_ms == pytest.approx(1.2 * plain.latency_ms, rel=0.01)
    assert found.latency_ms == pytest.approx(4 * model.predict_kernel(conv(16, 24)).latency_ms)
    assert found.spread_ms / found.latency_ms > plain.spread_ms / plain.latency_ms


@pytest.mark.parametrize("kernels", [1, 4, 40])
def test_a_measurement_corrects_networks_of_any_size_alike(kernels):
    surplus = Surplus([Total(4000.0, 0.0)], [5000.0])
    model = LatencyModel(swept(conv(32, 24), GRID), estimator=Stub(), surplus=surplus)
    before = model.network([conv(16, 24)] * kernels)
    dense = model.network([conv(32, 24)])
    assert model.corrected(dense.latency_ms, dense.latency_ms).network([conv(16, 24)] * kernels).latency_ms == (
        pytest.approx(before.latency_ms)
    )
    after = model.corrected(measured_ms=3 * dense.latency_ms, predicted_ms=dense.latency_ms)
    assert after.network([conv(16, 24)] * kernels).latency_ms == pytest.approx(3 * before.latency_ms)


def test_kernels_take_what_they_take_in_their_places_where_that_is_known():
    """Those that were measured, too, which were called alone; what their code and weights take stays."""
    model = LatencyModel(swept(conv(32, 24), GRID), estimator=Stub(placed=True))
    alone = LatencyModel(swept(conv(32, 24), GRID)).predict_kernel(conv(16, 24))
    found = model.predict_kernel(conv(16, 24))
    assert found.latency_ms == pytest.approx(7e-3, rel=0.01) != pytest.approx(alone.latency_ms, rel=0.1)
    assert (found.object_bytes, found.weight_bytes, found.source) == (alone.object_bytes, alone.weight_bytes, "table")
    table = model.table(conv(32, 24), grids=(np.array([8, 64]), np.array([8, 12])), estimate=True)
    assert table.latency_ms == pytest.approx(np.full((2, 2), 7e-3), rel=0.01)
    assert table.estimated.tolist() == [[False, True], [True, True]]


def test_where_all_was_measured_nothing_is_estimated():
    class Silent(Stub):
        def total(self, specs):
            raise AssertionError("nobody is asked")

    found = LatencyModel(swept(conv(32, 24), GRID), estimator=Silent()).network([conv(16, 24)] * 4)
    assert found.spread_ms == pytest.approx(found.latency_ms / 50)


def test_a_kernel_that_failed_at_every_width_is_not_estimated():
    model = LatencyModel([failed(conv(8, 8)), failed(conv(16, 8))], estimator=Stub())
    with pytest.raises(ProfileError, match="lacks"):
        model.predict_kernel(conv(16, 16))
