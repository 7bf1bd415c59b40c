"""Which serial port a URL means: one that it names, or the one with a serial number; never a guess."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qsl, unquote, urlsplit

from edgeprune.errors import DeviceUnreachableError, MissingDependencyError, UsageError

BAUD = 115200
_EXAMPLE = "write serial:///dev/ttyUSB0?baud=921600 or serial://?serial_number=A5XK"


@dataclass(frozen=True, slots=True)
class PortAddress:
    """A serial URL taken apart. ``root``: the device's folder, ``~/.edgeprune`` of the board's user if empty."""

    path: str
    serial_number: str
    baud: int
    root: str


def parse_serial_url(url: str) -> PortAddress:
    """``serial:///dev/ttyUSB0?baud=921600&root=/a/folder``, or a ``serial_number`` in place of the path.

    Raises:
        UsageError: anything else; a password in the URL above all, for URLs end up in logs and reports.
    """
    if not url.isprintable():  # urlsplit would drop a line break without a word
        raise UsageError(f"{url!r} is no serial URL: it holds a control character", hint=_EXAMPLE)
    try:
        parts = urlsplit(url)
        fields = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    except ValueError as e:
        raise UsageError(f"{url!r} is no serial URL: {e}", hint=_EXAMPLE) from None
    if "@" in parts.netloc or {"user", "password"} & set(fields):
        raise UsageError(
            "a serial URL holds no user and no password",
            hint="set EDGEPRUNE_SERIAL_USER and EDGEPRUNE_SERIAL_PASSWORD, or wait to be asked",
        )
    if unknown := set(fields) - {"baud", "root", "serial_number"}:
        raise UsageError(f"a serial URL has no {', '.join(sorted(unknown))}", hint=_EXAMPLE)
    path, number, baud = unquote(parts.path), fields.get("serial_number", ""), fields.get("baud", str(BAUD))
    root = fields.get("root", "")
    if parts.netloc or bool(path) == bool(number) or not f"{path}{number}{root}".isprintable():
        raise UsageError(f"{url!r} must name a port or a serial number", hint=_EXAMPLE)
    if not (baud.isascii() and baud.isdecimal() and 300 <= int(baud) <= 12_000_000):
        raise UsageError(f"{baud!r} is no baud rate", hint=_EXAMPLE)
    if (path and not path.startswith("/")) or (root and not root.startswith("/")):
        raise UsageError(f"{url!r} does not name an absolute path", hint=_EXAMPLE)
    return PortAddress(path, number, int(baud), root)


def find_port(address: PortAddress) -> str:
    """The path of the port.

    Raises:
        DeviceUnreachableError: no port has that serial number.
        UsageError: several have it (cheap adapters share one).
        MissingDependencyError: pyserial is not installed.
    """
    if address.path:
        return address.path
    try:
        from serial.tools.list_ports import comports  # type: ignore[import-untyped]
    except ImportError:
        raise MissingDependencyError("pyserial is not installed", hint="pip install pyserial") from None
    found = sorted(str(port.device) for port in comports() if port.serial_number == address.serial_number)
    if not found:
        raise DeviceUnreachableError(
            f"no serial port has the number {address.serial_number!r}", hint="edgeprune devices lists the ports"
        )
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} serial ports have the number {address.serial_number!r}: {', '.join(found)}",
            hint="name the port: serial:///dev/...",
            ports=found,
        )
    return found[0]
