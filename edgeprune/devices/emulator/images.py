"""Kernel and file system of the emulated boards: made once, kept in ``$EDGEPRUNE_HOME/emulator``.

The file system is Debian's static busybox with an XMODEM receiver: what small boards have. The
folder appears whole or not at all, with a manifest that names the packages it was made of.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeprune.devices.emulator.cpio import Entry, archive
from edgeprune.devices.emulator.packages import Apt, extract, names
from edgeprune.errors import MissingDependencyError
from edgeprune.home import home
from edgeprune.progress import SILENT, Progress

LAYOUT = 2
"""Raised whenever the images change, so that older ones are made again."""

USER, PASSWORD = "pi", "edgeprune"
"""Who may log in on ``emulated:rpi3``. It has no network and no data: this is no secret."""

KERNEL, DTB, INITRAMFS, MANIFEST = "vmlinuz", "bcm2837-rpi-3-b.dtb", "initramfs.cpio.gz", "manifest.json"
_HINT = "edgeprune emulator prepare"
_LIB = r"(usr/)?lib/aarch64-linux-gnu"
_HASH = "$6$edgeprune$GaelrwxWQZdZWjxGqHEwzzjm/G8YEDjUdgFTWZc/luXwiBoW1DTCfB1H.V7Won/74kx2elq8GeUyQY0bAhuG.."
_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for d in home tmp; do mount -t tmpfs tmpfs /$d; done
if grep -q edgeprune.disk /proc/cmdline; then
  for m in @MODULES@; do insmod /lib/modules/$m; done
  mount -t ext4 -o noatime /dev/vda /root || { echo "the disk cannot be mounted"; poweroff -f; }
else
  mount -t tmpfs tmpfs /root
fi
chmod 1777 /tmp
mkdir /home/pi && chown 1000:1000 /home/pi
tty=$(sed 's/.*console=\\([A-Za-z0-9]*\\).*/\\1/' /proc/cmdline)
if grep -q edgeprune.login /proc/cmdline; then
  echo "$tty::respawn:/bin/getty -L 115200 $tty vt100" >/etc/inittab
else
  echo "$tty::respawn:-/bin/sh" >/etc/inittab
fi
exec init
"""
MODULES = ("crc16.ko", "crc32c_generic.ko", "mbcache.ko", "jbd2.ko", "ext4.ko", "virtio_mmio.ko", "virtio_blk.ko")
"""What mounting a disk takes, in the order of loading."""
_FILES = {
    "etc/passwd": f"root:*:0:0:root:/root:/bin/sh\n{USER}:{_HASH}:1000:1000::/home/pi:/bin/sh\n",
    "etc/group": "root:x:0:\npi:x:1000:\n",
    "etc/profile": "export PATH=/bin\n[ $HOME != / ] || export HOME=/root\n",
    "etc/issue": "edgeprune emulated board\n",
    "etc/hostname": "emulated\n",
}


@dataclass(frozen=True, slots=True)
class Images:
    """Where they lie, and which Debian packages they were made of, with versions."""

    folder: Path
    packages: dict[str, str]

    @property
    def kernel(self) -> Path:
        return self.folder / KERNEL

    @property
    def dtb(self) -> Path:
        return self.folder / DTB

    @property
    def initramfs(self) -> Path:
        return self.folder / INITRAMFS

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "folder": str(self.folder)}


def images_folder() -> Path:
    return home() / "emulator" / "images"


def find_images() -> Images:
    """The images made before.

    Raises:
        MissingDependencyError: there are none, or an older edgeprune made them.
    """
    folder = images_folder()
    try:
        told = json.loads((folder / MANIFEST).read_text())
        sizes = {name: (folder / name).stat().st_size for name in told["files"]}
        if told["layout"] == LAYOUT and all(sizes[n] == f["bytes"] for n, f in told["files"].items()):
            return Images(folder, dict(told["packages"]))
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise MissingDependencyError("the images of the emulated boards are not prepared", hint=_HINT)


def prepare(*, again: bool = False, progress: Progress = SILENT) -> Images:
    """Make the images, or find those made before.

    Args:
        again: make them anew, with the packages of today.

    Raises:
        MissingDependencyError: no apt, no network, or packages without what is needed.
    """
    if not again:
        try:
            return find_images()
        except MissingDependencyError:
            pass
    folder = images_folder()
    work = folder.parent / f".work.{secrets.token_hex(4)}"
    work.mkdir(parents=True)
    try:
        made = work / "images"
        made.mkdir()
        packages = _fill(made, Apt(work / "apt"), progress)
        old = work / "old"
        if folder.exists():
            folder.rename(old)
        try:
            made.rename(folder)
        except OSError:
            return find_images()  # another process was quicker
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return Images(folder, packages)


def _fill(folder: Path, apt: Apt, progress: Progress) -> dict[str, str]:
    progress.stage("package lists")
    apt.update()
    progress.stage("packages", total=4)
    packages = []
    for name in (apt.kernel(), "busybox-static", "lrzsz", "libc6"):
        packages.append(apt.download(name))
        progress.advance()
    linux, busybox, lrzsz, libc = packages
    progress.stage("images")
    # The device tree comes first in the patterns' package, but the order of a tar file is not ours.
    modules = {name: rf"(usr/)?lib/modules/[^/]*/kernel/.*/{name}" for name in MODULES}
    parts = {KERNEL: r"boot/vmlinuz-.*", DTB: rf"usr/lib/linux-image-[^/]*/broadcom/{DTB}"}
    kernel = extract(linux, parts | modules)
    binary = extract(busybox, {"busybox": r"(usr/)?bin/busybox"})["busybox"]
    # One program under several names, some of them hard links: any will do.
    receiver = extract(lrzsz, {"rx": r"usr/bin/r[bxz]"})["rx"]
    loader, c = "ld-linux-aarch64.so.1", "libc.so.6"
    libraries = extract(libc, {loader: rf"{_LIB}/{loader}", c: rf"{_LIB}/{c}"})
    contents = {
        KERNEL: kernel[KERNEL],
        DTB: kernel[DTB],
        INITRAMFS: gzip.compress(file_system(binary, receiver, libraries, {m: kernel[m] for m in modules}), 6, mtime=0),
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    manifest = {
        "layout": LAYOUT,
        "packages": names(packages),
        "files": {n: {"bytes": len(d), "sha256": hashlib.sha256(d).hexdigest()} for n, d in contents.items()},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    os.sync()
    return names(packages)


def file_system(busybox: bytes, receiver: bytes, libraries: dict[str, bytes], modules: dict[str, bytes]) -> bytes:
    """The archive that the kernel unpacks into memory."""
    folders = ("bin", "dev", "etc", "home", "lib", "lib/aarch64-linux-gnu", "lib/modules", "proc", "root", "sys", "tmp")
    return archive(
        [
            *(Entry.folder(name) for name in folders),
            Entry.file("init", _INIT.replace("@MODULES@", " ".join(MODULES)).encode(), executable=True),
            *(Entry.file(name, text.encode()) for name, text in _FILES.items()),
            Entry.file("bin/busybox", busybox, executable=True),
            Entry.file("bin/rx", receiver, executable=True),
            *(Entry.file(f"lib/aarch64-linux-gnu/{n}", data, executable=True) for n, data in libraries.items()),
            *(Entry.file(f"lib/modules/{n}", data) for n, data in modules.items()),
            Entry.link("lib/ld-linux-aarch64.so.1", "aarch64-linux-gnu/ld-linux-aarch64.so.1"),
        ]
    )
