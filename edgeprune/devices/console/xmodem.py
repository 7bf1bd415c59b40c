"""Sending with XMODEM: 1 KiB blocks, a short tail in 128-byte blocks, CRC or checksum as the receiver asks.

Own code, because the package for it knows no deadline for the whole, computes its CRC byte by byte
and waits a minute for each lost answer.
"""

from __future__ import annotations

import binascii
import re
import time
from collections.abc import Callable, Iterator

from edgeprune.devices.console.link import Link

SOH, STX, EOT, ACK, NAK, CAN, PAD, CRC = 0x01, 0x02, 0x04, 0x06, 0x15, 0x18, 0x1A, ord("C")
_LONG, _SHORT = 1024, 128
_ATTEMPTS = 10
_ALONE_S = 0.1  # in which the rest of a message follows a letter of it
_LETTER = re.compile(rb"(?<=[^\nC\x06\x15])C+|C+(?=[^\r\n\[C\x06\x15])")  # with something of a line on either side
# Receivers discard what arrives just after their answer; how quick is too quick shows in their refusals.
FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LAST_PAUSE_S = 0.001, 0.1, 0.02


class TransferError(Exception):
    """The receiver gave up, or does not answer."""


def blocks(data: bytes) -> Iterator[bytes]:
    """``data`` in blocks; the last one is padded, and the receiver keeps the padding."""
    whole = len(data) // _LONG * _LONG
    for i in range(0, whole, _LONG):
        yield data[i : i + _LONG]
    for i in range(whole, len(data), _SHORT):
        yield data[i : i + _SHORT].ljust(_SHORT, bytes([PAD]))


def packet(number: int, block: bytes, *, crc: bool) -> bytes:
    head = bytes([STX if len(block) == _LONG else SOH, number & 0xFF, 255 - (number & 0xFF)])
    if crc:
        return head + block + binascii.crc_hqx(block, 0).to_bytes(2, "big")
    return head + block + bytes([sum(block) & 0xFF])


def send(
    link: Link,
    data: bytes,
    *,
    start_s: float = 15.0,
    answer_s: float = 3.0,
    pause_s: float = FIRST_PAUSE_S,
    on_block: Callable[[int], None] | None = None,
) -> float:
    """Send ``data`` to a receiver that was just started.

    Args:
        start_s: how long the receiver may take to ask for the first block, and ``answer_s`` to
            acknowledge one; a block is sent ten times at most.
        pause_s: how long a receiver is left alone after its answer.
        on_block: called with the bytes of the block that was acknowledged.

    Returns:
        the pause that this receiver needs.

    Raises:
        TransferError: it does not work; the receiver may still be waiting.
        DeviceUnreachableError: the line is gone.
    """
    crc = _answer(link, start_s, (CRC, NAK)) == CRC
    pause = pause_s
    for number, block in enumerate(blocks(data), 1):
        whole = packet(number, block, crc=crc)
        slow = len(whole) / link.bytes_per_s if link.bytes_per_s else 0.0
        for _ in range(_ATTEMPTS):
            time.sleep(pause)
            while link.read(0):
                pass  # an answer that was doubled on the way would pass for the next one
            link.write(whole)
            try:
                # Only before the first block does "C" ask again; later it is part of a kernel message.
                if _answer(link, answer_s + 2 * slow, (ACK, NAK, CRC) if number == 1 else (ACK, NAK)) == ACK:
                    break
                pause = min(_LONGEST_PAUSE_S, 2 * pause)
            except _Silence:
                continue
        else:
            raise TransferError(f"block {number} was refused {_ATTEMPTS} times")
        if on_block:
            on_block(len(block))
    for _ in range(_ATTEMPTS):
        time.sleep(max(pause, _LAST_PAUSE_S))
        link.write(bytes([EOT]))
        try:
            if _answer(link, answer_s, (ACK, NAK)) == ACK:
                return pause
        except _Silence:
            continue
    raise TransferError("the end was not acknowledged")


class _Silence(TransferError):
    pass


def _answer(link: Link, timeout_s: float, expected: tuple[int, ...]) -> int:
    """The latest of the expected characters that came.

    Kernel messages hold none of them but ``C``, which counts only where no message can have it: each of a long message,
    taken for a refusal, would have the block sent again at once, until it was sent too often.
    """
    deadline, cancels, before = time.monotonic() + timeout_s, 0, b"\n"
    while (left := deadline - time.monotonic()) > 0:
        got, said = None, link.read(left)
        while said.endswith(b"C") and (more := link.read(min(_ALONE_S, max(0.0, deadline - time.monotonic())))):
            said += more
        said = _LETTER.sub(b"", before + said)[1:]
        before = b"\n" if said[-1:] in b"\n\x18" else b"."
        for c in said:
            cancels = cancels + 1 if c == CAN else 0
            if cancels == 2:
                raise TransferError("the receiver cancelled")
            if c in expected and not (got == ACK and c != NAK):
                got = c
        if got is not None:
            return got
    raise _Silence("the receiver does not answer")
