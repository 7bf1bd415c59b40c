"""An emulated Cortex-A72 that counts instructions: QEMU's user mode, a plugin, and an aarch64 Python.

A QEMU with plugins is taken from the system or, as the packages of Debian or Ubuntu, from the machine's own
package sources; so are Python and its libraries for arm64, and from PyPI the aarch64 wheels. All are unpacked into
a cache folder, nothing is installed and no right of root is needed.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

CPU = "cortex-a72"
PLUGIN = Path(__file__).with_name("count_instructions.c")
PYTHON = ("python3-minimal", "libpython3-stdlib", "libstdc++6")
WHEELS = [f"manylinux_2_{minor}_aarch64" for minor in (28, 27, 24, 17)]
CPUINFO = """processor\t: 0
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
"""A Cortex-A72 as Linux describes it: libraries read the file, and what QEMU shows is the host's."""

REPEATABLE = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "OPENBLAS_NUM_THREADS": "1"}
"""Environment in which a program executes the same instructions each time, or nearly so."""


class EmulatorError(Exception):
    """Something is missing that cannot be fetched, or a program failed; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Emulator:
    """``qemu``: command with the plugin in it; ``sysroot``: the folder that the emulated programs see as ``/``."""

    qemu: tuple[str, ...]
    sysroot: Path

    def count(self, command: Sequence[str | Path]) -> list[int]:
        """Instructions that an aarch64 program executed: before each call of getppid, and till its end."""
        full = [*self.qemu, "-cpu", CPU, "-L", str(self.sysroot), *map(str, command)]
        done = subprocess.run(full, capture_output=True, text=True, check=False, env=REPEATABLE)
        counted = re.findall(r"^instructions: (\d+)$", done.stderr, flags=re.M)
        if done.returncode != 0 or not counted:
            raise EmulatorError(f"{' '.join(full)} ended with {done.returncode}: {(done.stdout + done.stderr)[-800:]}")
        return [int(n) for n in counted]

    def count_python(self, script: Path, *arguments: str | Path) -> list[int]:
        return self.count([self.sysroot / "usr/bin/python3", script, *arguments])


def prepare(cache: Path, wheels: Sequence[str]) -> Emulator:
    """The emulator, with these requirements (``name==version``) for its Python; fetched where the cache has none.

    Raises:
        EmulatorError: no package manager, or no network.
    """
    cache.mkdir(parents=True, exist_ok=True)
    qemu = _qemu(cache)
    plugin = _plugin(qemu, cache)
    name = "-".join(["python", *sorted(w.replace("==", "-") for w in wheels)])
    sysroot = once(cache / name, lambda out: _sysroot(out, wheels, qemu))
    return Emulator((*qemu, "-plugin", str(plugin)), sysroot)


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """``path``, made beside its place and moved there when it is whole."""
    if not path.exists():
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            make(Path(folder) / "new")
            os.replace(Path(folder) / "new", path)
    return path


def _qemu(cache: Path) -> tuple[str, ...]:
    """The system's, if it takes plugins; else Debian's, run with the libraries that belong to it."""
    installed = shutil.which("qemu-aarch64")
    if installed and _takes_plugins((installed,)):
        return (installed,)
    root = once(cache / "qemu", lambda out: _unpack_packages(out, ("qemu-user",), _host_architecture()))
    libraries = ":".join(str(p) for p in sorted({lib.parent for lib in root.rglob("lib*.so.*")}))
    loader = next(iter(sorted(root.rglob("ld-linux*.so.*"))), None)
    command = (str(loader), "--library-path", libraries, str(root / "usr/bin/qemu-aarch64"))
    if not _takes_plugins(command):
        raise EmulatorError(f"{root / 'usr/bin/qemu-aarch64'} takes no plugins: install a QEMU (user mode) that does")
    return command


def _takes_plugins(qemu: Sequence[str]) -> bool:
    return "-plugin" in subprocess.run([*qemu, "-h"], capture_output=True, text=True, check=False).stdout


def _plugin(qemu: Sequence[str], cache: Path) -> Path:
    version = subprocess.run([*qemu, "--version"], capture_output=True, text=True, check=True).stdout
    interface = 2 if int(re.findall(r"version (\d+)", version)[0]) > 8 else 1
    command = [sys.executable, "-m", "ziglang", "cc", "-O2", "-shared", "-fPIC", f"-DPLUGIN_API={interface}"]
    name = hashlib.sha256(PLUGIN.read_bytes()).hexdigest()[:12]
    return once(cache / f"{name}-{interface}.so", lambda out: _run([*command, "-o", str(out), str(PLUGIN)]))


def _sysroot(out: Path, wheels: Sequence[str], qemu: Sequence[str]) -> None:
    """Python and the wheels, with their bytecode, and the files by which libraries learn about the processor."""
    _unpack_packages(out, PYTHON, "arm64")
    version = next(p.name.removeprefix("python") for p in sorted((out / "usr/bin").glob("python3.*")))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", version, "--target", str(out / "usr/lib/python3/dist-packages")]
    _run([*command, *(f"--platform={p}" for p in WHEELS), *wheels])
    for file, text in (
        ("proc/cpuinfo", CPUINFO),
        ("sys/devices/system/cpu/present", "0\n"),
        ("sys/devices/system/cpu/possible", "0\n"),
    ):
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (out / file).write_text(text)
    imports = "import " + ", ".join(w.partition("==")[0] for w in wheels)
    _run([*qemu, "-cpu", CPU, "-L", str(out), str(out / "usr/bin/python3"), "-c", imports])


def _host_architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]


def _unpack_packages(out: Path, packages: Sequence[str], architecture: str) -> None:
    """Packages and all they depend on, fetched by an apt that thinks nothing is installed."""
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise EmulatorError(
                f"no {tool} here to fetch {', '.join(packages)} ({architecture}): run this on Debian or Ubuntu, "
                "with a network once"
            )
    with tempfile.TemporaryDirectory() as folder:
        state, archives = Path(folder) / "state", Path(folder) / "cache/archives"
        for made in (state / "lists/partial", archives / "partial"):
            made.mkdir(parents=True)
        (state / "status").touch()
        settings = {
            "Dir::State": state,
            "Dir::State::status": state / "status",
            "Dir::Cache": archives.parent,
            "APT::Architecture": architecture,
            "APT::Architectures::": architecture,
            "APT::Sandbox::User": "",
            "APT::Install-Recommends": "false",
        }
        apt = ["apt-get", "-qq", *(a for key, value in settings.items() for a in ("-o", f"{key}={value}"))]
        _run([*apt, "update"])
        _run([*apt, "install", "--yes", "--download-only", *packages])
        for package in sorted(archives.glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(package), str(out)])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise EmulatorError(f"{' '.join(command[:4])} … failed: {done.stderr.strip()[-800:]}")
