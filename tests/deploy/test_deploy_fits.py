"""A wrong processor or C library (docs/FAULTS.md, 21) is found in a board's description before an upload."""

import json
from dataclasses import replace

import pytest
from deploy_bundles import compile_program, make_bundle

from edgeprune.compiler.elf import read_needs
from edgeprune.compiler.manifest import read_manifest
from edgeprune.deploy.fits import require_fit
from edgeprune.deploy.flash import flash
from edgeprune.deploy.status import status
from edgeprune.devices.fake import FakeDevice
from edgeprune.errors import BundleError

NEW, OLD = "aarch64-linux-gnu.2.36", "aarch64-linux-gnu.2.17"


class Board(FakeDevice):
    """A fake board that says it is another one."""

    says: dict = {}  # noqa: RUF012

    def describe(self):
        return replace(super().describe(), **self.says)


def board(tmp_path, **says):
    device = Board(tmp_path / "board")
    device.says = says
    return device


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """``built(zig_target)``: a bundle whose program was really built for that."""
    made = {}

    def get(target):
        if target not in made:
            folder = tmp_path_factory.mktemp("fits")
            made[target] = make_bundle(folder / "bundle", compile_program(folder, target))
        return made[target]

    return get


@pytest.mark.parametrize(
    ("target", "machine", "libc", "needs"),
    [
        (NEW, "aarch64", "glibc 2.31", "glibc 2.34"),
        ("arm-linux-gnueabihf.2.36", "armv7l", "glibc 2.28", "glibc 2.34"),
        ("arm-linux-gnueabihf.2.36", "aarch64", "glibc 2.28", "glibc 2.34"),
        ("x86_64-linux-gnu.2.36", "x86_64", "glibc 2.9", "glibc 2.34"),
        (NEW, "aarch64", "musl 1.2.5", "glibc 2.34"),
    ],
)
def test_a_c_library_that_is_too_old_or_another(tmp_path, built, target, machine, libc, needs):
    device = board(tmp_path, machine=machine, libc=libc)
    states = []
    with pytest.raises(BundleError, match=libc) as caught:
        flash(built(target), device, on_state=states.append)
    assert caught.value.exit_code == 3
    assert (caught.value.details["needs"], caught.value.details["device"]) == (needs, libc)
    assert device.uploaded_bytes == 0 or not any(device.root.glob("releases/*"))
    now = status(device)
    assert (now.current, now.releases, now.partial, now.interrupted, now.owner) == (None, (), (), None, None)
    assert [s.name for s in states] == ["LOCKED"]


@pytest.mark.parametrize(
    ("target", "machine", "built_for"),
    [
        (NEW, "armv7l", "aarch64 (64 bit)"),
        (NEW, "x86_64", "aarch64 (64 bit)"),
        ("x86_64-linux-gnu.2.36", "aarch64", "x86_64 (64 bit)"),
        ("aarch64-linux-musl", "x86_64", "aarch64 (64 bit)"),
    ],
)
def test_another_processor(tmp_path, built, target, machine, built_for):
    device = board(tmp_path, machine=machine)
    with pytest.raises(BundleError, match="built for") as caught:
        flash(built(target), device)
    assert (caught.value.details["built_for"], caught.value.details["device"]) == (built_for, machine)
    assert status(device).releases == ()


@pytest.mark.parametrize(
    ("target", "machine", "libc"),
    [
        (NEW, "aarch64", "glibc 2.34"),
        (NEW, "aarch64", "glibc 2.100"),
        (OLD, "aarch64", "glibc 2.17"),
        (NEW, "aarch64", ""),  # not told: the golden check will find out
        (NEW, "mips", "glibc 2.36"),  # a machine that is not known here
        ("arm-linux-gnueabihf.2.36", "aarch64", "glibc 2.36"),
        ("aarch64-linux-musl", "aarch64", "glibc 2.17"),  # static: needs nothing
    ],
)
def test_what_can_run_passes(tmp_path, built, target, machine, libc):
    require_fit(built(target), read_manifest(built(target)), board(tmp_path, machine=machine, libc=libc).describe())


def test_libraries_that_go_along_count_too(tmp_path, built):
    """The program is static, the library beside it is not."""
    program = (built("aarch64-linux-musl") / "model").read_bytes()
    folder = make_bundle(tmp_path / "bundle", program, files={"libx.so": (built(NEW) / "model").read_bytes()})
    with pytest.raises(BundleError, match=r"libx\.so needs glibc 2\.34"):
        flash(folder, board(tmp_path, machine="aarch64", libc="glibc 2.31"))


def test_what_a_manifest_claims_does_not_count(tmp_path, built):
    """Who edits the manifest does not get a program past the check."""
    folder = make_bundle(tmp_path / "bundle", (built(NEW) / "model").read_bytes())
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model"]["needs"] = read_needs(built(OLD) / "model").model_dump(mode="json")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match=r"needs glibc 2\.34"):
        flash(folder, board(tmp_path, machine="aarch64", libc="glibc 2.31"))


def test_a_bundle_without_needs_keeps_the_name_it_was_installed_under(built):
    assert '"needs"' not in read_manifest(built(OLD)).to_text()
