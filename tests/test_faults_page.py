"""docs/FAULTS.md names tests: each of them exists, and each fault has one."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = (TESTS.parent / "docs" / "FAULTS.md").read_text()
ROWS = re.findall(r"^\| (\d+) \|.*$", PAGE, re.MULTILINE)
NAMED = [
    (int(number), file, name)
    for number, line in re.findall(r"^\* \*\*(\d+)\*\*: (.*?)(?=^\* |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    for file, name in re.findall(r"`(\w+\.py)::(\w+)`", line)
]


def functions(file: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_fault_has_one_row_and_a_test():
    assert sorted(map(int, ROWS)) == list(range(1, 27))
    assert {number for number, _, _ in NAMED} == set(range(1, 27))


@pytest.mark.parametrize("name", sorted({file for _, file, _ in NAMED}))
def test_every_test_that_is_named_exists(name):
    (file,) = TESTS.rglob(name)
    assert {test for _, f, test in NAMED if f == name} <= functions(file)


def test_a_test_stands_in_the_line_of_its_fault():
    for number, file, name in NAMED:
        told = re.match(r"test_fault_(\d+)_", name)
        assert told is None or int(told[1]) == number, f"{file}::{name} stands in line {number}"
        assert name.startswith("test_")


def test_every_word_in_backticks_that_looks_like_a_test_is_read():
    assert len(re.findall(r"::", PAGE)) == len(NAMED)
