"""Boards that a call opens, named by a URL or handed over. Apart from other arguments: these need torch, which takes
seconds to import, and what is done with a board alone needs none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from edgeprune.devices.protocol import Device
from edgeprune.devices.registry import open_device
from edgeprune.errors import UsageError
from edgeprune.targets import Target

Boards = str | Device | Sequence[str | Device] | None
"""A URL, an open device, or several of them; None for the target's own."""
Where = str | Path | None


@contextmanager
def board_of(device: str | Device | None, target: Target | None = None) -> Iterator[Device]:
    """The device of a call: one that is opened here is closed here; one that was handed over stays open.

    Args:
        device: a URL, an open device, or None for the target's own.
    """
    if device is not None and not isinstance(device, str):
        yield device
        return
    with open_device(device or (target.default_device if target else "local:")) as opened:
        yield opened


@contextmanager
def boards_of(devices: Boards, target: Target | None = None) -> Iterator[list[Device]]:
    """The devices of a call that may have several; as :func:`board_of`, each.

    Raises:
        UsageError: one of them is named twice. A tracker's URL may be: it stands for another free board each time.
    """
    several: list[str | Device | None] = (
        [devices] if devices is None or isinstance(devices, str | Device) else [*devices] or [None]
    )
    with ExitStack() as stack:
        opened = [stack.enter_context(board_of(device, target)) for device in several]
        urls = [board.url for board in opened]
        if twice := sorted({url for url in urls if urls.count(url) > 1}):
            raise UsageError(f"{', '.join(twice)} is named twice", hint="name each board once")
        yield opened
