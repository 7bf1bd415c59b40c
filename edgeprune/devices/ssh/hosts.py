"""Host keys: is the board that answers the one that was meant?

The answer comes from the known_hosts files of OpenSSH, read at every connection. A new key that was
accepted goes into the user's own file there, not into edgeprune's home: ``ssh`` and ``ssh-keygen -R``
then see the same truth, and a home that is deleted to make room does not make known boards unknown.

Names decide, not the addresses they resolve to (as ``CheckHostIP no``, the default of OpenSSH): on a
desk, an address belongs to one board today and to another tomorrow.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import asyncssh
from asyncssh.public_key import get_default_certificate_algs, get_default_public_key_algs

from edgeprune.errors import BadInputError, DeviceUnreachableError

_SSH_PORT = 22
_FAMILIES = ("ed25519", "ecdsa", "rsa")  # in OpenSSH's order of preference
_USER_FILES = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_SYSTEM_FILES = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")


def known_hosts_files(user: Sequence[str], system: Sequence[str]) -> list[Path]:
    """The files to read; the first one is where an accepted key goes.

    Args:
        user, system: ``UserKnownHostsFile`` and ``GlobalKnownHostsFile`` of ``~/.ssh/config``; those
            of OpenSSH where they are empty, and where they ask for no check at all.
    """
    return [Path(name).expanduser() for name in (*(user or _USER_FILES), *(system or _SYSTEM_FILES))]


class HostKeys:
    """What is known of one host while one connection is made, and the verdict on the key it shows."""

    def __init__(self, files: Sequence[Path], *, accept_new: bool) -> None:
        self.files = files
        self.accept_new = accept_new
        self.known: list[asyncssh.SSHKey] = []
        self.error: DeviceUnreachableError | None = None
        self._name = ""
        self._good: list[asyncssh.SSHKey] = []
        self._new: asyncssh.SSHKey | None = None

    def lookup(self, host: str, addr: str, port: int | None) -> tuple[Sequence[object], ...]:
        """What the library asks before the key exchange: (host keys, CA keys, revoked keys, ...).

        Raises:
            BadInputError: a known_hosts file cannot be read or parsed.
        """
        hosts = self._load()
        host = host.lower()
        self._name = f"[{host}]:{port}" if port else host
        exact = hosts.match(self._name, "", None)
        general = hosts.match(host, "", None) if port else exact
        self.known = list(exact[0])
        # An entry without a port says that its key is good on any port, not that others are bad.
        self._good = list(general[0])
        return (exact[0], [*exact[1], *general[1]], [*exact[2], *general[2]], *exact[3:])

    def algorithms(self, host: str, port: int) -> list[str]:
        """Kinds of key to ask the host for, those that it is known by first.

        The others follow, so that a host that has none of the known kind any more still shows a key and
        is refused for it. Certificates are asked for only where an authority for them is known.
        """
        authorities = self.lookup(host, "", port if port != _SSH_PORT else None)[1]
        certificates = get_default_certificate_algs() if authorities else []
        known = [name for key in self.known for name in key.sig_algorithms]
        others = sorted(get_default_public_key_algs(), key=_rank)
        return [name.decode() for name in dict.fromkeys([*certificates, *known, *others])]

    def judge(self, key: asyncssh.SSHKey) -> bool:
        """Whether a key may be used that ``lookup`` did not name; why not is left in ``error``."""
        facts = {
            "host": self._name,
            "key_type": _type(key),
            "fingerprint": key.get_fingerprint(),
            "known_fingerprints": [k.get_fingerprint() for k in self.known],
        }
        if self.known:
            known = ", ".join(f"{_type(k)} {k.get_fingerprint()}" for k in self.known)
            self.error = DeviceUnreachableError(
                f"the host key of {self._name} CHANGED: it shows {_type(key)} {key.get_fingerprint()}, "
                f"known is {known}. Another machine may be answering in its place",
                hint=f"if you set it up anew, forget the old key: ssh-keygen -f {self.files[0]} -R '{self._name}'",
                **facts,
            )
            return False
        if key in self._good:
            return True
        if not self.accept_new:
            public = f"/etc/ssh/ssh_host_{_family(key)}_key.pub"
            self.error = DeviceUnreachableError(
                f"the host key of {self._name} is not known: {_type(key)} {key.get_fingerprint()}",
                hint=f"compare it with what `ssh-keygen -lf {public}` prints on the board; if they are equal, run this "
                "command again with --accept-new-host-key",
                **facts,
            )
            return False
        self._new = key
        return True

    def remember(self) -> None:
        """Write the accepted key down. Called once the host has proved that it owns the key.

        Raises:
            BadInputError: the file cannot be written.
        """
        if self._new is None:
            return
        file = self.files[0]
        algorithm, data = self._new.export_public_key().decode().split()[:2]
        line = f"{self._name} {algorithm} {data}\n"
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(fd, "r+b") as opened:
                if opened.seek(0, os.SEEK_END):
                    opened.seek(-1, os.SEEK_END)
                    line = ("" if opened.read(1) == b"\n" else "\n") + line
                opened.write(line.encode())
        except OSError as e:
            raise BadInputError(f"{file} cannot be written: {e.strerror}", path=str(file)) from e
        self._new = None

    def _load(self) -> asyncssh.SSHKnownHosts:
        hosts = asyncssh.import_known_hosts("")
        for file in self.files:
            try:
                hosts.load(file.read_text(encoding="utf-8", errors="replace"))
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as e:
                # Skipping it would turn a changed key into an unknown one.
                raise BadInputError(
                    f"{file} cannot be used: {e}", hint="mend or remove the line", path=str(file)
                ) from e
        return hosts


def _type(key: asyncssh.SSHKey) -> str:
    return key.get_algorithm()


def _family(key: asyncssh.SSHKey) -> str:
    """The part of the name that sshd gives the file of such a key."""
    name = _type(key)
    return next((family for family in _FAMILIES if family in name), name)


def _rank(algorithm: bytes) -> int:
    plain = algorithm.startswith((b"ssh-", b"ecdsa-sha2-nistp", b"rsa-"))
    order = [i for i, family in enumerate(_FAMILIES) if family.encode() in algorithm]
    return order[0] if plain and order else len(_FAMILIES)
