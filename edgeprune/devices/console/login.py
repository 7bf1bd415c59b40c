"""Login on a console: from a login prompt, a shell or a broken session to a shell that answers."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edgeprune.devices.console.frames import plain
from edgeprune.devices.console.link import Link
from edgeprune.errors import DeviceError, DeviceUnreachableError

USER, PASSWORD = "EDGEPRUNE_SERIAL_USER", "EDGEPRUNE_SERIAL_PASSWORD"
STOP_RECEIVER = b"\x18" * 5 + b"\x04"  # CAN: a receiver gives up; EOT: one that knows no CAN ends its file
_INTERRUPT, _CLEAR_LINE = b"\x03", b"\x15"
_LOGIN = re.compile(r"\blogin:\s*$")
_PASSWORD = re.compile(r"\b[Pp]assword:?\s*$")
_REFUSED = re.compile(r"[Ll]ogin incorrect|[Aa]uthentication failure")
_LINE_S = 2.0


@dataclass(frozen=True, slots=True)
class Credentials:
    """User and password of a board's console; the password never shows in a text of this object."""

    user: str
    password: str = field(repr=False)


def credentials() -> Credentials:
    """From the environment, or asked for at the terminal.

    Raises:
        DeviceError: neither is there.
    """
    user, password = os.environ.get(USER), os.environ.get(PASSWORD)
    if user is not None:
        return Credentials(user, password or "")
    if not (sys.stdin and sys.stdin.isatty()):
        raise DeviceError("the board asks for a login", hint=f"set {USER} and {PASSWORD}")
    return Credentials(getpass.getpass("user on the board: "), getpass.getpass("password on the board: "))


def reach_shell(link: Link, name: str, ask_credentials: Callable[[], Credentials], *, timeout_s: float = 30.0) -> None:
    """Log in if the console asks for it, and return once a shell answers.

    Raises:
        DeviceError: user and password are refused, or none are known.
        DeviceUnreachableError: nothing that is a shell answers in time.
    """
    deadline = time.monotonic() + timeout_s
    known: Credentials | None = None
    attempt, seen = 0, ""
    while time.monotonic() < deadline:
        # The first try is gentle. Then: end a receiver, an agent or a program that is in the way.
        link.write(b"\n" if attempt == 0 else (STOP_RECEIVER, _INTERRUPT, b"\nquit\n")[attempt % 3] + b"\n")
        attempt += 1
        seen = hear(link)
        if _PASSWORD.search(seen):
            link.write(b"\n")  # left half-way by someone else
            seen = hear(link, until=_LOGIN, timeout_s=10)
        if _LOGIN.search(seen):
            if known is not None:
                raise _refused(name)
            known = ask_credentials()
            seen = _log_in(link, name, known)
        if confirm(link, "true", "0"):
            return
    tail = seen.strip().splitlines()[-1:] or ["nothing"]
    raise DeviceUnreachableError(
        f"{name}: no shell answers on the console; it shows {tail[0]!r}",
        hint="check baud rate and wiring (docs/SERIAL.md); if the board hangs, switch its power off and on",
    )


def confirm(link: Link, command: str, expected: str, *, value: str = "$?") -> bool:
    """Whether a shell ran ``command`` and ``value`` expands to ``expected`` after it."""
    token = secrets.token_hex(3)
    # The echo of this line holds E""P, only its output EP; a leading space keeps it out of some histories.
    line = f' {command};echo E""P-{token} {value} .\n'.encode()
    link.write(line)
    wanted = re.compile(rf"EP-{token} {re.escape(expected)} \.")
    slow = 3 * len(line) / link.bytes_per_s if link.bytes_per_s else 1.0
    return bool(wanted.search(hear(link, until=wanted, timeout_s=1.0 + slow)))


def _log_in(link: Link, name: str, known: Credentials) -> str:
    link.write(known.user.encode() + b"\n")
    seen = hear(link, until=re.compile(rf"{_PASSWORD.pattern}|[$#>]\s*$"), timeout_s=10)
    if _PASSWORD.search(seen):
        link.write(known.password.encode() + b"\n")
        seen = hear(link, until=re.compile(rf"{_REFUSED.pattern}|{_LOGIN.pattern}|[$#>]\s*$"), timeout_s=15)
    if _REFUSED.search(seen) or _LOGIN.search(seen):
        raise _refused(name)
    return seen


def hear(link: Link, until: re.Pattern[str] | None = None, timeout_s: float = _LINE_S, quiet_s: float = 0.15) -> str:
    """Console text until the pattern is there; without one, until it has been quiet for a moment."""
    deadline, seen = time.monotonic() + timeout_s, b""
    while (left := deadline - time.monotonic()) > 0:
        more = link.read(left if until else min(left, quiet_s if seen else left / 4))
        seen += more
        if until and until.search(plain(seen)):
            break
        if not more and not until:
            break
    return plain(seen)


def _refused(name: str) -> DeviceError:
    return DeviceError(f"{name}: the board refused user and password", hint=f"check {USER} and {PASSWORD}")
