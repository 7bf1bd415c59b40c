"""``local:`` this computer as a device: a folder for its files, subprocesses for its commands.

``local:`` keeps its files in ``$EDGEPRUNE_HOME/device`` or ``~/.edgeprune/device``; ``local:/a/folder``
keeps them there. A relative folder is refused: URLs are written into reports and journals, and must
mean the same from every working folder.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from edgeprune.devices.common import check_argv, chunks_of, require_space
from edgeprune.devices.describe import describe_with
from edgeprune.devices.paths import check_path
from edgeprune.devices.protocol import Closing, Completed, DeviceInfo, Progress
from edgeprune.errors import DeviceError, DeviceUnreachableError, UsageError
from edgeprune.home import home

# What a shell returns, so that every transport answers alike.
_NOT_FOUND, _NOT_EXECUTABLE, _SIGNAL_BASE = 127, 126, 128
BUSY_TRIES, BUSY_S = 100, 0.02
"""How often, and how many seconds apart, a program is tried that somebody still holds open."""


class LocalDevice(Closing):
    """A folder of this computer behind the device protocol.

    Raises:
        DeviceUnreachableError: the folder cannot be made.
    """

    def __init__(self, root: Path, *, url: str = "") -> None:
        self.url = url or f"local:{root}"
        self.root = root
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as e:
            raise DeviceUnreachableError(
                f"{self.url}: the folder {root} cannot be made: {e.strerror}", hint="give a folder that you may write"
            ) from e

    @classmethod
    def from_url(cls, url: str) -> LocalDevice:
        return cls(folder_of(url) or home() / "device", url=url)

    def describe(self) -> DeviceInfo:
        return describe_with(self.run)

    def put(
        self, source: Path | bytes, path: str, *, executable: bool = False, progress: Progress | None = None
    ) -> None:
        chunks, size = chunks_of(source)
        require_space(self.url, path, size, shutil.disk_usage(self.root).free)
        self.put_chunks(chunks, size, path, executable=executable, progress=progress)

    def put_chunks(
        self,
        chunks: Iterable[bytes],
        size: int,
        path: str,
        *,
        executable: bool = False,
        progress: Progress | None = None,
    ) -> None:
        """:meth:`put` for ``size`` bytes that come in pieces."""
        target = self._path(path)
        # Random, so that two writers of one path never share a partial file.
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        with self._as_device_error(f"writing {path}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with partial.open("xb") as file:
                    done = 0
                    for chunk in chunks:
                        file.write(chunk)
                        done += len(chunk)
                        if progress:
                            progress(done, size)
                    file.flush()
                    os.fchmod(file.fileno(), 0o755 if executable else 0o644)
                    os.fsync(file.fileno())
                os.replace(partial, target)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise
            _sync_folder(target.parent)

    def get(self, path: str) -> bytes:
        with self._as_device_error(f"reading {path}"):
            return self._path(path).read_bytes()

    def run(self, argv: Sequence[str], *, timeout_s: float = 60.0) -> Completed:
        return self.run_with(os.environ, argv, timeout_s)

    def run_with(self, environment: Mapping[str, str], argv: Sequence[str], timeout_s: float) -> Completed:
        """:meth:`run` with another environment than this process has."""
        check_argv(argv)
        if not self.root.is_dir():
            raise DeviceUnreachableError(f"{self.url}: the folder {self.root} is gone")
        try:
            # A session of its own, so that a timeout reaches every process the command started.
            process = _started(
                list(argv),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**environment, "LC_ALL": "C"},
                start_new_session=True,
            )
        except FileNotFoundError:
            # A missing loader reads the same: the kernel does not say which of the two is absent.
            return Completed(_NOT_FOUND, "", f"{argv[0]}: not found\n")
        except OSError as e:
            return Completed(_NOT_EXECUTABLE, "", f"{argv[0]}: {e.strerror}\n")
        with process:
            try:
                out, err = process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                _kill_session(process)
                raise DeviceError(
                    f"{self.url}: {argv[0]} did not finish in {timeout_s:g} s and was killed",
                    argv=list(argv),
                    timeout_s=timeout_s,
                ) from None
            except BaseException:
                _kill_session(process)
                raise
        code = process.returncode
        return Completed(
            code if code >= 0 else _SIGNAL_BASE - code, out.decode(errors="replace"), err.decode(errors="replace")
        )

    def remove(self, path: str) -> None:
        target = self._path(path)
        with self._as_device_error(f"removing {path}"):
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def close(self) -> None:
        pass

    def _path(self, path: str) -> Path:
        return self.root / check_path(path)

    @contextmanager
    def _as_device_error(self, doing: str) -> Iterator[None]:
        try:
            yield
        except OSError as e:
            name = errno.errorcode.get(e.errno or 0, "")
            hint = {"ENOSPC": "free some space on the device", "EROFS": "mount it writable"}.get(name, "")
            raise DeviceError(f"{self.url}: {doing}: {e.strerror or e}", hint=hint, errno=name) from e


def folder_of(url: str) -> Path | None:
    """The folder in ``scheme:/a/folder`` or ``scheme:///a/folder``; None if the URL names none.

    Raises:
        UsageError: the folder is relative or holds a control character.
    """
    rest = url.partition(":")[2].removeprefix("//")
    if not rest:
        return None
    if not rest.startswith("/") or not rest.isprintable():
        raise UsageError(f"{url!r} does not name an absolute folder", hint=f"write {url.partition(':')[0]}:/a/folder")
    return Path(rest)


def _started(argv: list[str], **options: Any) -> subprocess.Popen[bytes]:
    """A process of a program that may have been written a moment ago.

    Where another thread starts a process while a file is written, that one holds the file open until it is what it is
    to be, and the kernel refuses to run the file as long.
    """
    for _ in range(BUSY_TRIES):
        try:
            return subprocess.Popen(argv, **options)
        except OSError as e:
            if e.errno != errno.ETXTBSY:
                raise
        time.sleep(BUSY_S)
    return subprocess.Popen(argv, **options)


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
