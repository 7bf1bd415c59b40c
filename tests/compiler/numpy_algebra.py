"""Elementwise functions of arrays in double precision: the reference for kernels of every backend."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.compiler.functions import Algebra

Double = NDArray[np.float64]
_erf = np.vectorize(math.erf, otypes=[np.float64])
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


class NumpyAlgebra(Algebra):
    """Exact up to rounding; the caller decides what becomes of numpy's warnings (``np.errstate``)."""

    def keep(self, x: Double) -> Double:
        return x

    def max(self, x: Double, y: Double | float) -> Double:
        return np.maximum(x, y)

    def min(self, x: Double, y: Double | float) -> Double:
        return np.minimum(x, y)

    def select(self, condition: NDArray[np.bool_], x: Double | float, y: Double | float) -> Double:
        return np.where(condition, x, y)

    def floor(self, x: Double) -> Double:
        return np.floor(x)

    def exp(self, x: Double) -> Double:
        return np.exp(x)

    def log(self, x: Double) -> Double:
        return np.log(x)

    def log1p(self, x: Double) -> Double:
        return np.log1p(x)

    def sqrt(self, x: Double) -> Double:
        return np.sqrt(x)

    def sin(self, x: Double) -> Double:
        return np.sin(x)

    def cos(self, x: Double) -> Double:
        return np.cos(x)

    def atan(self, x: Double) -> Double:
        return np.arctan(x)

    def tanh(self, x: Double) -> Double:
        return np.tanh(x)

    def normal_cdf(self, x: Double) -> Any:
        return 0.5 * _erfc(x * -math.sqrt(0.5))

    def erf(self, x: Double) -> Any:
        return _erf(x)
