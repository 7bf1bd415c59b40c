"""A board for tests: a shell on a pseudo-terminal, and a line to it that can be noisy, slow or cut.

    host (pyserial) -- terminal A -- pump -- terminal B -- sh

The pump is where the faults are: it injects, drops and doubles characters with a seeded generator.
"""

from __future__ import annotations

import contextlib
import os
import pty
import random
import select
import signal
import stat
import subprocess
import sys
import threading
import time
import tty
from pathlib import Path

from line_noise import QUIET, Noise, spoil

HERE = Path(__file__).parent


class PtyBoard:
    """``shell``: what runs behind the terminal. ``tools``: programs of this folder that the board has."""

    def __init__(
        self,
        home: Path,
        *,
        shell: tuple[str, ...] = ("sh", "-i"),
        noise: Noise = QUIET,
        receiver: str | None = None,
        hidden: tuple[str, ...] = (),
        bytes_per_s: float | None = None,
        cut_after: int | None = None,
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home, self.noise, self.bytes_per_s = home, noise, bytes_per_s
        self.sent = self.received = 0  # bytes host -> board, board -> host
        self.cut_after = cut_after
        self._random = random.Random(noise.seed)
        self._outer, outer_slave = pty.openpty()
        self._inner, inner_slave = pty.openpty()
        tty.setraw(outer_slave)
        self.port = os.ttyname(outer_slave)
        self._slave = outer_slave  # held open, as a plug is: between two openings nothing hangs up
        self._process = subprocess.Popen(
            [sys.executable, "-c", _WITH_TERMINAL, *shell],
            stdin=inner_slave,
            stdout=inner_slave,
            stderr=inner_slave,
            start_new_session=True,
            env={"HOME": str(home), "PATH": self._path(receiver, hidden), "TERM": "vt100", "PS1": "board$ "},
            cwd=home,
        )
        os.close(inner_slave)
        self._stop, self._wake = os.pipe()
        self._pump = threading.Thread(target=self._run, daemon=True)
        self._pump.start()

    @property
    def url(self) -> str:
        return f"serial://{self.port}"

    def speaks(self, timeout_s: float = 60.0) -> None:
        """Waits until it has said something, as one that was switched on a while ago."""
        deadline = time.monotonic() + timeout_s
        while not self.received:
            assert time.monotonic() < deadline, "the board says nothing"
            time.sleep(0.02)

    def cut(self) -> None:
        """Pull the cable."""
        self.cut_after = 0
        os.write(self._wake, b".")
        self._pump.join(5)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.write(self._wake, b"x")
        self._pump.join(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for fd in (self._outer, self._inner, self._slave, self._stop, self._wake):
            with contextlib.suppress(OSError):
                os.close(fd)

    def _path(self, receiver: str | None, hidden: tuple[str, ...]) -> str:
        """A folder of links to the system's tools, without the hidden ones."""
        folder = self.home.with_name(self.home.name + "-bin")
        folder.mkdir()
        for name in TOOLS:
            found = next((d for d in ("/bin", "/usr/bin") if Path(d, name).exists()), None)
            if found and name not in hidden:
                (folder / name).symlink_to(Path(found, name))
        if receiver is not None:
            script = folder / "rx"
            program = f'exec {sys.executable} -I {HERE / "serial_receiver.py"} "$1" {receiver}'
            script.write_text(f'#!/bin/sh\n[ "$1" != --version ] || exit 1\n{program}\n')
            script.chmod(script.stat().st_mode | stat.S_IXUSR)
        return str(folder)

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                if self.cut_after is not None and self.sent >= self.cut_after:
                    os.close(self._slave)
                    os.close(self._outer)
                    return
                ready = select.select([self._outer, self._inner, self._stop], [], [])[0]
                if self._stop in ready and os.read(self._stop, 1) == b"x":
                    return
                if self._outer in ready:
                    data = os.read(self._outer, 4096)
                    if self.cut_after is not None:
                        data = data[: self.cut_after - self.sent]
                    self.sent += len(data)
                    self._pass(self._inner, self._spoil(data, board=False))
                if self._inner in ready:
                    data = os.read(self._inner, 4096)
                    self.received += len(data)
                    self._pass(self._outer, self._spoil(data, board=True))

    def _pass(self, to: int, data: bytes) -> None:
        if self.bytes_per_s:
            time.sleep(len(data) / self.bytes_per_s)
        while data:
            data = data[os.write(to, data) :]

    def _spoil(self, data: bytes, *, board: bool) -> bytes:
        if not self.noise or self.sent + self.received < self.noise.spared_bytes:
            return data
        return spoil(data, self.noise, self._random, board=board)


# The shell needs the terminal as its own and the usual signals, as a getty gives it.
_WITH_TERMINAL = """
import fcntl, os, signal, sys, termios
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execvp(sys.argv[1], sys.argv[1:])
"""
# fmt: off
TOOLS = (
    "base64", "bash", "cat", "chmod", "cut", "dash", "dd", "df", "echo", "env", "false", "getconf", "gzip", "head",
    "ldd", "ln", "ls", "mkdir", "mktemp", "mv", "od", "printf", "readlink", "rm", "sh", "sha256sum", "sleep", "stty",
    "sync", "tail", "touch", "tr", "true", "uname", "wc", "yes",
)
# fmt: on
