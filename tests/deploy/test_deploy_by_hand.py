"""What docs/boards/RECOVER.md tells people to type at a board's console does what it says."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from edgeprune.deploy.board import Board
from edgeprune.deploy.flash import flash
from edgeprune.deploy.journal import Journal, State
from edgeprune.deploy.rollback import rollback
from edgeprune.deploy.status import status
from edgeprune.devices.fake import FakeDevice

PAGE = (Path(__file__).parents[2] / "docs" / "boards" / "RECOVER.md").read_text(encoding="utf-8")


def typed(after: str) -> str:
    """The first code block behind the words ``after``."""
    found = re.search(r"\n\n((?:    .*\n)+)", PAGE[PAGE.index(after) :])
    assert found, after
    return re.sub(r"^    ", "", found[1], flags=re.MULTILINE)


@pytest.fixture
def device(tmp_path, bundle):
    """A board with two releases in ``~/.edgeprune`` of its user."""
    device = FakeDevice(tmp_path / "home" / ".edgeprune")
    flash(bundle("one"), device)
    flash(bundle("two"), device)
    return device


def at_the_board(device, script: str, **variables: str) -> str:
    environment = {**os.environ, "HOME": str(device.root.parent), **variables}
    done = subprocess.run(["sh", "-e", "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_release_proves_itself(device):
    now = status(device)
    lines = at_the_board(device, typed("Is a release complete?")).splitlines()
    assert lines[0].split()[0] == lines[1] == now.current
    model = lines[2].split()[0]
    assert any(model in line for line in lines[3:])


def test_back_to_the_previous_release_though_a_switch_was_interrupted(device):
    before = status(device)
    device.put(b"broken", f"releases/{before.current}/model", executable=True)
    journal = Journal(State.LOCKED, before.current, before.previous, None)
    journal.write(Board(device), State.SWITCHED)
    at_the_board(device, typed("Go back to the previous release in one step"))
    now = status(device)
    assert (now.current, now.interrupted, now.owner) == (before.previous, None, None)


def test_after_that_the_board_takes_releases_as_before(device, bundle):
    first = status(device).previous
    at_the_board(device, typed("Go back to the previous release in one step"))
    third = flash(bundle("three"), device)
    assert (third.previous, status(device).previous) == (first, first)
    assert rollback(device).release == first


def test_links_that_are_gone_are_made_again(device):
    before = status(device)
    at_the_board(device, 'rm "$HOME/.edgeprune/current" "$HOME/.edgeprune/previous"')
    assert status(device).current is None
    at_the_board(device, typed("If the links of a board are gone"), ID=before.previous)
    assert status(device).current == before.previous


def test_an_upload_that_was_given_up_can_go(device):
    before = status(device)
    device.put(b"x", f"releases/{'0' * 64}.partial/model")
    assert status(device).partial == ("0" * 64,)
    at_the_board(device, typed("releases/*.partial` of an upload"))
    assert status(device) == before


def test_all_of_it_away_for_a_new_start(device, bundle):
    at_the_board(device, typed("Remove everything for a new start"))
    assert not device.root.exists()
    flash(bundle("one"), FakeDevice(device.root))
