"""Linking: kernels + generated tables + the C sources of board/ -> one program, one library.

The linker and C compiler is that of ``board/zig.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from edgeprune.board import zig
from edgeprune.errors import EdgepruneError, MissingDependencyError
from edgeprune.targets import Target

BOARD = resources.files("edgeprune") / "board"


class LinkError(EdgepruneError):
    """The linker refused; its words are in ``details['stderr']``."""


def board_sources() -> Path:
    """Folder of the C sources (a real folder: edgeprune is never imported from a zip)."""
    return Path(str(BOARD))


def link(
    target: Target, sources: Sequence[Path], objects: Sequence[Path], output: Path, *, shared: bool = False
) -> Path:
    """Link into ``output``; ``shared`` makes a library instead of a program.

    Raises:
        MissingDependencyError: ziglang is not installed.
        LinkError: undefined symbols, no space, ….
    """
    command = ["-target", target.zig_target, "-std=c11", "-O2", "-g0"]
    command += ["-Wall", "-Wextra", "-fno-sanitize=all", f"-I{board_sources()}"]
    # .incbin looks for weights.bin along the include path.
    command += [f"-I{output.parent}", "-o", str(output)]
    command += ["-shared", "-fPIC", "-Wl,-Bsymbolic"] if shared else []
    command += ["-static"] if "musl" in target.zig_target and not shared else []
    command += [str(p) for p in (*sources, *objects)]
    command += ["-ldl"] if target.kind == "cuda" else []  # the driver is opened by the program, on the board
    command += ["-lm", "-lpthread", "-Wl,--gc-sections"] + ([] if shared else ["-s"])
    try:
        done = zig.cc(command)
    except ModuleNotFoundError:
        raise MissingDependencyError("the package ziglang is not installed", hint="pip install ziglang") from None
    if done.returncode != 0:
        raise LinkError(
            f"linking {output.name} for {target.name} failed: {done.stderr.strip()[-800:]}",
            hint="edgeprune doctor checks the linker",
            stderr=done.stderr,
        )
    return output
