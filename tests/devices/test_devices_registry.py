import subprocess
import sys
from types import SimpleNamespace

import pytest

from edgeprune.devices import registry
from edgeprune.devices.registry import SCHEMES, list_devices, open_device
from edgeprune.errors import UsageError


@pytest.mark.parametrize("url", ["", "nothing", "ssh//pi", "zz:", "LOCAL:", " local:", "pi@board"])
def test_an_unknown_scheme_lists_those_that_exist(url):
    with pytest.raises(UsageError) as caught:
        open_device(url)
    assert caught.value.details["schemes"] == list(SCHEMES)
    assert all(f"{scheme}:" in caught.value.hint for scheme in SCHEMES)


@pytest.mark.parametrize("scheme", ["local", "fake"])
def test_a_device_keeps_its_url(scheme, tmp_path):
    device = open_device(f"{scheme}:{tmp_path}")
    assert device.url == f"{scheme}:{tmp_path}"
    device.close()


def test_local_heads_the_list_and_can_be_opened(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEPRUNE_HOME", str(tmp_path))
    first = list_devices()[0]
    assert (first.url, first.openable) == ("local:", True)
    assert list(tmp_path.iterdir()) == []
    assert open_device(first.url).describe().machine == first.details["machine"]


def test_a_serial_port_is_listed_with_what_identifies_it():
    port = SimpleNamespace(
        device="/dev/ttyUSB0", vid=0x0403, pid=0x6001, product="FT232R", serial_number="A5XK", description="x"
    )
    row = registry._serial_row(port)
    assert row.url == "serial:///dev/ttyUSB0"
    assert row.details == {"id": "0403:6001", "product": "FT232R", "serial_number": "A5XK"}
    assert row.openable is ("serial" in SCHEMES)
    bare = SimpleNamespace(device="/dev/ttyS0", vid=None, pid=None, product=None, serial_number=None, description="n/a")
    assert registry._serial_row(bare).details == {}


def test_the_list_has_ports_and_emulated_boards(monkeypatch):
    ports = [
        SimpleNamespace(device=f"/dev/{name}", vid=0x0403, pid=0x6001, product="FT232R", serial_number=number)
        for name, number in (("ttyUSB1", "A5XK"), ("ttyUSB0", "A5XK"))
    ]
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: ports)
    monkeypatch.delenv(registry.TRACKER, raising=False)
    rows = {row.url: row.details for row in list_devices()}
    assert [url for url in rows if url.startswith("serial:")] == ["serial:///dev/ttyUSB0", "serial:///dev/ttyUSB1"]
    assert rows["serial:///dev/ttyUSB1"]["serial_number"] == "A5XK"
    assert any(url.startswith("emulated:") for url in rows)


def test_opening_one_scheme_loads_no_other():
    code = (
        "import sys\n"
        "from edgeprune.devices import registry\n"
        "assert not [m for m in sys.modules if m.startswith(('edgeprune.devices.local', 'edgeprune.devices.fake'))]\n"
        "assert 'serial' not in sys.modules\n"
        "import tempfile\n"
        "with tempfile.TemporaryDirectory() as root:\n"
        "    registry.open_device('local:' + root).close()\n"
        "assert 'edgeprune.devices.fake' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
