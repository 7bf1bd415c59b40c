"""Who may import whom: leftward only, never a sibling of the same tier (docs/ARCHITECTURE.md).

Every import counts: those inside functions and those for type checkers too, for both say that one
part cannot be understood without the other.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeprune

ROOT = Path(edgeprune.__file__).parent
TIERS: tuple[frozenset[str], ...] = tuple(
    frozenset(tier.split())
    for tier in (
        "errors",
        "jsonable",
        "amounts methods progress streams children files home board processors architectures",
        "gpus",
        "targets models budget devices",
        "graph",
        "latency",
        "pruning training compiler",
        "importance profiling deploy",
        "sampling",
        "fitting",
        "acceptance report",
        "api",
        "cli",
        "__main__",
    )
)
RANK = {layer: rank for rank, tier in enumerate(TIERS) for layer in tier}


def imports(source: str, package: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything of edgeprune that a module imports, at any depth.

    ``package`` is the dotted name of the package the module lies in, for relative imports.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" if base == "edgeprune" else base for alias in node.names]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            names = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "edgeprune")


def fault(importer: str, imported: str) -> str:
    """Why one layer may not import what it does, or an empty string. ``imported`` is a dotted name."""
    layer = [*imported.split("."), ""][1]
    if layer in ("", "__version__") or layer == importer:
        return ""
    if layer not in RANK:
        return f"{imported} is no layer: import public names from the module that defines them"
    if RANK[layer] < RANK[importer]:
        return ""
    where = "beside" if RANK[layer] == RANK[importer] else "to the right of"
    return f"{layer} stands {where} {importer}"


def layer_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


FILES = [f for f in sorted(ROOT.rglob("*.py")) if f != ROOT / "__init__.py"]


def test_every_import_goes_leftward():
    faults = []
    for file in FILES:
        package = ".".join(["edgeprune", *file.relative_to(ROOT).parts[:-1]])
        for line, name in imports(file.read_text(encoding="utf-8"), package):
            if reason := fault(layer_of(file), name):
                faults.append(f"{file.relative_to(ROOT.parent)}:{line}: imports {name}, but {reason}")
    assert not faults, "\n" + "\n".join(faults)


def test_every_module_belongs_to_a_layer():
    assert not {layer_of(f) for f in FILES} - set(RANK), "add the new layer to TIERS and to docs/ARCHITECTURE.md"


def test_no_module_is_long():
    """Four hundred lines at most: one idea each."""
    assert not {str(f): n for f in FILES if (n := len(f.read_text(encoding="utf-8").splitlines())) > 400}


def needed(file: Path) -> set[str]:
    """Modules of edgeprune that one needs when it runs, imports inside functions included, those for types left out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            node.body = []
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_no_modules_need_each_other():
    """Importing may go round in no circle, however it is put off: each module can be read after those it needs."""
    modules = {".".join(f.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): f for f in FILES}
    graph = {name: needed(file) & set(modules) - {name} for name, file in modules.items()}
    while leaves := {name for name, others in graph.items() if not others & set(graph)}:
        graph = {name: others for name, others in graph.items() if name not in leaves}
    # What is left stands in a circle or needs one; what nobody left needs is not part of it.
    while roots := set(graph) - set().union(*graph.values(), set()):
        graph = {name: others for name, others in graph.items() if name not in roots}
    assert not graph, {name: sorted(others & set(graph)) for name, others in graph.items()}


def test_solvers_know_nothing_of_torch_or_tvm():
    """Arrays in, arrays out: a solver is tested in milliseconds and replaced without touching anything else."""
    for file in (ROOT / "budget").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (torch|tvm)\b", file.read_text(), re.MULTILINE), file


def test_files_are_replaced_in_one_place():
    """Devices write on boards, in ways of their own; all else goes through edgeprune/files.py."""
    own = [f for f in FILES if layer_of(f) not in ("files", "devices")]
    assert not [f for f in own if re.search(r"\bos\.(replace|rename)\b|\bmkstemp\b|partial\.replace", f.read_text())]


@pytest.mark.parametrize(
    ("importer", "source", "wrong"),
    [
        ("budget", "import edgeprune.errors", False),
        ("budget", "from edgeprune import errors, __version__", False),
        ("cli", "from edgeprune.report.schema import Report", False),
        ("budget", "import edgeprune.budget.problem", False),
        ("budget", "def f():\n    import edgeprune.latency.records as r", True),
        ("devices", "from edgeprune import pruning", True),
        ("compiler", "from edgeprune.pruning.plan import Plan", True),
        ("devices", "from ..graph import spec", True),
        ("devices", "from .protocol import Device", False),
        ("devices", "importlib.import_module('edgeprune.deploy.state')", True),
        ("latency", "if TYPE_CHECKING:\n    from edgeprune.compiler import manifest", True),
        ("compiler", "from edgeprune import load_target", True),
    ],
)
def test_the_rule_itself(importer, source, wrong):
    faults = [fault(importer, name) for _, name in imports(source, f"edgeprune.{importer}")]
    assert bool(any(faults)) is wrong


def test_the_drawing_in_the_docs_is_this_rule():
    text = (ROOT.parent / "docs" / "ARCHITECTURE.md").read_text()
    drawn = re.search(r"^    (errors < .*< __main__)$", text, re.MULTILINE)
    assert drawn, "docs/ARCHITECTURE.md draws the tiers on one line that begins with 'errors <'"
    tiers = [frozenset(re.findall(r"[\w]+", tier)) for tier in drawn[1].split("<")]
    assert tiers == list(TIERS)
