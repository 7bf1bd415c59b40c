"""Reads the walkthroughs of docs/ADDING.md and does what they say, in a copy of the project."""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path

ROOT = Path(__file__).parents[2]
COPIED = ("edgeprune", "targets", "profiles", "docs", "tests", "tools", "examples/api.py", "pyproject.toml")
_PASSING = re.compile(r"/(__pycache__|\.hypothesis)/")

_OF_OTHERS = {*sys.stdlib_module_names, "numpy", "pytest", "torch", "tvm"}
"""What may be imported without a file that shows it."""

_LIST = r"^\*\*{}\*\*.*\n\n((?:\* .*\n(?:  .*\n)*)+)"
_BLOCK = re.compile(r"^`([^`\n]+)`, (new|changed):\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CHECK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """The text of a new file, or the lines of one that change: ``+`` added, ``-`` removed, else where that is."""

    path: str
    new: bool
    text: str


@dataclass(frozen=True, slots=True)
class Walkthrough:
    """One chapter of the page.

    Attributes:
        opened: existing files that its reader opens.
        touched: files that its reader writes, or changes.
        generated: files that its commands write.
        checks: (``sh`` or ``python``, text) of what is run at the end.
    """

    opened: tuple[str, ...]
    touched: tuple[str, ...]
    generated: tuple[str, ...]
    blocks: tuple[Block, ...]
    checks: tuple[tuple[str, str], ...]


def walkthroughs(page: str) -> dict[str, Walkthrough]:
    """By title: every chapter that says which files one touches."""
    chapters = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    return {c.partition("\n")[0]: _walkthrough(c) for c in chapters if "**Touch**" in c}


def _walkthrough(chapter: str) -> Walkthrough:
    writing, _, checking = chapter.partition("\n**Check**")
    return Walkthrough(
        opened=_listed(writing, "Open"),
        touched=_listed(writing, "Touch"),
        generated=_listed(writing, "Generated"),
        blocks=tuple(Block(path, how == "new", text) for path, how, text in _BLOCK.findall(writing)),
        checks=tuple(_CHECK.findall(checking)),
    )


def _listed(chapter: str, heading: str) -> tuple[str, ...]:
    """The files of a list: what stands between backticks at the beginning of its items."""
    found = re.search(_LIST.format(heading), chapter, re.MULTILINE)
    return tuple(re.findall(r"^\* `([^`]+)`", found[1], re.MULTILINE)) if found else ()


def faults(walkthrough: Walkthrough, most_opened: int, most_touched: int, root: Path = ROOT) -> list[str]:
    """Everything that is wrong with the lists of a walkthrough, and with what its code builds on."""
    opened, touched, blocks = walkthrough.opened, walkthrough.touched, walkthrough.blocks
    written = {b.path for b in blocks}
    found = []
    for what, files, most in (("opened", opened, most_opened), ("touched", touched, most_touched)):
        if len(set(files)) > most:
            found.append(f"{len(set(files))} files are {what}, at most {most} may be")
    found += [f"{path} is opened and does not exist" for path in opened if not (root / path).is_file()]
    found += [f"{path} is written and not listed" for path in sorted(written - set(touched))]
    found += [f"{path} is listed and not written" for path in sorted(set(touched) - written)]
    found += [f"{b.path} is called new and exists" for b in blocks if b.new and (root / b.path).exists()]
    found += [f"{b.path} is changed and was not opened" for b in blocks if not b.new and b.path not in opened]
    if not walkthrough.checks:
        found.append("nothing is checked")
    return found + [
        f"{b.path} takes {name} of {module}, which no opened file shows"
        for b in blocks
        if b.new and b.path.endswith(".py")
        for module, name in sorted(set(_taken(b.text)) - _shown(walkthrough, root))
    ]


def _taken(code: str) -> Iterator[tuple[str, str]]:
    """(module, name) of everything of this project that a file imports, helpers of its tests included."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] not in _OF_OTHERS:
            yield from ((node.module, alias.name) for alias in node.names)


def _shown(walkthrough: Walkthrough, root: Path) -> set[tuple[str, str]]:
    """(module, name) of all that a reader of the opened files has seen: what they define, and what they import."""
    seen = set()
    for path in (p for p in walkthrough.opened if p.endswith(".py") and (root / p).is_file()):
        text = (root / path).read_text(encoding="utf-8")
        module = path.removesuffix(".py").replace("/", ".")
        module = module.rpartition(".")[2] if module.startswith("tests.") else module
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef):
                seen.add((module, node.name))
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                seen |= {(module, t.id) for t in targets if isinstance(t, ast.Name)}
        seen |= set(_taken(text))
    return seen


class Copy:
    """The project, copied into a folder, where a walkthrough can be followed without harm."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            # Times are kept, so that Python need not compile again what it compiled before.
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
            copy(ROOT / name, place)

    def follow(self, walkthrough: Walkthrough) -> None:
        """Write what it writes, and run what it checks with.

        Raises:
            AssertionError: a command fails, or a line that is changed is not there.
        """
        for block in walkthrough.blocks:
            file = self.folder / block.path
            text = block.text if block.new else changed(file.read_text(encoding="utf-8"), block)
            file.write_text(text, encoding="utf-8")
        for kind, text in walkthrough.checks:
            if kind == "python":
                self.run("-c", text)
                continue
            for line in text.replace("\\\n", " ").splitlines():
                program, *arguments = shlex.split(line)
                assert program == "python", line
                self.run(*arguments)

    def run(self, *arguments: str, path: tuple[str, ...] = ()) -> None:
        """Python with these arguments; ``path``: further folders to import from."""
        folders = [str(self.folder / p) for p in ("", *path)]
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{' '.join(arguments)}\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}"

    def differing(self) -> set[str]:
        """Files that are new or not what they are in the project; what a run leaves behind is left out."""
        files = [f for name in COPIED for f in [self.folder / name, *(self.folder / name).rglob("*")] if f.is_file()]
        paths = {str(f.relative_to(self.folder)) for f in files if not _PASSING.search(str(f))}
        return {p for p in paths if not (ROOT / p).is_file() or not cmp(self.folder / p, ROOT / p, shallow=False)}


def changed(text: str, block: Block) -> str:
    """The text with the lines of a block added and removed where the block's other lines stand.

    Raises:
        AssertionError: they stand nowhere, or at several places.
    """
    for hunk in re.split(r"^@@\n", block.text, flags=re.MULTILINE):
        lines = [line if line.strip() else " \n" for line in hunk.splitlines(keepends=True)]
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        places = [m.start() for m in re.finditer(f"^{re.escape(before)}", text, re.MULTILINE)]
        assert len(places) == 1, f"{block.path}: these lines stand at {len(places)} places, not at one:\n{before}"
        text = text[: places[0]] + after + text[places[0] + len(before) :]
    return text
