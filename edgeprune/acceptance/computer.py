"""Acceptance of this computer: one function a subject, each yields checks with the command that mends them."""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import Requirement

from edgeprune.errors import MissingDependencyError
from edgeprune.jsonable import Jsonable

TVM_PROBE = "import tvm; print(tvm.__version__, 'llvm' if tvm.runtime.enabled('llvm') else 'no llvm')"
PIP = f"{shlex.quote(sys.executable)} -m pip install"
PORTS = ("ttyUSB*", "ttyACM*")
DISK_FAIL_BYTES, DISK_WARN_BYTES = 200e6, 2e9


@dataclass(frozen=True, slots=True)
class Check(Jsonable):
    """One fact about this computer. ``mend`` is a command to paste, or empty where all is well."""

    check: str
    status: Literal["ok", "warn", "fail"]
    found: str
    mend: str = ""

    @classmethod
    def that(cls, check: str, ok: bool, found: str, mend: str) -> Check:
        return cls(check, "ok", found) if ok else cls(check, "fail", found, mend)


def all_checks(home: Path) -> Iterator[Check]:
    """Every check; ``home`` is the folder edgeprune writes to. None of them changes anything."""
    yield python()
    yield from packages(importlib.metadata.requires("edgeprune") or [])
    yield compiler()
    yield linker()
    yield from emulators()
    yield serial_ports()
    yield writable(home)
    yield disk(home)


def python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> Check:
    fits = (3, 11) <= version[:2] <= (3, 13)
    return Check.that("python", fits, ".".join(map(str, version)), "make setup PYTHON=python3.11")


def packages(requirements: Sequence[str]) -> Iterator[Check]:
    """What edgeprune's own metadata asks for, beside what is installed; extras are left out."""
    for requirement in map(Requirement, requirements):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        mend = f"{PIP} {shlex.quote(f'{requirement.name}{requirement.specifier}')}"
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            yield Check(requirement.name, "fail", "not installed", mend)
            continue
        fits = requirement.specifier.contains(found, prereleases=True)
        yield Check.that(requirement.name, fits, found if fits else f"{found}, needs {requirement.specifier}", mend)


def compiler() -> Check:
    """Whether TVM loads and can generate code. In a process of its own: a wrong tvm-ffi can crash it."""
    returncode, output = _run([sys.executable, "-c", TVM_PROBE])
    mend = f"{PIP} --force-reinstall --no-deps 'apache-tvm>=0.27.0.post1,<0.28' 'apache-tvm-ffi>=0.1.14.post0,<0.1.15'"
    works = returncode == 0 and not output.endswith("no llvm")
    return Check.that("tvm loads", works, output or f"exit code {returncode}", mend)


def linker() -> Check:
    returncode, output = _run([sys.executable, "-m", "ziglang", "version"])
    mend = f"{PIP} --force-reinstall ziglang"
    return Check.that("zig runs", returncode == 0, output or f"exit code {returncode}", mend)


def emulators() -> Iterator[Check]:
    """Optional: only boards that are emulated need them."""
    for names, package in (
        (("qemu-aarch64-static", "qemu-aarch64"), "qemu-user-static"),
        (("qemu-arm-static", "qemu-arm"), "qemu-user-static"),
        (("qemu-system-aarch64",), "qemu-system-arm"),
    ):
        found = next((path for path in map(shutil.which, names) if path), None)
        if found:
            yield Check(names[-1], "ok", found)
        else:
            yield Check(names[-1], "warn", "absent (emulated boards only)", f"sudo apt-get install {package}")


def serial_ports(dev: Path = Path("/dev")) -> Check:
    """Whether the serial ports that are plugged in may be opened by this user."""
    ports = sorted(port for pattern in PORTS for port in dev.glob(pattern))
    closed = [port for port in ports if not os.access(port, os.R_OK | os.W_OK)]
    if closed:
        join = (
            f"sudo usermod -aG {shlex.quote(closed[0].group())} {shlex.quote(getpass.getuser())}  # then log in again"
        )
        return Check("serial ports", "fail", f"no permission for {', '.join(map(str, closed))}", join)
    return Check("serial ports", "ok", ", ".join(map(str, ports)) or "none plugged in")


def writable(home: Path) -> Check:
    """Whether ``home``, or the nearest folder above it that exists, can be written."""
    folder = _existing(home)
    works = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    found = str(home) if works else f"{folder} cannot be written"
    return Check.that("profile folder", works, found, "export EDGEPRUNE_HOME=/a/folder/of/yours")


def disk(home: Path) -> Check:
    free = shutil.disk_usage(_existing(home)).free
    found = f"{free / 1e9:.1f} GB free for {home}"
    if free >= DISK_WARN_BYTES:
        return Check("disk", "ok", found)
    return Check("disk", "warn" if free >= DISK_FAIL_BYTES else "fail", found, f"du -sh {shlex.quote(str(home))}")


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _run(argv: Sequence[str]) -> tuple[int, str]:
    """Exit code and last line of a short program."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as e:
        return MissingDependencyError.exit_code, str(e)
    lines = (done.stdout if done.returncode == 0 else done.stderr or done.stdout).strip().splitlines()
    return done.returncode, lines[-1] if lines else ""
