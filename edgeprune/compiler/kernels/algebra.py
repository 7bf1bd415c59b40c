"""Elementwise functions on a CPU's vectors, written out in arithmetic.

The C library's functions would be called once a lane, so exponentials and logarithms are polynomials here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgeprune.compiler.functions import Algebra
from edgeprune.compiler.kernels.vectors import Expr, kept, splat
from edgeprune.compiler.tvm_modules import T

_PI = (3.140625, 9.675025939941406e-4, 1.5099067240953445e-7, 5.126688136514179e-12)
"""Parts that sum up to pi; multiples of the first three, up to 2 ** 12 times and halves of them, are exact."""

_ATAN = [0.0028662257, -0.0161657367, 0.0429096138, -0.0752896400, 0.1065626393, -0.1420889944, 0.1999355085]
_ATAN += [-0.3333314528, 1.0]

_ERF_ABOVE = [-2.72614225801306e-10, 2.77068142495902e-8, -2.10102402082508e-6, -5.69250639462346e-5]
_ERF_ABOVE += [-7.34990630326855e-4, -2.95459980854025e-3, -1.60960333262415e-2]
_ERF_BELOW = [-1.45660718464996e-5, -2.13374055278905e-4, -1.68282697438203e-3, -7.37332916720468e-3]
_ERF_BELOW += [-1.42647390514189e-2]


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

    def floor(self, x: Expr) -> Expr:
        return T.floor(x)

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

    def log1p(self, x: Expr) -> Expr:
        """The logarithm of the rounded sum, and what the rounding took away; infinity gives about 89."""
        x = self.keep(self.select(x > 3e38, 3e38, x))
        total = self.keep(1.0 + x)
        return self.log(total) + (x - (total - 1.0)) / total

    def sqrt(self, x: Expr) -> Expr:
        return T.sqrt(x)

    def sin(self, x: Expr) -> Expr:
        """Within 3e-7 for angles up to 1e4; beyond, what is lost grows with the angle.

        Method: x = n pi + r, r at most pi / 2; the series of the sine of r, negated where n is odd (Cody and Waite,
        1980, subtract n pi in parts).
        """
        x = self.keep(x)
        n = self.keep(T.floor(x * (1 / math.pi) + 0.5))
        return self._sine_beyond(x, n, n, 1.0)

    def cos(self, x: Expr) -> Expr:
        """As the sine: x = (n + 1 / 2) pi + r, and the cosine is the sine of -r, negated where n is odd."""
        x = self.keep(x)
        n = self.keep(T.floor(x * (1 / math.pi)))
        return self._sine_beyond(x, n + 0.5, n, -1.0)

    def atan(self, x: Expr) -> Expr:
        """Within 2e-7, by Abramowitz and Stegun, 4.4.49; beyond 1 of the reciprocal."""
        x = self.keep(x)
        magnitude = self.keep(self.max(x, 0.0 - x))
        t = self.keep(self.select(magnitude > 1.0, 1.0 / magnitude, magnitude))
        angle = self.keep(t * self._polynomial(_ATAN, self.keep(t * t)))
        angle = self.keep(self.select(magnitude > 1.0, math.pi / 2 - angle, angle))
        return self.select(x < 0.0, 0.0 - angle, angle)

    def tanh(self, x: Expr) -> Expr:
        return 1.0 - 2.0 / (1.0 + self.exp(2.0 * x))

    def erf(self, x: Expr) -> Expr:
        """Within 5e-7 of itself: Eigen's quotient of polynomials (generic_fast_erf_float), which keeps zeros."""
        x = self.keep(self.min(self.max(x, -4.0), 4.0))
        square = self.keep(x * x)
        return x * self._polynomial(_ERF_ABOVE, square) / self._polynomial(_ERF_BELOW, square)

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

    def _sine_beyond(self, x: Expr, turns: Expr, n: Expr, sign: float) -> Expr:
        """The sine of x - turns * pi, with a sign that an odd n turns."""
        turns = self.keep(turns)
        for part in _PI:
            x = x - turns * part
        # Of angles far too large nothing is left; what is no number stays none.
        x = self.keep(x)
        x = self.keep(self.select(x > 1.6, 1.6, self.select(x < -1.6, -1.6, x)))
        half, square = self.keep(n * 0.5), self.keep(x * x)
        series = self._polynomial([(-1) ** k / math.factorial(2 * k + 1) for k in range(6, -1, -1)], square)
        return x * series * (sign - 4.0 * sign * (half - T.floor(half)))

    def _polynomial(self, coefficients: Sequence[float], x: Expr) -> Expr:
        """The highest power's coefficient first."""
        value = self._vector(coefficients[0])
        for coefficient in coefficients[1:]:
            value = value * x + coefficient
        return value

    def _vector(self, x: Expr) -> Expr:
        return splat(T.float32(x), self._lanes) if isinstance(x, float) else x

    def _int(self, value: int) -> Expr:
        return splat(T.int32(value), self._lanes)
