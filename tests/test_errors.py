"""The exception tree: drawn as it is, with exit codes as documented, and JSON-serialisable."""

import inspect
import json
import re
from pathlib import Path

import pytest

from edgeprune import errors
from edgeprune.errors import EdgepruneError, InfeasibleBudgetError

CLASSES = {name: cls for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, EdgepruneError)}
CLI_DOC = Path(__file__).parent.parent / "docs" / "CLI.md"


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
        name: (None if cls is EdgepruneError else cls.__base__.__name__, cls.exit_code) for name, cls in CLASSES.items()
    }
    assert drawn() == actual


def test_every_exit_code_is_documented():
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", CLI_DOC.read_text(), re.MULTILINE)}
    assert {cls.exit_code for cls in CLASSES.values()} | {0} == documented


@pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
def test_an_error_is_an_exception_and_an_object_for_programs(cls):
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
