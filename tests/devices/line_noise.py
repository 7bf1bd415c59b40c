"""What a line does to the bytes on it: kernel messages and terminal codes between them, lost, doubled, flipped ones."""

from __future__ import annotations

import random
from dataclasses import dataclass

from edgeprune.devices.console.link import Link
from edgeprune.errors import DeviceUnreachableError

KERNEL_MESSAGES = (
    b"[   12.345678] usb 1-1: new high-speed USB device number 2 using dwc2\r\n",
    b"[ 1234.000001] CPU: 0 PID: 1 Comm: Cached EP:0 not a frame C C\r\n",
    b"\x1b[1;31m[  OK  ]\x1b[0m Started \x1b]0;title\x07daily clean-up.\r\n\x1b[?2004h",
)


@dataclass(frozen=True)
class Noise:
    """Chances per byte, either way unless it says otherwise. Kernel messages come from the board only."""

    message: float = 0.0
    drop: float = 0.0
    double: float = 0.0
    flip: float = 0.0
    spared_bytes: int = 0  # so many bytes pass unharmed first
    seed: int = 0

    def __bool__(self) -> bool:
        return bool(self.message or self.drop or self.double or self.flip)


def spoil(data: bytes, noise: Noise, draw: random.Random, *, board: bool) -> bytes:
    """``data`` as it arrives at the other end; ``board``: it comes from there."""
    out = bytearray()
    for c in data:
        chance = draw.random()
        if board and draw.random() < noise.message:
            out += draw.choice(KERNEL_MESSAGES)
        if chance < noise.drop:
            continue
        out.append(c ^ 1 << draw.randrange(8) if chance < noise.drop + noise.flip else c)
        if chance > 1 - noise.double:
            out.append(c)
    return bytes(out)


QUIET = Noise()


class FaultyLink:
    """Another line with faults, which a test turns on and off while it is in use.

    Attributes:
        noise: what happens to the bytes on it.
        cut_after: the cable is pulled after so many more bytes to the board.
        deaf: nothing from the board arrives, until a byte of ``heard_again`` is sent to it.
        sent: bytes that reached the board; ``heard`` what came from it, before any noise.
        spoilt: how often something went through the noise and was another thing then.
    """

    bytes_per_s: float | None = None

    def __init__(self, link: Link) -> None:
        self._link = link
        self.noise = QUIET
        self.cut_after: int | None = None
        self.deaf, self.heard_again = False, b""
        self.sent, self.heard, self.spoilt = 0, bytearray(), 0
        self._draw = random.Random(0)
        self._pulled = False

    def spoil_with(self, noise: Noise) -> None:
        self.noise, self._draw = noise, random.Random(noise.seed)

    def read(self, timeout_s: float) -> bytes:
        self._require_plugged()
        data = self._link.read(timeout_s)
        self.heard += data
        if self.deaf:
            return b""
        return self._spoil(data, board=True)

    def write(self, data: bytes) -> None:
        self._require_plugged()
        if self.cut_after is not None:
            self._pulled = len(data) > self.cut_after
            data = data[: self.cut_after]
            self.cut_after -= len(data)
        self.deaf = self.deaf and not set(data) & set(self.heard_again)
        self.sent += len(data)
        self._link.write(self._spoil(data, board=False))
        self._require_plugged()

    def close(self) -> None:
        """The line itself outlives this view of it."""

    def _spoil(self, data: bytes, *, board: bool) -> bytes:
        if not self.noise:
            return data
        arrives = spoil(data, self.noise, self._draw, board=board)
        self.spoilt += arrives != data
        return arrives

    def _require_plugged(self) -> None:
        if self._pulled:
            raise DeviceUnreachableError("the line broke", hint="is the cable plugged in?")
