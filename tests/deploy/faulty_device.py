"""``faulty:/a/folder?read_only=1``: a fake device with faults in its URL, for tests that type commands."""

from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from edgeprune.devices.fake import FakeDevice, FakeFaults
from edgeprune.devices.registry import SCHEMES


class Faulty:
    @staticmethod
    def from_url(url: str) -> FakeDevice:
        folder, _, query = url.removeprefix("faulty:").partition("?")
        faults = {name: int(number) for name, number in parse_qsl(query)}
        return FakeDevice(Path(folder), url=url, faults=FakeFaults(**faults))  # type: ignore[arg-type]


def offer_faulty_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEMES, "faulty", f"{__name__}:Faulty")
