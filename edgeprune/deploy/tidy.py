"""Removal of files that killed commands left in a device's folder and that no later command would remove."""

from __future__ import annotations

import re

from edgeprune.deploy.board import Board
from edgeprune.deploy.layout import CURRENT, JOURNAL, LOCK, PREVIOUS, TRIED_LINK
from edgeprune.devices.owner import Owner

# The transports name a partial file after its target and a hash or a random number, or after two of these.
_CUT_SHORT = re.compile(
    rf"\.(?:{re.escape(JOURNAL)}|[0-9a-f]{{16}})\.[0-9a-f]{{8,16}}\.partial"
    rf"|\.(?:{CURRENT}|{PREVIOUS}|{TRIED_LINK})\.new|{TRIED_LINK}"
)


def tidy(board: Board) -> None:
    """Remove pieces of journals, links that never took their name, and dead owners' locks of a stale lock.

    Only whoever holds the device's lock may call this: then nobody else writes any of them.
    """
    for name in board.names("."):
        if _CUT_SHORT.fullmatch(name) or (name.startswith(f"{LOCK}.") and _is_dead(board.link_target(name))):
            board.device.remove(name)


def _is_dead(target: str | None) -> bool:
    owner = Owner.parse(target or "")
    return owner is not None and owner.is_dead()
