"""The C compiler and linker for every board: clang from the package ``ziglang``.

It brings the headers and start files of every C library, so nothing else is installed and every
build is a cross build. Here and not in the compiler, because devices bring C onto a board too.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path


def cc(arguments: Sequence[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the C compiler; what it says and returns is the caller's to judge.

    The same source compiled with the same arguments comes from its cache.

    Args:
        folder: where it runs; other paths are absolute. Not one above zig's own folder: its cache then takes the C
            library's sources for other files, and builds the library again.

    Raises:
        ModuleNotFoundError: ziglang is not installed.
    """
    command = [str(_program()), "cc", *arguments]
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
    except OSError as e:  # damaged: the package without its program, or one for another processor
        return subprocess.CompletedProcess(command, 127, "", str(e))


def _program() -> Path:
    """The package's program itself: an interpreter that only starts it takes as long as a small program's link."""
    spec = find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'ziglang'", name="ziglang")
    return Path(spec.submodule_search_locations[0], "zig")
