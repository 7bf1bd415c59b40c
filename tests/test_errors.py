"""The exception tree: drawn as it is, with exit codes as documented, and JSON-serialisable."""

import importlib
import json
import pkgutil
import re
from functools import cache
from pathlib import Path

import pytest

import edgeprune
from edgeprune import errors
from edgeprune.errors import EdgepruneError, InfeasibleBudgetError

CLI_DOC = Path(__file__).parent.parent / "docs" / "CLI.md"


@cache
def classes() -> dict[str, type[EdgepruneError]]:
    """Every error that any module of edgeprune defines, by name."""
    for module in pkgutil.walk_packages(edgeprune.__path__, "edgeprune."):
        if not module.name.endswith("__main__"):  # which runs the command line
            importlib.import_module(module.name)
    found, open_ends = {}, [EdgepruneError]
    while open_ends:
        cls = open_ends.pop()
        assert cls.__name__ not in found, f"two errors are called {cls.__name__}"
        found[cls.__name__] = cls
        open_ends += [sub for sub in cls.__subclasses__() if sub.__module__.startswith("edgeprune.")]
    return found


def drawn() -> dict[str, tuple[str | None, int]]:
    """Class -> (parent, exit code), read from the tree in the docstring by indentation."""
    tree: dict[str, tuple[str | None, int]] = {}
    above: list[tuple[int, str]] = []
    for line in errors.__doc__.splitlines():
        found = re.match(r"^(\s+[│├└─ ]*)(\w+Error)\s+(\d+)\b", line)
        if not found:
            continue
        depth, name, code = len(found[1]), found[2], int(found[3])
        while above and above[-1][0] >= depth:
            above.pop()
        tree[name] = (above[-1][1] if above else None, code)
        above.append((depth, name))
    return tree


def test_the_drawing_is_the_tree():
    actual = {
        name: (None if cls is EdgepruneError else cls.__base__.__name__, cls.exit_code)
        for name, cls in classes().items()
    }
    assert drawn() == actual


def test_only_a_bug_leaves_with_1():
    assert [name for name, cls in classes().items() if cls.exit_code == 1] == ["EdgepruneError"]


def test_the_drawing_names_the_module_of_an_error_that_is_defined_elsewhere():
    for name, cls in classes().items():
        if cls.__module__ == errors.__name__:
            continue
        (line,) = re.findall(rf"^.* {name} .*$", errors.__doc__, re.MULTILINE)
        assert line.endswith(f"({cls.__module__.removeprefix('edgeprune.')})")


def test_every_exit_code_is_documented():
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", CLI_DOC.read_text(), re.MULTILINE)}
    assert {cls.exit_code for cls in classes().values()} | {0} == documented


@pytest.mark.parametrize("name", drawn())
def test_an_error_is_an_exception_and_an_object_for_programs(name):
    cls = classes()[name]
    error = cls("rpi4 does not answer", hint="plug it in", url="ssh://pi@board", tries=3)
    assert str(error) == "rpi4 does not answer"
    assert json.loads(json.dumps(error.to_json())) == {
        "type": cls.__name__,
        "message": "rpi4 does not answer",
        "hint": "plug it in",
        "details": {"url": "ssh://pi@board", "tries": 3},
        "exit_code": cls.exit_code,
    }


def test_details_are_data_not_text():
    error = InfeasibleBudgetError("no plan reaches 5 ms", smallest_ms=7.1)
    assert error.details["smallest_ms"] == 7.1
    assert error.hint == ""
