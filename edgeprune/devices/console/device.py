"""``serial:`` a board behind its serial console: no network on it, no program of ours, a shell at most.

``serial:///dev/ttyUSB0?baud=921600`` opens a port, ``serial://?serial_number=A5XK`` the one with that
number. Files lie in ``~/.edgeprune`` of the board's user, or in the URL's ``root``. The board needs
``sh``, ``stty``, ``base64``, ``sha256sum`` and the usual small tools, which coreutils and busybox have;
``gzip`` and ``rx`` are used where it has them. docs/SERIAL.md tells how to wire and use it.
"""

from __future__ import annotations

import atexit
import shlex
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeprune.devices.common import check_argv, chunks_of
from edgeprune.devices.console.download import fetch
from edgeprune.devices.console.link import Link, PortLink
from edgeprune.devices.console.login import Credentials, credentials, reach_shell
from edgeprune.devices.console.ports import find_port, parse_serial_url
from edgeprune.devices.console.session import Session
from edgeprune.devices.console.upload import upload
from edgeprune.devices.describe import describe_with
from edgeprune.devices.paths import check_path
from edgeprune.devices.protocol import Closing, Completed, DeviceInfo, Progress
from edgeprune.errors import DeviceError, DeviceUnreachableError

_PROBE_S = 10.0


class SerialDevice(Closing):
    """A board behind a console. One call at a time; others wait.

    Args:
        link: the line, closed with the device if ``owns_link``.
        root: the device's folder on the board, made if it is missing.
        pace: how many times slower than a board the other end may be (emulators).

    Raises:
        DeviceError: the login is refused, or the folder cannot be made.
        DeviceUnreachableError: no shell answers.
    """

    def __init__(
        self,
        link: Link,
        *,
        url: str,
        root: str = "",
        ask_credentials: Callable[[], Credentials] = credentials,
        pace: float = 1.0,
        boot_s: float = 30.0,
        owns_link: bool = True,
    ) -> None:
        self.url = url
        self._link, self._owns_link = link, owns_link
        self._lock = threading.RLock()
        self._closed = False
        try:
            reach_shell(link, url, ask_credentials, timeout_s=boot_s)
            self.session = Session(link, url, pace=pace)
            folder = shlex.quote(root) if root else '"$HOME/.edgeprune"'
            made = self.session.ask(f"mkdir -p {folder} && cd {folder}")
            if made.status:
                why = made.data.decode(errors="replace").strip()
                raise DeviceError(f"{url}: the device's folder cannot be made: {why}", root=root)
            asked = self.session.ask("for t in rx gzip; do command -v $t; done; rx --version </dev/null; true")
            text = asked.data.decode(errors="replace")
        except BaseException:
            if owns_link:
                link.close()
            raise
        # A command that ends without closing would leave the agent at work on the console.
        atexit.register(_close, weakref.ref(self))
        tools = {line.rpartition("/")[2] for line in text.splitlines()}
        self.has_gzip = "gzip" in tools
        # lrzsz asks for blocks with CRC only if it is told to; busybox knows no such option.
        self.receiver = "" if "rx" not in tools else "rx -c" if "lrzsz" in text else "rx"

    @classmethod
    def from_url(cls, url: str) -> SerialDevice:
        address = parse_serial_url(url)
        return cls(PortLink(find_port(address), address.baud), url=url, root=address.root)

    def describe(self) -> DeviceInfo:
        return describe_with(self.run)

    def put(
        self, source: Path | bytes, path: str, *, executable: bool = False, progress: Progress | None = None
    ) -> None:
        check_path(path)
        chunks, _ = chunks_of(source)
        content = b"".join(chunks)
        with self._usable() as session:
            upload(
                session,
                content,
                path,
                executable=executable,
                progress=progress,
                gzip=self.has_gzip,
                receiver=self.receiver,
            )

    def get(self, path: str) -> bytes:
        check_path(path)
        with self._usable() as session:
            return fetch(session, path, gzip=self.has_gzip)

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        check_argv(argv)
        with self._usable() as session:
            try:
                done = session.ask(
                    f"go {shlex.join(argv)} 2>/dev/null", timeout_s=timeout_s, patience_s=_PROBE_S, interrupt=True
                )
            except DeviceUnreachableError:
                raise
            except BaseException:
                session.interrupt()
                raise
            head, _, data = done.data.partition(b"\n")
            code, killed, out, err = map(int, head.split())
            if killed:
                raise DeviceError(
                    f"{self.url}: {argv[0]} did not finish in {timeout_s:g} s and was killed",
                    argv=list(argv),
                    timeout_s=timeout_s,
                )
            if len(data) != out + err:
                streams = ('"$D/out"', '"$D/err"')
                data = b"".join(fetch(session, name, gzip=self.has_gzip, quoted=True) for name in streams)
            return Completed(code, data[:out].decode(errors="replace"), data[out:].decode(errors="replace"))

    def remove(self, path: str) -> None:
        check_path(path)
        name = shlex.quote(path)
        with self._usable() as session:
            # A path below what is no folder is missing, too.
            done = session.ask(f"if [ -e {name} ] || [ -L {name} ]; then rm -rf {name}; fi", timeout_s=120)
            if done.status:
                raise DeviceError(f"{self.url}: removing {path}: {done.data.decode(errors='replace').strip()}")

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self.session.close()
            if self._owns_link:
                self._link.close()

    def _usable(self) -> _Usable:
        return _Usable(self)


def _close(device: weakref.ref[SerialDevice]) -> None:
    alive = device()
    if alive:
        alive.close()


class _Usable:
    """Holds the device for one call, and refuses one that was closed."""

    def __init__(self, device: SerialDevice) -> None:
        self._device = device

    def __enter__(self) -> Session:
        self._device._lock.acquire()
        if self._device._closed:
            self._device._lock.release()
            raise DeviceUnreachableError(f"{self._device.url} is closed", hint="open it again")
        return self._device.session

    def __exit__(self, *_: object) -> None:
        self._device._lock.release()
