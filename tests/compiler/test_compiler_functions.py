"""Every elementwise function in every algebra against torch: numpy's, a CPU's (machine code), a GPU's (CUDA source)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import fake_nvrtc
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from kernel_harness import TARGETS, Array, apply_epilogue, kernel, run
from numpy.typing import NDArray
from torch import Tensor

from edgeprune.compiler.cuda.launch import Launch
from edgeprune.compiler.cuda.nvrtc import compile_cubin
from edgeprune.compiler.cuda.source import cuda_source
from edgeprune.compiler.functions import ACTIVATIONS, OPERATIONS
from edgeprune.compiler.kernels.registry import rule_named, schedules_for
from edgeprune.graph import spec as graph_spec
from edgeprune.graph.spec import KernelSpec, TensorSpec
from edgeprune.targets import Target, load_target

OF_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "abs": torch.abs,
    "acos": torch.acos,
    "acosh": torch.acosh,
    "asin": torch.asin,
    "asinh": torch.asinh,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "ceil": torch.ceil,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "erfc": torch.erfc,
    "floor": torch.floor,
    "frac": torch.frac,
    "isinf": lambda x: x.isinf().double(),
    "isnan": lambda x: x.isnan().double(),
    "round": torch.round,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "tan": torch.tan,
    "trunc": torch.trunc,
    "exp": torch.exp,
    "log": torch.log,
    "mish": F.mish,
    "softplus": F.softplus,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "sign": torch.sign,
    "square": torch.square,
    "relu": F.relu,
    "relu6": F.relu6,
    "clip:-1.0,2.5": lambda x: x.clamp(-1.0, 2.5),
    "clip:-inf,1.0": lambda x: x.clamp(max=1.0),
    "clip:0.5,inf": lambda x: x.clamp(min=0.5),
    "leaky_relu:0.2": lambda x: F.leaky_relu(x, 0.2),
    "elu:1.5": lambda x: F.elu(x, 1.5),
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "plus:-0.75": lambda x: x - 0.75,
    "times:3.0": lambda x: x * 3.0,
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "tanh": torch.tanh,
}
OF_TWO: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "rsub": torch.rsub,
    "mul": torch.mul,
    "div": torch.div,
    "rdiv": lambda x, y: y / x,
    "max": torch.maximum,
    "min": torch.minimum,
    "prelu": lambda x, y: torch.where(x < 0, x * y, x),
}
STEPS = (*OF_ONE, *OF_TWO)
ANGLES = ("sin", "cos", "tan")
TIGHT = {"exp", "log", "sqrt", "square", "rsqrt", "reciprocal", "erf", "sinh", "cosh", *ANGLES}
TIGHT |= {"asin", "acos", "atan", "asinh", "acosh", "atanh"}
"""Functions whose kernels are right to the last digits, since others are made of them."""
EXACT = {"floor", "ceil", "trunc", "round", "frac", "isinf", "isnan"}

SPECIAL = [0.0, -0.0, 3.0, -3.0, 6.0, 88.0, -88.0, 89.0, -89.0, 104.0, -104.0, 1e4, -1e4, 1e18, -1e18, 1e30, -1e30]
SPECIAL += [1e-30, -1e-30, np.inf, -np.inf, 1.0, -1.0, 0.5, -0.5, 1.5, -2.5, 0.49999997, -0.49999997]
SPECIAL += [2097151.5, -2097152.5, 8388609.0, -8388609.0]
X = np.concatenate([np.linspace(-30, 30, 496), np.geomspace(1e-18, 80, 251), SPECIAL]).astype(np.float32).reshape(1, -1)
"""Values that every function gets; there and at the infinities a kernel keeps to what torch gives."""
Y = np.roll(X, 97) + np.float32(0.5)
PLAIN = TensorSpec(X.shape, "plain")

every_step = pytest.mark.parametrize("step", STEPS)


def operands_of(step: str) -> list[Array]:
    return [Y] if step in OF_TWO else []


def spec_of(step: str) -> KernelSpec:
    return kernel("elementwise", [PLAIN] * (1 + len(operands_of(step))), PLAIN, (step,))


def torch_says(step: str) -> NDArray[np.float64]:
    x, *rest = (torch.from_numpy(v).double() for v in (X, *operands_of(step)))
    return (OF_TWO[step](x, *rest) if step in OF_TWO else OF_ONE[step](x)).numpy()


def assert_kernel(step: str, actual: Array) -> None:
    """Within fp32 of torch where a kernel promises a value: logarithms of finite numbers alone, of angles up to 1e4."""
    with np.errstate(over="ignore"):
        expected = torch_says(step).astype(np.float32)
    promised = np.isfinite(expected) if step in ("log", "asinh", "acosh") else ~np.isnan(expected)
    if step in ANGLES:
        promised &= np.abs(X) <= 1e4
    assert promised.mean() > (0.3 if step in ("acos", "acosh", "asin", "atanh") else 0.6)
    rtol, atol = (0, 0) if step in EXACT else (1e-6, 2e-7) if step in TIGHT else (2e-5, 2e-6)
    np.testing.assert_allclose(actual[promised], expected[promised], rtol=rtol, atol=atol, err_msg=step)


def test_no_function_is_left_out() -> None:
    assert {step.partition(":")[0] for step in OF_ONE} == set(ACTIVATIONS)
    assert tuple(OF_TWO) == tuple(OPERATIONS) == graph_spec.OPERATIONS


@every_step
def test_the_formulas_are_those_of_torch(step: str) -> None:
    """To double precision, NaN included: the formula, without what kernels approximate."""
    actual = apply_epilogue(torch.from_numpy(X).double(), (step,), operands_of(step)).numpy()
    # torch's softplus is the identity from 20 on, which is 2e-9 off, and ours rounds 1 + e ** x before the logarithm.
    rtol, atol = (1e-8, 1e-14) if step in ("softplus", "mish") else (1e-12, 1e-15)
    np.testing.assert_allclose(actual, torch_says(step), rtol=rtol, atol=atol)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@every_step
def test_kernels_of_a_cpu(target: Target, step: str) -> None:
    assert_kernel(step, run(spec_of(step), target, [X, *operands_of(step)]))


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("step", ANGLES)
def test_angles_of_many_turns(target: Target, step: str) -> None:
    """Up to 1e4, where the functions are zero or infinite, too."""
    values = np.concatenate([np.linspace(-1e4, 1e4, 20_001), np.arange(-6366, 6367) * (np.pi / 2)])
    x = values.astype(np.float32).reshape(1, -1)
    tensor = TensorSpec(x.shape, "plain")
    expected = OF_ONE[step](torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(run(kernel("elementwise", [tensor], tensor, (step,)), target, [x]), expected, 1e-6, 1e-9)


@pytest.mark.parametrize("target", TARGETS, ids=lambda t: t.name)
def test_what_is_no_number_is_found(target: Target) -> None:
    x = np.array([[np.nan, 1.0, np.inf, -np.inf, 0.0, -np.nan, 3e38, -3e38] * 5 + [np.nan]], np.float32)
    tensor = TensorSpec(x.shape, "plain")
    for step, expected in (("isnan", np.isnan(x)), ("isinf", np.isinf(x))):
        assert (run(kernel("elementwise", [tensor], tensor, (step,)), target, [x]) == expected).all(), step


@pytest.fixture(scope="module")
def gpu_kernels() -> tuple[str, dict[str, Launch]]:
    """The CUDA source of a kernel for every step, and how each is started."""
    target, sources, launches = load_target("jetson_orin_nano"), [], {}
    for number, step in enumerate(STEPS):
        schedule, symbol = schedules_for(spec_of(step), target)[0], f"f{number}"
        function = rule_named(schedule).build(symbol, spec_of(step), schedule, target)
        source, launches[step] = cuda_source(symbol, function, target)
        sources.append(source)
    return "\n".join(sources), launches


def test_kernels_of_a_gpu(gpu_kernels: tuple[str, dict[str, Launch]], tmp_path: Path) -> None:
    """The very CUDA source, compiled for this computer's processor."""
    source, launches = gpu_kernels
    (tmp_path / "kernels.so").write_bytes(fake_nvrtc.processor_library(source))
    library = ctypes.CDLL(str(tmp_path / "kernels.so"))
    for step, launch in launches.items():
        result = np.full_like(X, np.nan)
        buffers = {"in0": X, "in1": Y, "out": result}
        addresses = [ctypes.c_void_p(buffers[name].ctypes.data) for name in launch.parameters]
        pointers = (ctypes.c_void_p * len(addresses))(*(ctypes.addressof(a) for a in addresses))
        getattr(library, f"launch_{launch.kernel}")(pointers, launch.blocks, launch.threads)
        assert_kernel(step, result)


def test_nvrtc_knows_the_functions(gpu_kernels: tuple[str, dict[str, Launch]]) -> None:
    pytest.importorskip("nvidia.cuda_nvrtc", reason="NVRTC is missing: pip install 'edgeprune[jetson]'")
    source, launches = gpu_kernels
    assert compile_cubin(source, "sm_87", [launch.kernel for launch in launches.values()])
