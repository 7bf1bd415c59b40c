"""The few POSIX tools that deployment needs on a board, over the five verbs of any device."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from edgeprune.deploy.layout import CURRENT, PREVIOUS, RELEASES, TRIED_LINK, release_of
from edgeprune.devices.protocol import Completed, Device
from edgeprune.errors import DeviceError, DeviceUnreachableError

_HASHING_TIMEOUT_S = 600.0  # a slow card under a large model
_TOOL_MISSING = 127
_HASH = re.compile(r"^([0-9a-f]{64}) [ *](.+)$", re.MULTILINE)


class Board:
    """A device with hashes, links and renames.

    Every method raises :class:`DeviceError` when a tool fails or is missing.
    """

    def __init__(self, device: Device) -> None:
        self.device = device

    def altered(self, wanted: Mapping[str, str]) -> list[str]:
        """Of paths and the SHA-256 that their files should have, those of files that are missing, unreadable or others,
        by hashes computed on the device.
        """
        if not wanted:
            return []
        done = self.tool("sha256sum", *wanted, timeout_s=_HASHING_TIMEOUT_S)
        found = {path: digest for digest, path in _HASH.findall(done.stdout)}
        return [path for path, digest in wanted.items() if found.get(path) != digest]

    def free_bytes(self) -> int:
        """Free space where releases are kept."""
        text = self.must("df", "-P", "-k", ".")
        found = re.search(r"\s\d+\s+\d+\s+(\d+)\s+\d+%\s", text)
        if not found:
            raise DeviceError(f"{self.device.url}: df prints no free space: {text!r}")
        return int(found[1]) * 1024

    def names(self, folder: str) -> list[str]:
        """Names in a folder, hidden ones too; none if there is no such folder."""
        done = self.tool("ls", "-A", folder)
        return done.stdout.splitlines() if done.returncode == 0 else []

    def releases(self) -> list[str]:
        """Ids of the complete releases."""
        return [name for name in self.names(RELEASES) if release_of(f"{RELEASES}/{name}")]

    def link_target(self, name: str) -> str | None:
        done = self.tool("readlink", name)
        return done.stdout.removesuffix("\n") if done.returncode == 0 else None

    def current(self) -> str | None:
        """Id of the release that runs."""
        return release_of(self.link_target(CURRENT) or "")

    def previous(self) -> str | None:
        return release_of(self.link_target(PREVIOUS) or "")

    def point(self, name: str, target: str | None) -> None:
        """Make the link ``name`` point to ``target``, or remove it; readers see the old or the new.

        It is on the disk when this returns: what was reported done is done after the power was cut, too.
        """
        if target is None:
            self.device.remove(name)
        else:
            # ln -sf alone unlinks first, and for a moment nothing would be current.
            self.must("ln", "-sfn", target, f".{name}.new")
            self.must("mv", "-fT", f".{name}.new", name)
        self.to_disk(".")

    def require_switch(self) -> None:
        """Try what :meth:`point` needs, before anything depends on it.

        Raises:
            DeviceError: a link cannot be replaced at one stroke there, so a release could not be made current safely.
        """
        try:
            self.point(TRIED_LINK, "nowhere")
        except DeviceUnreachableError:
            raise
        except DeviceError as e:
            raise DeviceError(
                f"{e.message}: no release could be made current at one stroke",
                hint="it needs symbolic links, and a mv that knows -T: that of coreutils, toybox or a newer busybox",
                **e.details,
            ) from e
        finally:
            self.tool("rm", "-f", TRIED_LINK, f".{TRIED_LINK}.new")

    def rename(self, source: str, target: str) -> None:
        """Rename a folder; it is on the disk when this returns."""
        self.must("mv", "-T", source, target)
        self.to_disk(str(PurePosixPath(target).parent))

    def to_disk(self, folder: str = ".") -> None:
        """Have what was made, renamed or removed in a folder survive a power cut."""
        # A sync that takes no names does more than is asked for here, and that is fine, too.
        self.must("sync", folder)

    def must(self, *argv: str) -> str:
        """stdout of a tool that has to succeed."""
        done = self.tool(*argv)
        if done.returncode != 0:
            why = done.stderr.strip() or f"exit {done.returncode}"
            raise DeviceError(f"{self.device.url}: {' '.join(argv)}: {why}", argv=list(argv))
        return done.stdout

    def tool(self, *argv: str, timeout_s: float = 60.0) -> Completed:
        done = self.device.run(argv, timeout_s=timeout_s)
        if done.returncode == _TOOL_MISSING:
            raise DeviceError(
                f"{self.device.url}: the device has no {argv[0]}", hint="install coreutils or busybox on it"
            )
        return done
