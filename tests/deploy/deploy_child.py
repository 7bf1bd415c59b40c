"""Flashes or rolls back, and kills itself without warning: on entering a state, at a byte, or before a call.

    deploy_child.py flash|resume|rollback FOLDER MOMENT BUNDLE

A moment is the name of a state, ``byte N`` of all that is uploaded, or ``call N`` to the device.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgeprune.deploy.flash import flash
from edgeprune.deploy.rollback import rollback
from edgeprune.devices.fake import FakeDevice


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal(FakeDevice):
    """A fake device whose user dies at this byte of the uploads, or before this call."""

    def __init__(self, root: Path, kind: str, number: int) -> None:
        super().__init__(root)
        self._kind, self._number = kind, number

    @contextmanager
    def _link(self) -> Iterator[None]:
        if (self._kind, self._number) == ("call", self.calls):
            die()
        with super()._link():
            yield

    def _wire(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in super()._wire(chunks):
            if self._kind == "byte" and self._number < self.uploaded_bytes:
                yield chunk[: self._number - self.uploaded_bytes]
                die()
            yield chunk


def main(command: str, folder: str, moment: str, bundle: str) -> None:
    kind, _, number = moment.partition(" ")
    device = Mortal(Path(folder), kind, int(number or -1))

    def on_state(state: str) -> None:
        if state == moment:
            die()

    if command == "rollback":
        rollback(device, on_state=on_state)
    else:
        flash(Path(bundle), device, resume=command == "resume", on_state=on_state)


if __name__ == "__main__":
    main(*sys.argv[1:])
