"""Make an SSH connection, and say in plain words why there is none.

``~/.ssh/config`` applies (HostName, Port, User, IdentityFile, ProxyJump and more), keys come from
the agent and the usual files, a password from ``$EDGEPRUNE_SSH_PASSWORD`` or a prompt. Every host
on the way is checked by its key, jump hosts too, whatever the configuration says of checking.
"""

from __future__ import annotations

import getpass
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any

import asyncssh

from edgeprune.devices.ssh.hosts import HostKeys, known_hosts_files
from edgeprune.devices.ssh.loop import LoopThread
from edgeprune.devices.ssh.session import Session
from edgeprune.devices.ssh.url import SshAddress, parse_authority
from edgeprune.errors import BadInputError, DeviceUnreachableError, EdgepruneError

PASSWORD = "EDGEPRUNE_SSH_PASSWORD"
CONNECT_S = 15.0
_LOGIN_S = 30.0
_KEEPALIVE_S, _KEEPALIVES = 10.0, 3  # a silent link is given up after half a minute
_JUMPS = 4

# A login file may print something first, so the folder comes after a mark.
_ENTER = 'if [ -z "$1" ]; then cd && set -- .edgeprune; fi && mkdir -p -- "$1" && cd -- "$1" && pwd -P'


class _RefusedError(Exception):
    """Nobody of that name is let in."""

    def __init__(self, reason: str, user: str, host: str, takes_password: bool) -> None:
        super().__init__(reason)
        self.user = user
        self.host = host
        self.takes_password = takes_password


class _Client(asyncssh.SSHClient):
    """Answers the questions that come up while a connection is made."""

    def __init__(self, hosts: HostKeys) -> None:
        self.hosts = hosts
        self.asked_for_password = False

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:
        return self.hosts.judge(key)

    def password_auth_requested(self) -> Any:
        self.asked_for_password = True
        return super().password_auth_requested()

    def kbdint_auth_requested(self) -> Any:
        self.asked_for_password = True
        return super().kbdint_auth_requested()


class Connector:
    """Opens sessions to one address; keeps the password of the first one for those after it."""

    def __init__(self, url: str, address: SshAddress, *, accept_new_host_key: bool) -> None:
        self.url = url
        self.address = address
        self._accept_new = accept_new_host_key
        self._password: str | None = None

    def connect(self, loop: LoopThread) -> Session:
        """A session whose root folder exists.

        Raises:
            DeviceUnreachableError: no answer, a host key that is not known or changed, no entrance,
                or no folder.
            BadInputError: ``~/.ssh/config``, a key or a known_hosts file cannot be used.
        """
        password = self._password or os.environ.get(PASSWORD) or None
        try:
            session = self._session(loop, password)
        except _RefusedError as refused:
            if password or not refused.takes_password or sys.stdin is None or not sys.stdin.isatty():
                raise self._no_entrance(refused) from refused
            # Asked for here, in the caller's thread, where Ctrl-C works.
            password = getpass.getpass(f"Password of {refused.user} on {refused.host}: ")
            try:
                session = self._session(loop, password)
            except _RefusedError as again:
                raise self._no_entrance(again) from again
            self._password = password
        try:
            session.root = self._enter(session)
        except BaseException:
            session.close()
            raise
        # A permission is for the first contact; a link that drops later must meet the same host.
        self._accept_new = False
        return session

    def _session(self, loop: LoopThread, password: str | None) -> Session:
        return Session(self.url, loop, *loop.run(self._open_all(password)))

    def _enter(self, session: Session) -> str:
        done = session.script(_ENTER, self.address.root or "")
        root = done.stdout.decode(errors="replace").removesuffix("\n")
        if not done.started:
            raise DeviceUnreachableError(
                f"{self.url}: the account's shell on the board runs no commands: {done.stderr.strip()}",
                hint="give the account a POSIX shell such as /bin/sh",
            )
        if done.returncode != 0 or not root.startswith("/"):
            raise DeviceUnreachableError(
                f"{self.url}: the folder {self.address.root or '~/.edgeprune'} cannot be made: {done.stderr.strip()}",
                hint="give a folder that the account may write",
            )
        return root

    def _no_entrance(self, refused: _RefusedError) -> DeviceUnreachableError:
        place = f"{refused.user}@{refused.host}"
        return DeviceUnreachableError(
            f"{self.url}: {refused.host} does not let {refused.user} in: {refused}",
            hint=f"copy your key to it: ssh-copy-id {place}; a key with a passphrase must be in the agent (ssh-add). "
            f"A password can be given in {PASSWORD}",
            user=refused.user,
            host=refused.host,
        )

    async def _open_all(
        self, password: str | None
    ) -> tuple[asyncssh.SSHClientConnection, tuple[asyncssh.SSHClientConnection, ...]]:
        """The connection to the board, and those to the jump hosts below it."""
        jumps: list[asyncssh.SSHClientConnection] = []
        try:
            return await self._open(self.address, jumps, password), tuple(jumps)
        except BaseException:
            for jump in reversed(jumps):
                jump.abort()
            raise

    async def _open(
        self,
        address: SshAddress,
        jumps: list[asyncssh.SSHClientConnection],
        password: str | None,
        *,
        board: bool = True,
    ) -> asyncssh.SSHClientConnection:
        """Connect to ``address``, through the jump hosts that the configuration names for it."""
        named: dict[str, Any] = {"host": address.host}
        if address.port:
            named["port"] = address.port
        if address.user:
            named["username"] = address.user
        try:
            # config=() is "the user's own file"; left out, it would be none.
            options = asyncssh.SSHClientConnectionOptions(**named, config=())
        except (OSError, ValueError, asyncssh.Error) as e:
            raise BadInputError(
                f"{self.url}: the SSH configuration cannot be used: {e}", hint=f"mend it until `ssh {address}` works"
            ) from e
        way = options.tunnel if isinstance(options.tunnel, str) and options.tunnel.lower() != "none" else ""
        for hop in filter(None, way.split(",")):
            if len(jumps) >= _JUMPS:
                raise BadInputError(f"{self.url}: more than {_JUMPS} jump hosts", hint="ProxyJump may lead in a circle")
            # The password is the board's; a jump host shall not see it.
            jumps.append(await self._open(parse_authority(hop.strip()), jumps, None, board=False))
        hosts = HostKeys(
            known_hosts_files(*(_files(options, key) for key in ("UserKnownHostsFile", "GlobalKnownHostsFile"))),
            accept_new=self._accept_new,
        )
        return await self._login(options, named, hosts, jumps[-1] if jumps else None, password, board)

    async def _login(
        self,
        options: asyncssh.SSHClientConnectionOptions,
        named: dict[str, Any],
        hosts: HostKeys,
        tunnel: asyncssh.SSHClientConnection | None,
        password: str | None,
        board: bool,
    ) -> asyncssh.SSHClientConnection:
        client = _Client(hosts)
        host, port = str(options.host), int(options.port)
        settings = {**named, "tunnel": tunnel}
        if not options.config.get("HostKeyAlgorithms"):
            settings["server_host_key_algs"] = hosts.algorithms(options.host_key_alias or host, port)
        try:
            connection = await asyncssh.connect(
                **settings,
                client_factory=lambda: client,
                known_hosts=hosts.lookup,
                password=password,
                connect_timeout=options.connect_timeout or CONNECT_S,
                login_timeout=_LOGIN_S,
                keepalive_interval=_KEEPALIVE_S,
                keepalive_count_max=_KEEPALIVES,
            )
        except EdgepruneError:
            raise
        except asyncssh.HostKeyNotVerifiable as e:
            raise hosts.error or DeviceUnreachableError(f"{self.url}: {e.reason}", host=host) from e
        except asyncssh.PermissionDenied as e:
            hosts.remember()  # the host has proved its key, whoever we are
            # The password is the board's: for a jump host nobody is asked.
            takes_password = client.asked_for_password and board
            raise _RefusedError(e.reason, options.username, host, takes_password) from e
        except (OSError, asyncssh.Error, asyncssh.ChannelOpenError) as e:
            raise _unreachable(self.url, host, port, e) from e
        hosts.remember()
        return connection


def _files(options: asyncssh.SSHClientConnectionOptions, key: str) -> Sequence[str]:
    found = options.config.get(key, ())
    return [str(name) for name in found] if isinstance(found, (list, tuple)) else ()


def _unreachable(url: str, host: str, port: int, fault: Exception) -> DeviceUnreachableError:
    place = f"{host} port {port}"
    facts = {"host": host, "port": port}
    if isinstance(fault, socket.gaierror):
        return DeviceUnreachableError(
            f"{url}: the name {host} is not known: {fault.strerror}",
            hint="give the board's address or another name of it with --device",
            **facts,
        )
    if isinstance(fault, ConnectionRefusedError):
        return DeviceUnreachableError(
            f"{url}: {place} refuses the connection",
            hint="start the SSH server on the board: sudo systemctl enable --now ssh",
            **facts,
        )
    if isinstance(fault, TimeoutError):
        return DeviceUnreachableError(
            f"{url}: {place} does not answer", hint="check power and network of the board, and the address", **facts
        )
    why = getattr(fault, "reason", "") or getattr(fault, "strerror", "") or str(fault) or type(fault).__name__
    return DeviceUnreachableError(
        f"{url}: no connection to {place}: {why}", hint=f"see whether `ssh -p {port} {host}` works", **facts
    )
