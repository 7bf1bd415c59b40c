"""Predictions for kernels and networks, and the correction by a measurement."""

from __future__ import annotations

import pytest
from latency_samples import bilinear, conv, depthwise, failed, record, swept

from edgeprune.errors import ProfileError
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.graph.walks import View
from edgeprune.latency import LatencyModel

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
