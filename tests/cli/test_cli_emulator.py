"""``edgeprune emulator``: which boards there are, and what they need."""

from __future__ import annotations

from pathlib import Path

from command_line import done

from edgeprune.compiler.link import build_libraries, link
from edgeprune.targets import load_target


def test_the_boards_are_listed(home: Path) -> None:
    listed = done("emulator")["boards"]
    assert {"emulated:a53", "emulated:a72", "emulated:rpi3"} <= {board["url"] for board in listed}
    assert not any(board["openable"] for board in listed if board["url"] == "emulated:a53")


def test_prepared_boards_stay_and_programs_can_be_linked(emulator_images: Path, tmp_path: Path) -> None:
    before = {p.name: p.stat().st_mtime_ns for p in emulator_images.iterdir()}
    said = done("emulator", "prepare", "--quiet")
    assert said["folder"] == str(emulator_images)
    assert {p.name: p.stat().st_mtime_ns for p in emulator_images.iterdir()} == before
    (tmp_path / "a.c").write_text("int main(void) { return 0; }")
    assert link(load_target("emulated_a53"), [tmp_path / "a.c"], [], tmp_path / "a").stat().st_size > 0


def test_libraries_leave_nothing_behind(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    build_libraries(load_target("host"))
    assert list(tmp_path.iterdir()) == []
