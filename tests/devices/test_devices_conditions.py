"""What boards show of clock and heat: files of the kernel that are there, absent, or strange."""

from __future__ import annotations

import pytest

from edgeprune.devices.conditions import Watch, read_conditions
from edgeprune.devices.local.device import LocalDevice
from edgeprune.devices.protocol import Completed
from edgeprune.errors import DeviceUnreachableError

CPU = "/sys/devices/system/cpu"
ZONE = "/sys/class/thermal/thermal_zone"
FIRMWARE = "/sys/devices/platform/soc/soc:firmware/get_throttled"
PI = (
    f"{CPU}/cpufreq/policy0/scaling_governor:ondemand\n{CPU}/cpufreq/policy0/scaling_cur_freq:1500398\n"
    f"{ZONE}0/temp:61835\n{FIRMWARE}:0\n"
)
LAPTOP = (
    f"{CPU}/cpufreq/policy0/scaling_governor:powersave\n{CPU}/cpufreq/policy4/scaling_governor:performance\n"
    f"{CPU}/cpufreq/policy0/scaling_cur_freq:800000\n{CPU}/cpufreq/policy4/scaling_cur_freq:3900000\n"
    f"{CPU}/cpu0/thermal_throttle/core_throttle_count:3\n{CPU}/cpu1/thermal_throttle/core_throttle_count:0\n"
    f"{ZONE}0/temp:-274000\n{ZONE}1/temp:0\n{ZONE}2/temp:47500\n{ZONE}3/temp:255000\n"
)


def watched(*answers: str) -> Watch:
    left = list(answers)
    watch = Watch(lambda argv: Completed(2, left.pop(0), ""))
    for _ in answers:
        watch.look()
    return watch


def test_a_raspberry_pi():
    seen = watched(PI, PI.replace("61835", "79100").replace("1500398", "1200000")).conditions
    assert (seen.governors, seen.throttled) == (("ondemand",), False)
    assert seen.clock_mhz == (1200.0, 1500.398)
    assert seen.temperature_c == (61.835, 79.1)


@pytest.mark.parametrize(
    ("words", "throttled"),
    [
        ("0 0", False),
        ("50000 50000", False),  # it was, before it was watched
        ("0 50000", True),
        ("10000 50000", True),
        ("0 50005 50000", True),
        ("4 4", True),
        ("nonsense nonsense", None),
    ],
)
def test_the_word_of_its_firmware(words, throttled):
    seen = watched(*(PI.replace(f"{FIRMWARE}:0", f"{FIRMWARE}:{word}") for word in words.split())).conditions
    assert seen.throttled is throttled


def test_a_laptop():
    more = LAPTOP.replace("core_throttle_count:0", "core_throttle_count:2")
    seen = watched(LAPTOP, LAPTOP).conditions
    assert (seen.governors, seen.throttled) == (("performance", "powersave"), False)
    assert seen.clock_mhz == (3900.0, 3900.0)
    assert seen.temperature_c == (47.5, 47.5), "sensors that say what cannot be are not believed"
    assert watched(LAPTOP, more).conditions.throttled is True


@pytest.mark.parametrize("answer", ["", "grep: unknown option", f"{ZONE}0/temp:warm\n{CPU}/x/scaling_governor:; rm\n"])
def test_a_board_that_shows_nothing_is_asked_once(answer):
    asked = []
    watch = Watch(lambda argv: asked.append(argv) or Completed(1, answer, ""))
    for _ in range(3):
        watch.look()
    assert (len(asked), watch.conditions) == (1, None)


def test_a_board_that_is_gone_is_an_error():
    def run(argv):
        raise DeviceUnreachableError("gone")

    with pytest.raises(DeviceUnreachableError):
        Watch(run).look()


def test_this_computer_answers(tmp_path):
    device = LocalDevice(tmp_path)
    reading = read_conditions(device.run)
    done = device.run(["sh", "-c", f"cat {CPU}/cpufreq/policy*/scaling_governor 2>/dev/null"])
    assert reading.governors == frozenset(done.stdout.split())
