"""``ssh://[user@]host[:port][/absolute/root]``: the address in a device URL, checked to the letter.

Names are limited to what cannot be an option, a second command or a token of ``~/.ssh/config``:
``ProxyCommand`` and ``Match exec`` there put host and user into a shell line.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from edgeprune.errors import UsageError

_FORM = "ssh://[user@]host[:port][/absolute/folder]"
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]*\$?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,32}")


@dataclass(frozen=True, slots=True)
class SshAddress:
    """Where a board answers. What is None is left to ``~/.ssh/config`` and the defaults of SSH.

    Attributes:
        root: absolute folder on the board; ``~/.edgeprune`` there if it is None.
    """

    host: str
    user: str | None = None
    port: int | None = None
    root: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


def parse_ssh_url(url: str) -> SshAddress:
    """The parts of an ``ssh://`` URL. Nothing is decoded: the folder is taken literally.

    Raises:
        UsageError: another form, odd names, a relative folder, or a password in the URL.
    """
    rest = url.removeprefix("ssh:")
    if not rest.startswith("//"):
        raise _fault(url, "has no // before the host")
    authority, slash, path = rest[2:].partition("/")
    address = parse_authority(authority, url)
    # One slash alone closes the host as in a web address; nobody wants releases in /.
    return SshAddress(address.host, address.user, address.port, _root(slash + path, url) if path else None)


def parse_authority(text: str, url: str = "") -> SshAddress:
    """``[user@]host[:port]``, as in a URL or in ``ProxyJump``.

    Raises:
        UsageError: as :func:`parse_ssh_url`.
    """
    url = url or text
    user, at, place = text.rpartition("@")
    if at and ":" in user:
        # Not shown: URLs are printed, logged and written into reports.
        raise UsageError(
            "a password does not belong into a device URL",
            hint="use a key (ssh-copy-id user@host), or set EDGEPRUNE_SSH_PASSWORD for this command",
        )
    if at and not _USER.fullmatch(user):
        raise _fault(url, f"has the user name {user!r}")
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(.*))?", place, re.DOTALL)
    if bracketed:
        host, port = bracketed[1], bracketed[2]
        if not _is_ipv6(host):
            raise _fault(url, f"has {host!r} in the place of an IPv6 address")
    else:
        host, colon, after = place.partition(":")
        port = after if colon else None
        if not _HOST.fullmatch(host):
            raise _fault(url, f"has the host name {host!r}")
    return SshAddress(host, user if at else None, None if port is None else _port(port, url))


def _is_ipv6(text: str) -> bool:
    address, percent, zone = text.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return not percent or _ZONE.fullmatch(zone) is not None


def _port(text: str, url: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise _fault(url, f"has the port {text!r}")
    return int(text)


def _root(path: str, url: str) -> str:
    parts = path.strip("/").split("/")
    if not path.isprintable() or "\\" in path:
        raise _fault(url, "has a folder with a control character or a backslash")
    if parts[0].startswith("~"):
        raise _fault(url, "has a folder that begins with ~; folders are absolute, ~/.edgeprune is the default")
    if any(part in ("", ".", "..") for part in parts):
        raise _fault(url, "has an empty, . or .. component in its folder")
    return "/" + "/".join(parts)


def _fault(url: str, why: str) -> UsageError:
    return UsageError(f"{url!r} {why}", hint=f"write {_FORM}", url=repr(url))
