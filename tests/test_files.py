"""Atomic writing: old content or new content, never half of one, and nothing left beside it."""

from __future__ import annotations

import os
import stat
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune.files import whole_file, write_whole

CONTENT = st.binary(max_size=64) | st.text(st.characters(exclude_categories=["Cs"]), max_size=64)
OLD = st.none() | st.binary(max_size=64)
NAME = st.text("abc.é", min_size=1, max_size=120).filter(lambda name: name.strip("."))
STEPS = ["pathlib.Path.write_bytes", "os.fsync", "shutil.copymode", "os.replace"]


def as_bytes(content: bytes | str) -> bytes:
    return content.encode() if isinstance(content, str) else content


@settings(max_examples=50, deadline=None)
@given(name=NAME, old=OLD, new=CONTENT)
def test_what_was_written_is_there_and_nothing_else(name: str, old: bytes | None, new: bytes | str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "not", "yet", name)
        if old is not None:
            path.parent.mkdir(parents=True)
            path.write_bytes(old)
        write_whole(path, new)
        assert path.read_bytes() == as_bytes(new)
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("step", STEPS)
@settings(max_examples=20, deadline=None)
@given(old=OLD, new=CONTENT)
def test_a_write_that_fails_at_any_step_leaves_the_old_content(step: str, old: bytes | None, new: bytes | str) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "report.json")
        if old is not None:
            path.write_bytes(old)
        patch.setattr(step, full)
        with pytest.raises(OSError, match="No space left"):
            write_whole(path, new)
        assert {file.name: file.read_bytes() for file in Path(folder).iterdir()} == (
            {} if old is None else {"report.json": old}
        )


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@settings(max_examples=20, deadline=None)
@given(old=OLD, new=st.binary(min_size=2, max_size=64), written=st.floats(0, 1))
def test_a_writer_that_stops_half_way_leaves_the_old_content(
    error: type[BaseException], old: bytes | None, new: bytes, written: float
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.o")
        if old is not None:
            path.write_bytes(old)
        with pytest.raises(error), whole_file(path) as partial:  # noqa: PT012
            partial.write_bytes(new[: int(written * len(new))])
            raise error
        assert [file.read_bytes() for file in Path(folder).iterdir()] == ([] if old is None else [old])


def test_a_library_that_writes_nothing_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "kernel.o"
    path.write_bytes(b"old")
    with pytest.raises(FileNotFoundError), whole_file(path):
        pass
    assert path.read_bytes() == b"old"


def test_a_library_sees_the_suffix_it_takes_the_format_from(tmp_path: Path) -> None:
    with whole_file(tmp_path / "model.safetensors") as partial:
        assert (partial.parent, partial.suffix) == (tmp_path, ".safetensors")
        assert partial.name.startswith("."), "hidden, for whoever lists the folder meanwhile"
        partial.write_bytes(b"")


def test_two_writers_of_one_path_do_not_collide(tmp_path: Path) -> None:
    path = tmp_path / "kernel.o"
    with whole_file(path) as first, whole_file(path) as second:
        assert first != second
        first.write_bytes(b"first")
        second.write_bytes(b"second")
    assert path.read_bytes() == b"first", "who ends last has the word"
    assert list(tmp_path.iterdir()) == [path]


def test_many_writers_at_once_give_the_content_of_one(tmp_path: Path) -> None:
    path, contents = tmp_path / "run.json", [bytes([i]) * 100_000 for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_whole(path, content), contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


@settings(max_examples=40, deadline=None)
@given(umask=st.sampled_from([0o000, 0o002, 0o022, 0o027, 0o077]), mode=st.none() | st.sampled_from([0o600, 0o644]))
def test_the_mode_is_that_of_a_normal_open(umask: int, mode: int | None) -> None:
    before = os.umask(umask)
    try:
        with tempfile.TemporaryDirectory() as folder:
            opened, written = Path(folder, "opened"), Path(folder, "written")
            if mode is not None:
                for path in (opened, written):
                    path.touch()
                    path.chmod(mode)
            opened.open("w").close()
            write_whole(written, "")
            assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE(opened.stat().st_mode)
    finally:
        os.umask(before)


def test_what_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        write_whole(tmp_path / "file" / "run.json", "")


def test_a_file_system_that_cannot_sync_folders_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fsync

    def refuse(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")
        real(handle)

    monkeypatch.setattr(os, "fsync", refuse)
    write_whole(tmp_path / "run.json", "{}")
    assert (tmp_path / "run.json").read_text() == "{}"


def test_file_and_folder_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda h: (done.append("DF"[stat.S_ISREG(os.fstat(h).st_mode)]), sync(h))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("R"), replace(a, b))[1])
    write_whole(tmp_path / "run.json", "{}")
    assert done == ["F", "R", "D"], "content before name, name before return"
