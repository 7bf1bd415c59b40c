"""What is shipped: the wheel alone must work, and the pins must cover what it needs."""

import ast
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def clean(wheel, tmp_path_factory):
    """A virtual environment with the wheel in it, and this one's dependencies but not its edgeprune.

    Dependencies are seen through a .pth file. It is read after the environment's own folder, and a
    .pth file inside a folder added that way is not followed, so the editable edgeprune stays out.
    """
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", "--no-deps", "--quiet"]
    subprocess.run([*pip, str(wheel)], check=True, capture_output=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder


def run(clean, *command):
    """Somewhere else than in the checkout, and with nothing of ours in the environment."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("EDGEPRUNE", "PYTHON"))}
    done = subprocess.run(command, cwd=clean, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_holds_the_code_and_its_data(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {str(f.relative_to(ROOT)) for f in (ROOT / "edgeprune").rglob("*.py")}
    expected |= {str(f.relative_to(ROOT)) for s in ("*.c", "*.h") for f in (ROOT / "edgeprune" / "board").rglob(s)}
    expected |= {"edgeprune/report/template.html.j2", "edgeprune/py.typed"}
    for data in ("targets", "profiles"):
        files = [f for f in (ROOT / data).rglob("*") if f.is_file()]
        expected |= {f"edgeprune/_data/{f.relative_to(ROOT)}" for f in files}
    assert "edgeprune/_data/targets/rpi4.toml" in expected
    assert not expected - names
    assert not {n for n in names if n.startswith("tests") or "__pycache__" in n}


def test_the_installed_command_finds_its_targets(clean):
    where = run(clean, clean / "bin" / "python", "-c", "import edgeprune; print(edgeprune.__file__)").strip()
    assert Path(where).is_relative_to(clean)
    folder = "from edgeprune.targets import data_folder; print(data_folder('targets'))"
    assert Path(run(clean, clean / "bin" / "python", "-c", folder).strip()) == Path(where).parent / "_data" / "targets"

    body = json.loads(run(clean, clean / "bin" / "edgeprune", "targets", "--json"))
    assert {t["name"] for t in body["targets"]} == {f.stem for f in (ROOT / "targets").glob("*.toml")}


def test_the_installed_report_finds_its_template(clean):
    program = "from jinja2 import PackageLoader; print(PackageLoader('edgeprune', 'report').list_templates())"
    assert "template.html.j2" in run(clean, clean / "bin" / "python", "-c", program)


def test_every_import_is_a_declared_dependency():
    """Nothing may work only because something else happens to bring it along."""
    declared = {canonicalize_name(Requirement(r).name) for r in PROJECT["dependencies"]}
    owners = importlib.metadata.packages_distributions()
    missing = set()
    for file in (ROOT / "edgeprune").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            for top in {n.partition(".")[0] for n in names} - set(sys.stdlib_module_names) - {"edgeprune"}:
                if not declared & {canonicalize_name(owner) for owner in owners.get(top, [top])}:
                    missing.add(f"{file.relative_to(ROOT)}:{node.lineno} imports {top}")
    assert not missing


def pins():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(r.name): r for r in map(Requirement, filter(re.compile(r"^\w").match, lines))}


def test_every_package_that_setup_installs_is_pinned_to_what_the_tests_run_with():
    wanted = [Requirement(r) for r in PROJECT["dependencies"]]
    wanted += [Requirement(r) for e in ("demo", "test") for r in PROJECT["optional-dependencies"][e]]
    pinned, seen = pins(), set()
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        extras = {"", *requirement.extras}
        if (name, frozenset(extras)) in seen:
            continue
        seen.add((name, frozenset(extras)))
        installed = importlib.metadata.version(name)
        assert name in pinned, f"{name} {installed} is not in constraints.txt"
        assert pinned[name].specifier.contains(installed, prereleases=True), f"{name} {installed}: {pinned[name]}"
        for text in importlib.metadata.requires(name) or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                wanted.append(needed)


def test_pins_keep_what_pyproject_asks_for():
    pinned = pins()
    assert str(pinned["torch"]) == "torch==2.13.0", "no local version: CPU and CUDA builds both satisfy it"
    assert all(len(r.specifier) == 1 and str(r.specifier).startswith("==") for r in pinned.values())
    for requirement in map(Requirement, PROJECT["dependencies"]):
        version = str(pinned[canonicalize_name(requirement.name)].specifier).removeprefix("==")
        assert requirement.specifier.contains(version, prereleases=True)


def test_no_network_address_in_the_pins():
    assert "://" not in (ROOT / "constraints.txt").read_text()


def test_ci_runs_what_developers_run():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    assert (ROOT / ".ci" / "run").read_text().rstrip().endswith("exec make test")
    recipe = subprocess.run(["make", "--dry-run", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for part in ("ruff check", "ruff format --check", "mypy", "pytest"):
        assert part in recipe


@pytest.mark.parametrize("version", ["3.10.13", "3.14.0"])
def test_a_python_that_is_too_old_or_new_is_named(version, tmp_path):
    """A stand-in interpreter that says no, as one of another version would."""
    python = tmp_path / f"python-{version}"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python)}
    command = ["sh", str(ROOT / "tools" / "find_python.sh")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 5
    assert done.stdout == ""
    assert str(python) in done.stderr
    assert "python3-venv" in done.stderr


def test_a_python_that_fits_is_found():
    base = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}"
    command = ["sh", str(ROOT / "tools" / "find_python.sh")]
    done = subprocess.run(command, env={**os.environ, "PYTHON": str(base)}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(base)
