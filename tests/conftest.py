"""What every test shares: a home of its own, so that nothing of the developer's is read or written."""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from edgeprune.devices.emulator.disk import disk_maker
from edgeprune.devices.emulator.images import images_folder
from edgeprune.devices.emulator.machine import QEMU

if TYPE_CHECKING:
    from edgeprune.children import Waiting


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing with them")


def pytest_configure(config: pytest.Config) -> None:
    # Images of emulated boards take a download: those of the user serve, too.
    own = os.environ.get("EDGEPRUNE_HOME") or str(Path.home() / ".edgeprune")
    os.environ.setdefault("EDGEPRUNE_TEST_EMULATOR", str(Path(own, "emulator")))
    # One folder for all workers of a run: a kernel that one test compiled, the next takes from there.
    if "EDGEPRUNE_TEST_HOME" not in os.environ:
        os.environ["EDGEPRUNE_TEST_HOME"] = tempfile.mkdtemp(prefix="edgeprune-test-home-")
    os.environ["EDGEPRUNE_HOME"] = os.environ["EDGEPRUNE_TEST_HOME"]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Groups of tests that share what is slow to make have to reach the scheduler: it reads them off the names."""
    marks = ((item, item.get_closest_marker("xdist_group")) for item in items)
    if config.getoption("loadgroup", default=False):
        lost = [item.nodeid for item, mark in marks if mark and not item.nodeid.endswith(f"@{mark.args[0]}")]
        if lost:
            raise pytest.UsageError(f"this pytest does not let pytest-xdist group tests, such as {lost[0]}")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh, empty home."""
    monkeypatch.setenv("EDGEPRUNE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)``: the text equals the file ``golden/name`` beside the test (or writes it)."""

    def compare(name: str, text: str) -> None:
        file = request.path.parent / "golden" / name
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        assert text == file.read_text(), f"{file} differs; if that is meant: pytest {request.path} --update-golden"

    return compare


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
def emulator_disks(emulator_images: Path) -> Path:
    """The folder of the images, where boards can have disks as well; the test is skipped elsewhere."""
    if disk_maker() is None:
        pytest.skip("mkfs.ext4 is not installed: sudo apt-get install e2fsprogs")
    return emulator_images


@pytest.fixture(scope="session")
def fake_builders() -> Iterator["Waiting"]:
    """Processes that build with the fake compiler: they take seconds to start, so all tests share them."""
    from edgeprune.children import Waiting

    waiting = Waiting()
    yield waiting
    waiting.end()


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch, fake_builders: "Waiting") -> None:
    """A GPU that is none (tests/fakes): its driver is found by programs that start now, its compiler by edgeprune."""
    import fake_nvrtc

    from edgeprune.compiler import workers
    from edgeprune.compiler.cuda import nvrtc

    folder = Path(os.environ["EDGEPRUNE_TEST_HOME"], "fake-gpu")
    folder.mkdir(exist_ok=True)
    if not (folder / "libcuda.so.1").is_file():
        here = Path(fake_nvrtc.__file__)
        partial = folder / f"{os.getpid()}.so"
        fake_nvrtc.zig("cc", "-Wall", "-Wextra", "-Werror", str(here.with_name("fake_driver.c")), "-o", str(partial))
        partial.replace(folder / "libcuda.so.1")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(folder))
    monkeypatch.setattr(nvrtc, "_compile", fake_nvrtc.compiled)
    monkeypatch.setattr(nvrtc, "versions", lambda: fake_nvrtc.VERSIONS)
    monkeypatch.setattr(workers, "COMMAND", (sys.executable, "-P", fake_nvrtc.__file__))
    monkeypatch.setattr(workers, "WAITING", fake_builders)
