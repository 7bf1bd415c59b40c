"""The table of operators: a spec is checked against its own when it is made."""

from __future__ import annotations

import pytest

from edgeprune.graph.ops.table import OPERATORS
from edgeprune.graph.spec import KernelSpec, TensorSpec

IMAGE = TensorSpec((1, 8, 4, 4))
ROW = TensorSpec((1, 8), "plain")
WINDOW = {"kernel": (3, 3), "stride": (1, 1), "padding": (1, 1)}


def spec(op: str, epilogue: tuple[str, ...] = (), tensor: TensorSpec = IMAGE, **attrs: object) -> KernelSpec:
    return KernelSpec(op, (tensor,), tensor, tuple(sorted(attrs.items())), epilogue)  # type: ignore[arg-type]


def test_an_operator_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no operator 'conv2'"):
        spec("conv2")


@pytest.mark.parametrize(
    ("op", "attrs", "why"),
    [
        ("conv2d", WINDOW, r"conv2d has the attributes \['dilation', 'groups', .*'stride'\], not \['kernel',"),
        ("max_pool2d", {**WINDOW, "dilation": (1, 1)}, "max_pool2d has the attributes"),
        ("dense", {"depth": 3}, r"dense has the attributes \[\], not \['depth'\]"),
        ("channel_shuffle", {"rows": 2, "columns": 4}, "rows or columns"),
        ("strided", {"shift": 1}, r"not \['shift'\]"),
    ],
)
def test_attributes_that_are_not_an_operators_are_refused(op: str, attrs: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        spec(op, **attrs)


def test_what_nothing_can_be_fused_into_has_no_epilogue() -> None:
    with pytest.raises(ValueError, match="nothing can be fused into concat"):
        spec("concat", ("relu",))
    with pytest.raises(ValueError, match="nothing can be fused into recurrent"):
        spec("recurrent", ("bias", "relu"), ROW, kind="gru", reverse=False)
    assert spec("recurrent", ("bias",), ROW, kind="gru", reverse=False).epilogue == ("bias",)
    assert spec("dense", ("bias", "relu"), ROW).epilogue == ("bias", "relu")


@pytest.mark.parametrize("name", OPERATORS)
def test_every_operator_is_named_as_the_table_has_it(name: str) -> None:
    assert OPERATORS[name].name == name
    assert type(OPERATORS[name]).__doc__, "a family says what it is"


def test_what_may_be_overwritten_is_read_where_it_is_written() -> None:
    assert {name for name, op in OPERATORS.items() if op.overwrites} == {"elementwise", "strided"}


def test_what_a_batch_norm_folds_into_has_weights() -> None:
    assert {n for n, op in OPERATORS.items() if op.folds} == {"conv2d", "conv3d", "conv_transpose2d", "dense"}
