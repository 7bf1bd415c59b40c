"""Composed operators: what stands in for each gives torch's values, in the traced graph and compiled; channels are
followed through it as far as through what it is made of.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from long_tests import long
from torch import Tensor, nn

import edgeprune
from edgeprune.compiler.compile import compile_network
from edgeprune.errors import UnsupportedOperatorError
from edgeprune.graph.composed.table import COMPOSED
from edgeprune.graph.network import read_network
from edgeprune.graph.trace import trace
from edgeprune.targets import load_target

aten = torch.ops.aten
MASK = torch.rand(6, 7, generator=torch.Generator().manual_seed(1)) > 0.4


class Applied(nn.Module):
    """Functions of one image (2, 4, 6, 7), each a result; some also get the module."""

    def __init__(self, functions: dict[str, Callable[[Tensor], Any]]) -> None:
        super().__init__()
        self.first, self.functions = nn.Conv2d(3, 4, 1), functions
        self.register_buffer("mask", MASK)
        self.register_buffer("whole", torch.arange(42, dtype=torch.int32).reshape(6, 7) % 9 - 9)
        self.power = nn.Parameter(torch.tensor([2.5]))
        self.filters = nn.Parameter(torch.randn(4, 3, 2, 3, 2, generator=torch.Generator().manual_seed(2)))

    def forward(self, x: Tensor) -> list[Any]:
        x = self.first(x)
        given = {1: (x,), 2: (self, x)}
        return [f(*given[f.__code__.co_argcount]) for f in self.functions.values()]


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


FAMILIES: dict[str, dict[str, Callable[..., Any]]] = {
    "statistics": {
        "of a line": lambda x: x * (x[0, 0, 0].sum() + x[0, 0, 0].mean(0) + x[0, 1, :, 1].amax() - x[0, 1, 1].amin(0)),
        "product": lambda x: x.prod(2) + x[:1, :1, :2, :2].prod(),
        "var": lambda x: x.var((2, 3)),
        "var of all": lambda x: x.var(),
        "var, biased": lambda x: x.var(1, unbiased=False, keepdim=True),
        "var, correction": lambda x: torch.var(x, (2,), correction=2),
        "std": lambda x: x.std((2, 3), keepdim=True),
        "std of all": lambda x: x.std(),
        "std, biased": lambda x: x.std(3, unbiased=False),
        "var_mean": lambda x: sum(torch.var_mean(x, (2, 3))),
        "var_mean, one": lambda x: torch.var_mean(x, 2, unbiased=False)[0],
        "std_mean": lambda x: torch.std_mean(x, (1,), correction=0)[1],
        "std_mean, one": lambda x: torch.std_mean(x, 2, unbiased=True)[0],
        "normalize": lambda x: F.normalize(x, dim=1),
        "normalize, 1": lambda x: F.normalize(x.flatten(1), p=1.0),
        "norm": lambda x: x.norm(dim=1),
        "norm of all": lambda x: torch.norm(x, 2),
        "norm, 2 of all": lambda x: torch.ops.aten.norm.Scalar(x, 2),
        "norm, inf": lambda x: torch.linalg.vector_norm(x, math.inf, dim=(2, 3)),
        "rms": lambda x: F.rms_norm(x, (7,), torch.linspace(0.5, 1.5, 7), 1e-3),
        "rms, no weight": lambda x: F.rms_norm(x, (6, 7)),
        "logsumexp": lambda x: torch.logsumexp(100 * x, (2, 3)),
    },
    "pointwise": {
        "clamp_min": lambda x: x.clamp_min(-0.1),
        "clamp_max": lambda x: x.clamp_max(0.2),
        "clip": lambda x: torch.clip(x, -0.3, 0.3),
        "clamp_min, tensor": lambda x: torch.clamp_min(x, x.mean((2, 3), keepdim=True)),
        "clamp_max, tensor": lambda x: torch.clamp_max(x, x.flip(3)),
        "addcmul": lambda x: torch.addcmul(x, x.flip(2), x.flip(3), value=0.5),
        "addcdiv": lambda x: torch.addcdiv(x, x.flip(2), x.flip(3).exp(), value=2.0),
        "lerp": lambda x: torch.lerp(x, x.flip(3), 0.3),
        "lerp, tensor": lambda x: torch.lerp(x, x.flip(3), x.sigmoid()),
        "softshrink": lambda x: F.softshrink(x, 0.2),
        "celu": lambda x: F.celu(x, 0.7),
        "log_sigmoid": lambda x: F.logsigmoid(x),
        "expm1": lambda x: torch.expm1(x),
        "log1p": lambda x: torch.log1p(x.abs()),
        "log2": lambda x: torch.log2(x.exp()),
        "log10": lambda x: torch.log10(x.exp()),
        "exp2": lambda x: torch.exp2(x),
        "power of a number": lambda x: torch.pow(3.0, x),
        "cube": lambda x: x**3,
        "reciprocal": lambda x: x.exp() ** -1,
        "1 / root": lambda x: x.exp() ** -0.5,
        "other power": lambda x: x.sigmoid() ** 1.7,
        "power of a parameter": lambda m, x: F.avg_pool2d(x.clamp(min=1e-6) ** m.power, 2) ** (1.0 / m.power),
        "glu": lambda x: F.glu(x, 1),
        "no power": lambda x: x * x**0,
        "fifth power": lambda x: x**5,
        "twelfth power": lambda x: (0.5 * x) ** 12.0,
        "odd negative power": lambda x: (x.sign() + 0.25 * x) ** -3,
        "even negative power": lambda x: (x.sign() + 0.25 * x) ** -6,
        "negative power": lambda x: x.exp() ** -1.5,
        "atan2": lambda x: torch.atan2(x, x.flip(3)),
        "atan2 on axes": lambda x: torch.atan2(x.round() + 0, x.flip(2).round() + 0),
        "atan2 of integers": lambda m, x: torch.atan2((3 * x).int(), m.whole),
        "hypot": lambda x: torch.hypot(x, x.flip(2)),
        "logaddexp": lambda x: torch.logaddexp(50 * x, 50 * x.flip(3)),
        "decimals": lambda x: torch.round(x, decimals=2),
        "decimals before the point": lambda x: torch.round(100 * x, decimals=-1),
        "floor and others": lambda x: torch.floor(3 * x) + torch.ceil(x) + torch.trunc(5 * x) + torch.round(2 * x),
        "fraction": lambda x: torch.frac(3 * x),
        "angles": lambda x: torch.sin(9 * x) + torch.cos(7 * x) + torch.tan(x.clamp(-1, 1)),
        "angles of sines": lambda x: torch.asin(x.tanh()) + torch.acos(x.tanh()) + torch.atan(4 * x),
        "hyperbolic": lambda x: torch.sinh(x) + torch.cosh(x) + torch.asinh(x) + torch.acosh(1 + x.abs()),
        "area of a tangent": lambda x: torch.atanh(0.9 * x.tanh()),
        "error function": lambda x: torch.erf(x) + torch.erfc(2 * x),
        "not a number": lambda x: torch.isnan(x.relu() / x.relu()).float() + torch.isinf(1e38 * (9 * x).square()),
    },
    "division": {
        "floor": lambda x: torch.div(x, 0.3, rounding_mode="floor"),
        "trunc": lambda x: torch.div(x, -0.3, rounding_mode="trunc"),
        "neither": lambda x: torch.div(x, 3, rounding_mode=None),
        "floor, tensor": lambda x: torch.div(x, x.flip(3) + 3, rounding_mode="floor"),
        "trunc, tensor": lambda x: torch.div(5 * x, x.flip(3).exp(), rounding_mode="trunc"),
        "floor, Scalar": lambda x: torch.ops.aten.div.Scalar_mode(x, 0.25, rounding_mode="floor"),
        "floor of integers": lambda x: torch.div((30 * x).int(), 7, rounding_mode="floor").float(),
        "trunc of integers": lambda m, x: torch.div((30 * x).int(), m.whole, rounding_mode="trunc").float(),
        "by themselves": lambda x: ((30 * x).int() * 0 + 49).div(49, rounding_mode="floor").float(),
        "floor_divide": lambda x: (30 * x).int() // 4 + 0.5,
        "floor_divide, tensor": lambda m, x: ((30 * x).int() // m.whole).float(),
        "floor_divide, Scalar": lambda x: torch.ops.aten.floor_divide.Scalar(x, 0.7),
        "remainder": lambda x: x % 0.3,
        "remainder, negative": lambda x: x % -0.7,
        "remainder, tensor": lambda x: torch.remainder(4 * x, x.flip(3) - 5),
        "remainder of a number": lambda x: torch.remainder(10, x.exp()),
        "remainder of integers": lambda x: ((30 * x).int() % 7 + (30 * x).int() % -5).float(),
        "remainder, integers": lambda m, x: ((30 * x).long() % m.whole).float(),
        "fmod": lambda x: torch.fmod(x, 0.3) + torch.fmod(x, -0.7),
        "fmod, tensor": lambda x: torch.fmod(4 * x, x.flip(3) - 5),
        "fmod of integers": lambda x: torch.fmod((30 * x).int(), 7).float(),
        "fmod, integers": lambda m, x: torch.fmod((30 * x).int(), m.whole).float(),
    },
    "choices": {
        "gt": lambda x: (x > 0.1).float(),
        "ge": lambda x: (x >= x.flip(3)).float(),
        "lt": lambda x: torch.where(x < 0.1, x, -x),
        "le": lambda x: torch.where(x <= x.flip(2), 2.0, 3.0),
        "ge, number": lambda x: x * (x >= 0),
        "gt, tensor": lambda x: torch.where(x > x.mean(), x, 0.5),
        "lt, tensor": lambda x: torch.where(x < x.mean(), 0.5, x),
        "le, number": lambda x: x.masked_fill(x <= 0, 0.25),
        "eq": lambda x: (x.relu() == 0).float(),
        "ne": lambda x: (x.relu() != 0).float(),
        "eq, tensor": lambda x: (x == x.flip(3)).float(),
        "ne, tensor": lambda x: torch.where(x != x.flip(3), x, 1.0),
        "and": lambda x: torch.where((x > 0) & (x < 0.5), x, 0.0),
        "or": lambda x: torch.where((x > 0.5) | (x < 0), x, 0.0),
        "xor": lambda x: torch.where((x > 0) ^ (x.flip(3) > 0), x, 0.0),
        "logical": lambda x: torch.logical_and(x > 0, torch.logical_or(x < 0.5, x.flip(2) > 0)).float(),
        "logical xor, not": lambda x: torch.logical_xor(x > 0, torch.logical_not(x > 0.3)).float(),
        "bits": lambda x: torch.bitwise_and(x > 0, torch.bitwise_or(x < 0.5, torch.bitwise_xor(x > 0.1, x < 1))) * x,
        "logical bits": lambda x: torch.bitwise_not(x > 0) * x,
        "any and all": lambda x: (
            (x > 1).any(1, keepdim=True).float() + (x > -1).all(-1, keepdim=True).float() + (x > 2).any().float()
        ),
        "some of several": lambda x: (
            torch.any(x > 1, (2, 3)).float() + torch.all(x > -2, (2, 3)).float() + (x > 0).all()
        ),
        "integers": lambda x: ((3 * x).to(torch.int32) * 2 - 1).clamp(-4, 4).float() + (x > 0).to(torch.int64),
        "integers, copied": lambda x: torch.ops.aten._to_copy.default(3 * x, dtype=torch.int32).float(),
        "integers of 8 bits": lambda x: (x * 300).to(torch.int32).to(torch.int8).float(),
        "integers as truth": lambda x: x * (x * 2).to(torch.int32).to(torch.bool),
        "not": lambda x: x.masked_fill(~(x > 0), -1.0),
        "a constant mask": lambda m, x: torch.where(m.mask, x, x.flip(3)),
        "infinity where a constant mask is": lambda m, x: x.masked_fill(m.mask, float("-inf")).flatten(2).softmax(-1),
        "a computed and a constant mask": lambda m, x: torch.where(m.mask & (x > 0), x, 0.0),
        "constants that are computed": lambda x: torch.where(x > 0, torch.tensor(3.0) * 2, torch.tensor([-1.0]).exp()),
        "a constant that is infinite": lambda x: torch.where(x > 0, torch.tensor(float("-inf"))[None], x).amax(1),
        "masked_fill, tensor": lambda m, x: x.masked_fill(m.mask, torch.tensor(2.0)),
        "masked_fill in place": lambda m, x: (x + 1).masked_fill_(m.mask, 0.5),
        "threshold": lambda x: F.threshold(x, 0.1, 20.0),
        "threshold in place": lambda x: F.threshold(x + 1, 1.2, 0.5, inplace=True),
        "looked at": lambda x: torch.where((x[:, :1] > 0).expand_as(x).transpose(2, 3), x.transpose(2, 3), 0.0),
        "hardshrink": lambda x: F.hardshrink(x, 0.2),
    },
    "resampling": {
        "adaptive average": lambda x: F.adaptive_avg_pool2d(x, (4, 3)),
        "adaptive average of a line": lambda x: F.adaptive_avg_pool1d(x[:, :, 0], 3),
        "windows over the edge": lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        "of a line": lambda x: F.avg_pool1d(x[:, :, 0], 3, 2, 1, ceil_mode=True),
        "another divisor": lambda x: F.avg_pool2d(x, 2, divisor_override=3),
        "bicubic": lambda x: F.interpolate(x, (9, 5), mode="bicubic"),
        "bicubic, corners": lambda x: F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=True),
        "bicubic, antialias": lambda x: F.interpolate(x, (4, 4), mode="bicubic", antialias=True),
        "bilinear, antialias": lambda x: F.interpolate(x, (4, 4), mode="bilinear", antialias=True),
        "bilinear by a factor": lambda x: F.interpolate(x, scale_factor=1.7, mode="bilinear"),
        "nearest by a factor": lambda x: F.interpolate(x, scale_factor=1.7),
        "nearest-exact": lambda x: F.interpolate(x, (4, 9), mode="nearest-exact"),
        "linear": lambda x: F.interpolate(x[:, :, 0], 11, mode="linear"),
        "nearest of a line": lambda x: F.interpolate(x[:, :, 0], 11),
        "nearest-exact of a line": lambda x: F.interpolate(x[:, :, 0], 3, mode="nearest-exact"),
    },
    "volumes": {
        "trilinear": lambda x: F.interpolate(x.unsqueeze(2).expand(-1, -1, 3, -1, -1), (4, 3, 8), mode="trilinear"),
        "nearest": lambda x: F.interpolate(x.reshape(2, 2, 2, 6, 7), scale_factor=2),
        "nearest-exact": lambda x: F.interpolate(x.reshape(2, 2, 2, 6, 7), (3, 4, 4), mode="nearest-exact"),
        "adaptive": lambda x: F.adaptive_avg_pool3d(x.reshape(2, 2, 2, 6, 7), (2, 4, 3)),
        "average": lambda x: F.avg_pool3d(x.reshape(2, 2, 2, 6, 7), 2, 2, 1, ceil_mode=True),
        "transposed": lambda m, x: F.conv_transpose3d(x.unsqueeze(2), m.filters, stride=2, padding=(0, 1, 0)),
        "transposed, beyond": lambda m, x: F.conv_transpose3d(
            x.reshape(2, 4, 2, 3, 7), m.filters, m.filters[0, :, 0, 0, 0], (1, 2, 2), (0, 1, 0), (0, 1, 0)
        ),
        "transposed, dilated": lambda m, x: F.conv_transpose3d(x.reshape(2, 4, 3, 2, 7), m.filters, dilation=(1, 2, 1)),
    },
    "windows": {
        "channels beside, reflected": lambda x: F.pad(x.permute(2, 3, 0, 1), (1, 1)).permute(2, 3, 0, 1),
        "before the batch": lambda x: F.pad(x, (0, 0, 0, 0, 1, 0, 0, 1), value=0.5),
        "volumes by their own": lambda x: (
            F.pad(x[None], (1, 2, 0, 1, 1, 1), mode="replicate") + F.pad(x[None], (2, 1, 1, 0, 1, 1), mode="circular")
        ),
        "volumes reflected": lambda x: F.pad(x[None], (1, 2, 0, 1, 1, 1), mode="reflect"),
        "dilated maximum": lambda x: F.max_pool2d(x, 2, 1, 1, dilation=2),
        "dilated maximum of a line": lambda x: F.max_pool1d(x[:, :, 0], 2, 2, dilation=3),
        "adaptive maximum": lambda x: F.adaptive_max_pool2d(x, (4, 3)),
        "adaptive maximum of a line": lambda x: F.adaptive_max_pool1d(x[:, :, 0], 3),
        "channels beside": lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 1)),
        "channels and rows": lambda x: F.pad(x, (1, 0, 0, 2, 0, 3), value=0.5),
        "constant_pad_nd": lambda x: torch.constant_pad_nd(x, (0, 0, 0, 0, 1, 1), 2.0),
        "new_zeros": lambda x: torch.cat([x, x.new_zeros(2, 1, 6, 7)], 1),
        "new_ones": lambda x: torch.cat([x, x.new_ones(2, 1, 6, 7)], 1),
        "new_full": lambda x: torch.cat([x, x.new_full((2, 1, 6, 7), 3.0)], 1),
        "ones_like": lambda x: x + torch.ones_like(x) * 2,
        "full_like": lambda x: torch.cat([x, torch.full_like(x, 0.3), torch.zeros_like(x)], 1),
        "repeat_interleave": lambda x: x.repeat_interleave(2, 1) + x.repeat_interleave(2, -3),
    },
    "ordering": {
        "argmax, argmin": lambda x: (x.argmax(1, keepdim=True) + x.round().argmin(1, keepdim=True)).float(),
        "argmax of everything": lambda x: x.argmax().float() * x,
        "maxima and where": lambda x: (m := x.round().max(2)).values + m.indices,
        "minima and where": lambda x: (m := x.min(-1, keepdim=True)).values + m.indices,
        "minima alone": lambda x: x.min(1)[0],
        "sorted": lambda x: (s := x.round().sort(stable=True, dim=3, descending=True))[0] + s[1],
        "sorted upwards": lambda x: (s := x.sort(2))[0] - s[1],
        "largest": lambda x: (t := x.topk(3, 3))[0] + t[1],
        "smallest": lambda x: x.topk(2, 1, largest=False)[0],
        "gathered": lambda x: x.gather(2, x.argsort(2)) + x.gather(1, x[:, :2].argmax(1, keepdim=True)),
        "gathered by constants": lambda x: x.gather(1, torch.tensor([[[[2]], [[0]]]]).expand(2, 2, 6, 7)),
        "selected": lambda x: x.index_select(3, (x[0, 0, 0].relu() + 1).long()),
        "looked up": lambda x: F.embedding((3 * x[:, 0, 0].abs()).long().clamp(0, 5), x[0, 0]),
        "scattered": lambda x: x.scatter(2, x[:, :, :1].argmax(1, keepdim=True).expand(2, 4, 1, 7), x[:, :, :1]),
        "scattered numbers": lambda x: x.scatter(2, x[:, :, :2].argsort(2), 0.5),
        "scattered sums": lambda x: x.scatter_reduce(1, x[:, :2].argsort(1), x[:, 2:], "sum"),
        "scattered products": lambda x: x.scatter_reduce(1, x.argsort(1) // 2, x, "prod"),
        "scattered extremes": lambda x: (
            x.scatter_reduce(1, x.argsort(1) // 2, x.flip(2), "amax")
            + x.scatter_reduce(2, x.argsort(2) // 2, x.flip(3), "amin")
        ),
        "triangles": lambda x: x.tril(1) + x.triu(-2),
        "tiled": lambda x: x.tile((2, 1)) + torch.tile(x, (1, 1, 2, 1)),
        "windows": lambda x: (
            x.unfold(2, 3, 2).sum((2, -1), keepdim=True)[..., 0]
            + x.unfold(3, 2, 5).mean((-1, -2), keepdim=True)[..., 0]
        ),
        "extremes of a line": lambda x: (
            x * (x[0, 0, 0].argmax() + sum(x[0, 0, 0].max(0)) + sum(x[0, 1, 1].min(-1, True)))
        ),
        "shifted by name": lambda x: torch.bitwise_right_shift(
            torch.bitwise_left_shift((9 * x).int().abs(), (x > 0).int()), (x < 1).int()
        ).float(),
        "shifted": lambda x: (((9 * x).int().abs() << (x > 0).int()) >> (3 * x.sigmoid()).int()).float(),
    },
    "products": {
        "with a vector": lambda x: (
            x @ x[0, 0, 0] + x[0, 0, :, 0] @ x.mT[:, :, 1:7].transpose(2, 3)[..., :6].transpose(2, 3)
        ),
        "three operands": lambda x: torch.einsum("nchw,ncij,nchj->nhi", x, x.flip(2), x),
        "no result": lambda x: torch.einsum("nchw,ncjw", x, x.flip(2)),
        "one operand": lambda x: torch.einsum("nchw->nwc", x),
        "addmm": lambda x: torch.addmm(x[0, 0], x[0, 1] @ x[0, 2].t(), x[0, 3], beta=0.5, alpha=2.0),
        "baddbmm": lambda x: torch.baddbmm(x[:, 0], x[:, 1] @ x[:, 2].mT, x[:, 3], beta=2.0),
        "causal attention": lambda x: F.scaled_dot_product_attention(x, x.flip(2), x, is_causal=True),
        "attention with a constant mask": lambda m, x: F.scaled_dot_product_attention(
            x, x, x, attn_mask=(m.mask[:, :6] | torch.eye(6, dtype=torch.bool))
        ),
    },
}
X = torch.randn(2, 3, 6, 7, generator=torch.Generator().manual_seed(2))
CASES = [(family, name) for family, functions in FAMILIES.items() for name in functions]


def applied(functions: dict[str, Callable[..., Any]]) -> Applied:
    torch.manual_seed(3)
    return Applied(functions).eval()


def recorded(module: nn.Module) -> set[Any]:
    """Operators as the exporter records them, before anything is composed."""
    program = torch.export.export(module, (X,), strict=False)
    return {n.target for n in program.graph.nodes if n.op == "call_function"} - {operator.getitem}


@pytest.mark.parametrize(("family", "name"), CASES)
def test_the_traced_graph_gives_what_torch_gives(family: str, name: str) -> None:
    module = applied({name: FAMILIES[family][name]})
    program = trace(module, (X,))
    with torch.no_grad():
        (expected,), (found,) = module(X.clone()), program.module(check_guards=False)(X.clone())
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-6)


def test_every_composition_is_tried() -> None:
    tried: set[Any] = set()
    for functions in FAMILIES.values():
        tried |= recorded(applied(functions))
    # Other names of one operator, which other exporters record.
    twins = {
        o
        for o in COMPOSED
        if any(
            str(o).split(".")[1] == str(t).split(".")[1] and COMPOSED[t] is COMPOSED[o] for t in tried & set(COMPOSED)
        )
    }
    assert sorted(map(str, set(COMPOSED) - tried - twins)) == []


@pytest.mark.parametrize("family", long(FAMILIES, ["choices", "ordering"]))
def test_compiled_they_give_what_torch_gives(family: str, tmp_path) -> None:
    module = applied(FAMILIES[family])
    compile_network(read_network(module, (X,)), load_target("host"), tmp_path / "bundle")
    with edgeprune.load_bundle(tmp_path / "bundle") as program:
        found = program(X.numpy())
    with torch.no_grad():
        expected = module(X.clone())
    for name, a, b in zip(FAMILIES[family], found, expected, strict=True):
        torch.testing.assert_close(
            torch.from_numpy(a), b, rtol=1e-4, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


NUMBERS: dict[str, Callable[[Tensor], Tensor]] = {
    "a count": lambda x: (x > 0).sum(1),
    "truth values": lambda x: (x > 0) & (x < 1),
    "a mask of attention": lambda x: F.scaled_dot_product_attention(
        x, x, x, attn_mask=(x @ x.mT > 0) | torch.eye(6, dtype=torch.bool)
    ),
    "infinity and nothing else": lambda x: (
        (-(x - 1).relu().reciprocal() == float("-inf")) | ((x - 1).relu().reciprocal() == float("inf"))
    ),
    "a shift that wraps": lambda x: ((60 * x.sigmoid()).to(torch.int8) << (x > 0).to(torch.int8) * 2).float(),
    "below everything": lambda x: x.masked_fill(x > 1, float("-inf")).amax(1),
    "above everything": lambda x: torch.where(x > 0, x, float("inf")).amin((1, 2, 3)),
    "integers chosen": lambda x: torch.where(x > 0, (3 * x).long(), 1),
    "integers as truth": lambda x: torch.where((x > 0) & ((2 * x).long() > 0), x, 0.0),
    "numbers as truth": lambda x: torch.where(torch.logical_and(x > 0, (x - 1).relu()), x, 0.0),
    "numbers that are not": lambda x: torch.where(torch.logical_not(x.relu()), x, 0.0),
    "numbers or": lambda x: torch.where(x > 0, torch.logical_or(x - 1, (x - 1).relu()).float(), 0.0),
}


def test_truth_values_and_integers_become_numbers(tmp_path: Path) -> None:
    """Inside; a program returns them in their own types."""
    module = applied(NUMBERS)
    program = trace(module, (X,))
    calls = [n for n in program.graph.nodes if n.op == "call_function"]
    unread = {n.target for n in calls if not n.users} - {aten._assert_tensor_metadata.default, aten.alias.default}
    assert not unread, "nothing was begun and left"
    compile_network(read_network(module, (X,)), load_target("host"), tmp_path / "bundle")
    with edgeprune.load_bundle(tmp_path / "bundle") as loaded:
        found = loaded(X.numpy())
    with torch.no_grad():
        expected = module(X.clone())
    for name, a, b in zip(NUMBERS, found, expected, strict=True):
        torch.testing.assert_close(
            torch.from_numpy(a), b, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_integers_of_an_input_that_no_kernel_has_as_such_are_refused() -> None:
    with pytest.raises(UnsupportedOperatorError, match="and"):
        read_network(applied({"it": lambda x: ((3 * x).long() & 3).float()}), (X,))
