"""Packages: the files that a bundle sends to a device, and those that are on the device already."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgeprune.compiler.manifest import MANIFEST, Manifest, read_manifest
from edgeprune.deploy.board import Board
from edgeprune.deploy.layout import release_path, short
from edgeprune.devices.paths import check_path
from edgeprune.errors import BundleError, DeviceError, DeviceUnreachableError, UsageError, VerificationError


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a release."""

    name: str
    sha256: str
    size_bytes: int
    source: Path | bytes
    executable: bool


def read_items(bundle: Path, manifest: Manifest) -> list[Item]:
    """The files that go to the device; the manifest last, for it makes the release complete.

    Raises:
        BundleError: the program or a golden file stays behind, or a name cannot exist on a device.
    """
    for name in (manifest.program, *manifest.golden.inputs, *manifest.golden.outputs):
        if name not in manifest.files or not manifest.files[name].deploy:
            raise BundleError(f"{bundle}: {name!r} is needed on the device and is not deployed", hint="compile again")
    if not manifest.files[manifest.program].executable:
        raise BundleError(f"{bundle}: the program {manifest.program!r} is not executable", hint="compile again")
    items = []
    for name, entry in sorted(manifest.files.items()):
        try:
            check_path(name)
        except UsageError as e:
            raise BundleError(f"{bundle}: {e.message}", hint="compile again") from e
        if entry.deploy:
            items.append(Item(name, entry.sha256, entry.bytes, bundle / name, entry.executable))
    text = manifest.to_text().encode()
    return [*items, Item(MANIFEST, manifest.release_id, len(text), text, False)]


def installed_manifest(board: Board, release: str) -> Manifest:
    """The manifest of a release on the device, checked against the release's name.

    Raises:
        VerificationError: it is missing or altered.
    """
    path = f"{release_path(release)}/{MANIFEST}"
    try:
        text = board.device.get(path)
    except DeviceUnreachableError:
        raise
    except DeviceError as e:
        raise VerificationError(f"release {short(release)} on the device holds no manifest", release=release) from e
    actual = hashlib.sha256(text).hexdigest()
    if actual != release:
        raise VerificationError(f"{path} on the device was altered", expected=release, actual=actual)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / MANIFEST).write_bytes(text)
        try:
            return read_manifest(Path(folder), verify=False)
        except BundleError as e:
            # Whole and yet unreadable: another version of edgeprune wrote it.
            raise VerificationError(f"{path} on the device cannot be read: {e.message}", release=release) from e
