"""``deploy.json``: what a deployment is about to do, for whoever finds it interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum

from edgeprune.deploy.board import Board
from edgeprune.deploy.layout import JOURNAL
from edgeprune.errors import DeviceError

SCHEMA = "edgeprune.deploy/1"


class State(StrEnum):
    """The states of a deployment, in order; the journal is written on entering those marked *."""

    LOCKED = "locked"  # nobody else deploys; what was interrupted is settled
    CHECKED = "checked"  # right architecture, enough space; nothing was sent yet
    UPLOADING = "uploading"  # * files go to releases/<id>.partial
    UPLOADED = "uploaded"  # every hash computed on the device agrees
    INSTALLED = "installed"  # the folder has its final name; current is untouched
    PROVED = "proved"  # the golden output was reproduced on the device
    TIMED = "timed"  # the latency is within the budget
    SWITCHING = "switching"  # * current may be the old or the new release
    SWITCHED = "switched"  # * current is the new release
    CONFIRMED = "confirmed"  # the golden output was reproduced through current
    COMMITTED = "committed"  # the journal is gone
    PRUNED = "pruned"  # older releases are gone


OnState = Callable[[State], None]


@dataclass(frozen=True, slots=True)
class Journal:
    """One deployment under way: ``release`` is to become current; ``current`` and ``previous`` are
    what the two links named before it began."""

    state: State
    release: str
    current: str | None
    previous: str | None

    @property
    def switching(self) -> bool:
        """Whether the links may have changed already."""
        return self.state in (State.SWITCHING, State.SWITCHED)

    def write(self, board: Board, state: State) -> None:
        data = {"schema": SCHEMA, **asdict(self), "state": state}
        board.device.put((json.dumps(data, sort_keys=True) + "\n").encode(), JOURNAL)
        board.to_disk()


def read_journal(board: Board) -> Journal | None:
    """The journal of an interrupted deployment; None if there is none.

    Raises:
        DeviceError: it is there and makes no sense.
    """
    if JOURNAL not in board.names("."):
        return None
    try:
        data = json.loads(board.device.get(JOURNAL))
        if data.pop("schema") != SCHEMA:
            raise ValueError("unknown schema")
        return Journal(State(data.pop("state")), **data)
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise DeviceError(
            f"{board.device.url}: {JOURNAL} cannot be read: {e}",
            hint=f"see that current points to a release that works, then remove {JOURNAL} from the device",
        ) from e


def clear_journal(board: Board) -> None:
    board.device.remove(JOURNAL)
    board.to_disk()
