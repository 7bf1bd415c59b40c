"""Owners of locks and folders on a device: a text or a name that tells a process, and whether that process still lives.

An owner that was killed is recognised on its own computer only; seen from anywhere else it counts as alive.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import uuid
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

held: set[str] = set()
"""Tokens that this process holds: a token of ours that is not here was left by a dropped link."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Who holds something on a device.

    Attributes:
        host: name of the computer, for people.
        computer: which computer it is, and ``boot`` which of its boots, or how its number begins.
        namespace: the process ids it counts in (a container has its own).
        pid, started: the process, and its start in clock ticks since boot: ids are used again.
        token: this one holding of it.
    """

    host: str
    computer: str
    boot: str
    namespace: str
    pid: int
    started: str
    token: str

    @classmethod
    def me(cls) -> Owner:
        host = socket.gethostname()
        identity = _text("/etc/machine-id") or str(uuid.getnode())
        return cls(
            host=host,
            computer=hashlib.sha256(f"edgeprune {host} {identity}".encode()).hexdigest()[:16],
            boot=_text("/proc/sys/kernel/random/boot_id"),
            namespace=_namespace(),
            pid=os.getpid(),
            started=_started(os.getpid()),
            token=secrets.token_hex(8),
        )

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """None if ``text`` is not what :meth:`to_text` writes."""
        try:
            data = json.loads(text)
            owner = cls(**data)
        except (ValueError, TypeError):
            return None
        return (
            owner
            if all(isinstance(getattr(owner, f.name), int if f.name == "pid" else str) for f in fields(cls))
            else None
        )

    @classmethod
    def of_name(cls, name: str) -> Owner | None:
        """None if ``name`` is not what :meth:`to_name` gives."""
        match name.split("."):
            case [computer, boot, namespace, pid, started, token] if pid.isdecimal() and token:
                return cls("", computer, boot, namespace, int(pid), started, token)
        return None

    def to_name(self) -> str:
        """A name of a file or folder for :meth:`of_name`, short, without the host."""
        return ".".join((self.computer, self.boot[:8], self.namespace, str(self.pid), self.started, self.token))

    def to_text(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def is_dead(self) -> bool:
        """True only if that is certain from here."""
        me = Owner.me()
        if self.computer != me.computer:
            return False
        if not me.boot.startswith(self.boot):
            return True
        if self.namespace != me.namespace:
            return False
        if self.pid == me.pid and self.started == me.started:
            return self.token not in held
        return not _runs(self.pid) or _started(self.pid) != self.started


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _started(pid: int) -> str:
    # Field 22 of proc(5) stat; the name in field 2 may hold spaces and parentheses.
    stat = _text(f"/proc/{pid}/stat")
    return stat.rpartition(")")[2].split()[19] if stat else ""


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
