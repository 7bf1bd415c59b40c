"""An XMODEM receiver for boards in tests: ``serial_receiver.py FILE [MODE]``; what busybox's and lrzsz's ``rx`` do.

Modes: ``good``; ``checksum`` knows no CRC; ``refuse`` refuses each third block once; ``stall``
stops answering after two blocks and knows no cancelling; ``cancel`` gives up after two blocks.
"""

import binascii
import os
import select
import sys
import termios
import tty
from typing import BinaryIO


def read(n: int, timeout: float = 3.0) -> bytes:
    data = b""
    while len(data) < n and select.select([0], [], [], timeout)[0]:
        more = os.read(0, n - len(data))
        if not more:
            break
        data += more
    return data


def receive(file: BinaryIO, mode: str) -> int:
    ask = b"\x15" if mode == "checksum" else b"C"
    wanted, blocks = 1, 0
    os.write(1, ask)
    while True:
        head = read(1)
        if not head:
            if mode == "stall" and blocks >= 2:
                continue
            os.write(1, ask if wanted == 1 else b"\x15")
            continue
        if head == b"\x04":
            os.write(1, b"\x06")
            return 0
        if head == b"\x18" and read(1) == b"\x18":
            return 1
        if head not in (b"\x01", b"\x02"):
            continue
        size = 1024 if head == b"\x02" else 128
        extra = 1 if mode == "checksum" else 2
        rest = read(2 + size + extra)
        if len(rest) < 2 + size + extra or rest[0] != 255 - rest[1]:
            termios.tcflush(0, termios.TCIFLUSH)
            os.write(1, b"\x15")
            continue
        block, check = rest[2 : 2 + size], rest[2 + size :]
        good = check == (bytes([sum(block) & 255]) if extra == 1 else binascii.crc_hqx(block, 0).to_bytes(2, "big"))
        blocks += 1
        if mode == "stall" and blocks > 2:
            while True:  # deaf to everything but the end
                if read(1, 30) == b"\x04":
                    return 1
        if mode == "cancel" and blocks > 2:
            os.write(1, b"\x18" * 5)
            return 1
        if not good or (mode == "refuse" and blocks % 3 == 0):
            os.write(1, b"\x15")
        elif rest[0] == (wanted - 1) & 255:
            os.write(1, b"\x06")
        elif rest[0] == wanted & 255:
            file.write(block)
            wanted += 1
            os.write(1, b"\x06")
        else:
            os.write(1, b"\x18" * 5)
            return 1


if __name__ == "__main__":
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        with open(sys.argv[1], "wb") as target:
            code = receive(target, sys.argv[2] if len(sys.argv) > 2 else "good")
    finally:
        termios.tcsetattr(0, termios.TCSANOW, before)
    sys.exit(code)
