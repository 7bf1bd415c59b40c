"""The documents do not rot: their commands parse, their targets and URLs exist, their links lead somewhere."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

import edgeprune
from edgeprune.cli.main import load_command
from edgeprune.cli.registry import COMMANDS
from edgeprune.devices.registry import SCHEMES
from edgeprune.errors import EdgepruneError
from edgeprune.models.zoo import ZOO
from edgeprune.targets import list_targets

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
RECOVER = ROOT / "docs" / "boards" / "RECOVER.md"
TARGETS = {"host", "host_gpu", *(target.name for target in list_targets())}
PLACEHOLDER = re.compile(r"[A-Z]+")
BEFORE_A_COMMAND = re.compile(r"\$|\w+\$|sudo|\w+=.*")
"""A prompt, sudo, or a variable that is set for one command."""


def blocks(text: str) -> Iterator[tuple[int, str]]:
    """(line number, logical line) of all code blocks, indented and fenced; a backslash joins lines."""
    fenced, pending, start = False, "", 0
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            start = start if pending else number
            pending += line.strip().removesuffix("\\")
            if not line.endswith("\\"):
                yield start, pending
                pending = ""


def spans(text: str) -> Iterator[str]:
    """Code between backticks in running text, on one line."""
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    for span in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", prose, flags=re.DOTALL)):
        yield " ".join(span.split())


def commands(line: str) -> Iterator[list[str]]:
    """The arguments of each ``edgeprune …`` that a shell would run in this line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    try:
        words = list(lexer)
    except ValueError:  # an apostrophe: what a program printed, not what is typed
        assert not line.startswith("edgeprune "), line
        return
    part: list[str] = []
    for word in [*words, ";"]:
        if not set(word) <= set("();<>|&"):
            part.append(word)
            continue
        while part and BEFORE_A_COMMAND.fullmatch(part[0]):
            part.pop(0)
        if part and part[0].rpartition("/")[2] == "edgeprune":
            yield part[1:]
        part = []


def fault(args: list[str], *, whole: bool) -> str:
    """Why ``edgeprune ARGS`` cannot be typed, or an empty string. ``whole``: nothing required may be missing."""
    if not args or PLACEHOLDER.fullmatch(args[0]):
        return ""
    if args[0] in ("--help", "--version"):
        return ""
    if args[0] not in COMMANDS:
        return f"there is no command {args[0]!r}"
    command, rest = load_command(args[0]), args[1:]
    inner = getattr(command, "commands", {})
    split = next((i for i, word in enumerate(rest) if word in inner), len(rest))
    parts = [(command, rest[:split])]
    if split < len(rest):
        parts.append((inner[rest[split]], rest[split + 1 :]))
    return "; ".join(filter(None, (_fault(c, words, whole and c is parts[-1][0]) for c, words in parts)))


def _fault(command: typer.core.TyperCommand, words: list[str], whole: bool) -> str:
    elided = any(word in ("…", "...") for word in words)
    words = [word for word in words if word not in ("…", "...")]
    known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    known.add("--help")
    if unknown := [w for w in words if w.startswith("-") and w.partition("=")[0] not in known]:
        return f"{command.name} has no {', '.join(unknown)}"
    if not whole or elided:
        return ""
    try:
        given = command.make_context(command.name, list(words)).params
    except typer.Exit:
        return ""
    except (typer.TyperException, EdgepruneError) as e:
        return getattr(e, "message", "") or str(e)
    return _fault_of_values(given)


def _fault_of_values(given: dict[str, object]) -> str:
    target, model = (str(given.get(name) or "") for name in ("target", "model"))
    named = given.get("device") or ()
    if target and target not in TARGETS and not PLACEHOLDER.fullmatch(target):
        return f"there is no target {target!r}"
    for device in (named,) if isinstance(named, str) else named:
        if device.partition(":")[0] not in SCHEMES and not PLACEHOLDER.fullmatch(device):
            return f"no device is reached by {device!r}"
    if model.startswith("zoo:") and model.removeprefix("zoo:") not in ZOO:
        return f"there is no model {model!r}"
    return ""


def faults(page: str) -> list[str]:
    """Everything that is wrong with the commands of a page."""
    found = [
        f"line {number}: edgeprune {' '.join(args)}: {why}"
        for number, line in blocks(page)
        for args in commands(line)
        if (why := fault(args, whole=True))
    ]
    return found + [
        f"`{span}`: {why}"
        for span in spans(page)
        if span.startswith("edgeprune ")
        for args in commands(span)
        if (why := fault(args, whole=False))
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_command_of_a_page_can_be_typed(page):
    assert not (found := faults(page.read_text(encoding="utf-8"))), "\n".join(["", *found])


def test_the_pages_have_commands():
    """Were nothing found, nothing would be checked."""
    text = (ROOT / "docs" / "SERIAL.md").read_text(encoding="utf-8")
    seen = [args[0] for _, line in blocks(text) for args in commands(line)]
    assert {"devices", "status", "profile", "fit", "flash"} <= set(seen)


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ("    edgeprune flsh bundle", "no command 'flsh'"),
        ("    $ edgeprune flash bundle --resum", "has no --resum"),
        ("```\nedgeprune flash bundle --resum\n```", "has no --resum"),
        ("Use `edgeprune flash … --resum`.", "has no --resum"),
        ("Use `edgeprune\nflsh`.", "no command 'flsh'"),
        ("    edgeprune prune zoo:resnet18 --latency 60%", "Missing parameter: out"),
        ("    edgeprune prune zoo:resnet18 \\\n        --latency 60%", "Missing parameter: out"),
        ("    edgeprune fit zoo:resnet18 --resum runs/x", "has no --resum"),
        ("    edgeprune prune MODEL --latency 60% --out x --points many", "many"),
        ("    edgeprune profile", "Missing parameter: model"),
        ("    edgeprune status extra", "extra"),
        ("    edgeprune profiles import", "Missing parameter: file"),
        ("    edgeprune profiles export abc --out x --lout y", "has no --lout"),
        ("    edgeprune profile MODEL --target rpi44", "no target 'rpi44'"),
        ("    edgeprune status --device telnet://board", "reached by"),
        ("    edgeprune profile zoo:resnet17", "no model"),
        ("    make setup && .venv/bin/edgeprune doctr", "no command 'doctr'"),
        ("    A=b edgeprune doctr | head", "no command 'doctr'"),
    ],
)
def test_the_check_itself_finds(page, why):
    assert why in "".join(faults(page))


@pytest.mark.parametrize(
    "page",
    [
        "    edgeprune fit MODEL --target rpi4 --device ssh://pi@board --latency 12ms --data DATA --out runs/x",
        "    edgeprune fit --resume runs/x   # MODEL and --out are those of the run",
        "    edgeprune targets show rpi4 --json   # all of it",
        "    edgeprune COMMAND [ARGUMENTS] [--json]",
        "    edgeprune status --device 'serial:///dev/ttyUSB0?baud=921600&root=/opt' > out.txt",
        "    edgeprune flash … --resume",
        "    git clone … edgeprune && cd edgeprune",
        "    pip install 'edgeprune[rpc]'",
        "    the board's own words",
        "Prose says edgeprune flsh, `and code` of other things.",
    ],
)
def test_the_check_itself_lets_pass(page):
    assert faults(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_to_a_file(page):
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    places = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose)
    assert not [place for place in places if "://" not in place and not (page.parent / place).exists()]


def test_every_page_is_linked_from_another():
    linked = set()
    for page in PAGES:
        for place in re.findall(r"\]\(([^)#\s]+\.md)", page.read_text(encoding="utf-8")):
            linked.add((page.parent / place).resolve())
    assert not {page for page in PAGES if page.parent != ROOT} - linked


def test_every_file_of_the_glossary_exists():
    text = (ROOT / "docs" / "GLOSSARY.md").read_text(encoding="utf-8")
    rows = [re.split(r" *(?<!\\)\| *", row)[1:-1] for row in text.splitlines() if row.startswith("|")]
    assert all(len(row) == 4 for row in rows)
    files = [file for row in rows for file in re.findall(r"`([\w/.*]+(?:\.\w+|/))`", row[2])]
    assert len(files) > 50
    assert not [f for f in files if not (any(ROOT.glob(f)) or (ROOT / "edgeprune" / f).exists())]


def test_a_word_of_the_glossary_stands_there_once():
    text = (ROOT / "docs" / "GLOSSARY.md").read_text(encoding="utf-8")
    words = [w for row in re.findall(r"^\| ([^|]+?) \|", text, re.MULTILINE) for w in row.split(", ")]
    assert not {w for w in words if words.count(w) > 1} - {"word", "---"}


def test_the_table_of_device_urls_has_every_scheme():
    text = (ROOT / "docs" / "CLI.md").read_text(encoding="utf-8")
    table = text.partition("| device URL | is |\n")[2].partition("\n\n")[0]
    urls = [url for row in table.splitlines() for url in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert {url.partition(":")[0] for url in urls} == set(SCHEMES)


FAMILIES = sorted(set((ROOT / "docs" / "boards").glob("*.md")) - {ROOT / "docs/boards/README.md", RECOVER})


@pytest.mark.parametrize("page", FAMILIES, ids=lambda p: p.stem)
def test_a_family_s_page_has_every_chapter(page):
    text = page.read_text(encoding="utf-8")
    chapters = " ".join(re.findall(r"^## (.*)$", text, re.MULTILINE)).lower()
    wanted = ("wiring the serial console", "first contact", "clock", "profile", "fit", "flash", "after a bad flash")
    assert not [word for word in wanted if word not in chapters]
    typed = {args[0] for _, line in blocks(text) for args in commands(line) if args}
    assert {"status", "board-check", "fit", "flash", "rollback"} <= typed


# -- Python ------------------------------------------------------------------------------------------------


def snippets(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def python_faults(snippet: str) -> list[str]:
    """What is wrong with a snippet: syntax, names that are not public, arguments that a call does not take."""
    try:
        tree = ast.parse(snippet)
    except SyntaxError as e:
        return [f"does not parse: {e}"]
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "edgeprune":
            found += [f"{a.name} is not public" for a in node.names if a.name not in edgeprune.__all__]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "edgeprune":
            found += [] if node.attr in edgeprune.__all__ else [f"edgeprune.{node.attr} is not public"]
        if not (isinstance(node, ast.Call) and ast.unparse(node.func).startswith("edgeprune.")):
            continue
        if (call := getattr(edgeprune, node.func.attr, None)) is None:
            continue
        try:
            inspect.signature(call).bind(*node.args, **{k.arg: None for k in node.keywords if k.arg})
        except TypeError as e:
            found.append(f"edgeprune.{node.func.attr}: {e}")
    return found


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "API.md"], ids=lambda p: p.name)
def test_the_python_of_a_page_names_what_is_public_and_calls_it_as_it_is(page):
    assert (found := snippets(page.read_text(encoding="utf-8")))
    assert not [fault for snippet in found for fault in python_faults(snippet)]


@pytest.mark.parametrize(
    ("snippet", "why"),
    [
        ("fit = (", "does not parse"),
        ("import edgeprune\nedgeprune.perhaps()", "edgeprune.perhaps is not public"),
        ("from edgeprune import progress", "progress is not public"),
        ("import edgeprune\nedgeprune.fit('zoo:resnet18', latenci='1ms')", "latenci"),
        ("import edgeprune\nedgeprune.fit('zoo:resnet18', 'rpi4')", "positional"),
    ],
)
def test_the_check_of_python_finds(snippet, why):
    assert why in "".join(python_faults(snippet))


def test_every_public_call_has_a_chapter():
    chapters = re.findall(r"^## (.*)$", (ROOT / "docs" / "API.md").read_text(encoding="utf-8"), re.MULTILINE)
    told = {name for chapter in chapters for name in chapter.split(", ")}
    calls = {"fit", "profile", "prune", "explain", "frontier", "compile", "export", "flash", "run", "bench", "rollback"}
    assert told >= {*calls, "load_run"}


def test_every_argument_of_a_call_is_told():
    text = (ROOT / "docs" / "API.md").read_text(encoding="utf-8")
    told = set(re.findall(r"`(\w+)(?:=\w+)?`", text))
    calls = (edgeprune.fit, edgeprune.profile, edgeprune.prune, edgeprune.compile, edgeprune.flash, edgeprune.bench)
    calls += (edgeprune.explain, edgeprune.frontier, edgeprune.export, edgeprune.run, edgeprune.load_run)
    arguments = {name for call in calls for name in inspect.signature(call).parameters}
    assert not arguments - told - {"bundle", "folder", "inputs"}


def test_the_first_screen_of_the_readme():
    """Install, Python, a command, and the table for one's board: before anything has to be scrolled."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    screen = "\n".join(text.splitlines()[:40])
    for what in ("make setup", "import edgeprune", "edgeprune fit MODEL", "edgeprune profile MODEL"):
        assert what in screen
    assert not [line for line in text.splitlines() if len(line) > 120]
    assert (ROOT / "docs" / "images" / "report.png").stat().st_size <= 300_000


def test_the_tables_of_operators_are_what_the_code_says():
    tool = ROOT / "tools" / "operators_page.py"
    done = subprocess.run([sys.executable, tool, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, f"stale: run python tools/operators_page.py\n{done.stderr}"


def test_decisions_are_numbered_in_order():
    numbers = [
        int(n)
        for n in re.findall(r"^## (\d+)\. ", (ROOT / "docs" / "DECISIONS.md").read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert numbers == list(range(1, len(numbers) + 1))
