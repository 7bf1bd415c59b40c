import os
import shutil
from pathlib import Path

import pytest

from edgeprune.devices.local.device import LocalDevice
from edgeprune.errors import DeviceError, DeviceUnreachableError, UsageError


def test_without_a_folder_files_are_kept_in_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPRUNE_HOME", str(tmp_path / "home"))
    LocalDevice.from_url("local:").put(b"x", "file")
    assert (tmp_path / "home/device/file").read_bytes() == b"x"
    monkeypatch.delenv("EDGEPRUNE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert LocalDevice.from_url("local:").root == tmp_path / ".edgeprune/device"


@pytest.mark.parametrize("form", ["local:{}", "local://{}"])
def test_a_folder_in_the_url(form, tmp_path):
    folder = tmp_path / "two words"
    assert LocalDevice.from_url(form.format(folder)).root == folder
    assert folder.is_dir()


@pytest.mark.parametrize("url", ["local:board", "local:./board", "local:~/board", "local://host/x", "local:/a\nb"])
def test_a_relative_or_odd_folder_is_refused(url, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        LocalDevice.from_url(url)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_unreachable(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DeviceUnreachableError):
        LocalDevice(tmp_path / "file" / "root")


def test_a_folder_that_vanished_is_unreachable_and_not_a_missing_program(tmp_path):
    device = LocalDevice(tmp_path / "root")
    shutil.rmtree(device.root)
    with pytest.raises(DeviceUnreachableError):
        device.run(["echo"])


def test_fault_15_a_file_larger_than_the_disk_is_refused_before_a_byte_is_written(tmp_path):
    huge = tmp_path / "huge"
    try:
        with huge.open("wb") as file:
            file.truncate(2 * shutil.disk_usage(tmp_path).free)  # sparse
    except OSError:
        pytest.skip("this file system has no sparse files of that size")
    device = LocalDevice(tmp_path / "root")
    started = []
    with pytest.raises(DeviceError, match="are free"):
        device.put(huge, "file", progress=lambda done, total: started.append(done))
    assert started == []
    assert list(device.root.iterdir()) == []


def test_a_file_that_fails_on_its_way_to_the_disk_leaves_nothing(tmp_path):
    device = LocalDevice(tmp_path)
    with pytest.raises(DeviceError, match="too long"):
        device.put(b"x", "n" * 256)
    assert list(tmp_path.iterdir()) == []


def test_new_files_are_private_until_they_are_whole(tmp_path):
    device = LocalDevice(tmp_path)
    seen: list[Path] = []
    device.put(b"x", "file", progress=lambda done, total: seen.extend(tmp_path.iterdir()))
    assert [path.name.startswith(".file.") for path in seen] == [True]
    assert os.stat(tmp_path / "file").st_mode & 0o777 == 0o644
