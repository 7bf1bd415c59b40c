"""A session with the agent on the board: requests, and answers that were checked.

What is lost or spoilt on the way is asked for again, within a deadline; nothing is executed twice.
"""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Callable
from pathlib import Path

from edgeprune.devices.console.frames import REQUEST_BYTES, WRITE, Frame, FrameReader, payload_room, request
from edgeprune.devices.console.link import Link
from edgeprune.devices.console.login import STOP_RECEIVER, confirm
from edgeprune.devices.console.xmodem import FIRST_PAUSE_S
from edgeprune.errors import DeviceUnreachableError

_AGENT = Path(__file__).with_name("agent.sh")
_START_CHARS = 400
_START_ATTEMPTS = 12
_STALE_S = 0.25
_SHORTEST_S = 0.05
POWER_CYCLE = "check the cable; if the board hangs, switch its power off and on"


def patience_s(size: int) -> float:
    """Seconds in which even a slow card lets a board hash, pack or unpack so many bytes."""
    return min(10.0, 2.0 + size / (1 << 19))


class NoisyLineError(DeviceUnreachableError):
    """Answers come, and none is whole: a shorter one may be."""


class Session:
    """An agent that runs on the board. ``pace`` is how many times slower than a board it may be.

    Raises:
        DeviceUnreachableError: the shell does not take it.
    """

    def __init__(self, link: Link, name: str, *, pace: float = 1.0) -> None:
        self.link, self.name, self.pace = link, name, pace
        self.retries = 0
        self.receiver_pause_s = FIRST_PAUSE_S
        self._id = secrets.token_hex(4)
        self._reader = FrameReader(self._id)
        self._number = 0
        self._start()

    def ask(
        self,
        script: str,
        payload: bytes = b"",
        *,
        timeout_s: float = 30.0,
        patience_s: float = 1.0,
        interrupt: bool = False,
        attempts: int | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Frame:
        """Have the board's shell evaluate ``script``; its output and exit status.

        Args:
            payload: bytes that the script :data:`WRITE` appends to the file ``$f``; at most :func:`payload_room`.
            timeout_s: for all of it. Then Ctrl-C is sent if ``interrupt``, and the answer awaited.
            patience_s: silence after which the answer is asked for again.
            attempts: how often the answer is asked for again before :class:`NoisyLineError`.
            meanwhile: called once the request was sent, to speak with what it starts.

        Raises:
            DeviceUnreachableError: no answer in time, or the line is gone.
            NoisyLineError: no answer arrived whole, so many times.
        """
        try:
            line = request(self._number + 1, script, payload)
        except ValueError:
            if payload:
                raise
            script = self._send_script(script)
            line = request(self._number + 1, script)
        self._number += 1
        per_byte = 1 / self.link.bytes_per_s if self.link.bytes_per_s else 0.0
        patience = patience_s * self.pace + 2 * len(line) * per_byte
        deadline = time.monotonic() + timeout_s * self.pace
        self._drain()
        self.link.write(line)
        if meanwhile:
            meanwhile()
        interrupted = False
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                if not interrupt or interrupted:
                    raise DeviceUnreachableError(f"{self.name}: the board does not answer", hint=POWER_CYCLE)
                self.link.write(b"\x03")
                interrupted, deadline = True, time.monotonic() + 15 * self.pace
                continue
            frame = self._await(self._number, min(patience, left))
            if frame and frame.number == self._number:
                return frame
            self.retries += 1
            if attempts is not None:
                attempts -= 1
                if attempts < 0:
                    raise NoisyLineError(f"{self.name}: too much noise on the line", hint="try a lower baud rate")
            # An older frame says that the request never arrived whole; silence, that something is lost, or
            # that a receiver still waits which was taken to be done: to the agent its end is one more spoilt line.
            self.link.write(b"\n" + line if frame else (STOP_RECEIVER if meanwhile else b"") + b"\n?\n")

    def takes(self, script: str) -> bool:
        """Whether a script fits into one request: into a short one, where characters get lost."""
        try:
            line = request(self._number + 1, script)
        except ValueError:
            return False
        return not self.retries or len(line) <= REQUEST_BYTES // 3

    def interrupt(self) -> None:
        """Ctrl-C, for what the agent waits for; its answer is dropped."""
        self.link.write(b"\x03")

    def listen(self, mark: bytes, timeout_s: float) -> bool:
        """Whether ``mark`` comes by; what a program that talks by itself says goes no further."""
        seen, deadline = b"", time.monotonic() + timeout_s
        while mark not in seen:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            seen = seen[-4096:] + self.link.read(left)
        return True

    def cancel_receiver(self) -> None:
        """End an XMODEM receiver, whichever kind it is, so that the agent reads lines again."""
        for _ in range(3):
            self.link.write(STOP_RECEIVER + b"\n")
            deadline = time.monotonic() + 1.5
            while time.monotonic() < deadline:
                if b"EP:" in self.link.read(0.3):
                    self.link.write(b"\n?\n")  # that answer is gone; have it again
                    return
        self.link.write(b"\x03")

    def close(self) -> None:
        """End the agent; the console is as it was found."""
        try:
            self.link.write(b"\nquit\n")
            self.listen(b"EP-END " + self._id.encode(), 2.0 * min(self.pace, 3))
        except DeviceUnreachableError:
            pass

    def _start(self) -> None:
        text = "\n".join(
            line.strip() for line in _AGENT.read_text(encoding="ascii").splitlines() if not line.startswith("#")
        )
        coded = base64.b64encode(text.replace("@N@", self._id).encode()).decode()
        pieces = [coded[i : i + _START_CHARS] for i in range(0, len(coded), _START_CHARS)]
        for _ in range(_START_ATTEMPTS):
            for i, piece in enumerate(pieces):
                self._bring(f"A{i}={piece}", str(len(piece)), f"${{#A{i}}}")
            together = "".join(f"$A{i}" for i in range(len(pieces)))
            self.link.write(f' sh -c "$(printf %s {together}|base64 -d)"\n'.encode())
            if self._await(0, 3 * self.pace):
                return
            # Some piece had the right length and wrong characters.
            self.link.write(b"\x03\nquit\n")
        raise DeviceUnreachableError(f"{self.name}: the shell does not start edgeprune's agent", hint=POWER_CYCLE)

    def _bring(self, command: str, expected: str, value: str) -> None:
        for _ in range(_START_ATTEMPTS):
            if confirm(self.link, command, expected, value=value):
                return
            self.link.write(b"\x03\n")
        raise DeviceUnreachableError(f"{self.name}: the shell does not answer reliably", hint=POWER_CYCLE)

    def _send_script(self, script: str) -> str:
        """Send a script that is longer than a line to the board in pieces; returns the command that runs it."""
        self.ask('f=$D/s; rm -f "$f"')
        data, room = script.encode(), payload_room()
        for i in range(0, len(data), room):
            self.ask(WRITE, data[i : i + room])
        return '. "$D/s"'

    def _await(self, number: int, timeout_s: float) -> Frame | None:
        """The frame ``number``; an older one if nothing better comes; None after silence or damage."""
        deadline, older = time.monotonic() + timeout_s, None
        while (left := deadline - time.monotonic()) > 0:
            data = self.link.read(left)
            for frame in self._reader.feed(data):
                if frame.number == number:
                    return frame
                older = frame
                # The right one may be on its way behind an answer that was given twice.
                deadline = min(deadline, time.monotonic() + _STALE_S * self.pace)
            if self._reader.damaged:
                self._reader.damaged = False
                deadline = min(deadline, time.monotonic() + _SHORTEST_S)
        return older

    def _drain(self) -> None:
        while self.link.read(0):
            pass
        self._reader.forget()
