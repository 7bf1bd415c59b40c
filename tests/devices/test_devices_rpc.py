"""Boards behind TVM RPC: what is refused, what breaks, what comes back (docs/FAULTS.md, 23)."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rpc_servers import RpcServer, RpcTracker, free_port
from torch import nn

from edgeprune.children import Waiting
from edgeprune.compiler.compile import compile_network
from edgeprune.deploy.flash import flash
from edgeprune.deploy.installed import installed
from edgeprune.deploy.rollback import rollback
from edgeprune.devices.registry import list_devices, open_device
from edgeprune.devices.rpc import session as rpc_session
from edgeprune.devices.rpc import tracker as rpc_tracker
from edgeprune.devices.rpc.device import RpcDevice
from edgeprune.devices.rpc.library import ElfHeader, library_for
from edgeprune.devices.rpc.wire import Verb
from edgeprune.errors import (
    BusyError,
    DeviceError,
    DeviceUnreachableError,
    MissingDependencyError,
    UsageError,
)
from edgeprune.graph.network import read_network
from edgeprune.targets import load_target

pytestmark = pytest.mark.xdist_group("rpc")

TICK = ["sh", "-c", "while :; do echo tick >> ticks; sleep 0.02; done"]


@pytest.fixture
def device(rpc_server: RpcServer, tmp_path: Path) -> Iterator[RpcDevice]:
    device = open_device(f"{rpc_server.url}{tmp_path}/root")
    assert isinstance(device, RpcDevice)
    yield device
    device.close()


@pytest.fixture(scope="module")
def pair(rpc_tracker: RpcTracker) -> Iterator[tuple[RpcTracker, RpcServer, RpcServer]]:
    """Two boards of one kind."""
    options = ("--tracker", f"127.0.0.1:{rpc_tracker.port}", "--key", "pair")
    servers = RpcServer(*options), RpcServer(*options)
    try:
        rpc_tracker.wait_for(*servers)
        yield rpc_tracker, *servers
    finally:
        for server in servers:
            server.close()


@pytest.fixture
def no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(*arguments: object) -> None:
        raise AssertionError(f"connects to {arguments}")

    monkeypatch.setattr(rpc_session, "Session", connect)
    monkeypatch.setattr("edgeprune.devices.rpc.device.Session", connect)
    monkeypatch.setattr(socket, "create_connection", connect)


def stands_still(file: Path) -> bool:
    time.sleep(0.3)
    size = file.stat().st_size
    time.sleep(0.3)
    return file.stat().st_size == size


@pytest.mark.parametrize("host", ["192.0.2.7", "[2001:db8::1]", "0.0.0.0", "[::]", "8.8.8.8"])
@pytest.mark.parametrize("form", ["rpc://{}:9090", "rpc://{}:9090/srv/board", "rpc+tracker://{}:9090/pi"])
@pytest.mark.usefixtures("no_connection")
def test_fault_23_a_public_address_is_refused_with_the_tunnel_that_reaches_it(host, form):
    with pytest.raises(UsageError, match="not this computer") as caught:
        open_device(form.format(host))
    tunnel = f"ssh -N -L 127.0.0.1:9090:127.0.0.1:9090 {host.strip('[]')}"
    assert tunnel in caught.value.hint
    assert caught.value.details["tunnel"] == tunnel
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("addresses", [["192.0.2.7"], ["127.0.0.1", "192.0.2.7"], ["::1", "2001:db8::1"]])
@pytest.mark.usefixtures("no_connection")
def test_fault_23_so_is_a_name_with_a_public_address(addresses, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 9090)) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(UsageError, match=addresses[-1]) as caught:
        open_device("rpc://board.example:9090")
    assert "9090 board.example" in caught.value.hint


@pytest.mark.usefixtures("no_connection")
def test_a_name_without_an_address_is_unreachable(monkeypatch):
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DeviceUnreachableError):
        open_device("rpc://board.example:9090")


@pytest.mark.parametrize(
    "url",
    [
        "rpc:",
        "rpc://",
        "rpc://127.0.0.1",
        "rpc://:9090",
        "rpc://127.0.0.1:0",
        "rpc://127.0.0.1:99999",
        "rpc://127.0.0.1:port",
        "rpc://127.0.0.1:9090/a/../b",
        "rpc://127.0.0.1:9090//",
        "rpc://127.0.0.1:9090/a\nb",
        "rpc://127.0.0.1:9090/a?server=x",
        "rpc://127.0.0.1:9090/a#b",
        "rpc://key:secret@127.0.0.1:9090",
        "rpc://two words@127.0.0.1:9090",
        "rpc://-oProxyCommand=x:9090",
        "rpc://a;b:9090",
        "rpc+tracker://127.0.0.1:9190",
        "rpc+tracker://127.0.0.1:9190/",
        "rpc+tracker://127.0.0.1:9190/two words",
        "rpc+tracker://127.0.0.1:9190/pi/../b",
        "rpc+tracker://127.0.0.1:9190/pi?board=1",
        "rpc+tracker://me@127.0.0.1:9190/pi",
    ],
)
@pytest.mark.usefixtures("no_connection")
def test_a_url_that_makes_no_sense_is_refused(url):
    with pytest.raises(UsageError, match="does not name"):
        open_device(url)


def test_fault_23_an_unreachable_server_says_so_in_time(monkeypatch):
    started = time.monotonic()
    with pytest.raises(DeviceUnreachableError) as caught:
        open_device(f"rpc://127.0.0.1:{free_port()}")
    assert caught.value.exit_code == 6
    assert time.monotonic() - started < 60
    with pytest.raises(DeviceUnreachableError, match="refused"):
        open_device(f"rpc+tracker://127.0.0.1:{free_port()}/pi")


def test_fault_23_a_server_that_accepts_and_is_silent_says_so_in_time(monkeypatch):
    monkeypatch.setattr(rpc_session, "CONNECT_S", 1.0)
    monkeypatch.setattr(rpc_tracker, "ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(DeviceUnreachableError, match="no answer in 1 s"):
            open_device(f"rpc://127.0.0.1:{port}")
        with pytest.raises(DeviceUnreachableError, match="no answer in time"):
            open_device(f"rpc+tracker://127.0.0.1:{port}/pi")


def test_a_server_of_another_key_is_named(rpc_server):
    with pytest.raises(DeviceUnreachableError, match="key"):
        open_device(f"rpc://other@127.0.0.1:{rpc_server.port}")


def test_fault_23_a_hanging_command_ends_in_time_and_the_session_goes_on(device):
    session = device._session
    started = time.monotonic()
    with pytest.raises(DeviceError, match=r"sleep did not finish in 0\.4 s") as caught:
        device.run(["sleep", "60"], timeout_s=0.4)
    assert not isinstance(caught.value, DeviceUnreachableError)
    assert time.monotonic() - started < 5
    assert device.run(["echo", "usable"]).stdout == "usable\n"
    assert device._session is session


def test_fault_23_a_server_that_hangs_ends_the_session_and_is_usable_again(rpc_server, device, monkeypatch):
    device.put(b"kept", "file")
    monkeypatch.setattr(rpc_session, "CALL_S", 0.5)
    rpc_server.signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        with pytest.raises(DeviceUnreachableError, match="no answer"):
            device.run(["true"])
    finally:
        rpc_server.signal(signal.SIGCONT)
    assert time.monotonic() - started < 5
    monkeypatch.undo()
    assert device.get("file") == b"kept"


def test_a_command_dies_with_its_session(device):
    """Ctrl-C, a tunnel that broke, a user's process that was killed: the connection goes, nothing is said."""
    root = Path(device._root)
    failed = []

    def work() -> None:
        try:
            device.run(TICK, timeout_s=60)
        except DeviceUnreachableError as e:
            failed.append(e)

    thread = threading.Thread(target=work)
    thread.start()
    while not (root / "ticks").exists():
        time.sleep(0.02)
    assert device._session is not None
    device._session.abandon()
    thread.join(10)
    assert len(failed) == 1
    assert stands_still(root / "ticks")
    assert device.run(["echo", "usable"]).stdout == "usable\n"


def test_replies_that_nobody_waits_for_do_not_harm_the_server(device, monkeypatch):
    """TVM's server never serves again after a connection that was reset over a reply that was not read."""
    content = bytes(3_000_000)
    device.put(content, "file")

    def read_on(session: rpc_session.Session, file: int) -> None:
        while True:
            session.call(Verb.READ, file, 1 << 18)

    for patience in (0.0, 0.002):
        session = device._open()
        file = session.call(Verb.OPEN, f"{device._root}/file").integer(0)
        with monkeypatch.context() as short:
            short.setattr(rpc_session, "CALL_S", patience)
            with pytest.raises(DeviceUnreachableError, match="no answer"):
                read_on(session, file)
    assert device.get("file") == content


def test_a_process_that_a_command_leaves_running_runs_on(device):
    """As on any other device: a release may be a service."""
    started = device.run(["sh", "-c", "(sleep 0.5; echo late > late) > /dev/null 2>&1 &"])
    assert started.returncode == 0
    device.close()
    time.sleep(1)
    assert device.get("late") == b"late\n"


def test_what_a_broken_session_left_of_a_file_is_tidied_up(device):
    device.put(b"old", "file")

    def kill(done: int, total: int) -> None:
        device._session.abandon()

    with pytest.raises(DeviceUnreachableError):
        device.put(bytes(1_000_000), "file", progress=kill)
    assert any(path.name.endswith(".partial") for path in Path(device._root).iterdir())
    assert device.run(["ls", "-A"]).stdout == "file\n"
    assert device.get("file") == b"old"


def test_a_big_file_comes_and_goes_whole(device, tmp_path):
    content = random.Random(5).randbytes(40_000_000)
    (tmp_path / "big").write_bytes(content)
    device.put(tmp_path / "big", "big")
    assert device.run(["sha256sum", "big"], timeout_s=60).stdout.split()[0] == hashlib.sha256(content).hexdigest()
    assert device.get("big") == content


def test_a_file_larger_than_the_disk_is_refused_before_it_is_sent(device, tmp_path):
    disk = os.statvfs(device._root)
    with (tmp_path / "huge").open("wb") as file:
        try:
            file.truncate(2 * disk.f_bavail * disk.f_frsize)
        except OSError:
            pytest.skip("this file system has no sparse files of that size")
    with pytest.raises(DeviceError, match="are free"):
        device.put(tmp_path / "huge", "file")
    assert device.run(["ls", "-A"]).stdout == ""


def test_many_commands_do_not_run_out_of_anything(device):
    for _ in range(40):
        with pytest.raises(DeviceError, match="did not finish"):
            device.run(["sleep", "5"], timeout_s=0.01)
    assert device.run(["echo", "usable"]).stdout == "usable\n"


def test_without_a_folder_files_are_kept_in_the_home_of_the_server(tmp_path):
    # Asked of the library itself: a server with a home of its own takes seconds to start.
    library = library_for("rpc://x", ElfHeader.of(Path(sys.executable).read_bytes()))
    code = (
        "import sys, tvm_ffi\n"
        "from edgeprune.devices.rpc.library import FUNCTION\n"
        "from edgeprune.devices.rpc.wire import Verb, pack, unpack\n"
        "call = tvm_ffi.load_module(sys.argv[1]).get_function(FUNCTION)\n"
        "print(unpack(bytes(call(pack(Verb.ROOT, '')))).fields[0].decode())\n"
        "for nonsense in (b'', b'x', b'\\0' * 12, pack(Verb.ROOT), pack(Verb.WRITE, 1), b'\\xff' * 40):\n"
        "    assert unpack(bytes(call(nonsense))).status == 22, nonsense\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(library)],
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{tmp_path}/.edgeprune\n"
    assert (tmp_path / ".edgeprune").is_dir()


def test_a_package_that_is_missing_is_named(rpc_server, tmp_path, monkeypatch):
    (tmp_path / "psutil.py").write_text("raise ModuleNotFoundError('No module named psutil', name='psutil')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setattr(rpc_session, "_WAITING", Waiting())
    with pytest.raises(MissingDependencyError, match="psutil") as caught:
        open_device(rpc_server.url)
    assert caught.value.hint == "pip install 'edgeprune[rpc]'"
    assert caught.value.exit_code == 5


def test_tvm_stays_out_of_the_process_that_opens_a_device():
    code = (
        "import sys\n"
        "import edgeprune.devices.rpc.device\n"
        "assert not [name for name in sys.modules if name.split('.')[0] in ('tvm', 'tvm_ffi', 'torch', 'numpy')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def elf(machine: int, interpreter: str, wide: bool) -> bytes:
    """A program of nothing but headers."""
    name = interpreter.encode() + b"\0"
    form = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
    size = 16 + struct.calcsize(form)
    entry = 56 if wide else 32
    header = struct.pack(form, 2, machine, 1, 0, size, 0, 0, size, entry, 2, 0, 0, 0)
    place = size + 2 * entry
    if wide:
        segment = struct.pack("<IIQQQQQQ", 3, 4, place, 0, 0, len(name), len(name), 1)
    else:
        segment = struct.pack("<IIIIIIII", 3, place, 0, 0, len(name), len(name), 4, 1)
    return b"\x7fELF" + bytes([2 if wide else 1, 1]) + bytes(10) + header + bytes(entry) + segment + name


@pytest.mark.parametrize(
    ("machine", "interpreter", "wide", "target"),
    [
        (62, "/lib64/ld-linux-x86-64.so.2", True, "x86_64-linux-gnu.2.28"),
        (62, "/lib/ld-musl-x86_64.so.1", True, "x86_64-linux-musl"),
        (183, "/lib/ld-linux-aarch64.so.1", True, "aarch64-linux-gnu.2.28"),
        (40, "/lib/ld-linux-armhf.so.3", False, "arm-linux-gnueabihf.2.28"),
        (40, "/lib/ld-linux.so.3", False, "arm-linux-gnueabi.2.28"),
        (40, "/lib/ld-musl-armhf.so.1", False, "arm-linux-musleabihf"),
    ],
)
def test_the_library_is_for_the_program_that_the_server_runs(machine, interpreter, wide, target):
    program = ElfHeader.of(elf(machine, interpreter, wide))
    assert program == ElfHeader(machine, interpreter)
    assert program.zig_target == target


@pytest.mark.parametrize("data", [b"", b"#!/bin/sh\n", b"\x7fELF\x02\x01", elf(62, "/x", True)[:90]])
def test_what_is_no_program_is_no_program(data):
    with pytest.raises(ValueError, match="program"):
        ElfHeader.of(data)


@pytest.mark.parametrize("interpreter", ["/lib/ld-linux-aarch64.so.1", "/lib/ld-linux-armhf.so.3"])
def test_the_library_builds_for_boards(interpreter):
    program = ElfHeader(183 if "aarch64" in interpreter else 40, interpreter)
    library = library_for("rpc://x", program)
    assert ElfHeader.of(library.read_bytes()).machine == program.machine
    assert library_for("rpc://x", program) == library
    assert not [path for path in library.parent.iterdir() if path.name.count(".") > 1]


def test_a_board_that_nothing_can_be_built_for_is_refused():
    with pytest.raises(DeviceError, match="machine 8"):
        library_for("rpc://x", ElfHeader(8, "/lib/ld.so.1"))


def test_a_tracker_hands_out_a_board_and_the_url_says_which(pair, tmp_path, monkeypatch):
    tracker, *servers = pair
    names = {f"127.0.0.1:{server.port}" for server in servers}
    url = f"{tracker.url}/pair{tmp_path}"
    first, second = open_device(url), open_device(url)
    try:
        taken = [device.url.removeprefix(f"{url}?server=") for device in (first, second)]
        assert set(taken) == names
        monkeypatch.setattr(rpc_tracker, "FREE_S", 0.5)
        with pytest.raises(BusyError, match="all of 2"):
            open_device(url)
        monkeypatch.undo()
        # The session breaks; the one after it is with the same board.
        first._session.abandon()
        assert first.run(["true"]).returncode == 0
        assert first.url == f"{url}?server={taken[0]}"
    finally:
        first.close()
        second.close()
    again = open_device(f"{url}?server={taken[1]}")
    assert again.url == f"{url}?server={taken[1]}"
    again.close()


def test_a_key_or_server_that_the_tracker_does_not_know_lists_those_it_does(rpc_tracker):
    with pytest.raises(DeviceUnreachableError, match="no server nothing") as caught:
        open_device(f"{rpc_tracker.url}/nothing")
    assert "board at 127.0.0.1:" in caught.value.hint
    with pytest.raises(DeviceUnreachableError, match=r"no server 127\.0\.0\.1:1"):
        open_device(f"{rpc_tracker.url}/board?server=127.0.0.1:1")


def test_devices_lists_the_servers_of_the_tracker_in_the_environment(rpc_tracker, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_TRACKER", f"127.0.0.1:{rpc_tracker.port}")
    rows = [row for row in list_devices() if row.url.startswith(f"{rpc_tracker.url}/board?server=127.0.0.1:")]
    assert [row.openable for row in rows] == [True]
    assert rows[0].details["key"] == "board"
    device = open_device(rows[0].url)
    assert device.url == rows[0].url
    device.close()

    monkeypatch.setenv("EDGEPRUNE_TRACKER", f"127.0.0.1:{free_port()}")
    down = list_devices()[-1]
    assert (down.openable, "cannot be asked" in down.description) == (False, True)
    for wrong in ("192.0.2.7:9190", "nonsense"):
        monkeypatch.setenv("EDGEPRUNE_TRACKER", wrong)
        with pytest.raises(UsageError):
            list_devices()


class FalseTracker(threading.Thread):
    """Answers as a tracker whose only server is elsewhere, or with nonsense."""

    def __init__(self, host: str, nonsense: bool) -> None:
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        summary = {"server_info": [{"key": "server:pi", "addr": [host, 9090]}], "queue_info": {"pi": {"free": 1}}}
        self.answers = {6: {} if nonsense else [0, summary], 4: [0, [host, 9090, "pi:0.5"]]}
        self.start()

    def __enter__(self) -> FalseTracker:
        return self

    def __exit__(self, *_: object) -> None:
        # Its thread ends first: closed under it, the socket's number might be another tracker's by the time it listens.
        self.socket.shutdown(socket.SHUT_RDWR)
        self.join()
        self.socket.close()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return  # closed
            with connection:
                connection.sendall(connection.recv(4))
                size = int.from_bytes(connection.recv(4), "little")
                answer = json.dumps(self.answers[json.loads(connection.recv(size))[0]]).encode()
                connection.sendall(struct.pack("<i", len(answer)) + answer)


def test_fault_23_a_tracker_that_names_a_public_server_is_not_followed(monkeypatch):
    monkeypatch.setattr("edgeprune.devices.rpc.device.Session", lambda *_: pytest.fail("connects"))
    tracker = FalseTracker("192.0.2.7", nonsense=False)
    with tracker, pytest.raises(UsageError, match=r"192\.0\.2\.7 is not this computer") as caught:
        open_device(f"rpc+tracker://127.0.0.1:{tracker.port}/pi")
    assert "--custom-addr 127.0.0.1" in caught.value.hint


def test_a_tracker_that_talks_nonsense_is_unreachable():
    tracker = FalseTracker("", nonsense=True)
    with tracker, pytest.raises(DeviceUnreachableError, match="no tracker of TVM"):
        open_device(f"rpc+tracker://127.0.0.1:{tracker.port}/pi")


class Tiny(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3)
        self.second = nn.Conv2d(8, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu())


def test_a_network_is_flashed_run_and_rolled_back(device, tmp_path):
    x = torch.randn(1, 3, 8, 8)
    networks = [Tiny().eval(), Tiny().eval()]
    for number, module in enumerate(networks):
        compile_network(read_network(module, (x,)), load_target("host"), tmp_path / str(number))
        assert flash(tmp_path / str(number), device).state == "installed"
    for module in reversed(networks):
        (raw,) = installed(device).run([x.numpy().tobytes()], 1)
        with torch.no_grad():
            expected = module(x)
        found = torch.frombuffer(bytearray(raw), dtype=torch.float32).reshape(expected.shape)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        if module is networks[1]:
            rollback(device)


def test_fault_23_a_server_that_is_killed_in_the_middle_is_unreachable(pair, tmp_path):
    """Last: it takes a board away from the pair."""
    tracker, server, _ = pair
    device = open_device(f"{tracker.url}/pair{tmp_path}?server=127.0.0.1:{server.port}")
    device.put(b"old", "file")
    with pytest.raises(DeviceUnreachableError):
        device.put(bytes(3_000_000), "file", progress=lambda done, total: server.close())
    with pytest.raises(DeviceUnreachableError):
        device.get("file")
    assert (tmp_path / "file").read_bytes() == b"old"
    device.close()
