"""Device URLs: which class opens which scheme, and what can be reached from this computer."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any, cast

from edgeprune.devices.protocol import Device
from edgeprune.devices.trust import accepting_new_host_keys, accepts_new_host_keys
from edgeprune.errors import DeviceUnreachableError, MissingDependencyError, UsageError

TRACKER = "EDGEPRUNE_TRACKER"

# Each class has ``from_url(url)``. Named by text, so a transport's libraries load when it is used.
SCHEMES: dict[str, str] = {
    "local": "edgeprune.devices.local.device:LocalDevice",
    "local-gpu": "edgeprune.devices.local.gpu:LocalGpuDevice",
    "fake": "edgeprune.devices.fake:FakeDevice",
    "ssh": "edgeprune.devices.ssh.device:SshDevice",
    "serial": "edgeprune.devices.console.device:SerialDevice",
    "emulated": "edgeprune.devices.emulator.device:AnyEmulated",
    "rpc": "edgeprune.devices.rpc.device:RpcDevice",
    "rpc+tracker": "edgeprune.devices.rpc.device:TrackedRpcDevice",
}


def open_device(url: str, *, accept_new_host_key: bool = False) -> Device:
    """The device behind a URL such as ``local:`` or ``ssh://pi@board``; a ``with`` block closes it.

    Args:
        accept_new_host_key: trust an SSH host that is not known yet; a changed key is refused still.

    Raises:
        UsageError: the scheme is unknown or the rest of the URL makes no sense.
        DeviceUnreachableError: nothing answers there.
    """
    scheme, colon, _ = url.partition(":")
    known = ", ".join(f"{name}:" for name in SCHEMES)
    if not colon:
        raise UsageError(f"{url!r} is not a device URL", hint=f"begin with one of {known}", schemes=list(SCHEMES))
    if scheme not in SCHEMES:
        raise UsageError(f"unknown device scheme {scheme!r}", hint=f"these exist: {known}", schemes=list(SCHEMES))
    module, _, name = SCHEMES[scheme].partition(":")
    with accepting_new_host_keys(accept_new_host_key or accepts_new_host_keys()):
        return cast(Device, getattr(import_module(module), name).from_url(url))


@dataclass(frozen=True, slots=True)
class Listed:
    """One row of ``edgeprune devices``. ``openable``: this edgeprune has the transport for it."""

    url: str
    description: str
    openable: bool
    details: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def list_devices() -> list[Listed]:
    """What can be reached from here without being told an address.

    Raises:
        MissingDependencyError: pyserial is not installed.
        UsageError: $EDGEPRUNE_TRACKER does not name a tracker of this computer.
    """
    # Any folder describes this computer, and a list should not make the one in the home.
    with TemporaryDirectory() as folder, open_device(f"local:{folder}") as device:
        info = device.describe()
    local = Listed("local:", f"this computer: {info.cpu}", True, {"machine": info.machine})
    return [local, *_gpus(), *_serial_ports(), *_emulated(), *_tracked_servers()]


def _gpus() -> list[Listed]:
    """The GPUs of this computer; none without a word where there is no driver or no GPU."""
    from edgeprune.devices.local.gpu import url_of
    from edgeprune.gpus import local_gpus

    try:
        gpus = local_gpus()
    except (MissingDependencyError, DeviceUnreachableError):
        return []
    return [
        Listed(url_of(i, gpus), f"this computer's GPU: {gpu.name}", True, {"arch": gpu.arch, "uuid": gpu.uuid})
        for i, gpu in enumerate(gpus)
    ]


def _emulated() -> list[Listed]:
    """The boards of QEMU; openable once their images and their emulator are here."""
    from edgeprune.devices.emulator.device import boards_here

    return [Listed(url, f"emulated board: {title}", here) for url, title, here in boards_here()]


def _serial_ports() -> list[Listed]:
    try:
        from serial.tools.list_ports import comports  # type: ignore[import-untyped]
    except ImportError:
        raise MissingDependencyError(
            "pyserial is not installed, so serial ports cannot be listed", hint="pip install pyserial"
        ) from None
    return [_serial_row(port) for port in sorted(comports(), key=lambda port: str(port.device))]


def _serial_row(port: Any) -> Listed:
    """``port``: a pyserial ``ListPortInfo``."""
    details = {
        "id": f"{port.vid:04x}:{port.pid:04x}" if port.vid is not None else "",
        "product": port.product or "",
        "serial_number": port.serial_number or "",
    }
    known = {key: text for key, text in details.items() if text}
    return Listed(f"serial://{port.device}", port.product or port.description, "serial" in SCHEMES, known)


def _tracked_servers() -> list[Listed]:
    place = os.environ.get(TRACKER)
    if not place:
        return []
    from edgeprune.devices.rpc.address import loopback, parse_host_port
    from edgeprune.devices.rpc.tracker import servers_of

    host, port = parse_host_port(place)
    url = f"rpc+tracker://{host}:{port}"
    address = loopback(host, port, url)
    try:
        servers = servers_of(address, port, url)
    except DeviceUnreachableError as e:
        return [Listed(url, e.message.removeprefix(f"{url}: "), False)]
    return [
        Listed(
            f"{url}/{server.key}?server={server.name}",
            f"TVM RPC server {server.key} at {server.name}",
            True,
            {"key": server.key, "free": f"{server.free} of {server.total}"},
        )
        for server in servers
    ]
