"""What ``import edgeprune`` offers is a promise: this list is changed on purpose, never by accident."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgeprune

CALLS = [
    "bench",
    "compile",
    "explain",
    "export",
    "fit",
    "flash",
    "frontier",
    "list_methods",
    "load_profile",
    "load_run",
    "profile",
    "prune",
]
CALLS += ["rollback", "run"]
RESULTS = ["Bundle", "Explained", "Exported", "Fit", "Frontier", "Profile", "Pruned", "Run", "StoredProfile"]
PARTS = ["DataSet", "Task", "load_bundle", "load_data", "load_model", "load_target", "open_device"]
PUBLIC = sorted([*CALLS, *RESULTS, *PARTS, "__version__", "errors"])
HEAVY = {"torch", "tvm", "numpy", "scipy", "onnx", "matplotlib", "pydantic", "rich", "typer"}


def test_the_list_of_public_names():
    assert sorted(edgeprune.__all__) == PUBLIC
    assert dir(edgeprune) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves_to_what_its_home_defines(name):
    value = getattr(edgeprune, name)
    if name in edgeprune._HOMES:
        assert value is getattr(importlib.import_module(edgeprune._HOMES[name]), name)
        assert value.__doc__, f"{name} is public and has no docstring"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'perhaps'"):
        _ = edgeprune.perhaps


def test_no_lazy_name_is_also_a_module():
    """Importing ``edgeprune.x`` binds ``x`` to the module: a function of that name would be shadowed by it."""
    modules = {m.name for m in pkgutil.iter_modules(edgeprune.__path__)}
    assert not modules & set(edgeprune._HOMES)


def test_type_checkers_see_the_names_that_run():
    tree = ast.parse(Path(edgeprune.__file__).read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    typed = {alias.name: i.module for i in block.body if isinstance(i, ast.ImportFrom) for alias in i.names}
    assert typed == edgeprune._HOMES


def test_importing_edgeprune_imports_nothing_heavy():
    program = "import sys, edgeprune; print(*{m.partition('.')[0] for m in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert not HEAVY & set(loaded.split())
