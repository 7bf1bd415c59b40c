from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.graph.walks import View


def kernel(op: str, inputs: list[TensorSpec], output: TensorSpec, *epilogue: str, **attrs: Any) -> KernelSpec:
    return KernelSpec(op, tuple(inputs), output, tuple(sorted(attrs.items())), epilogue)


def conv(cin: int, cout: int, *epilogue: str, groups: int = 1, size: int = 8, n: int = 1) -> KernelSpec:
    x, y = TensorSpec((n, cin, size, size)), TensorSpec((n, cout, size, size))
    operands = [y for e in epilogue if e == "add"] + [TensorSpec((n, cout, 1, 1)) for e in epilogue if e == "mul"]
    window = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1), "dilation": (1, 1)}
    return kernel("conv2d", [x, *operands], y, "bias", *epilogue, groups=groups, **window)


def dense(features: int, out: int) -> KernelSpec:
    return kernel("dense", [TensorSpec((1, features), "plain")], TensorSpec((1, out), "plain"), "bias")


def pool(channels: int) -> KernelSpec:
    return kernel(
        "avg_pool2d",
        [TensorSpec((1, channels, 8, 8))],
        TensorSpec((1, channels, 4, 4)),
        kernel=(2, 2),
        stride=(2, 2),
        padding=(0, 0),
        count_include_pad=True,
    )


def concat(*parts: int) -> KernelSpec:
    return kernel("concat", [TensorSpec((1, c, 4, 4)) for c in parts], TensorSpec((1, sum(parts), 4, 4)))


RESIZE = kernel(
    "resize2d", [TensorSpec((1, 6, 4, 4))], TensorSpec((1, 6, 8, 8)), "relu", mode="bilinear", align_corners=False
)
SPECS = [
    conv(3, 8),
    conv(8, 8, "add", "relu", groups=8),
    conv(4, 6, "mul"),
    dense(20, 5),
    pool(7),
    concat(3, 5),
    RESIZE,
]
each = pytest.mark.parametrize("spec", SPECS, ids=str)


def test_infinity_is_kept_in_strict_json():
    """What is padded for a maximum: stores and manifests hold JSON that every reader takes."""
    x = TensorSpec((1, 4, 6, 6), "blocked")
    attrs = (("left", 0), ("mode", "constant"), ("top", 0), ("value", -math.inf))
    spec = KernelSpec("pad", (x,), TensorSpec((1, 4, 7, 7), "blocked"), attrs, ())
    text = json.dumps(spec.to_json(), allow_nan=False)
    assert KernelSpec.from_json(json.loads(text)) == spec
    assert spec.key != replace(spec, attrs=(*attrs[:3], ("value", math.inf))).key


@each
def test_json_there_and_back(spec: KernelSpec) -> None:
    again = KernelSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec
    assert hash(again) == hash(spec)
    assert (again.key, again.family) == (spec.key, spec.family)


@each
def test_no_widths_is_the_same_kernel(spec: KernelSpec) -> None:
    assert spec.with_widths() == spec
    assert spec.with_widths(**spec.widths) == spec


@each
def test_changed_widths_are_the_widths(spec: KernelSpec) -> None:
    wanted = {axis: width + 3 for axis, width in spec.widths.items()}
    other = spec.with_widths(**wanted)
    assert other.widths == wanted
    assert other.family == spec.family
    assert other.key != spec.key
    assert other.with_widths(**spec.widths) == spec or spec.op == "concat"


def test_widths_of_a_convolution() -> None:
    assert conv(3, 8, "add", "mul").with_widths(in_=5, out=6) == conv(5, 6, "add", "mul")
    assert conv(3, 8, "add").with_widths(**{"in": 5}) == conv(5, 8, "add")


def test_widths_of_a_depthwise_convolution() -> None:
    spec = conv(8, 8, "add", groups=8)
    assert spec.depthwise
    assert spec.widths == {"out": 8}
    assert spec.with_widths(out=5) == conv(5, 5, "add", groups=5)
    with pytest.raises(ValueError, match=r"no width axis \['in'\]"):
        spec.with_widths(in_=5)


def test_a_depthwise_convolution_with_a_multiplier_has_one_width() -> None:
    spec = conv(8, 16, groups=8)
    assert spec.depthwise
    assert spec.widths == {"out": 16}
    assert spec.with_widths(out=10) == conv(5, 10, groups=5)
    assert spec.family == spec.with_widths(out=10).family != conv(8, 8, groups=8).family
    with pytest.raises(ValueError, match="11 filters do not divide into 2 a channel"):
        spec.with_widths(out=11)


def test_widths_of_a_walk_scale_what_it_reads() -> None:
    shuffled = View.identity((1, 4, 6, 5)).permuted((0, 2, 1, 3))
    plain = [TensorSpec(s, "plain") for s in (shuffled.base, shuffled.shape)]
    spec = KernelSpec("strided", (plain[0],), plain[1], (("walk0", shuffled.walk.to_attr()),))
    narrow = spec.with_widths(out=3)
    assert narrow.inputs[0].shape == (1, 4, 3, 5)
    assert narrow.output.shape == (1, 3, 4, 5)
    assert narrow.family == spec.family


def test_an_operand_with_one_value_a_pixel_keeps_its_width() -> None:
    image, gate = TensorSpec((1, 8, 4, 4)), TensorSpec((1, 1, 4, 4))
    narrow = KernelSpec("elementwise", (image, gate), image, (), ("mul",)).with_widths(out=5)
    assert [t.channels for t in narrow.inputs] == [5, 1]


def test_a_depthwise_convolution_of_one_channel_is_a_plain_one() -> None:
    spec = conv(8, 8, groups=8).with_widths(out=1)
    assert spec == conv(1, 1)
    assert not spec.depthwise


def test_widths_of_a_concat_are_its_total() -> None:
    spec = concat(8, 8, 16)
    assert spec.with_widths(out=16) == concat(4, 4, 8)
    for total in range(3, 40):
        parts = [t.channels for t in spec.with_widths(out=total).inputs]
        assert sum(parts) == total
        assert min(parts) >= 1


@pytest.mark.parametrize("width", [0, -1])
def test_no_width_below_one(width: int) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        conv(3, 8).with_widths(out=width)


def test_everything_but_the_widths_makes_the_family() -> None:
    specs = [
        conv(8, 8),
        conv(8, 8, groups=8),
        conv(8, 8, "relu"),
        conv(8, 8, "add"),
        conv(8, 8, size=9),
        conv(8, 8, n=2),
        replace(conv(8, 8), inputs=(TensorSpec((1, 8, 8, 8), "plain"),)),
        replace(conv(8, 8), output=TensorSpec((1, 8, 8, 8), "plain")),
        dense(8, 8),
        pool(8),
        concat(4, 4),
        concat(4, 2, 2),
    ]
    assert len({s.family for s in specs}) == len(specs)
    assert len({s.key for s in specs}) == len(specs)


def test_one_channel_keeps_depthwise_and_plain_tables_apart() -> None:
    """Their specs are equal there, but the axes of the tables are not."""
    depthwise, plain = conv(8, 8, groups=8), conv(8, 8)
    assert depthwise.family != plain.family
    assert depthwise.with_widths(out=1) == plain.with_widths(in_=1, out=1)


@given(st.integers(1, 30), st.integers(1, 30))
def test_a_family_does_not_depend_on_widths(cin: int, cout: int) -> None:
    assert conv(cin, cout, "mul").family == conv(7, 9, "mul").family
    if cin > 1:
        assert conv(cin, cin, groups=cin).family == conv(8, 8, groups=8).family


def test_attributes_in_any_order_are_one_kernel() -> None:
    data = conv(3, 8).to_json()
    data["attrs"] = dict(reversed(data["attrs"].items()))
    assert KernelSpec.from_json(data) == conv(3, 8)


def test_macs() -> None:
    assert conv(3, 8, n=2).macs == 2 * 8 * 64 * 3 * 9
    assert conv(8, 8, groups=8).macs == 8 * 64 * 9
    assert dense(20, 5).macs == 100
    flattened = kernel("dense", [TensorSpec((2, 20, 3, 3))], TensorSpec((2, 5), "plain"), "bias")
    assert flattened.macs == 2 * 180 * 5
    assert pool(8).macs == concat(3, 4).macs == 0


def test_attributes_by_name() -> None:
    assert conv(3, 8).attr("kernel") == (3, 3)
    with pytest.raises(KeyError):
        conv(3, 8).attr("colour")


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        (conv(3, 8, "add", "relu"), "conv2d 3x3 3→8 @8x8+add+relu"),
        (conv(8, 8, groups=8), "conv2d 3x3 dw 8 @8x8"),
        (dense(20, 5), "dense 20→5 @1"),
        (concat(3, 5), "concat 8 @4x4"),
    ],
)
def test_how_reports_name_it(spec: KernelSpec, text: str) -> None:
    assert str(spec) == text


def test_a_slice_of_channels_costs_what_it_takes() -> None:
    def part(channels: int, start: int, count: int) -> KernelSpec:
        tensors = (TensorSpec((1, channels, 4, 4)),), TensorSpec((1, count, 4, 4))
        return KernelSpec("channel_slice", *tensors, (("start", start),))

    spec = part(20, 8, 12)
    assert spec.widths == {"out": 12}
    assert spec.with_widths(out=5) == part(13, 8, 5)
    assert spec.with_widths(out=30) == part(38, 8, 30)
    assert spec.family == part(13, 8, 5).family == part(12, 0, 4).family


def pixelwise(density: int | None = None, **window: Any) -> KernelSpec:
    window = {"kernel": (1, 1), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "groups": 1, **window}
    attrs = {} if density is None else {"density": density}
    x, y = TensorSpec((1, 20, 8, 8)), TensorSpec((1, 30, 4, 4))
    return kernel("conv2d", [x], y, "bias", **attrs, **window)


def test_a_density_makes_another_kernel_and_leaves_the_keys_of_others_alone() -> None:
    """Those of the other are hashes of what was in them before there were densities."""
    whole, stored = pixelwise(), pixelwise(25)
    text = json.dumps(whole.to_json(), sort_keys=True, separators=(",", ":"))
    assert "density" not in text
    assert (whole.key, whole.family) == ("69f6acfbe61f4caf", "ca7617fa0720b3ea")
    assert len({whole.family, stored.family, pixelwise(26).family}) == 3
    assert stored.with_density(None) == whole
    assert whole.with_density(25) == stored == KernelSpec.from_json(json.loads(json.dumps(stored.to_json())))
    assert stored.with_widths(in_=7, out=9).density == 25
    assert stored.with_widths(in_=7, out=9).family == stored.family
    assert (stored.macs, str(stored)) == (whole.macs // 4, "conv2d 1x1/2 25% 20→30 @4x4")
    assert dense(20, 5).with_density(50).macs == dense(20, 5).macs // 2


@pytest.mark.parametrize("density", [0, 101, 2.5, "25"])
def test_a_density_is_a_whole_number_of_per_cent(density: Any) -> None:
    with pytest.raises(ValueError, match="a density is a whole number of per cent, from 1 to 100"):
        dense(20, 5).with_density(density)


@pytest.mark.parametrize("window", [{"kernel": (3, 3)}, {"padding": (1, 1)}, {"groups": 2}])
def test_only_filters_of_one_pixel_are_stored_in_blocks(window: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="only the filters of a convolution of one pixel"):
        pixelwise(25, **window)
    with pytest.raises(ValueError, match="avg_pool2d has the attributes"):
        pool(4).with_density(25)
