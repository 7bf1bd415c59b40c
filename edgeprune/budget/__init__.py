"""Widths under a budget: the problem as arrays, and the methods that solve it."""

from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.problem import Axis, Budget, Choice, Problem, Solution, Term
from edgeprune.budget.promise import Limit, Promise, parse_bytes, parse_latency
from edgeprune.budget.registry import SOLVERS, Solver, get_solver

__all__ = [
    "SOLVERS",
    "Axis",
    "Budget",
    "Choice",
    "Evaluator",
    "Limit",
    "Problem",
    "Promise",
    "Solution",
    "Solver",
    "Term",
    "get_solver",
    "parse_bytes",
    "parse_latency",
]
