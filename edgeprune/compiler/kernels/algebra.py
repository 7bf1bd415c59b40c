"""Elementwise functions on a CPU's vectors, written out in arithmetic.

The C library's functions would be called once a lane, so exponentials and logarithms are polynomials here.
"""

from __future__ import annotations

import math

from edgeprune.compiler.functions import Algebra
from edgeprune.compiler.kernels.vectors import Expr, kept, splat
from edgeprune.compiler.tvm_modules import T


class VectorAlgebra(Algebra):
    """Functions of vectors of ``lanes`` values (1: scalars), written where the IR builder stands."""

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._many = "" if lanes == 1 else f"x{lanes}"

    def keep(self, x: Expr) -> Expr:
        (value,) = kept((x,), self._lanes)
        return value

    def max(self, x: Expr, y: Expr) -> Expr:
        return T.max(self._vector(x), self._vector(y))

    def min(self, x: Expr, y: Expr) -> Expr:
        return T.min(self._vector(x), self._vector(y))

    def select(self, condition: Expr, x: Expr, y: Expr) -> Expr:
        return T.Select(condition, self._vector(x), self._vector(y))

    def exp(self, x: Expr) -> Expr:
        """e to the power of x within 1e-7 of itself; above 88.4 infinity, below -87 the smallest normal number.

        Method: x = n ln 2 + r, r at most ln 2 / 2; the series of e ** r; n goes into the exponent bits (Cephes' expf
        splits ln 2 in the same two parts).
        """
        x = self.keep(self.min(self.max(x, -87.0), 89.0))
        n = self.keep(T.floor(x * math.log2(math.e) + 0.5))
        r = self.keep(x - n * 0.693359375 + n * 2.12194440e-4)
        series = self._vector(1 / 5040)
        for k in range(6, -1, -1):
            series = series * r + 1 / math.factorial(k)
        bits = (T.Cast(f"int32{self._many}", n) + self._int(127)) << self._int(23)
        return series * T.reinterpret(f"float32{self._many}", bits)

    def log(self, x: Expr) -> Expr:
        """The natural logarithm of positive normal numbers within 2e-7; 0 gives about -88, infinity about 89.

        Method: x = m * 2 ** n with m around 1; log m is twice the area tangent of (m - 1) / (m + 1), by its series.
        """
        x = self.keep(self.max(x, 1.1754944e-38))
        bits = T.reinterpret(f"int32{self._many}", x)
        # Exponent and mantissa around the root of a half, so that m lies between it and its double.
        shifted = bits - self._int(0x3F3504F3)
        n = self.keep(T.Cast(f"float32{self._many}", shifted >> self._int(23)))
        m = self.keep(T.reinterpret(f"float32{self._many}", (shifted & self._int(0x007FFFFF)) + self._int(0x3F3504F3)))
        s = self.keep((m - 1.0) / (m + 1.0))
        square = self.keep(s * s)
        series = self._vector(2 / 11)
        for k in (9, 7, 5, 3, 1):
            series = series * square + 2 / k
        return n * math.log(2) + s * series

    def sqrt(self, x: Expr) -> Expr:
        return T.sqrt(x)

    def tanh(self, x: Expr) -> Expr:
        return 1.0 - 2.0 / (1.0 + self.exp(2.0 * x))

    def normal_cdf(self, x: Expr) -> Expr:
        """Within 1e-7, by the error function of Abramowitz and Stegun, 7.1.26."""
        z = self.keep(x * math.sqrt(0.5))
        magnitude = self.keep(self.max(z, 0.0 - z))
        t = self.keep(1.0 / (1.0 + 0.3275911 * magnitude))
        series = self._vector(1.061405429)
        for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
            series = series * t + coefficient
        # The tail beyond |x|: left of 0 it is the distribution function itself.
        tail = self.keep(series * t * self.exp(0.0 - magnitude * magnitude) * 0.5)
        return self.select(x < 0.0, tail, 1.0 - tail)

    def _vector(self, x: Expr) -> Expr:
        return splat(T.float32(x), self._lanes) if isinstance(x, float) else x

    def _int(self, value: int) -> Expr:
        return splat(T.int32(value), self._lanes)
