"""URLs of TVM RPC servers and trackers, and why nothing but loopback is spoken to.

TVM RPC asks for no password and encrypts nothing: whoever reaches a server runs what they like on
it, and whoever sits between reads and alters all. So edgeprune speaks to this computer alone, and a
board is reached through SSH's port forwarding, which checks both ends.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, urlsplit

from edgeprune.errors import DeviceUnreachableError, UsageError

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HOST = re.compile(r"[A-Za-z0-9:](?:[A-Za-z0-9.:_-]*[A-Za-z0-9:])?")


@dataclass(frozen=True, slots=True)
class Address:
    """``rpc://[KEY@]HOST:PORT[/FOLDER]``, or ``rpc+tracker://HOST:PORT/KEY[/FOLDER][?server=HOST:PORT]``.

    Attributes:
        key: what the server or the tracker calls this kind of board.
        folder: absolute root on the board; empty for ``~/.edgeprune``.
        server: the one of a tracker's servers that is meant; empty for any.
    """

    url: str
    host: str
    port: int
    key: str
    folder: str
    server: str = ""


def parse_server(url: str) -> Address:
    """Raises:
    UsageError: the URL makes no sense.
    """
    parts, host, port = _split(url, "rpc://127.0.0.1:9090, or rpc://127.0.0.1:9090/folder/on/the/board")
    key, colon, _ = parts.netloc.rpartition("@")[0].partition(":")
    if parts.query or colon or (key and not _KEY.fullmatch(key)):
        raise _no_url(url, "rpc://KEY@127.0.0.1:9090 for a server that was started with --key KEY")
    return Address(url, host, port, key, _folder(url, parts.path))


def parse_tracker(url: str) -> Address:
    """Raises:
    UsageError: the URL makes no sense.
    """
    example = "rpc+tracker://127.0.0.1:9190/KEY, the key that the servers were started with"
    parts, host, port = _split(url, example)
    key, slash, folder = parts.path.removeprefix("/").partition("/")
    query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=False)
    (server,) = query.pop("server", [""])[:1]
    if not _KEY.fullmatch(key) or query or "@" in parts.netloc or (server and not _HOST.fullmatch(server)):
        raise _no_url(url, example)
    return Address(url, host, port, key, _folder(url, slash + folder), server)


def loopback(host: str, port: int, url: str, *, tracked: bool = False) -> str:
    """The numeric loopback address behind a name, without a packet to it.

    Args:
        url: what the message names.
        tracked: a tracker gave this address, so it is the server's own registration that is amiss.

    Raises:
        UsageError: one of its addresses is not this computer, with the command that makes a tunnel.
        DeviceUnreachableError: the name has no address.
    """
    try:
        found = [entry[4][0] for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as e:
        raise DeviceUnreachableError(f"{url}: the name {host!r} has no address", hint="check its spelling") from e
    addresses = [str(address) for address in found]
    foreign = [address for address in addresses if not ipaddress.ip_address(address.partition("%")[0]).is_loopback]
    if foreign:
        tunnel = f"ssh -N -L 127.0.0.1:{port}:127.0.0.1:{port} {host}"
        then = (
            f"start that server with --host 127.0.0.1 --custom-addr 127.0.0.1, and run: {tunnel}"
            if tracked
            else f"run: {tunnel}    and name 127.0.0.1:{port} instead of {host}:{port}"
        )
        where = host if host == foreign[0] else f"{host} ({foreign[0]})"
        raise UsageError(
            f"{url}: {where} is not this computer, and TVM RPC has no password and no encryption; not connected",
            hint=then,
            host=host,
            addresses=addresses,
            tunnel=tunnel,
        )
    # Servers in Python listen on one address, and that is nearly always the one of IPv4.
    return min(addresses, key=lambda address: ":" in address)


def parse_host_port(text: str) -> tuple[str, int]:
    """``HOST:PORT``, as an environment variable names a tracker.

    Raises:
        UsageError: it is something else.
    """
    _, host, port = _split(f"tracker://{text}", "127.0.0.1:9190")
    return host, port


def _split(url: str, example: str) -> tuple[SplitResult, str, int]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _no_url(url, example) from None
    # The host goes into a command that users paste, so it must be one word and no option.
    if not url.isprintable() or not port or not _HOST.fullmatch(host) or parts.fragment:
        raise _no_url(url, example)
    return parts, host, port


def _folder(url: str, path: str) -> str:
    folder = path.removesuffix("/")
    if folder and any(part in ("", ".", "..") for part in folder[1:].split("/")):
        raise _no_url(url, "an absolute folder without '.' and '..' behind the port")
    return folder


def _no_url(url: str, example: str) -> UsageError:
    return UsageError(f"{url!r} does not name a TVM RPC server", hint=f"write {example}")
