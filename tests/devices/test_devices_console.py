"""Frames, XMODEM blocks and the kernel's archives, without a board."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import json
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune.devices.console.frames import (
    REQUEST_BYTES,
    WRITE,
    Frame,
    FrameReader,
    payload_room,
    plain,
    request,
)
from edgeprune.devices.console.xmodem import ACK, CAN, CRC, EOT, NAK, PAD, TransferError, blocks, packet, send
from edgeprune.devices.emulator import images, packages
from edgeprune.devices.emulator.cpio import Entry, archive
from edgeprune.errors import MissingDependencyError


def frame(number: int, status: int, data: bytes, session: str = "abc") -> bytes:
    said = f"{session} {number} {status} {base64.b64encode(data).decode() or '-'}"
    told = hashlib.sha256(f"{said}\n".encode()).hexdigest()
    return f"\r\nEP:{said} {told}\r\n".encode()


def test_a_frame_is_found_between_kernel_messages_colours_and_prompts():
    reader = FrameReader("abc")
    noise = b"\x1b[?2004h\x1b[01;32mpi@board\x1b[0m:~$ echo EP:\r\n[    1.0] usb EP:abc 3 0 - 00\r\n"
    coloured = frame(3, 7, b"out").replace(b"EP:abc", b"EP:\x1b[31mabc\x1b[0m")
    assert reader.feed(noise + coloured) == [Frame(3, 7, b"out")]


@given(st.binary(max_size=200), st.data())
def test_a_frame_in_any_pieces_is_one_frame(data, draw):
    whole, reader, found = frame(5, 0, data), FrameReader("abc"), []
    while whole:
        size = draw.draw(st.integers(1, len(whole)))
        found += reader.feed(whole[:size])
        whole = whole[size:]
    assert found == [Frame(5, 0, data)]


@given(st.binary(min_size=1, max_size=60), st.integers(0, 1000), st.sampled_from(["drop", "double", "flip", "message"]))
def test_a_spoilt_frame_is_no_frame_or_the_right_one(data, at, fault):
    whole = frame(5, 0, data)
    at %= len(whole)
    spoilt = {
        "drop": whole[:at] + whole[at + 1 :],
        "double": whole[: at + 1] + whole[at:],
        "flip": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :],
        "message": whole[:at] + b"[   2.0] eth0: link up\r\n" + whole[at:],
    }[fault]
    reader = FrameReader("abc")
    assert reader.feed(spoilt + b"\n") in ([], [Frame(5, 0, data)])


def test_frames_of_another_session_do_not_count():
    reader = FrameReader("abc")
    assert reader.feed(frame(1, 0, b"x", "other")) == []
    assert reader.damaged


def test_a_request_fills_a_line_and_never_more():
    room = payload_room()
    assert len(request(10**8, WRITE, bytes(room))) <= REQUEST_BYTES
    assert room / REQUEST_BYTES > 1 / 1.45
    with pytest.raises(ValueError, match="bytes"):
        request(10**8, WRITE, bytes(room + 3))


def test_plain_text():
    assert plain(b"\x1b]0;title\x07\x1b[1mlogin: \x1b[K") == "login: "


@given(st.binary(max_size=5000))
def test_blocks_hold_the_data_with_little_padding(data):
    sent = list(blocks(data))
    assert b"".join(sent)[: len(data)] == data
    assert sum(map(len, sent)) - len(data) < 128
    assert {len(block) for block in sent} <= {128, 1024}


def test_a_packet():
    block = bytes(range(128))
    assert packet(257, block, crc=True) == b"\x01\x01\xfe" + block + binascii.crc_hqx(block, 0).to_bytes(2, "big")
    assert packet(1, bytes(1024), crc=False) == b"\x02\x01\xfe" + bytes(1024) + b"\0"


class Receiver:
    """Answers each packet with the next of ``answers``; keeps what it acknowledged."""

    bytes_per_s = None

    def __init__(self, *answers: bytes, ask: int = CRC) -> None:
        self.answers, self.pending, self.kept = list(answers), bytes([ask]), b""

    def read(self, timeout_s: float) -> bytes:
        data, self.pending = self.pending, b""
        return data

    def write(self, data: bytes) -> None:
        answer = self.answers.pop(0) if self.answers else bytes([ACK])
        if ACK in answer and data[0] != EOT:
            self.kept += data[3 : 3 + (1024 if data[0] == 2 else 128)]
        self.pending = answer

    def close(self) -> None: ...


@pytest.mark.parametrize("ask", [CRC, NAK])
def test_refused_blocks_are_sent_again(ask):
    receiver = Receiver(bytes([NAK]), b"", bytes([ACK]), bytes([NAK]), b"kernel message C" + bytes([ACK]), ask=ask)
    send(receiver, b"x" * 1030, answer_s=0.02)
    assert receiver.kept == b"x" * 1030 + bytes([PAD]) * 122


@pytest.mark.parametrize("answers", [[bytes([CAN, CAN])], [bytes([NAK])] * 10, [bytes([ACK])] + [bytes([NAK])] * 10])
def test_a_receiver_that_never_agrees(answers):
    with pytest.raises(TransferError):
        send(Receiver(*answers), b"x", answer_s=0.01)


def test_no_receiver():
    with pytest.raises(TransferError, match="does not answer"):
        send(Receiver(ask=ord(" ")), b"x", start_s=0.05)


def test_the_archive_is_one_that_cpio_reads(tmp_path):
    entries = [
        Entry.folder("bin"),
        Entry.file("bin/tool", b"odd", executable=True),
        Entry.link("bin/also", "tool"),
        Entry.file("empty", b""),
    ]
    data = archive(entries)
    assert data == archive(entries)
    assert data.startswith(b"070701")
    assert len(data) % 4 == 0
    assert b"TRAILER!!!" in data
    if not shutil.which("cpio"):
        pytest.skip("cpio is not installed")
    subprocess.run(["cpio", "-idm", "--quiet"], input=data, cwd=tmp_path, check=True)
    assert (tmp_path / "bin/tool").read_bytes() == b"odd"
    assert (tmp_path / "bin/tool").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "bin/also").readlink().name == "tool"


def test_images_that_are_missing_cut_or_old(home):
    with pytest.raises(MissingDependencyError) as caught:
        images.find_images()
    assert caught.value.hint == "edgeprune emulator prepare"
    folder = images.images_folder()
    folder.mkdir(parents=True)
    (folder / "vmlinuz").write_bytes(b"kernel")
    manifest = {"layout": images.LAYOUT, "packages": {"linux": "6"}, "files": {"vmlinuz": {"bytes": 6}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert images.find_images().packages == {"linux": "6"}
    for change in ({"layout": 0}, {"files": {"vmlinuz": {"bytes": 7}}}, {"packages": None}):
        (folder / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(MissingDependencyError):
            images.find_images()


def test_what_fails_half_way_leaves_no_images(home, monkeypatch):
    def fail(*_: object) -> dict[str, str]:
        raise MissingDependencyError("no network")

    monkeypatch.setattr(images, "_fill", fail)
    monkeypatch.setattr(packages.shutil, "which", lambda tool: tool)
    with pytest.raises(MissingDependencyError):
        images.prepare()
    assert list(images.images_folder().parent.iterdir()) == []


def test_no_apt(home, monkeypatch, tmp_path):
    monkeypatch.setattr(packages.shutil, "which", lambda tool: None)
    with pytest.raises(MissingDependencyError, match="apt-get is missing"):
        packages.Apt(tmp_path)


def test_the_file_system_repeats():
    made = images.file_system(b"busybox", b"rx", {"libc.so.6": b"c"}, {"ext4.ko": b"e"})
    assert made == images.file_system(b"busybox", b"rx", {"libc.so.6": b"c"}, {"ext4.ko": b"e"})
    assert gzip.compress(made, mtime=0) == gzip.compress(made, mtime=0)
    assert b"devtmpfs" in made
