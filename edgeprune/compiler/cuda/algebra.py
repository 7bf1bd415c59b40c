"""Elementwise functions on a GPU: TVM's intrinsics, which its CUDA source calls by name."""

from __future__ import annotations

import math

from edgeprune.compiler.functions import Algebra, Expr
from edgeprune.compiler.tvm_modules import tir


class ScalarAlgebra(Algebra):
    """Functions of the single value that a thread computes."""

    def keep(self, x: Expr) -> Expr:
        """As it is: nvrtc computes equal parts of an expression once."""
        return x

    def max(self, x: Expr, y: Expr) -> Expr:
        return tir.max(x, y)

    def min(self, x: Expr, y: Expr) -> Expr:
        return tir.min(x, y)

    def select(self, condition: Expr, x: Expr, y: Expr) -> Expr:
        return tir.Select(condition, x, y)

    def floor(self, x: Expr) -> Expr:
        return tir.floor(x)

    def exp(self, x: Expr) -> Expr:
        return tir.exp(x)

    def log(self, x: Expr) -> Expr:
        return tir.log(x)

    def log1p(self, x: Expr) -> Expr:
        return tir.log1p(x)

    def sqrt(self, x: Expr) -> Expr:
        return tir.sqrt(x)

    def sin(self, x: Expr) -> Expr:
        return tir.sin(x)

    def cos(self, x: Expr) -> Expr:
        return tir.cos(x)

    def atan(self, x: Expr) -> Expr:
        return tir.atan(x)

    def tanh(self, x: Expr) -> Expr:
        return tir.tanh(x)

    def normal_cdf(self, x: Expr) -> Expr:
        return 0.5 * (1.0 + tir.erf(x * math.sqrt(0.5)))

    def erf(self, x: Expr) -> Expr:
        return tir.erf(x)
