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
    def exp(self, x: Expr) -> Expr: ...

    @abstractmethod
    def log(self, x: Expr) -> Expr:
        """The natural logarithm of positive normal numbers."""

    @abstractmethod
    def sqrt(self, x: Expr) -> Expr: ...

    @abstractmethod
    def tanh(self, x: Expr) -> Expr: ...

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
    # product for scalars alone. To be simplified when SCHEDULES_VERSIONS["cpu"] (kernels/registry.py) is raised next.
    return a.select(x < x * 0.0, x * slope, x)


def _elu(a: Algebra, x: Expr, alpha: float) -> Expr:
    """Clevert et al., 2016. The minimum keeps the exponential from overflowing where it is not selected."""
    return a.select(x < 0.0, (a.exp(a.min(x, 0.0)) - 1.0) * alpha, x)


ACTIVATIONS: Mapping[str, Callable[..., Expr]] = {
    "abs": lambda a, x: a.max(x, 0.0 - x),
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
