"""Faults of a serial console (docs/FAULTS.md, 17 to 20): noise, cut lines, stalled receivers, logins, busy ports."""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from line_noise import Noise
from serial_board import PtyBoard

from edgeprune.devices.console import ports
from edgeprune.devices.console.device import SerialDevice
from edgeprune.devices.console.login import PASSWORD, USER, Credentials
from edgeprune.devices.console.ports import find_port, parse_serial_url
from edgeprune.errors import (
    BusyError,
    DeviceError,
    DeviceUnreachableError,
    EdgepruneError,
    UsageError,
    VerificationError,
)

CONTENT = random.Random(3).randbytes(30_000)
HERE = Path(__file__).parent


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[list[PtyBoard]]:
    made: list[PtyBoard] = []
    yield made
    for board in made:
        board.close()


def test_bytes_on_the_wire_with_xmodem_and_with_base64(boards, tmp_path):
    for name, receiver, most in (("a", "good", 1.1), ("b", None, 1.45)):
        boards.append(board := PtyBoard(tmp_path / name, receiver=receiver))
        device = SerialDevice.from_url(board.url)
        content = random.Random(1).randbytes(200_000)
        before = board.sent
        device.put(content, "file")
        assert (board.sent - before) / len(content) <= most
        before = board.sent
        device.put(b"compressible " * 100_000, "file")
        assert board.sent - before < 20_000
        device.close()


@pytest.mark.parametrize("shell", [("dash", "-i"), ("bash", "--norc", "-i")], ids=lambda shell: shell[0])
def test_a_shell_without_gzip_and_receiver(boards, tmp_path, shell):
    boards.append(board := PtyBoard(tmp_path / "board", shell=shell, hidden=("gzip",)))
    device = SerialDevice.from_url(board.url)
    device.put(CONTENT, "file")
    assert device.get("file") == CONTENT
    assert device.run(["seq"]).returncode == 127
    with pytest.raises(DeviceError, match="did not finish"):
        device.run(["sleep", "30"], timeout_s=0.2)
    assert device.run(["echo", "usable"]).stdout == "usable\n"
    device.close()
    # The console is a shell again, and takes the next conversation.
    again = SerialDevice.from_url(board.url)
    assert again.get("file") == CONTENT
    again.close()


@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), kind=st.sampled_from(["message", "drop", "double", "all"]))
@example(seed=3, kind="drop")  # a receiver that still waits although the sender saw its end acknowledged
def test_fault_17_noise_never_changes_a_result(seed, kind):
    message, drop, double = {
        "message": (0.002, 0, 0),
        "drop": (0, 0.0003, 0),
        "double": (0, 0, 0.0003),
        "all": (0.0005, 0.0001, 0.0001),
    }[kind]
    noise = Noise(message, drop, double, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        board = PtyBoard(Path(folder, "board"), noise=noise, receiver="good" if seed % 2 else None)
        try:
            device = SerialDevice.from_url(board.url)
            device.put(CONTENT[:4500], "file")
            assert device.get("file") == CONTENT[:4500]
            for i in range(3):
                done = device.run(["sh", "-c", f"echo {i}; echo ran >>counter; exit {i}"])
                assert (done.returncode, done.stdout) == (i, f"{i}\n")
            assert device.get("counter") == b"ran\n" * 3  # asked for again, never run again
            device.close()
        finally:
            board.close()


@settings(max_examples=6, deadline=None, derandomize=True)
@given(st.integers(0, 16_000))
def test_fault_13_a_line_cut_at_byte_k_leaves_the_old_file_and_can_be_resumed(k):
    with tempfile.TemporaryDirectory() as folder:
        first = PtyBoard(Path(folder, "board"))
        device = SerialDevice.from_url(first.url)
        device.put(b"old", "file")
        first.cut_after = first.sent + k
        with pytest.raises(DeviceUnreachableError) as caught:
            device.put(CONTENT[:12_000], "file")
        assert caught.value.exit_code == 6
        device.close()
        first.close()
        root = Path(folder, "board", ".edgeprune")
        assert (root / "file").read_bytes() == b"old"
        kept = sum(file.stat().st_size for file in root.glob(".file.*.partial"))
        (first.home.with_name("board-bin")).rename(Path(folder, "old-bin"))
        second = PtyBoard(Path(folder, "board"))
        try:
            device = SerialDevice.from_url(second.url)
            before = second.sent
            device.put(CONTENT[:12_000], "file")
            assert device.get("file") == CONTENT[:12_000]
            assert [path.name for path in root.iterdir()] == ["file"]
            assert second.sent - before < 1.5 * (12_000 - kept) + 3000
            device.close()
        finally:
            second.close()


def test_a_foreign_partial_file_is_not_gone_on_with(boards, tmp_path):
    boards.append(board := PtyBoard(tmp_path / "board"))
    device = SerialDevice.from_url(board.url)
    with pytest.raises(KeyboardInterrupt):
        device.put(CONTENT, "file", progress=_interrupt)
    assert list((board.home / ".edgeprune").iterdir()) == []
    device.put(b"", "probe")
    partial = board.home / ".edgeprune" / f".file.{hashlib.sha256(CONTENT).hexdigest()[:16]}.partial"
    partial.write_bytes(b"something else")
    device.put(CONTENT, "file")
    assert device.get("file") == CONTENT
    device.close()


@pytest.mark.parametrize("key", [b"\x1a", b"\x1c"], ids=["stop", "quit"])
@pytest.mark.parametrize("shell", [("dash", "-i"), ("bash", "--norc", "-i")], ids=lambda shell: shell[0])
def test_fault_17_keys_that_stop_or_quit_do_nothing(boards, tmp_path, shell, key):
    """Blocks of XMODEM hold these bytes, and a receiver that has ended leaves them to the terminal."""
    boards.append(board := PtyBoard(tmp_path / "board", shell=shell))
    device = SerialDevice.from_url(board.url)

    def press() -> None:
        for _ in range(20):
            device.session.link.write(key)
            time.sleep(0.02)

    told = device.session.ask(
        'x=$(sleep 0.5; echo "$(sleep 0.2; echo whole)"); echo "$x"', timeout_s=10, meanwhile=press
    )
    assert (told.status, told.data) == (0, b"whole\n")
    device.close()


@pytest.mark.parametrize("shell", [("dash", "-i"), ("bash", "--norc", "-i")], ids=lambda shell: shell[0])
def test_fault_17_ctrl_c_at_any_moment_never_breaks_an_answer(boards, tmp_path, shell):
    """What is sent to a receiver that has ended reaches the terminal, whatever bytes it holds."""
    boards.append(board := PtyBoard(tmp_path / "board", shell=shell))
    device = SerialDevice.from_url(board.url)

    def press() -> None:
        for _ in range(60):
            device.session.link.write(b"\x03")
            time.sleep(0.002)

    for i in range(3):
        told = device.session.ask(f"head -c 3000 /dev/zero; exit_={i}; (exit $exit_)", timeout_s=20, meanwhile=press)
        assert told.status in (i, 130), "the script itself may be stopped"
    assert device.run(["echo", "usable"]).stdout == "usable\n"
    device.close()


def _interrupt(done: int, total: int) -> None:
    raise KeyboardInterrupt


COMPRESSIBLE = b"compressible " * 20_000


@pytest.mark.parametrize("content", [CONTENT, COMPRESSIBLE], ids=["as it is", "compressed"])
@pytest.mark.parametrize(
    ("damage", "kind", "message"),
    [
        ('printf X | dd of="$f" bs=1 seek=20 conv=notrunc', VerificationError, "not on the board's disk what was sent"),
        (': >"$f"', DeviceError, "bytes were stored"),  # as a disk that fills up and does not say so
    ],
    ids=["flipped", "lost"],
)
def test_fault_14_what_the_board_stored_is_hashed_before_it_gets_its_name(
    boards, tmp_path, content, damage, kind, message
):
    boards.append(board := PtyBoard(tmp_path / "board"))
    device = SerialDevice.from_url(board.url)
    device.put(b"old", "file")
    with pytest.raises(kind, match=message) as caught:
        device.put(content, "file", progress=lambda done, total: device.session.ask(damage) and None)
    assert caught.value.exit_code == (7 if kind is VerificationError else 6)
    assert device.get("file") == b"old"
    assert [path.name for path in (board.home / ".edgeprune").iterdir()] == ["file"]
    device.close()


def test_a_file_of_a_few_lines_takes_one_request_each_way(boards, tmp_path, monkeypatch):
    boards.append(board := PtyBoard(tmp_path / "board"))
    device = SerialDevice.from_url(board.url)
    asked, ask = [], device.session.ask
    monkeypatch.setattr(
        device.session, "ask", lambda script, *given, **more: asked.append(script) or ask(script, *given, **more)
    )
    told = []
    for path, content in (("new folder/file", bytes(range(256)) * 4), ("größe", b"x"), ("empty", b"")):
        device.put(content, path, progress=lambda *done: told.append(done))
        assert device.get(path) == content
    assert len(asked) == 6
    assert told == [(1024, 1024), (1, 1)]
    device.close()


@pytest.mark.parametrize(
    ("spoil", "kind", "message"),
    [
        ("tr a b", VerificationError, "not on the board's disk what was sent"),
        ("head -c 3", DeviceError, "3 of 9 bytes were stored"),  # as a disk that fills up and does not say so
    ],
    ids=["flipped", "lost"],
)
def test_fault_14_a_file_of_a_few_lines_is_hashed_as_well(boards, tmp_path, spoil, kind, message):
    boards.append(board := PtyBoard(tmp_path / "board"))
    device = SerialDevice.from_url(board.url)
    device.put(b"old", "file")
    tool = board.home.with_name("board-bin") / "base64"
    real = tool.resolve()
    tool.unlink()
    tool.write_text(f'#!/bin/sh\nif [ "$1" = -d ]; then {real} -d | {spoil}; else exec {real}; fi\n')
    tool.chmod(0o755)
    with pytest.raises(kind, match=message) as caught:
        device.put(b"a content", "file")
    assert caught.value.exit_code == (7 if kind is VerificationError else 6)
    assert device.get("file") == b"old"
    assert [path.name for path in (board.home / ".edgeprune").iterdir()] == ["file"]
    device.close()


@pytest.mark.parametrize("mode", ["checksum", "refuse"])
def test_receivers_of_all_kinds(boards, tmp_path, mode):
    boards.append(board := PtyBoard(tmp_path / "board", receiver=mode))
    device = SerialDevice.from_url(board.url)
    device.put(CONTENT, "file")
    assert device.get("file") == CONTENT
    assert device.session.receiver_pause_s <= 0.1
    device.close()


@pytest.mark.parametrize("mode", ["cancel", "stall"])
def test_fault_18_a_receiver_that_gives_up_or_stalls(boards, tmp_path, mode, monkeypatch):
    from edgeprune.devices.console import upload, xmodem

    monkeypatch.setattr(xmodem, "_ATTEMPTS", 1)
    monkeypatch.setattr(upload, "_ATTEMPTS", 2)
    monkeypatch.setattr(upload, "_ANSWER_S", 0.5)
    boards.append(board := PtyBoard(tmp_path / "board", receiver=mode))
    device = SerialDevice.from_url(board.url)
    with pytest.raises(DeviceError, match="gives up") as caught:
        device.put(CONTENT, "file")
    assert "power" in caught.value.hint
    assert device.run(["echo", "usable"]).stdout == "usable\n"
    assert list((board.home / ".edgeprune").iterdir()) == []
    device.close()


def test_fault_19_a_port_in_use(boards, tmp_path):
    boards.append(board := PtyBoard(tmp_path / "board"))
    device = SerialDevice.from_url(board.url)
    with pytest.raises(BusyError) as caught:
        SerialDevice.from_url(board.url)
    assert caught.value.exit_code == 8
    assert device.run(["echo", "unharmed"]).stdout == "unharmed\n"
    device.close()


def test_fault_19_the_cable_is_pulled_while_a_command_runs(boards, tmp_path):
    boards.append(board := PtyBoard(tmp_path / "board"))
    device = SerialDevice.from_url(board.url)
    board.cut()
    with pytest.raises(DeviceUnreachableError):
        device.run(["true"], timeout_s=2)
    device.close()
    with pytest.raises(DeviceUnreachableError):
        device.run(["true"])


def test_a_port_that_is_not_there():
    with pytest.raises(DeviceUnreachableError) as caught:
        SerialDevice.from_url("serial:///dev/no-such-port")
    assert "devices" in caught.value.hint


LOGIN = """
import getpass, os, sys
while True:
    sys.stdout.write("\\nboard login: "); sys.stdout.flush()
    user = sys.stdin.readline().strip()
    if not user:
        continue
    if (user, getpass.getpass("Password: ")) == ("pi", "it's $ecret"):
        os.execvp("sh", ["sh", "-i"])
    print("Login incorrect")
"""


@pytest.mark.parametrize("right", [True, False])
def test_fault_17_a_login_prompt(boards, tmp_path, monkeypatch, right):
    boards.append(board := PtyBoard(tmp_path / "board", shell=(sys.executable, "-I", "-c", LOGIN)))
    board.speaks()
    with pytest.raises(DeviceError, match="asks for a login"):
        SerialDevice.from_url(board.url)
    monkeypatch.setenv(USER, "pi")
    monkeypatch.setenv(PASSWORD, "it's $ecret" if right else "wrong")
    if right:
        device = SerialDevice.from_url(board.url)
        assert device.run(["echo", "in"]).stdout == "in\n"
        device.close()
    else:
        with pytest.raises(DeviceError, match="refused user and password") as caught:
            SerialDevice.from_url(board.url)
        assert "wrong" not in str(caught.value.to_json())


def test_a_password_is_in_no_text_of_its_object():
    assert "ecret" not in repr(Credentials("pi", "secret"))


@pytest.mark.parametrize(
    "url",
    [
        "serial:",
        "serial://",
        "serial:///dev/ttyUSB0?baud=fast",
        "serial:///dev/ttyUSB0?baud=-1",
        "serial:///dev/ttyUSB0?speed=9600",
        "serial:///dev/ttyUSB0?serial_number=A",
        "serial://host/dev/ttyUSB0",
        "serial://pi:secret@/dev/ttyUSB0",
        "serial:///dev/ttyUSB0?password=secret",
        "serial:///dev/ttyUSB0?root=relative",
        "serial:///dev/tty\nUSB0",
        "serial:ttyUSB0",
        "serial:///dev/ttyUSB0%0a",
    ],
)
def test_fault_20_odd_urls_are_refused(url):
    with pytest.raises(UsageError) as caught:
        parse_serial_url(url)
    assert "secret" not in str(caught.value.to_json())


def test_two_ports_with_one_serial_number_are_not_guessed_between(monkeypatch):
    from serial.tools import list_ports

    found = [SimpleNamespace(device=f"/dev/ttyUSB{i}", serial_number="A5XK") for i in range(2)]
    monkeypatch.setattr(list_ports, "comports", lambda: found)
    address = parse_serial_url("serial://?serial_number=A5XK&baud=921600")
    with pytest.raises(UsageError, match="2 serial ports") as caught:
        find_port(address)
    assert caught.value.details["ports"] == ["/dev/ttyUSB0", "/dev/ttyUSB1"]
    found.pop()
    assert find_port(address) == "/dev/ttyUSB0"
    found.pop()
    with pytest.raises(EdgepruneError) as missing:
        find_port(address)
    assert missing.value.exit_code == 6
    assert ports.BAUD == 115200
