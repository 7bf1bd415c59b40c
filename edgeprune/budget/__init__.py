"""Widths under a budget: the problem as arrays, and the methods that solve it."""

from edgeprune.budget.effort import Effort
from edgeprune.budget.evaluate import Evaluator
from edgeprune.budget.files import load_problem, save_problem
from edgeprune.budget.problem import Axis, Budget, Choice, Problem, Row, Solution, Stop, Table, Term
from edgeprune.budget.promise import Limit, Promise, parse_bytes, parse_latency
from edgeprune.budget.registry import SOLVERS, Solver, get_solver

__all__ = [
    "SOLVERS",
    "Axis",
    "Budget",
    "Choice",
    "Effort",
    "Evaluator",
    "Limit",
    "Problem",
    "Promise",
    "Row",
    "Solution",
    "Solver",
    "Stop",
    "Table",
    "Term",
    "get_solver",
    "load_problem",
    "parse_bytes",
    "parse_latency",
    "save_problem",
]
