"""A process that flashes or rolls back, and kills itself without warning: in a state, at a byte, or before a call."""

import multiprocessing
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


def main(command: str, folder: Path, moment: str, bundle: Path) -> None:
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - an error is an end like another
    kind, _, number = moment.partition(" ")
    device = Mortal(folder, kind, int(number or -1))

    def on_state(state: str) -> None:
        if state == moment:
            die()

    if command == "rollback":
        rollback(device, on_state=on_state)
    else:
        flash(bundle, device, resume=command == "resume", on_state=on_state)


_PROCESSES = multiprocessing.get_context("forkserver")
# Imported once, in a process that does nothing but fork: a hundred children are killed in these tests.
_PROCESSES.set_forkserver_preload(["edgeprune.deploy.flash", "edgeprune.deploy.rollback", "edgeprune.devices.fake"])


def killed(command: str, device: FakeDevice, moment: str, bundle: Path) -> bool:
    """Whether a process of its own died at that moment of its command; else it came to its end, or to an error.

    Args:
        command: ``flash``, ``resume`` or ``rollback``.
        moment: the name of a state, ``byte N`` of all that is uploaded, or ``call N`` to the device.
    """
    child = _PROCESSES.Process(target=main, args=(command, device.root, str(moment), bundle))
    child.start()
    child.join()
    return child.exitcode == -signal.SIGKILL
