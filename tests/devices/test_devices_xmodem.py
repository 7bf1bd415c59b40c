"""What counts as a receiver's answer, where a kernel speaks on the same line."""

from __future__ import annotations

import pytest

from edgeprune.devices.console import xmodem

MESSAGE = b"[   12.345678] CPU: 0 PID: 77 Comm: sh\r\nCall trace:\r\n[   12.345679] Code: CCCC d503201f\r\n"


class Line:
    """A receiver that asks for the first block and acknowledges what it gets; ``before_ack`` is heard before it."""

    bytes_per_s = 0

    def __init__(self, start: list[bytes], before_ack: list[bytes]) -> None:
        self.heard, self.before_ack = start, before_ack
        self.packets: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.packets.append(data)
        self.heard += [*self.before_ack, b"\x06"]

    def read(self, timeout_s: float) -> bytes:
        return self.heard.pop(0) if timeout_s and self.heard else b""


@pytest.mark.parametrize("pieces", [[MESSAGE], [MESSAGE[:16], MESSAGE[16:]], [bytes([c]) for c in MESSAGE]])
def test_the_letters_of_a_kernel_message_refuse_no_block(pieces):
    line = Line([b"C"], pieces)
    xmodem.send(line, b"x" * 2000)
    assert [len(p) for p in line.packets] == [1029] + 8 * [133] + [1]  # each once


@pytest.mark.parametrize(
    "start", [[b"C"], [b"CC"], [MESSAGE, b"C"], [MESSAGE + b"C"], [b"C" + MESSAGE], [b"C", b"\r\n"]]
)
def test_a_receiver_asks_for_crc_beside_a_message(start):
    line = Line(start, [])
    xmodem.send(line, b"x" * 128)
    assert line.packets[0] == xmodem.packet(1, b"x" * 128, crc=True)


def test_a_receiver_of_checksums_is_not_taken_for_one_of_crc():
    line = Line([MESSAGE, b"\x15"], [])
    xmodem.send(line, b"x" * 128)
    assert line.packets[0] == xmodem.packet(1, b"x" * 128, crc=False)


def test_two_cancels_end_it_and_one_does_not():
    line = Line([b"\x18", b"C"], [b"\x18"])
    xmodem.send(line, b"x" * 128)
    with pytest.raises(xmodem.TransferError, match="cancelled"):
        xmodem.send(Line([b"\x18", b"\x18"], []), b"x")
