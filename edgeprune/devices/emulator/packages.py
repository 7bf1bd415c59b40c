"""Files out of Debian's arm64 packages, through the system's own apt sources and keys.

apt works in a folder of ours: lists, cache and status of the system stay as they are, no package is
installed, no root is needed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune.errors import MissingDependencyError
from edgeprune.progress import SILENT, Progress

ARCHITECTURE = "arm64"
_APT_TIMEOUT_S = 900


@dataclass(frozen=True, slots=True)
class Package:
    """A package file in a folder of ours. ``version`` as Debian writes it."""

    name: str
    version: str
    file: Path


class Apt:
    """apt-get and apt-cache for another architecture, with everything they write in ``folder``.

    Raises:
        MissingDependencyError: this is no system with apt.
    """

    def __init__(self, folder: Path) -> None:
        for tool in ("apt-get", "apt-cache", "dpkg-deb"):
            if not shutil.which(tool):
                raise MissingDependencyError(
                    f"{tool} is missing: images of emulated boards are made from Debian's packages",
                    hint="prepare them on Debian or Ubuntu, and copy $EDGEPRUNE_HOME/emulator here",
                )
        self._folder = folder
        for part in ("state/lists/partial", "cache/archives/partial", "packages"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "state/status").touch()
        self._options = [
            *("-o", f"Dir::State={folder / 'state'}", "-o", f"Dir::State::status={folder / 'state/status'}"),
            *("-o", f"Dir::Cache={folder / 'cache'}", "-o", "APT::Sandbox::User="),
            *("-o", f"APT::Architecture={ARCHITECTURE}", "-o", f"APT::Architectures::={ARCHITECTURE}"),
            *("-o", "Acquire::Languages=none", "-o", "Acquire::Retries=3", "-q"),
        ]

    def update(self) -> None:
        """Raises:
        MissingDependencyError: the package lists cannot be had.
        """
        self._run("apt-get", "update")

    def kernel(self) -> str:
        """Name of the package that holds the current kernel."""
        found = re.search(r"Depends: (linux-image-\S+)", self._run("apt-cache", "depends", "linux-image-arm64"))
        if not found:
            raise MissingDependencyError(
                "apt finds no arm64 kernel in this system's sources", hint="on Debian: sudo apt-get update"
            )
        return found[1]

    def download(self, name: str) -> Package:
        """Raises:
        MissingDependencyError: there is no such package, or it cannot be had.
        """
        folder = self._folder / "packages"
        self._run("apt-get", "download", name, cwd=folder)
        files = sorted(folder.glob(f"{name}_*_*.deb"), key=lambda f: f.stat().st_mtime)
        if not files:
            raise MissingDependencyError(f"apt says it downloaded {name}, and there is no such file")
        version = subprocess.run(
            ["dpkg-deb", "-f", str(files[-1]), "Version"], capture_output=True, text=True, check=False
        )
        return Package(name, version.stdout.strip(), files[-1])

    def _run(self, tool: str, *arguments: str, cwd: Path | None = None) -> str:
        try:
            done = subprocess.run(
                [tool, *self._options, *arguments],
                capture_output=True,
                text=True,
                timeout=_APT_TIMEOUT_S,
                cwd=cwd or self._folder,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise MissingDependencyError(f"{tool} {arguments[0]}: {e}") from e
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.startswith("E:")] or ["no message"]
            raise MissingDependencyError(
                f"{tool} {' '.join(arguments)}: {lines[0].removeprefix('E: ')}",
                hint="packages of architecture arm64 are needed in the system's apt sources, and a network",
            )
        return done.stdout


def extract(package: Package, wanted: Mapping[str, str], *, progress: Progress = SILENT) -> dict[str, bytes]:
    """The first regular file that each pattern matches in full, under the pattern's key.

    Raises:
        MissingDependencyError: the package is damaged, or lacks one of them.
    """
    found: dict[str, bytes] = {}
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(package.file)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as unpacking:
        assert unpacking.stdout is not None
        try:
            with tarfile.open(fileobj=unpacking.stdout, mode="r|") as tar:
                for member in tar:
                    key = _key(member.name, wanted, found)
                    content = tar.extractfile(member) if key and member.isreg() else None
                    if key and content:
                        found[key] = content.read()
                        progress.advance()
        except tarfile.TarError as e:
            raise MissingDependencyError(f"{package.file.name} is damaged: {e}") from e
        finally:
            unpacking.kill()
    if missing := sorted(set(wanted) - set(found)):
        raise MissingDependencyError(f"{package.name} {package.version} holds no {', '.join(missing)}")
    return found


def _key(name: str, wanted: Mapping[str, str], found: Mapping[str, bytes]) -> str | None:
    path = name.removeprefix("./")
    return next((key for key, pattern in wanted.items() if key not in found and re.fullmatch(pattern, path)), None)


def names(packages: Sequence[Package]) -> dict[str, str]:
    return {package.name: package.version for package in packages}
