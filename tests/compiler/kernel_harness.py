"""Runs one kernel as the board does: buffers at 64 bytes, NaN in every value it has no business with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import tvm
from numpy.typing import NDArray
from numpy_algebra import NumpyAlgebra
from torch import Tensor

from edgeprune.compiler.functions import apply_step
from edgeprune.compiler.kernels.base import Schedule
from edgeprune.compiler.kernels.registry import rule_named, schedules_for
from edgeprune.compiler.layouts import block_count, from_blocked, stored_elements
from edgeprune.compiler.objects import machine_code
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.targets import Target, host_features, load_target

Array = NDArray[np.float32]
GUARD = 64  # values before and behind every buffer

TARGETS = tuple(
    t
    for t in map(load_target, ("x86_64_sse4", "x86_64_avx2", "x86_64_avx512"))
    if not t.missing_features(host_features())
)
"""The targets this computer can run."""


def noise(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def kernel(
    op: str,
    inputs: Sequence[TensorSpec],
    output: TensorSpec,
    epilogue: Sequence[str] = (),
    **attrs: Any,
) -> KernelSpec:
    return KernelSpec(op, tuple(inputs), output, tuple(sorted(attrs.items())), tuple(epilogue))


def run(
    spec: KernelSpec,
    target: Target,
    inputs: Sequence[Array],
    weight: Array | None = None,
    bias: Array | None = None,
    schedule: Schedule | None = None,
) -> Array:
    """The kernel's logical output for logical inputs; checks that nothing outside of it was written."""
    schedule = schedule or schedules_for(spec, target)[0]
    rule = rule_named(schedule)
    function = rule.build("k", spec, schedule, target)
    library = machine_code("k", function, target)
    constants = rule.pack(spec, schedule, target, weight, bias)
    assert [c.size for c in constants] == rule.constants(spec, schedule, target)
    stored = [_stored(x, t, target.lanes) for x, t in zip(inputs, spec.inputs, strict=True)]
    start = np.full(stored_elements(spec.output, target.lanes), np.nan, np.float32)
    if (over := schedule.get("in_place")) is not None:
        # The operand lies where the output will; what its own argument points to must not matter.
        start, stored[over] = stored[over], np.full_like(stored[over], np.nan)
    read = [_guarded(x) for x in (*stored, *constants)]
    before = [whole.tobytes() for whole, _ in read]
    scratch = rule.scratch(spec, schedule, target)
    used = [_guarded(np.full(scratch, np.nan, np.float32))] if scratch else []
    whole, result = _guarded(start)
    library["k"](*(tvm.runtime.from_dlpack(view) for _, view in (*read, *used)), tvm.runtime.from_dlpack(result))
    assert before == [w.tobytes() for w, _ in read], "the kernel writes into its inputs"
    for buffer, view in (*used, (whole, result)):
        around = np.concatenate([buffer[:GUARD], buffer[GUARD + view.size :]])
        assert np.isnan(around).all(), "the kernel writes past its output or its scratch"
    if spec.output.layout == "blocked":
        return from_blocked(result, spec.output.shape, target.lanes)
    return result.reshape(spec.output.shape)


def _stored(x: Array, tensor: TensorSpec, lanes: int) -> Array:
    """As the board keeps it, with NaN in the padding lanes."""
    if tensor.layout == "plain":
        return x.reshape(-1)
    n, c, h, w = x.shape
    blocks = block_count(c, lanes)
    padded = np.full((n, blocks * lanes, h, w), np.nan, np.float32)
    padded[:, :c] = x
    return padded.reshape(n, blocks, lanes, h, w).transpose(0, 1, 3, 4, 2).reshape(-1)


def _guarded(values: Array) -> tuple[Array, Array]:
    """A buffer with NaN on both sides of ``values``, and the view that holds them, on 64 bytes."""
    raw = np.full(values.size + 2 * GUARD + 16, np.nan, np.float32)
    skip = -(raw.ctypes.data // 4) % 16
    whole = raw[skip : skip + values.size + 2 * GUARD]
    view = whole[GUARD : GUARD + values.size]
    view[:] = values
    assert view.ctypes.data % 64 == 0
    return whole, view


def apply_epilogue(value: Tensor, epilogue: Sequence[str], operands: Sequence[Array]) -> Tensor:
    """A KernelSpec's epilogue in double precision (the bias is in ``value`` already)."""
    result, left = value.numpy(), (x.astype(np.float64) for x in operands)
    with np.errstate(all="ignore"):
        for step in epilogue:
            if step != "bias":
                result = apply_step(NumpyAlgebra(), step, result, left)
    return torch.from_numpy(result)


def assert_close(actual: Array, expected: Tensor, rtol: float = 1e-5) -> None:
    """Within ``rtol`` of the largest expected value; NaN anywhere fails."""
    reference = expected.numpy()
    assert actual.shape == reference.shape
    assert np.isfinite(actual).all(), f"{np.isnan(actual).sum()} of {actual.size} values are not finite"
    assert np.abs(actual - reference).max() <= rtol * max(np.abs(reference).max(), 1e-3)
