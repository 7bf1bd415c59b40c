"""docs/ADDING.md is followed to the letter, in a copy of the project, and its files are counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from walkthrough import ROOT, Block, Copy, Walkthrough, changed, faults, walkthroughs

WALKTHROUGHS = walkthroughs((ROOT / "docs" / "ADDING.md").read_text(encoding="utf-8"))
BARS = {
    "Add a board": (5, 2),
    "Add an importance criterion": (4, 3),
    "Add an operator with its kernel": (6, 4),
    "Add a transport": (8, 5),
}
"""Most files that somebody who is new here opens, and touches; what a command of the page writes is not counted."""

Followed = Callable[[str], Copy]


@pytest.fixture
def followed(tmp_path: Path) -> Followed:
    """A function that follows the walkthrough with a title in a copy of the project, all its commands included."""

    def follow(title: str) -> Copy:
        copy, walkthrough = Copy(tmp_path / "project"), WALKTHROUGHS[title]
        copy.follow(walkthrough)
        assert copy.differing() == {*walkthrough.touched, *walkthrough.generated}
        if code := [path for path in walkthrough.touched if path.endswith(".py")]:
            copy.run("-m", "ruff", "check", *code)
            copy.run("-m", "ruff", "format", "--check", *code)
        return copy

    return follow


def test_these_are_the_walkthroughs() -> None:
    assert list(WALKTHROUGHS) == list(BARS)


@pytest.mark.parametrize("title", BARS)
def test_few_files_are_opened_and_touched_and_each_is_named(title: str) -> None:
    assert faults(WALKTHROUGHS[title], *BARS[title]) == []


def test_a_board(followed: Followed) -> None:
    bundle = followed("Add a board").folder / "runs" / "rpi400"
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert manifest["target"] == "rpi400"
    assert manifest["files"]["model"]["needs"]["architecture"] == "aarch64"


@pytest.mark.long
def test_an_importance_criterion(followed: Followed) -> None:
    run = followed("Add an importance criterion").folder / "runs" / "lamp"
    plan = json.loads((run / "widths.json").read_text())["plan"]
    assert plan["method"]["criterion"] == "lamp"
    assert plan["keep"]
    assert all(0 < len(kept) < plan["sizes"][group] for group, kept in plan["keep"].items())


PRUNED = """
import numpy as np
from operator_nets import Sizes
from test_compiler_conformance import CPU, close, executed, made, read_network

from edgeprune.pruning.plan import make_plan
from edgeprune.pruning.shrink import shrink

dense, inputs = made("cumprod", Sizes(3, 12, 7, 6))
channels = read_network(dense, inputs).channels
plan = make_plan(channels, {"first": 7}, {g.name: np.arange(g.size) for g in channels.prunable})
for module, filters in ((dense, 12), (shrink(dense, channels, plan), 7)):
    network = read_network(module, inputs)
    (node,) = (n for n in network.kernels.nodes if n.spec.op == "cumprod")
    assert node.spec.output.channels == filters
    close(executed(network, inputs, CPU)[network.kernels.outputs[0].tensor], module(*inputs).detach().numpy())
"""
"""Compiled, the network with the new operator computes what torch does; pruned and compiled, too."""


@pytest.mark.long
def test_an_operator_with_its_kernel(followed: Followed) -> None:
    copy = followed("Add an operator with its kernel")
    assert "| `cumprod` | yes | yes |" in (copy.folder / "docs" / "OPERATORS.md").read_text()
    copy.run("-c", PRUNED, path=("tests/compiler",))


REFUSED = """
from edgeprune.devices.registry import open_device
from edgeprune.errors import DeviceUnreachableError, UsageError

for rest in ("", "//lab", "//lab:99999", "//lab:7001/a?b", "//user:secret@lab:7001", "//127.0.0.1:1"):
    try:
        open_device(f"console:{rest}")
    except (UsageError if not rest.endswith(":1") else DeviceUnreachableError) as error:
        assert "secret" not in f"{error} {error.hint}"
    else:
        raise AssertionError(rest)
"""
"""URLs of the new transport that cannot be opened, and how that is said."""


@pytest.mark.long
def test_a_transport(followed: Followed) -> None:
    """The acceptance at the end of the suite of devices times, installs and benches a network over it."""
    followed("Add a transport").run("-c", REFUSED)


# -- the check itself --------------------------------------------------------------------------------------


GOOD = Walkthrough(
    opened=("edgeprune/errors.py",),
    touched=("edgeprune/new.py",),
    generated=(),
    blocks=(Block("edgeprune/new.py", True, "from edgeprune.errors import UsageError\n"),),
    checks=(("sh", "python -c pass\n"),),
)


def test_a_good_walkthrough_has_no_faults() -> None:
    assert faults(GOOD, 1, 1) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"opened": (*GOOD.opened, "README.md")}, "2 files are opened, at most 1 may be"),
        ({"touched": (*GOOD.touched, "README.md")}, "2 files are touched, at most 1 may be"),
        ({"touched": (*GOOD.touched, "README.md")}, "README.md is listed and not written"),
        ({"touched": ()}, "edgeprune/new.py is written and not listed"),
        ({"opened": ("edgeprune/nothing.py",)}, "edgeprune/nothing.py is opened and does not exist"),
        ({"blocks": (Block("edgeprune/errors.py", True, ""),)}, "edgeprune/errors.py is called new and exists"),
        ({"blocks": (Block("edgeprune/home.py", False, ""),)}, "edgeprune/home.py is changed and was not opened"),
        ({"checks": ()}, "nothing is checked"),
        (
            {"blocks": (Block("edgeprune/new.py", True, "from edgeprune.home import home\n"),)},
            "edgeprune/new.py takes home of edgeprune.home, which no opened file shows",
        ),
    ],
)
def test_the_check_itself_finds(change: dict[str, object], why: str) -> None:
    assert why in faults(replace(GOOD, **change), 1, 1)


def test_lines_are_added_and_removed_where_the_page_says() -> None:
    block = Block("file", False, " a\n+b\n@@\n-d\n+e\n")
    assert changed("a\nc\nd\n", block) == "a\nb\nc\ne\n"
    for text in ("c\nd\n", "a\na\nd\n"):
        with pytest.raises(AssertionError, match="places, not at one"):
            changed(text, block)
