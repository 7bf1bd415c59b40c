"""Compiling C and linking: kernels + generated tables + the C sources of board/ -> one program, one library.

The linker and C compiler is that of ``board/zig.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from edgeprune.board import zig
from edgeprune.errors import BadInputError, MissingDependencyError
from edgeprune.targets import Target

BOARD = resources.files("edgeprune") / "board"


class LinkError(BadInputError):
    """The linker refused; its words are in ``details['stderr']``."""


def board_sources() -> Path:
    """Folder of the C sources (a real folder: edgeprune is never imported from a zip)."""
    return Path(str(BOARD))


def link(
    target: Target,
    sources: Sequence[Path],
    objects: Sequence[Path],
    output: Path,
    *,
    shared: bool = False,
    defined: Sequence[str] = (),
) -> Path:
    """Link into ``output``; ``shared`` makes a library instead of a program.

    Args:
        defined: macros of all sources.

    Raises:
        MissingDependencyError: ziglang is not installed.
        LinkError: undefined symbols, no space, ….
    """
    # .incbin looks for weights.bin along the include path. That is relative, so that what is the same in every program
    # comes from the compiler's cache. So is the output, for the linker replaces each % of its path by a random digit.
    command = [*_options(target), *(f"-D{name}" for name in defined), "-I.", "-o", output.name]
    command += ["-shared", "-fPIC", "-Wl,-Bsymbolic"] if shared else []
    command += ["-static"] if "musl" in target.zig_target and not shared else []
    command += [str(p.absolute()) for p in (*sources, *objects)]
    command += ["-ldl"] if target.kind == "cuda" else []  # the driver is opened by the program, on the board
    command += ["-lm", "-lpthread", "-Wl,--gc-sections"] + ([] if shared else ["-s"])
    _run(command, target, output)
    return output


def build_libraries(target: Target) -> None:
    """Have the linker build what every program of a target is linked with, and keep it. Where the C library is part of
    the program that takes a minute or two, which the first program would take otherwise.

    Raises:
        MissingDependencyError, LinkError: as :func:`link`.
    """
    with TemporaryDirectory() as folder:
        source = Path(folder) / "nothing.c"
        source.write_text("int main(void) { return 0; }\n")
        link(target, [source], [], source.with_suffix(""))


def compile_object(target: Target, sources: Sequence[Path], output: Path) -> None:
    """Compile C and assembler, all in one folder, into one object file for :func:`link`.

    Raises:
        MissingDependencyError, LinkError: as :func:`link`.
    """
    folders = sorted({str(source.absolute().parent) for source in sources})
    command = [*_options(target), *(f"-I{folder}" for folder in folders), "-fPIC", "-r", "-o", output.name]
    _run([*command, *(str(source.absolute()) for source in sources)], target, output)


def embed(file: Path, symbol: str) -> Path:
    """Write the assembler source beside ``file`` that makes its content a constant of the program."""
    assembly = file.with_suffix(".S")
    assembly.write_text(_EMBED_S.format(symbol=symbol, file=file.name))
    return assembly


_EMBED_S = """\
.section .rodata.{symbol},"a",%progbits
.balign 64
.globl {symbol}
.hidden {symbol}
{symbol}:
.incbin "{file}"
.section .note.GNU-stack,"",%progbits
"""


def _options(target: Target) -> list[str]:
    command = ["-target", target.zig_target, "-std=c11", "-O2", "-g0"]
    return [*command, "-Wall", "-Wextra", "-fno-sanitize=all", f"-I{board_sources()}"]


def _run(command: Sequence[str], target: Target, output: Path) -> None:
    try:
        done = zig.cc(command, output.parent)
    except ModuleNotFoundError:
        raise MissingDependencyError("the package ziglang is not installed", hint="pip install ziglang") from None
    if done.returncode != 0:
        raise LinkError(
            f"linking {output.name} for {target.name} failed: {done.stderr.strip()[-800:]}",
            hint="edgeprune doctor checks the linker",
            stderr=done.stderr,
        )
