"""Upload a file over SSH: it appears whole or not at all, and a broken upload is taken up again.

The partial file is ``.<sha256, first 16 digits>.<random>.partial`` in the target's folder. The hash
says what it was going to be, so the next upload of the same content finds it; the random part says
whose it is. Who finds one takes it by a rename, which only one of two writers can win, and goes on
where it ends if the board computes the same hash over what is there. Nothing is ever truncated or
rewritten, so a writer whose partial file was taken fails, and cannot spoil the file.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

import asyncssh

from edgeprune.devices.common import chunks_of, require_space
from edgeprune.devices.protocol import Progress
from edgeprune.devices.ssh.session import Output, Session, command_line
from edgeprune.errors import DeviceError, DeviceUnreachableError

_HASHING_S = 600.0
# What is found is claimed in the same breath. Prints its size, then the free space.
_CLAIM = """mkdir -p -- "$1" && cd -- "$1" || exit
for found in ".$2".*.partial; do
  if [ -f "$found" ] && [ ! -L "$found" ] && mv -f "$found" "$3" 2>/dev/null; then break; fi
done
if [ -s "$3" ]; then wc -c < "$3"; else rm -f "$3"; echo 0; fi
df -P -k ."""
_HASH = 'head -c "$2" "$1" | sha256sum'
_APPEND = 'umask 077; exec cat >> "$1"'
# Another cat, whose link broke a moment ago, may still have had something to append (_Mixed).
_WRONG_SIZE = "the size is wrong"
_FINISH = f"""[ "$(wc -c < "$1")" -eq "$4" ] || {{ echo "{_WRONG_SIZE}, try again" >&2; exit 1; }}
chmod "$3" "$1" && sync && mv -fT -- "$1" "$2\""""
_RENAME = 'mv -fT -- "$1" "$2"'
_ENDING_S = 5.0
"""How long an interrupted upload waits for the board's end of it."""
_PROBE = 'n="$1.probe"; head -c 4096 /dev/zero > "$n"; rm -f "$n"'
_REASONS = {
    "No space left on device": ("ENOSPC", "free some space on the device"),
    "Read-only file system": ("EROFS", "mount it writable"),
}


def put_over(session: Session, source: Path | bytes, path: str, *, executable: bool, progress: Progress | None) -> None:
    """Create or replace the file ``path`` below the session's root.

    Raises:
        BadInputError: the source cannot be read.
        DeviceError: no space, a read-only disk, a folder in the way: the old file is still there
            and no partial one.
        DeviceUnreachableError: the connection is lost; what arrived waits for the next upload.
    """
    chunks, size = chunks_of(source)
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    _Upload(session, source, size, path, digest.hexdigest()[:16]).send(0o755 if executable else 0o644, progress)


class _Mixed(Exception):
    """An upload that went on from an earlier one has not its size: the shell that wrote that one had not ended when its
    link had, and went on writing what had reached it.
    """


class _Upload:
    def __init__(self, session: Session, source: Path | bytes, size: int, path: str, digest: str) -> None:
        self.session = session
        self.source = source
        self.size = size
        self.path = path
        self.target = f"{session.root.rstrip('/')}/{path}"
        self.digest = digest
        self._rename()

    def _rename(self) -> None:
        self.name = f".{self.digest}.{secrets.token_hex(4)}.partial"
        self.partial = str(PurePosixPath(self.target).with_name(self.name))

    def send(self, mode: int, progress: Progress | None) -> None:
        start, free = self._claim()
        try:
            start = self._checked(start)
            require_space(self.session.url, self.path, self.size - start, free)
            if progress and start == self.size > 0:
                progress(start, self.size)
            sftp = self.session.sftp()
            if sftp is None:
                try:
                    self._through_a_shell(start, mode, progress)
                except _Mixed:
                    # In a file of another name, which the writer of before does not have.
                    self._must(self.session.script('rm -f -- "$1"', self.partial))
                    self._rename()
                    self._through_a_shell(0, mode, progress)
            else:
                self._over_sftp(sftp, start, mode, progress)
        except DeviceUnreachableError:
            raise
        except BaseException:
            with suppress(DeviceError):
                self.session.script('rm -f -- "$1"', self.partial)
            raise

    def _claim(self) -> tuple[int, int]:
        """Bytes that an earlier upload left, now in our partial file, and bytes that are free."""
        folder = str(PurePosixPath(self.target).parent)
        done = self._must(self.session.script(_CLAIM, folder, self.digest, self.name))
        size, _, df = done.stdout.decode(errors="replace").partition("\n")
        found = re.search(r"\s\d+\s+\d+\s+(\d+)\s+\d+%\s", df)
        if not found or not size.strip().isdecimal():
            raise DeviceError(f"{self.session.url}: df prints no free space: {df!r}")
        return int(size), int(found[1]) * 1024

    def _checked(self, start: int) -> int:
        """Where to go on: after the bytes that are there, if they are the right ones."""
        if start == 0:
            return 0
        digest = hashlib.sha256()
        for chunk in self._chunks(0, min(start, self.size)):
            digest.update(chunk)
        if start <= self.size:
            done = self.session.script(_HASH, self.partial, str(start), timeout_s=_HASHING_S)
            if done.stdout.decode(errors="replace").split(" ")[0] == digest.hexdigest():
                return start
        # Wrong, or the board has no sha256sum to tell: begin anew, in another file.
        self._must(self.session.script('rm -f -- "$1"', self.partial))
        return 0

    def _over_sftp(self, sftp: asyncssh.SFTPClient, start: int, mode: int, progress: Progress | None) -> None:
        call = self.session.call
        try:
            private = asyncssh.SFTPAttrs(permissions=0o600)
            file = call(sftp.open(self.partial, "r+b" if start else "xb", private))
            try:
                done = start
                for chunk in self._chunks(start, self.size):
                    call(file.write(chunk, done))
                    done += len(chunk)
                    if progress:
                        progress(done, self.size)
                call(file.chmod(mode))
                try:
                    call(file.fsync())
                except asyncssh.SFTPOpUnsupported:
                    self._must(self.session.script("sync"))
            finally:
                if self.session.alive:
                    with suppress(asyncssh.SFTPError):
                        call(file.close())
            try:
                call(sftp.posix_rename(self.partial, self.target))
            except asyncssh.SFTPOpUnsupported:
                # SFTP's own rename refuses to replace; the shell's replaces in one step.
                self._must(self.session.script(_RENAME, self.partial, self.target))
        except asyncssh.SFTPError as e:
            raise self._explained(e) from e

    def _through_a_shell(self, start: int, mode: int, progress: Progress | None) -> None:
        call, mark = self.session.call, secrets.token_hex(8)
        process = call(self.session.open(command_line(f"echo {mark} $$; {_APPEND}", self.partial), stdin=True))
        try:
            done = start
            for chunk in self._chunks(start, self.size):
                if not call(_feed(process, chunk)):
                    break
                done += len(chunk)
                if progress:
                    progress(done, self.size)
            self._must(call(_end(self.session, process, mark)))
        except DeviceUnreachableError:
            raise
        except BaseException:
            # A command that has just been begun would make its file after it was removed.
            with suppress(Exception):
                call(_ended(process))
            raise
        finally:
            process.close()
        finished = self.session.script(_FINISH, self.partial, self.target, f"{mode:o}", str(self.size))
        if start and finished.returncode != 0 and _WRONG_SIZE in finished.stderr:
            raise _Mixed
        self._must(finished)

    def _chunks(self, start: int, end: int) -> Iterator[bytes]:
        at = 0
        for chunk in chunks_of(self.source)[0]:
            piece = chunk[max(0, start - at) : max(0, end - at)]
            at += len(chunk)
            if piece:
                yield piece

    def _must(self, done: Output) -> Output:
        if done.returncode != 0:
            raise self._failed(done.stderr.strip() or f"exit {done.returncode}")
        return done

    def _explained(self, error: asyncssh.SFTPError) -> DeviceError:
        """OpenSSH says only "Failure" of a full disk: a shell that tries to write says why."""
        probe = self.session.script(_PROBE, self.partial)
        told = next((text for text in _REASONS if text in probe.stderr), "")
        return self._failed(told or error.reason)

    def _failed(self, why: str) -> DeviceError:
        name, hint = next((found for text, found in _REASONS.items() if text in why), ("", ""))
        return DeviceError(f"{self.session.url}: writing {self.path}: {why}", hint=hint, errno=name)


async def _feed(process: asyncssh.SSHClientProcess[bytes], chunk: bytes) -> bool:
    """Whether the command on the board still reads."""
    try:
        process.stdin.write(chunk)
        await process.stdin.drain()
    except BrokenPipeError:
        return False
    return not process.stdin.is_closing()


async def _ended(process: asyncssh.SSHClientProcess[bytes]) -> None:
    with suppress(OSError):
        process.stdin.write_eof()
    await asyncio.wait_for(process.wait(), _ENDING_S)


async def _end(session: Session, process: asyncssh.SSHClientProcess[bytes], mark: str) -> Output:
    with suppress(OSError):
        process.stdin.write_eof()
    return session.output(process, await process.communicate(), mark)
