"""One emulated board a session for all tests of a worker."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeprune.devices.emulated import EmulatedDevice
from edgeprune.devices.emulator.images import images_folder
from edgeprune.devices.emulator.machine import QEMU


@pytest.fixture(scope="session")
def emulator_images() -> Path:
    """The folder of the images in the tests' home; without them or QEMU the test is skipped."""
    if shutil.which(QEMU) is None:
        pytest.skip(f"{QEMU} is not installed: sudo apt-get install qemu-system-arm")
    theirs, ours = Path(os.environ["EDGEPRUNE_TEST_EMULATOR"]), images_folder().parent
    if not (theirs / "images" / "manifest.json").is_file():
        pytest.skip("the images of the emulated boards are missing: edgeprune emulator prepare")
    if theirs != ours and not ours.exists():
        ours.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):  # the other worker was quicker
            ours.symlink_to(theirs)
    return images_folder()


@pytest.fixture(scope="session")
def counting_board(emulator_images: Path) -> Iterator[EmulatedDevice]:
    """A Cortex-A53 that counts instructions, switched on once."""
    device = EmulatedDevice("a53")
    device.session.pace = 4  # no test computes much, and some wait for a timeout
    yield device
    device.close()
