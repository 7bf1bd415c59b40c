from collections.abc import Iterator
from pathlib import Path

import pytest
from ssh_servers import Board, Me


@pytest.fixture
def me(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Me:
    """A home without known hosts, and a key."""
    return Me.at(tmp_path / "me", monkeypatch)


@pytest.fixture
def board(tmp_path: Path, me: Me) -> Iterator[Board]:
    """A board that lets ``me`` in and that nobody knows yet."""
    board = Board(tmp_path / "board", me.public_key).start()
    yield board
    board.stop()
