"""One SSH connection behind plain calls: scripts, programs and the file channel.

A session never reconnects: what was begun on one connection fails with it, and the device opens
the next. So no half of an upload can end up on another connection.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
import signal
import threading
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import asyncssh

from edgeprune.devices.ssh.loop import LoopThread
from edgeprune.errors import DeviceError, DeviceUnreachableError, UsageError

T = TypeVar("T")

STEP_S = 120.0
"""Longest that one step of a transfer or one of our own small scripts may take."""
_CLOSING_S = 5.0
_AGAIN_S = 0.3
_LOOK_S = 0.01
_COMMAND_BYTES = 120_000  # the kernel refuses one argument of 128 KiB, and the whole command is one
# exec: the program keeps the process number that is printed. That number leads a process group under
# sshd; dropbear puts commands into its own group, where setsid makes one (and does not fork).
_RUN = """cd "$1" || exit
shift; LC_ALL=C; export LC_ALL
read -r s < /proc/$$/stat; s=${s##*) }; s=${s#* }; s=${s#* }; s=${s%% *}
if [ -n "$s" ] && [ "$s" != $$ ] && command -v setsid > /dev/null; then
  exec setsid sh -c 'echo MARK $$; exec "$@"' edgeprune "$@"
fi
echo MARK $$; exec "$@\""""
_LOST = (asyncssh.DisconnectError, asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection, ConnectionError)


@dataclass(frozen=True, slots=True)
class Output:
    """What a command on the board left behind; ``started``: the shell got as far as the command."""

    returncode: int
    stdout: bytes
    stderr: str
    started: bool


class Session:
    """A connection and the folder on the board that is the device's root.

    Every method raises :class:`DeviceUnreachableError` when the connection is lost, and closes it.
    """

    def __init__(
        self,
        url: str,
        loop: LoopThread,
        connection: asyncssh.SSHClientConnection,
        jumps: tuple[asyncssh.SSHClientConnection, ...] = (),
    ) -> None:
        self.url = url
        self.connection = connection
        self.root = ""
        self._loop = loop
        self._jumps = jumps
        self._sftp: asyncssh.SFTPClient | None = None
        self._sftp_asked = False
        self._asking = threading.Lock()

    @property
    def alive(self) -> bool:
        return not self.connection.is_closed()

    def call(self, work: Awaitable[T], *, timeout_s: float = STEP_S) -> T:
        """Wait for something on the connection's loop.

        Raises:
            DeviceUnreachableError: the connection is lost, or ``timeout_s`` passed without an answer.
        """
        try:
            return self._loop.run(asyncio.wait_for(work, timeout_s))
        except _LOST as e:
            raise self._lost(str(e) or type(e).__name__) from e
        except TimeoutError as e:
            raise self._lost(f"no answer for {timeout_s:g} s") from e

    def script(self, text: str, *args: str, timeout_s: float = STEP_S) -> Output:
        """Run a shell script of ours; ``args`` are its ``$1``, ``$2`` and so on, never part of its text.

        Raises:
            DeviceUnreachableError: it takes longer than ``timeout_s``, or as the class says.
        """
        # The marker tells what the script prints from what a login file prints before it.
        mark = secrets.token_hex(8)
        command = command_line(f"LC_ALL=C; export LC_ALL; echo {mark} $$\n{text}", *args)
        done = self.call(self._run(command, mark), timeout_s=timeout_s)
        assert done is not None  # nothing kills it
        return done

    def run(self, argv: list[str], *, timeout_s: float) -> Output:
        """Run a program in the root folder.

        Raises:
            DeviceError: it did not finish in time; it and its process group were killed.
        """
        mark = secrets.token_hex(8)
        text = _RUN.replace("MARK", mark)
        done = self.call(
            self._run(command_line(text, self.root, *argv), mark, kill_after_s=timeout_s),
            timeout_s=timeout_s + STEP_S,
        )
        if done is None:
            raise DeviceError(
                f"{self.url}: {argv[0]} did not finish in {timeout_s:g} s and was killed",
                argv=argv,
                timeout_s=timeout_s,
            )
        return done

    def sftp(self) -> asyncssh.SFTPClient | None:
        """The file channel; None if the board's SSH server has none."""
        with self._asking:
            if not self._sftp_asked:
                self._sftp = self.call(self._start_sftp())
                self._sftp_asked = True
            return self._sftp

    def close(self) -> None:
        with suppress(Exception):
            self._loop.run(self._close())

    async def _close(self) -> None:
        for connection in (self.connection, *reversed(self._jumps)):
            connection.close()
            with suppress(Exception):
                await asyncio.wait_for(connection.wait_closed(), _CLOSING_S)

    def _lost(self, why: str) -> DeviceUnreachableError:
        self.close()
        return DeviceUnreachableError(
            f"{self.url}: the connection was lost: {why}",
            hint="check power and network of the board, then run the command again",
        )

    async def _run(self, command: str, mark: str, *, kill_after_s: float | None = None) -> Output | None:
        """None if the command was killed because its time was over."""
        # Shielded: a start that is given up half-way leaves a command on the board that nobody knows.
        starting = asyncio.ensure_future(self.open(command, stdin=False))
        try:
            process = await asyncio.shield(starting)
            left = await _unless_late(process.communicate(), kill_after_s)
            if left is None:
                await self._kill(starting, mark)
                return None
        except asyncio.CancelledError:
            # Shielded, or the cancellation would end the killing too.
            await asyncio.shield(self._kill(starting, mark))
            raise
        return self.output(process, left, mark)

    async def _start_sftp(self) -> asyncssh.SFTPClient | None:
        try:
            return await self.connection.start_sftp_client()
        except (asyncssh.SFTPError, asyncssh.ChannelOpenError) as e:
            # A server program that is absent ends its channel, and that alone.
            if not self.alive:
                raise asyncssh.ConnectionLost(e.reason) from e
            return None

    async def open(self, command: str, *, stdin: bool) -> asyncssh.SSHClientProcess[bytes]:
        """Start a command without a terminal."""
        source = asyncssh.PIPE if stdin else asyncssh.DEVNULL
        for pause_s in (_AGAIN_S, None):
            try:
                return await self.connection.create_process(command, encoding=None, stdin=source)
            except asyncssh.ChannelOpenError as e:
                if not self.alive:
                    raise asyncssh.ConnectionLost(e.reason) from e
                if pause_s is None:
                    raise DeviceError(
                        f"{self.url}: the board's SSH server runs no command: {e.reason}",
                        hint="allow the account a shell and enough sessions (MaxSessions) on the board",
                    ) from e
                # dropbear closes a channel that is opened while another one ends; nothing has run.
                await asyncio.sleep(pause_s)
        raise AssertionError

    def output(self, process: asyncssh.SSHClientProcess[bytes], left: tuple[bytes, bytes], mark: str) -> Output:
        """What an ended command left on both streams; text before the mark is not its own."""
        out, err = left
        found = _after_mark(out, mark)
        return Output(self._code(process), found[1] if found else b"", err.decode(errors="replace"), found is not None)

    def _code(self, process: asyncssh.SSHClientProcess[bytes]) -> int:
        """The exit code as a shell gives it."""
        if process.exit_signal is not None:
            name = f"SIG{process.exit_signal[0]}"
            return 128 + (signal.Signals[name] if name in signal.Signals.__members__ else 0)
        if process.exit_status is not None and process.exit_status >= 0:
            return process.exit_status
        if not self.alive:
            raise asyncssh.ConnectionLost("it ended in the middle of a command")
        raise DeviceError(f"{self.url}: the board's SSH server tells no exit code")

    async def _kill(self, starting: asyncio.Task[asyncssh.SSHClientProcess[bytes]], mark: str) -> None:
        """Kill a command that was sent; one that is only just starting has yet to say its number."""
        with suppress(Exception):
            async with asyncio.timeout(_CLOSING_S):
                process = await starting
                try:
                    if found := await _number(process, mark):
                        text = 'kill -s KILL -- "-$1" || kill -s KILL "-$1" || kill -s KILL "$1"'
                        await self.connection.run(command_line(text, found), encoding=None)
                finally:
                    process.close()
                await process.wait_closed()


async def _unless_late(work: Awaitable[T], timeout_s: float | None) -> T | None:
    try:
        return await asyncio.wait_for(work, timeout_s)
    except TimeoutError:
        return None


async def _number(process: asyncssh.SSHClientProcess[bytes], mark: str) -> str:
    """The process number beside the mark, waited for; empty if the command ends without one."""
    out = b""
    while True:
        ended = process.exit_status is not None  # also after a signal
        more, _ = process.collect_output()
        out += more if isinstance(more, bytes) else b""
        if found := _after_mark(out, mark):
            return str(int(found[0]))
        if ended:
            return ""
        await asyncio.sleep(_LOOK_S)


def command_line(script: str, *args: str) -> str:
    """One line for the login shell of the board that runs ``script`` with ``args`` in a POSIX shell.

    Raises:
        UsageError: it is longer than a board takes.
    """
    line = "exec " + shlex.join(["sh", "-c", script, "edgeprune", *args])
    if len(line.encode()) > _COMMAND_BYTES:
        raise UsageError(
            f"a command of {len(line.encode())} bytes is too long for the board", hint="pass long data in a file"
        )
    return line


def _after_mark(out: bytes, mark: str) -> tuple[bytes, bytes] | None:
    """(process number, what follows) of the line that the mark begins; None if it is not there yet."""
    _, found, rest = out.partition(mark.encode() + b" ")
    number, newline, rest = rest.partition(b"\n")
    return (number, rest) if found and newline else None
