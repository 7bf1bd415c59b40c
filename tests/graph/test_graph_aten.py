"""The table of ATen overloads: what one column says, the others know of; handlers keep to the cutter's verbs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from edgeprune.graph import aten as package
from edgeprune.graph.aten import families
from edgeprune.graph.aten.families import HANDLERS, RULES, ZEROS
from edgeprune.graph.aten.table import rule

aten = torch.ops.aten
FILES = sorted(Path(package.__file__).parent.glob("*.py"))
SHARED = {"__init__", "common", "families", "shuffles", "table"}

WITHOUT_RULE = {
    aten.log.default: "infinite at zero",
    aten.rsqrt.default: "infinite at zero",
    aten.acosh.default: "no number at zero",
    aten.reciprocal.default: "infinite at zero",
    aten.affine_grid_generator.default: "a matrix has no channels",
}
"""Operators that kernels compute, and channels stop at: a fault of the table, if not for a reason."""


def test_what_a_kernel_computes_channels_pass_through():
    assert set(HANDLERS) - set(RULES) == set(WITHOUT_RULE)


def test_zeros_are_spoken_of_where_channels_pass():
    assert set(ZEROS) <= set(RULES)


def test_every_file_is_a_family():
    imported = {name for name, found in vars(families).items() if isinstance(found, ModuleType)}
    assert {f.stem for f in FILES} - SHARED == imported


def test_an_overload_has_one_rule():
    with pytest.raises(ValueError, match=r"aten.relu.default has a transfer rule already"):
        rule(aten.relu.default)(lambda flow, node: None)


def handlers(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Functions that are given the cutter."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and "cutter" in {a.arg for a in node.args.args}:
            yield node


def breaches(function: ast.FunctionDef) -> Iterator[str]:
    """What a handler may not do: look into what is private, or change what it was given or has got."""
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute):
            private = node.attr.startswith("_") and getattr(node.value, "id", "") != "aten"
            if private or not isinstance(node.ctx, ast.Load):
                yield ast.unparse(node)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Attribute):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            changes = node.func.attr in ("append", "extend", "insert", "pop", "update", "clear", "setdefault")
            if changes and isinstance(node.func.value, ast.Attribute):
                yield ast.unparse(node)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_handlers_keep_to_the_verbs_of_the_cutter(file):
    found = {f.name: list(breaches(f)) for f in handlers(ast.parse(file.read_text(encoding="utf-8")))}
    assert not {name: faults for name, faults in found.items() if faults}


@pytest.mark.parametrize(
    "line",
    ["cutter._values[node] = x", "draft.closed = True", "draft.epilogue.append(x)", "draft.attrs['walk0'] = x"],
)
def test_a_breach_is_found(line):
    (function,) = handlers(ast.parse(f"def handler(cutter, node):\n    {line}"))
    assert list(breaches(function))


def test_handlers_are_found():
    assert sum(len(list(handlers(ast.parse(f.read_text(encoding="utf-8"))))) for f in FILES) > 60
