"""The golden check of a program for another processor, in QEMU's user mode: right results, no times."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from edgeprune.board.client import Ended, NativeProgram
from edgeprune.compiler.manifest import Manifest
from edgeprune.errors import VerificationError
from edgeprune.targets import Target

_TIMEOUT_S = 120


def emulator(target: Target) -> list[str] | None:
    """The command that runs a program of the target, as near to its processor as QEMU knows; None if there is none."""
    name = target.architecture.qemu
    found = next((path for suffix in ("-static", "") if name and (path := shutil.which(name + suffix))), None)
    if found is None:
        return None
    cpu = target.architecture.oldest if target.generic else target.llvm.mcpu
    return [found, "-cpu", cpu] if cpu in _processors(found) else [found]


def static(target: Target) -> Target:
    """The target with a C library that is linked in, so that nothing of the board's system has to be here.

    For linking only: kernels are known by their target, and these are the target's own.
    """
    return target.model_copy(update={"zig_target": target.architecture.static})


def golden_check(command: Sequence[str], bundle: Path, manifest: Manifest) -> None:
    """Run ``check`` of docs/BOARD.md with the bundle's golden sample.

    Args:
        command: the program, after the emulator if one is needed.

    Raises:
        VerificationError: it crashes, hangs or computes something else.
    """
    golden = manifest.golden
    inputs, outputs = ([str(bundle / n) for n in names] for names in (golden.inputs, golden.outputs))
    NativeProgram(_run, tuple(command), _TIMEOUT_S).check(inputs, outputs, rtol=golden.rtol, atol=golden.atol)


def _run(argv: Sequence[str], /, *, timeout_s: float) -> Ended:
    try:
        return subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise VerificationError(f"the golden check does not end in {timeout_s:g} s") from None


@cache
def _processors(qemu: str) -> frozenset[str]:
    done = subprocess.run([qemu, "-cpu", "help"], capture_output=True, text=True, check=False)
    return frozenset(done.stdout.split())
