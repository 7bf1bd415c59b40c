import json

import pytest

from edgeprune.devices.fake import FakeDevice, FakeFaults
from edgeprune.devices.local.device import LocalDevice
from edgeprune.errors import DeviceError, DeviceUnreachableError

ECHO = b'#!/bin/sh\necho "$@"\n'


def test_it_describes_itself_alike_everywhere_but_for_the_processor_that_programs_must_fit(tmp_path):
    info, computer = FakeDevice(tmp_path).describe(), LocalDevice(tmp_path).describe()
    own = ("machine", "system", "features")
    assert [getattr(info, key) for key in own] == [getattr(computer, key) for key in own]
    rest = {key: value for key, value in info.to_json().items() if key not in own}
    assert json.dumps(rest, sort_keys=True) == (
        '{"clock": "virtual", "cores": 1, "cpu": "edgeprune fake CPU", "evidence": "simulated", '
        '"gpu": null, "libc": "", "ram_bytes": 1073741824}'
    )


@pytest.mark.parametrize(
    ("argv", "virtual"),
    [
        (["./model", "bench", "--repeats", "3"], True),
        (["./model", "kernels"], True),
        (["./model", "check"], False),
        (["./model", "run"], False),
        (["./model"], False),
        (["echo", "bench"], False),
    ],
)
def test_only_the_clock_of_a_native_program_is_virtual(tmp_path, argv, virtual):
    device = FakeDevice(tmp_path)
    device.put(ECHO, "model", executable=True)
    assert ("--virtual-clock" in device.run(argv).stdout) is virtual


def test_the_flag_is_not_given_twice(tmp_path):
    device = FakeDevice(tmp_path)
    device.put(ECHO, "model", executable=True)
    assert device.run(["./model", "bench", "--virtual-clock"]).stdout == "bench --virtual-clock\n"


def test_a_temporary_device_is_gone_after_close():
    device = FakeDevice.from_url("fake:")
    device.put(b"x", "file")
    device.close()
    assert not device.root.exists()


def test_a_device_with_a_folder_stays(tmp_path):
    device = FakeDevice.from_url(f"fake:{tmp_path}")
    device.put(b"x", "file")
    device.close()
    assert FakeDevice.from_url(f"fake:{tmp_path}").get("file") == b"x"


@pytest.mark.parametrize("at", [0, 2, 3, 6])
def test_a_link_dropped_at_a_byte_stays_down(tmp_path, at):
    device = FakeDevice(tmp_path, faults=FakeFaults(drop_after_bytes=at))
    whole = at // 3
    for i in range(whole):
        device.put(b"abc", f"file{i}")
    with pytest.raises(DeviceUnreachableError):
        device.put(b"abc", "last")
    for verb in (lambda: device.get("file0"), device.describe, lambda: device.run(["true"])):
        with pytest.raises(DeviceUnreachableError):
            verb()
    assert len(list(tmp_path.iterdir())) == whole


def test_a_reply_may_be_lost_after_the_call_was_carried_out(tmp_path):
    before = FakeDevice(tmp_path, faults=FakeFaults(drop_before_call=0))
    after = FakeDevice(tmp_path, faults=FakeFaults(drop_after_call=0))
    with pytest.raises(DeviceUnreachableError):
        before.put(b"x", "before")
    with pytest.raises(DeviceUnreachableError):
        after.put(b"x", "after")
    assert [path.name for path in tmp_path.iterdir()] == ["after"]


def test_one_bit_is_flipped_in_storage(tmp_path):
    device = FakeDevice(tmp_path, faults=FakeFaults(flip_bit_at=8 * 4 + 1))
    device.put(b"\0\0\0", "first")
    device.put(b"\0\0\0", "second")
    assert (device.get("first"), device.get("second")) == (b"\0\0\0", b"\0\2\0")


def test_a_small_disk_says_so_and_refuses(tmp_path):
    device = FakeDevice(tmp_path, faults=FakeFaults(disk_bytes=8192))
    device.put(bytes(4096), "file")
    assert device.run(["df", "-P", "-k", "."]).stdout.splitlines()[1].split()[1:4] == ["8", "4", "4"]
    with pytest.raises(DeviceError, match="4096 are free"):
        device.put(bytes(4097), "more")


def test_a_disk_that_fills_up_midway_keeps_the_old_file(tmp_path):
    device = FakeDevice(tmp_path, faults=FakeFaults(full_after_bytes=5))
    device.put(b"old", "file")
    with pytest.raises(DeviceError, match="No space"):
        device.put(b"new!", "file")
    assert device.get("file") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_read_only_disk_reads(tmp_path):
    FakeDevice(tmp_path).put(b"x", "file")
    device = FakeDevice(tmp_path, faults=FakeFaults(read_only=True))
    assert device.get("file") == b"x"
    for verb in (lambda: device.put(b"", "new"), lambda: device.remove("file")):
        with pytest.raises(DeviceError, match="Read-only"):
            verb()
    assert device.run(["mkdir", "new"]).returncode == 1


def test_a_missing_tool(tmp_path):
    device = FakeDevice(tmp_path, faults=FakeFaults(fail_command="sha256sum"))
    assert device.run(["sha256sum", "x"]).returncode == 127
