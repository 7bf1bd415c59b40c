"""What it takes to bring a file to a board over its serial console: bytes on the wire, and time.

    python benchmarks/transfer.py [--baud 921600] [--bytes 300000] [--emulated a53] [--json]

Over a pseudo-terminal of that speed, with XMODEM and without, and over an emulated board if one is
named. "payload" is the file as it is sent, compressed where that helps; "per payload" counts every
byte that goes to the board, and must stay below 1.1 with XMODEM and 1.45 with base64.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "devices"))

from serial_board import PtyBoard

from edgeprune.devices.console.device import SerialDevice
from edgeprune.devices.console.link import Link
from edgeprune.devices.emulator.device import EmulatedDevice

LIMITS = {"XMODEM": 1.1, "base64": 1.45}


def contents(size: int) -> dict[str, bytes]:
    """Weights, which do not compress, and program text, which does."""
    words = [b"%d ldr q%d, [x%d, #%d]\n" % (i, i % 32, i % 30, 16 * i % 512) for i in range(size // 20)]
    return {"weights": random.Random(0).randbytes(size), "program": b"".join(words)[:size]}


class Counted:
    """A link that counts what goes out."""

    def __init__(self, link: Link) -> None:
        self._link, self.sent = link, 0
        self.bytes_per_s = link.bytes_per_s
        self.read, self.close = link.read, link.close

    def write(self, data: bytes) -> None:
        self.sent += len(data)
        self._link.write(data)


def measure(device: SerialDevice, line: str, size: int) -> list[dict[str, object]]:
    link = device.session.link = Counted(device.session.link)
    rows: list[dict[str, object]] = []
    for name, content in contents(size).items():
        packed = gzip.compress(content, 9, mtime=0)
        payload = min(len(content), len(packed))
        way = "XMODEM" if device.receiver else "base64"
        before, start = link.sent, time.monotonic()
        device.put(content, name)
        seconds = time.monotonic() - start
        assert device.run(["sha256sum", name]).returncode == 0
        ratio = (link.sent - before) / payload
        rows.append(
            {
                "line": line,
                "way": way,
                "file": name,
                "bytes": len(content),
                "payload": payload,
                "sent": link.sent - before,
                "per_payload": round(ratio, 3),
                "limit": LIMITS[way],
                "seconds": round(seconds, 2),
                "mb_per_s": round(len(content) / seconds / 1e6, 4),
            }
        )
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--baud", type=int, default=921600)
    parser.add_argument("--bytes", type=int, default=300_000)
    parser.add_argument("--emulated", choices=["a53", "a72", "rpi3"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for receiver in ("good", None):
        with tempfile.TemporaryDirectory() as folder:
            board = PtyBoard(Path(folder, "board"), receiver=receiver, bytes_per_s=options.baud / 10)
            try:
                device = SerialDevice.from_url(f"{board.url}?baud={options.baud}")
                rows += measure(device, f"pty, {options.baud} baud", options.bytes)
                device.close()
            finally:
                board.close()
    if options.emulated:
        device = EmulatedDevice(options.emulated)
        for receiver in (device.receiver, ""):
            device.receiver = receiver
            rows += measure(device, f"emulated:{options.emulated}", options.bytes)
        device.close()
    if options.json:
        print(json.dumps({"schema": "edgeprune.benchmark.transfer/1", "rows": rows}, indent=1))
    else:
        print(
            f"{'line':<20} {'way':<7} {'file':<8} {'bytes':>8} {'payload':>8} {'per payload':>11} {'s':>7} {'MB/s':>8}"
        )
        for r in rows:
            print(
                f"{r['line']:<20} {r['way']:<7} {r['file']:<8} {r['bytes']:>8} {r['payload']:>8} "
                f"{r['per_payload']:>11} {r['seconds']:>7} {r['mb_per_s']:>8}"
            )
    return int(any(float(str(r["per_payload"])) > float(str(r["limit"])) for r in rows))


if __name__ == "__main__":
    raise SystemExit(main())
