"""A board over SSH when something is wrong: keys, passwords, links, names, disks (docs/FAULTS.md, 13, 15, 16, 20)."""

import asyncio
import errno
import getpass
import hashlib
import json
import os
import random
import socket
import sys
import threading
import time
from pathlib import Path

import asyncssh
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from ssh_servers import LOCALHOST, Board, Link, Me

from edgeprune.cli.main import main
from edgeprune.devices.registry import open_device
from edgeprune.devices.ssh import connect as ssh_connect
from edgeprune.devices.ssh.device import SshDevice
from edgeprune.devices.ssh.url import SshAddress, parse_ssh_url
from edgeprune.devices.trust import accepts_new_host_keys
from edgeprune.errors import BadInputError, DeviceError, DeviceUnreachableError, UsageError

BIG = random.Random(3).randbytes(600_001)


@pytest.fixture
def known(board: Board, me: Me) -> Board:
    me.trust(board.port, board.host_key)
    return board


def leftovers(folder: Path) -> list[Path]:
    return list(folder.glob(".*.partial"))


def drop(board: Board, device: SshDevice) -> None:
    board.hang_up()
    while device._sessions[0].alive:
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ssh://board", SshAddress("board")),
        ("ssh://pi@board", SshAddress("board", "pi")),
        ("ssh://pi@board.local:2222/srv/a b/ü", SshAddress("board.local", "pi", 2222, "/srv/a b/ü")),
        ("ssh://board/", SshAddress("board")),
        ("ssh://board//srv/x/", SshAddress("board", root="/srv/x")),
        ("ssh://pi@[fe80::1%eth0]:22/x", SshAddress("fe80::1%eth0", "pi", 22, "/x")),
        ("ssh://me@corp.org@board", SshAddress("board", "me@corp.org")),
        ("ssh://board/a;b%20$HOME", SshAddress("board", root="/a;b%20$HOME")),
    ],
)
def test_what_a_url_says(url, address):
    assert parse_ssh_url(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "ssh:",
        "ssh:board",
        "ssh:/board",
        "ssh://",
        "ssh:///x",
        "ssh://-oProxyCommand=touch pwned",
        "ssh://pi@-board",
        "ssh://-l@board",
        "ssh://two words",
        "ssh://board;reboot",
        "ssh://board\n",
        "ssh://$(reboot)",
        "ssh://pi;reboot@board",
        "ssh://p i@board",
        "ssh://@board",
        "ssh://größe",
        "ssh://board:",
        "ssh://board:x",
        "ssh://board:0",
        "ssh://board:65536",
        "ssh://board:²",
        "ssh://[::1",
        "ssh://[board]",
        "ssh://[fe80::1%;x]",
        "ssh://::1",
        "ssh://board/a/../b",
        "ssh://board/a//b",
        "ssh://board/~/x",
        "ssh://board/a\nb",
        "ssh://board/a\\b",
    ],
)
def test_fault_20_odd_names_are_refused_before_anything_is_reached(url, me):
    with pytest.raises(UsageError) as caught:
        open_device(url)
    json.dumps(caught.value.to_json()).encode()


def test_a_password_in_a_url_is_refused_and_not_repeated(me):
    with pytest.raises(UsageError) as caught:
        open_device("ssh://pi:secret@board")
    assert "secret" not in json.dumps(caught.value.to_json())
    assert "EDGEPRUNE_SSH_PASSWORD" in caught.value.hint


def test_fault_16_an_unknown_key_is_refused_with_all_that_is_needed_to_decide(board, me):
    with pytest.raises(DeviceUnreachableError) as caught:
        open_device(board.url())
    error = caught.value
    assert error.exit_code == 6
    for fact in (f"[{LOCALHOST}]:{board.port}", "ssh-ed25519", board.host_key.get_fingerprint()):
        assert fact in error.message
    assert board.host_key.get_fingerprint().startswith("SHA256:")
    assert "--accept-new-host-key" in error.hint
    assert "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub" in error.hint
    assert not me.known_hosts.exists()


def test_fault_16_an_accepted_key_is_written_down_and_ends_the_question(board, me):
    me.known_hosts.write_text("# mine, without a newline at its end")
    open_device(board.url(), accept_new_host_key=True).close()
    lines = me.known_hosts.read_text().splitlines()
    assert lines[0] == "# mine, without a newline at its end"
    assert lines[1] == f"[{LOCALHOST}]:{board.port} {board.host_key.export_public_key().decode().strip()}"
    assert len(lines) == 2
    open_device(board.url()).close()
    open_device(board.url(), accept_new_host_key=True).close()
    assert len(me.known_hosts.read_text().splitlines()) == 2


def test_a_new_known_hosts_is_private(board, me):
    os.umask(os.umask(0))
    open_device(board.url(), accept_new_host_key=True).close()
    assert me.known_hosts.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("accept", [False, True])
@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256"], ids=["same kind", "another kind"])
def test_fault_16_a_changed_key_is_refused_whatever_was_permitted(board, me, kind, accept):
    old = asyncssh.generate_private_key(kind)
    me.trust(board.port, old)
    before = me.known_hosts.read_text()
    with pytest.raises(DeviceUnreachableError, match="CHANGED") as caught:
        open_device(board.url(), accept_new_host_key=accept)
    for key in (old, board.host_key):
        assert key.get_fingerprint() in caught.value.message
    assert f"ssh-keygen -f {me.known_hosts} -R '[{LOCALHOST}]:{board.port}'" in caught.value.hint
    assert me.known_hosts.read_text() == before


def test_a_revoked_key_is_refused(board, me):
    me.known_hosts.write_text(f"@revoked * {board.host_key.export_public_key().decode()}")
    with pytest.raises(DeviceUnreachableError, match="revoked"):
        open_device(board.url(), accept_new_host_key=True)


def test_an_entry_without_a_port_is_good_on_any_and_bad_on_none(board, me):
    me.trust(None, board.host_key)
    open_device(board.url()).close()
    me.trust(None, asyncssh.generate_private_key("ecdsa-sha2-nistp256"))
    with pytest.raises(DeviceUnreachableError, match="not known"):
        open_device(board.url())
    open_device(board.url(), accept_new_host_key=True).close()


def test_a_known_hosts_that_cannot_be_read_is_not_skipped(board, me):
    me.known_hosts.write_text("@nonsense * key\n")
    with pytest.raises(BadInputError, match="known_hosts"):
        open_device(board.url(), accept_new_host_key=True)


def test_checking_cannot_be_turned_off_by_the_configuration(board, me):
    (me.home / ".ssh/config").write_text("UserKnownHostsFile none\nStrictHostKeyChecking no\n")
    with pytest.raises(DeviceUnreachableError, match="not known"):
        open_device(board.url())


def test_the_permission_ends_with_its_command(board, me, capsys):
    assert main(["status", "--device", board.url(), "--json"]) == 6
    assert "SHA256:" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert main(["status", "--device", board.url(), "--json", "--accept-new-host-key"]) == 0
    assert not accepts_new_host_keys()
    me.known_hosts.unlink()
    assert main(["status", "--device", board.url()]) == 6


def test_a_board_that_was_accepted_once_is_not_accepted_anew_by_the_same_device(board, me):
    device = open_device(board.url(), accept_new_host_key=True)
    me.known_hosts.unlink()
    drop(board, device)
    with pytest.raises(DeviceUnreachableError, match="not known"):
        device.run(["true"])
    device.close()


def test_the_configuration_of_ssh_applies(known, me):
    key = me.home / ".ssh/id_ed25519"
    key.rename(me.home / ".ssh/board_key")
    me.known_hosts.rename(me.home / "elsewhere")
    (me.home / ".ssh/config").write_text(
        f"Host desk\n  HostName {LOCALHOST}\n  Port {known.port}\n  User someone\n"
        f"  IdentityFile {me.home}/.ssh/board_key\n  UserKnownHostsFile {me.home}/elsewhere\n"
    )
    device = open_device("ssh://desk")
    assert device.run(["pwd"]).stdout == f"{known.home}/.edgeprune\n"
    device.close()


def test_a_configuration_that_cannot_be_read_is_named(me):
    (me.home / ".ssh/config").write_text("Port none\n")
    with pytest.raises(BadInputError, match="SSH configuration"):
        open_device("ssh://desk")


@pytest.mark.parametrize("jump_is_known", [True, False])
def test_a_jump_host_is_checked_like_the_board(known, me, tmp_path, jump_is_known, monkeypatch):
    jump = Board(tmp_path / "jump", me.public_key).start()
    try:
        (me.home / ".ssh/config").write_text(
            f"Host {LOCALHOST}\n  Port {known.port}\nHost inner\n  HostName {LOCALHOST}\n  Port {known.port}\n"
            f"  ProxyJump someone@{LOCALHOST}:{jump.port}\n  UserKnownHostsFile {me.known_hosts}\n"
        )
        if jump_is_known:
            with me.known_hosts.open("a") as file:
                file.write(f"\n[{LOCALHOST}]:{jump.port} {jump.host_key.export_public_key().decode()}")
            device = open_device("ssh://inner")
            assert jump.connections == 1
            assert device.run(["pwd"]).stdout == f"{known.home}/.edgeprune\n"
            device.close()
        else:
            with pytest.raises(DeviceUnreachableError, match="not known") as caught:
                open_device("ssh://inner")
            assert jump.host_key.get_fingerprint() in caught.value.message
            assert known.connections == 0
    finally:
        jump.stop()


def test_who_has_no_key_is_told_how_to_copy_one(known, me):
    (me.home / ".ssh/id_ed25519").unlink()
    with pytest.raises(DeviceUnreachableError, match="does not let tester in") as caught:
        open_device(known.url())
    assert f"ssh-copy-id tester@{LOCALHOST}" in caught.value.hint


class Terminal:
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("way", ["environment", "prompt", "wrong", "no terminal"])
def test_a_password_comes_from_the_environment_or_a_terminal(me, tmp_path, monkeypatch, way):
    board = Board(tmp_path / "board", password="open sesame").start()
    asked: list[str] = []

    def prompt(text: str) -> str:
        asked.append(text)
        return "open sesame" if way == "prompt" else "guess"

    monkeypatch.setattr(getpass, "getpass", prompt)
    if way == "environment":
        monkeypatch.setenv("EDGEPRUNE_SSH_PASSWORD", "open sesame")
    if way in ("prompt", "wrong"):
        monkeypatch.setattr(sys, "stdin", Terminal())
    try:
        me.trust(board.port, board.host_key)
        if way in ("environment", "prompt"):
            device = open_device(board.url())
            drop(board, device)
            assert device.run(["echo", "in"]).stdout == "in\n"
            device.close()
        else:
            with pytest.raises(DeviceUnreachableError, match="does not let"):
                open_device(board.url())
        assert len(asked) == (way in ("prompt", "wrong"))
    finally:
        board.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOCALHOST, 0))
        return int(probe.getsockname()[1])


def test_nobody_there(me):
    with pytest.raises(DeviceUnreachableError, match="refuses"):
        open_device(f"ssh://{LOCALHOST}:{free_port()}")
    with pytest.raises(DeviceUnreachableError, match="not known"):
        open_device("ssh://no-such-host.invalid")


def test_a_port_that_says_nothing_or_something_else(me, monkeypatch):
    monkeypatch.setattr(ssh_connect, "CONNECT_S", 0.3)
    with socket.create_server((LOCALHOST, 0)) as server:
        with pytest.raises(DeviceUnreachableError, match="does not answer"):
            open_device(f"ssh://{LOCALHOST}:{server.getsockname()[1]}")

        def answer() -> None:
            for _ in range(2):
                client, _ = server.accept()
                with client:
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(DeviceUnreachableError, match="no connection"):
            open_device(f"ssh://{LOCALHOST}:{server.getsockname()[1]}")
        thread.join()


def test_a_folder_that_cannot_be_made(known):
    (known.home / "file").write_bytes(b"")
    with pytest.raises(DeviceUnreachableError, match="cannot be made"):
        open_device(known.url(f"{known.home}/file/root"))


def test_a_folder_that_vanished_is_unreachable_and_not_a_missing_program(known):
    device = open_device(known.url(known.home / "root"))
    (known.home / "root").rmdir()
    with pytest.raises(DeviceUnreachableError, match="is gone"):
        device.run(["echo"])
    device.close()


def test_fault_20_a_root_with_odd_characters_is_one_literal_folder(known):
    root = known.home / "-r f;touch pwned/$(touch pwned) 'x' \"y\""
    device = open_device(known.url(root))
    device.put(b"here", "a b;c/file")
    assert device.get("a b;c/file") == b"here"
    assert (root / "a b;c/file").read_bytes() == b"here"
    device.remove("a b;c")
    assert device.run(["ls", "-A"]).stdout == ""
    device.close()
    assert not list(known.home.rglob("pwned"))


def test_what_a_login_file_prints_is_not_output(known, monkeypatch):
    known.greeting = b"Welcome to your board!\n"
    device = open_device(known.url())
    assert device.run(["echo", "x"]).stdout == "x\n"
    assert device.run(["-rf"]).returncode == 127
    device.put(b"1", "file")
    assert device.get("file") == b"1"
    device.close()


def test_an_account_without_a_shell(known):
    known.shell = "/bin/false"
    with pytest.raises(DeviceUnreachableError, match="runs no commands"):
        open_device(known.url())


def test_a_timeout_reaches_children_where_the_server_gives_commands_no_group(known):
    known.own_group = False
    device = open_device(known.url())
    device.put(b"#!/bin/sh\n(while :; do echo x >> ticks; sleep 0.02; done) &\nwait\n", "spawn", executable=True)
    with pytest.raises(DeviceError, match="did not finish"):
        device.run(["./spawn"], timeout_s=0.3)
    ticks = device.get("ticks")
    time.sleep(0.2)
    assert device.get("ticks") == ticks
    device.close()


def test_a_command_too_long_for_the_board_is_refused(known):
    device = open_device(known.url())
    with pytest.raises(UsageError, match="too long"):
        device.run(["echo", "x" * 130_000])
    device.close()


def test_a_dropped_connection_ends_the_call_and_the_next_one_connects_again(known):
    device = open_device(known.url())
    timer = threading.Timer(0.3, known.hang_up)
    timer.start()
    with pytest.raises(DeviceUnreachableError, match="lost"):
        device.run(["sleep", "20"])
    timer.join()
    assert device.run(["echo", "again"]).stdout == "again\n"
    assert known.connections == 2
    device.close()
    with pytest.raises(DeviceUnreachableError, match="closed"):
        device.run(["echo"])


def test_a_board_that_went_away_is_tried_once_a_call(known):
    device = open_device(known.url())
    known.hang_up()
    known.turn_off()
    for _ in range(2):
        with pytest.raises(DeviceUnreachableError):
            device.run(["true"])
    device.close()


def test_a_link_that_falls_silent_is_given_up(board, me, monkeypatch):
    monkeypatch.setattr(ssh_connect, "_KEEPALIVE_S", 0.2)
    me.trust(None, board.host_key)
    with Link(board.port) as link:
        device = open_device(f"ssh://{LOCALHOST}:{link.port}")
        link.silent = True
        start = time.monotonic()
        with pytest.raises(DeviceUnreachableError):
            device.run(["true"])
        assert time.monotonic() - start < 5
        device.close()


@pytest.mark.parametrize("late", ["", "output", "start"])
def test_an_interrupt_kills_the_command_and_its_children(known, monkeypatch, late):
    """Also one that runs already when the board has not yet said so, or not yet its process number."""
    device = open_device(known.url())
    device.put(b"#!/bin/sh\n(while :; do echo x >> ticks; sleep 0.02; done) &\nwait\n", "spawn", executable=True)
    session = device._session()
    ticks = known.home / ".edgeprune/ticks"
    if late == "output":
        known.late_s = 0.3
    if late == "start":
        create = session.connection.create_process

        async def slowly(*args, **kwargs):
            process = await create(*args, **kwargs)
            await asyncio.sleep(0.3)
            return process

        monkeypatch.setattr(session.connection, "create_process", slowly)

    def interrupt(future, timeout=None):
        while not ticks.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("concurrent.futures.Future.result", interrupt)
        with pytest.raises(KeyboardInterrupt):
            session.run(["./spawn"], timeout_s=20)
    size = ticks.stat().st_size
    time.sleep(0.2)
    assert ticks.stat().st_size == size
    assert device.run(["echo", "usable"]).stdout == "usable\n"
    device.close()


@pytest.mark.parametrize("sftp", [True, False], ids=["sftp", "shell"])
def test_fault_13_a_link_that_drops_at_byte_k(me, tmp_path, sftp):
    board = Board(tmp_path / "board", me.public_key, sftp=sftp).start()
    me.trust(None, board.host_key)
    folder = tmp_path / "root"
    device = open_device(board.url(folder))

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @example(k=450_000, tail=b"")
    @given(k=st.integers(0, len(BIG) + 12_000), tail=st.binary(max_size=8))
    def drop(k: int, tail: bytes) -> None:
        content = BIG + tail
        device.put(b"old", "file")
        with Link(board.port, cut_after=k) as link:
            try:
                cut = open_device(f"ssh://{LOCALHOST}:{link.port}{folder}")
                cut.put(content, "file")
            except DeviceUnreachableError:
                assert (folder / "file").read_bytes() in (b"old", content)
            else:
                assert device.get("file") == content
        there = max((file.stat().st_size for file in leftovers(folder)), default=0)
        started: list[int] = []
        device.put(content, "file", progress=lambda done, total: started.append(done))
        assert started[0] > there
        assert (folder / "file").read_bytes() == content
        assert not leftovers(folder)

    try:
        drop()
    finally:
        device.close()
        board.stop()


def leave_partial(folder: Path, content: bytes, there: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f".{hashlib.sha256(content).hexdigest()[:16]}.0badcafe.partial"
    file.write_bytes(there)
    return file


@pytest.mark.parametrize(
    ("there", "resumes"),
    [
        (BIG[:300_000], True),
        (BIG, True),
        (b"", False),
        (b"\0" + BIG[1:300_000], False),
        (BIG[:299_999] + b"\0", False),
        (BIG + b"x", False),
    ],
    ids=["half", "whole", "empty", "first byte wrong", "last byte wrong", "too long"],
)
@pytest.mark.parametrize("sftp", [True, False], ids=["sftp", "shell"])
def test_an_upload_goes_on_only_after_bytes_that_are_right(me, tmp_path, there, resumes, sftp):
    board = Board(tmp_path / "board", me.public_key, sftp=sftp).start()
    me.trust(None, board.host_key)
    folder = tmp_path / "root"
    leave_partial(folder, BIG, there)
    foreign = leave_partial(folder, b"something else", b"some")
    device = open_device(board.url(folder))
    seen: list[int] = []
    device.put(BIG, "file", executable=True, progress=lambda done, total: seen.append(done))
    assert (seen[0] > 300_000) is resumes
    assert seen[-1] == len(BIG)
    assert (folder / "file").read_bytes() == BIG
    assert (folder / "file").stat().st_mode & 0o777 == 0o755
    assert leftovers(folder) == [foreign]
    device.close()
    board.stop()


def test_a_writer_whose_link_broke_may_still_write_what_had_reached_it(me, tmp_path):
    """The upload that goes on from there then begins anew, in a file that the other one does not have open."""
    board = Board(tmp_path / "board", me.public_key, sftp=False).start()
    me.trust(None, board.host_key)
    folder = tmp_path / "root"
    late = leave_partial(folder, BIG, BIG[:300_000]).open("ab")
    seen: list[int] = []

    def progress(done: int, total: int) -> None:
        if not seen:
            late.write(BIG[300_000:310_000])
            late.flush()
        seen.append(done)

    device = open_device(board.url(folder))
    device.put(BIG, "file", progress=progress)
    late.write(b"more")
    late.close()
    assert seen[0] > 300_000
    assert seen.count(len(BIG)) == 2
    assert (folder / "file").read_bytes() == BIG
    assert not leftovers(folder)
    device.close()
    board.stop()


def test_without_a_hash_tool_an_upload_begins_anew(known, monkeypatch):
    tools = known.home / "tools"
    tools.mkdir()
    for tool in ("sh", "cat", "mkdir", "mv", "wc", "df", "rm", "head", "chmod", "sync", "setsid"):
        (tools / tool).symlink_to(f"/usr/bin/{tool}" if Path(f"/usr/bin/{tool}").exists() else f"/bin/{tool}")
    known.path = str(tools)
    folder = known.home / "root"
    leave_partial(folder, BIG, b"wrong" + BIG[5:300_000])
    device = open_device(known.url(folder))
    device.put(BIG, "file")
    assert (folder / "file").read_bytes() == BIG
    assert not leftovers(folder)
    device.close()


def test_a_file_channel_without_the_extensions_of_openssh(known, monkeypatch):
    async def refuse(*args: object) -> None:
        raise asyncssh.SFTPOpUnsupported("no such extension")

    monkeypatch.setattr(asyncssh.SFTPClient, "posix_rename", refuse)
    monkeypatch.setattr(asyncssh.SFTPClientFile, "fsync", refuse)
    device = open_device(known.url())
    for content in (b"one", b"two"):
        device.put(content, "file")
        assert device.get("file") == content
    device.put(b"", "folder/file")
    with pytest.raises(DeviceError):
        device.put(b"x", "folder")
    assert device.run(["ls", "-A"]).stdout.split() == ["file", "folder"]
    device.close()


def test_fault_15_a_file_larger_than_the_disk_is_refused_before_a_byte_is_written(known, tmp_path):
    huge = tmp_path / "huge"
    huge.write_bytes(bytes(300_000))
    bin_folder = known.home / "bin"
    bin_folder.mkdir()
    (bin_folder / "df").write_text("#!/bin/sh\necho 'Filesystem x'\necho '/dev/x 400 300 100 75% /'\n")
    (bin_folder / "df").chmod(0o755)
    known.path = f"{bin_folder}:{os.environ['PATH']}"
    device = open_device(known.url())
    seen: list[int] = []
    with pytest.raises(DeviceError, match="102400 are free") as caught:
        device.put(huge, "file", progress=lambda done, total: seen.append(done))
    assert (caught.value.details, seen) == ({"needed_bytes": 300_000, "free_bytes": 102_400}, [])
    assert device.run(["ls", "-A"]).stdout == ""
    device.close()


def test_fault_15_a_disk_that_fills_up_midway_keeps_the_old_file(me, tmp_path):
    class Full(asyncssh.SFTPServer):
        def write(self, file_obj: object, offset: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    board = Board(tmp_path / "board", me.public_key).start()
    me.trust(board.port, board.host_key)
    device = open_device(board.url())
    device.put(b"old", "file")
    device.close()
    board.stop()
    board = Board(tmp_path / "board", me.public_key, sftp=Full).start()
    me.trust(board.port, board.host_key)
    device = open_device(board.url())
    with pytest.raises(DeviceError, match="No space") as caught:
        device.put(b"new", "file")
    assert (caught.value.details["errno"], caught.value.hint) == ("ENOSPC", "free some space on the device")
    assert device.get("file") == b"old"
    assert device.run(["ls", "-A"]).stdout == "file\n"
    device.close()
    board.stop()


def test_a_device_that_nobody_closes_takes_its_thread_with_it(known):
    before = threading.active_count()
    open_device(known.url())
    end = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.02)
    assert threading.active_count() == before
