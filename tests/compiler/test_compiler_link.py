from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.compiler.link import LinkError, board_sources, link
from edgeprune.errors import MissingDependencyError
from edgeprune.targets import load_target


def source(folder: Path, text: str) -> Path:
    file = folder / "source.c"
    file.write_text(text)
    return file


def test_a_program_and_a_library(tmp_path: Path) -> None:
    target = load_target("host")
    main = source(tmp_path, "int answer(void) { return 42; }\nint main(void) { return answer(); }\n")
    program = link(target, [main], [], tmp_path / "program")
    assert subprocess.run([program], check=False).returncode == 42
    library = link(target, [main], [], tmp_path / "library.so", shared=True)
    assert b"answer" in library.read_bytes()


def test_an_undefined_symbol_is_named(tmp_path: Path) -> None:
    main = source(tmp_path, "int nowhere_to_be_found(void);\nint main(void) { return nowhere_to_be_found(); }\n")
    with pytest.raises(LinkError, match="nowhere_to_be_found") as caught:
        link(load_target("host"), [main], [], tmp_path / "program")
    assert "nowhere_to_be_found" in caught.value.details["stderr"]
    assert not (tmp_path / "program").exists()


def test_an_installation_without_ziglang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ziglang", None)  # as if it were not installed
    with pytest.raises(MissingDependencyError, match="ziglang") as caught:
        link(load_target("host"), [source(tmp_path, "int main(void) { return 0; }\n")], [], tmp_path / "program")
    assert caught.value.hint == "pip install ziglang"


def test_an_installation_whose_zig_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ziglang").mkdir()
    (tmp_path / "ziglang" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "ziglang", raising=False)
    with pytest.raises(LinkError, match=r"No such file.*zig") as caught:
        link(load_target("host"), [source(tmp_path, "int main(void) { return 0; }\n")], [], tmp_path / "program")
    assert caught.value.hint == "edgeprune doctor checks the linker"


def test_the_board_sources_are_there() -> None:
    names = {"main.c", "runtime.c", "program.h", "edgeprune_model.h"}
    assert names <= {file.name for file in board_sources().iterdir()}


def test_a_percent_sign_in_the_path_is_one(tmp_path: Path) -> None:
    """The linker takes it for a random digit."""
    folder = tmp_path / "50%"
    folder.mkdir()
    program = link(load_target("host"), [source(folder, "int main(void) { return 7; }\n")], [], folder / "program")
    assert subprocess.run([program], check=False).returncode == 7
