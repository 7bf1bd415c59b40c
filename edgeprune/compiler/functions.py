"""Elementwise functions of kernels: each formula once, for CPUs, GPUs and the reference of the tests.

A formula is written over an :class:`Algebra`, which supplies the functions that backends compute in different ways: the
exponential function is a polynomial on a CPU and an intrinsic on a GPU. Sums, differences, products, quotients and
comparisons are Python's operators, which the expressions of every backend overload; plain numbers may stand on either
side of them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Expr = Any
"""A value of a backend: a TensorIR expression (scalar or vector) or an array."""


class Algebra(ABC):
    """The primitive functions that every backend implements.

    Arguments and results are fp32 expressions of one shape; where a backend promises less than the exact function, its
    docstring says so. ``max``, ``min`` and ``select`` also take Python numbers.
    """

    @abstractmethod
    def keep(self, x: Expr) -> Expr:
        """``x``, evaluated once however often the result is used."""

    @abstractmethod
    def max(self, x: Expr, y: Expr) -> Expr: ...

    @abstractmethod
    def min(self, x: Expr, y: Expr) -> Expr: ...

    @abstractmethod
    def select(self, condition: Expr, x: Expr, y: Expr) -> Expr:
        """``x`` where the condition holds, else ``y``; both are evaluated."""

    @abstractmethod
    def floor(self, x: Expr) -> Expr: ...

    @abstractmethod
    def exp(self, x: Expr) -> Expr: ...

    @abstractmethod
    def log(self, x: Expr) -> Expr:
        """The natural logarithm of positive normal numbers."""

    @abstractmethod
    def log1p(self, x: Expr) -> Expr:
        """log(1 + x) of finite numbers above -1, of small ones to the last digits."""

    @abstractmethod
    def sqrt(self, x: Expr) -> Expr: ...

    @abstractmethod
    def sin(self, x: Expr) -> Expr:
        """The sine of angles up to 1e4."""

    @abstractmethod
    def cos(self, x: Expr) -> Expr:
        """The cosine of angles up to 1e4."""

    @abstractmethod
    def atan(self, x: Expr) -> Expr: ...

    @abstractmethod
    def tanh(self, x: Expr) -> Expr: ...

    @abstractmethod
    def erf(self, x: Expr) -> Expr: ...

    @abstractmethod
    def normal_cdf(self, x: Expr) -> Expr:
        """The cumulative distribution function of the standard normal distribution, (1 + erf(x / sqrt(2))) / 2."""


def _clip(a: Algebra, x: Expr, low: float, high: float) -> Expr:
    """An infinite bound costs no instruction."""
    x = a.max(x, low) if math.isfinite(low) else x
    return a.min(x, high) if math.isfinite(high) else x


def _sigmoid(a: Algebra, x: Expr) -> Expr:
    return 1.0 / (1.0 + a.exp(0.0 - x))


def _hardsigmoid(a: Algebra, x: Expr) -> Expr:
    """Howard et al., 2019 (MobileNetV3), section 5.2."""
    return _clip(a, x + 3.0, 0.0, 6.0) * (1 / 6)


def _softplus(a: Algebra, x: Expr) -> Expr:
    """log(1 + e ** x) as max(x, 0) + log(1 + e ** -|x|), in which nothing overflows."""
    x = a.keep(x)
    power = a.keep(a.exp(a.min(x, 0.0 - x)))
    return a.max(x, 0.0) + a.log(1.0 + power)


def _mish(a: Algebra, x: Expr) -> Expr:
    """Misra, 2019."""
    x = a.keep(x)
    return x * a.tanh(_softplus(a, x))


def _sign(a: Algebra, x: Expr) -> Expr:
    # The product keeps NaN, in vectors and arrays; TVM folds it to 0 for scalars.
    return a.select(x > 0.0, 1.0, a.select(x < 0.0, -1.0, x * 0.0))


def _gelu_tanh(a: Algebra, x: Expr) -> Expr:
    """torch's ``gelu(approximate="tanh")``: Hendrycks and Gimpel, 2016, section 2."""
    return 0.5 * x * (1.0 + a.tanh(x * math.sqrt(2 / math.pi) * (1.0 + 0.044715 * x * x)))


def _prelu(a: Algebra, x: Expr, slope: Expr) -> Expr:
    # x * 0.0 and not 0.0, as in leaky_relu, because it is the code that profiles of CPUs were timed with: TVM folds the
    # product for scalars alone. To be simplified when SCHEDULES_VERSIONS (kernels/registry.py) is raised for all next.
    return a.select(x < x * 0.0, x * slope, x)


def _elu(a: Algebra, x: Expr, alpha: float) -> Expr:
    """Clevert et al., 2016. The minimum keeps the exponential from overflowing where it is not selected."""
    return a.select(x < 0.0, (a.exp(a.min(x, 0.0)) - 1.0) * alpha, x)


def _abs(a: Algebra, x: Expr) -> Expr:
    return a.max(x, 0.0 - x)


def _as_signed(a: Algebra, x: Expr, value: Expr) -> Expr:
    """``value``, which belongs to ``|x|``, with the sign of ``x``."""
    return value * a.select(x < 0.0, -1.0, 1.0)


def _ceil(a: Algebra, x: Expr) -> Expr:
    return 0.0 - a.floor(0.0 - x)


def _trunc(a: Algebra, x: Expr) -> Expr:
    x = a.keep(x)
    return a.select(x < 0.0, _ceil(a, x), a.floor(x))


def _round(a: Algebra, x: Expr) -> Expr:
    """To the nearest whole number, a half to the even one. What is added to the floor is exact or far from a half."""
    x = a.keep(x)
    whole = a.keep(a.floor(x))
    rest, half = a.keep(x - whole), a.keep(whole * 0.5)
    even = whole + 2.0 * (half - a.floor(half))
    return a.select(rest > 0.5, whole + 1.0, a.select(rest >= 0.5, even, whole))


def _frac(a: Algebra, x: Expr) -> Expr:
    x = a.keep(x)
    return x - _trunc(a, x)


def _tan(a: Algebra, x: Expr) -> Expr:
    x = a.keep(x)
    return a.sin(x) / a.cos(x)


def _asin(a: Algebra, x: Expr) -> Expr:
    x = a.keep(x)
    return a.atan(x / a.sqrt((1.0 - x) * (1.0 + x)))


def _acos(a: Algebra, x: Expr) -> Expr:
    """By the tangent of half the angle, which loses nothing near 1."""
    x = a.keep(x)
    return 2.0 * a.atan(a.sqrt((1.0 - x) / (1.0 + x)))


def _half_power(a: Algebra, x: Expr) -> Expr:
    """Half of e to the power of ``|x|``, in two factors: it overflows no sooner than itself."""
    root = a.keep(a.exp(0.5 * _abs(a, x)))
    return a.keep(root * (0.5 * root))


def _cosh(a: Algebra, x: Expr) -> Expr:
    half = _half_power(a, a.keep(x))
    return half + 0.25 / half


def _sinh(a: Algebra, x: Expr) -> Expr:
    """By the series below 1, where the powers of e would cancel out."""
    x = a.keep(x)
    square, half = a.keep(x * x), _half_power(a, x)
    series = 1 / math.factorial(15)
    for k in (13, 11, 9, 7, 5, 3, 1):
        series = series * square + 1 / math.factorial(k)
    return a.select(square < 1.0, x * series, _as_signed(a, x, half - 0.25 / half))


_LARGE = 1e6
"""From here on the square root of x * x + 1 (or - 1) is x, for logarithms in double precision."""


def _area(a: Algebra, x: Expr, y: Expr) -> Expr:
    """log(1 + y), or log(2 x) for large x, of which y knows nothing."""
    return a.log1p(a.select(x > _LARGE, x - 1.0, y)) + a.select(x > _LARGE, math.log(2), 0.0)


def _asinh(a: Algebra, x: Expr) -> Expr:
    """log(x + sqrt(x * x + 1)), its argument less 1 without cancellation."""
    x = a.keep(x)
    magnitude = a.keep(_abs(a, x))
    small = a.keep(a.min(magnitude, _LARGE))
    square = a.keep(small * small)
    return _as_signed(a, x, _area(a, magnitude, small + square / (1.0 + a.sqrt(square + 1.0))))


def _acosh(a: Algebra, x: Expr) -> Expr:
    """log(x + sqrt(x * x - 1)); the two roots have no value below 1."""
    x = a.keep(x)
    above = a.keep(a.min(x, _LARGE) - 1.0)
    return _area(a, x, above + a.sqrt(above) * a.sqrt(above + 2.0))


def _atanh(a: Algebra, x: Expr) -> Expr:
    """log((1 + x) / (1 - x)) / 2; infinite at 1, and without a value beyond."""
    x = a.keep(x)
    magnitude = a.keep(_abs(a, x))
    rest = a.keep(1.0 - magnitude)
    inside = 0.5 * a.log1p(2.0 * magnitude / rest)
    return _as_signed(a, x, a.select(magnitude < 1.0, inside, 1.0 / a.sqrt(rest)))


ACTIVATIONS: Mapping[str, Callable[..., Expr]] = {
    "abs": _abs,
    "acos": _acos,
    "acosh": _acosh,
    "asin": _asin,
    "asinh": _asinh,
    "atan": lambda a, x: a.atan(x),
    "atanh": _atanh,
    "ceil": _ceil,
    "cos": lambda a, x: a.cos(x),
    "cosh": _cosh,
    "erf": lambda a, x: a.erf(x),
    "erfc": lambda a, x: 2.0 * a.normal_cdf(x * -math.sqrt(2)),
    "floor": lambda a, x: a.floor(x),
    "frac": _frac,
    "isinf": lambda a, x: a.select(_abs(a, x) > 3.4028234663852886e38, 1.0, 0.0),
    "isnan": lambda a, x: a.select(x * x >= 0.0, 0.0, 1.0),
    "round": _round,
    "sin": lambda a, x: a.sin(x),
    "sinh": _sinh,
    "tan": _tan,
    "trunc": _trunc,
    "exp": lambda a, x: a.exp(x),
    "log": lambda a, x: a.log(x),
    "mish": _mish,
    "softplus": _softplus,
    "sqrt": lambda a, x: a.sqrt(x),
    "rsqrt": lambda a, x: 1.0 / a.sqrt(x),
    "reciprocal": lambda a, x: 1.0 / x,
    "sign": _sign,
    "square": lambda a, x: x * x,
    "relu": lambda a, x: a.max(x, 0.0),
    "relu6": lambda a, x: _clip(a, x, 0.0, 6.0),
    "clip": _clip,
    "leaky_relu": lambda a, x, slope: a.select(x < 0.0, x * slope, x),
    "elu": _elu,
    "gelu": lambda a, x: x * a.normal_cdf(x),
    "gelu_tanh": _gelu_tanh,
    "plus": lambda a, x, number: x + number,
    "times": lambda a, x, number: x * number,
    "hardsigmoid": _hardsigmoid,
    "hardswish": lambda a, x: x * _hardsigmoid(a, x),
    "sigmoid": _sigmoid,
    "silu": lambda a, x: x * _sigmoid(a, x),
    "tanh": lambda a, x: a.tanh(x),
}
"""Epilogue steps that read no other tensor: (algebra, value, numbers of the step) -> value."""

OPERATIONS: Mapping[str, Callable[[Algebra, Expr, Expr], Expr]] = {
    "add": lambda a, x, y: x + y,
    "sub": lambda a, x, y: x - y,
    "rsub": lambda a, x, y: y - x,
    "mul": lambda a, x, y: x * y,
    "div": lambda a, x, y: x / y,
    "rdiv": lambda a, x, y: y / x,
    "max": lambda a, x, y: a.max(x, y),
    "min": lambda a, x, y: a.min(x, y),
    "prelu": _prelu,
}
"""Epilogue steps that read the kernel's next input: (algebra, value, its value there) -> value. The reversed ones
(``rsub``, ``rdiv``) have the kernel's value on the right. Their names are ``OPERATIONS`` of graph/spec.py."""


def apply_step(a: Algebra, step: str, value: Expr, operands: Iterator[Expr]) -> Expr:
    """One step of an epilogue (``KernelSpec.epilogue``) applied to ``value``.

    Args:
        step: a name of the tables above, with its numbers if it has any (``clip:-1.0,2.5``); not ``bias``.
        operands: values of the epilogue's inputs; a step of ``OPERATIONS`` takes the next one.
    """
    name, _, numbers = step.partition(":")
    if name in OPERATIONS:
        return OPERATIONS[name](a, value, next(operands))
    return ACTIVATIONS[name](a, value, *(float(number) for number in numbers.split(",") if number))
