"""A disk for an emulated board: a file with an ext4 file system, made when it is first named.

What is on it outlives the board's power, so a release can be installed by one command and used by the
next, and what a power cut leaves behind can be looked at.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path

from edgeprune.errors import DeviceError, MissingDependencyError

MAKE = "mkfs.ext4"
BYTES = 256 << 20
"""Its size; the file holds only what was written."""


def make_disk(file: Path, *, size: int = BYTES) -> None:
    """An empty disk in ``file``, unless there is one already.

    Raises:
        MissingDependencyError: mkfs.ext4 is not installed.
        DeviceError: the file cannot be made.
    """
    if file.exists():
        return
    tool = shutil.which(MAKE) or shutil.which(MAKE, path="/usr/sbin:/sbin")
    if tool is None:
        raise MissingDependencyError(f"{MAKE} is not installed", hint="sudo apt-get install e2fsprogs")
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as made:
            made.truncate(size)
        # The journal is ext4's own, the owner whoever uses the board: uid 0.
        options = ["-q", "-F", "-E", "root_owner=0:0,lazy_itable_init=0,lazy_journal_init=0"]
        done = subprocess.run([tool, *options, str(partial)], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DeviceError(f"{tool} {file}: {done.stderr.strip()}", file=str(file))
        os.replace(partial, file)
    except OSError as e:
        raise DeviceError(f"the disk {file} cannot be made: {e.strerror}", file=str(file)) from e
    finally:
        partial.unlink(missing_ok=True)
