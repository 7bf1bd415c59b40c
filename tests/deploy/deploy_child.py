"""Flashes, and kills itself without warning on entering a state or in the middle of a file."""

import os
import signal
import sys
from pathlib import Path

from edgeprune.deploy.flash import flash
from edgeprune.devices.registry import open_device
from edgeprune.progress import Silent

MIDDLE_OF_A_FILE = "middle of a file"


def main(bundle: str, url: str, moment: str) -> None:
    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    class Progress(Silent):
        sent = 0

        def advance(self, n: int = 1) -> None:
            self.sent += n
            if moment == MIDDLE_OF_A_FILE and self.sent > 300_000:
                die()

    flash(
        Path(bundle),
        open_device(url),
        progress=Progress(),
        on_state=lambda state: die() if state == moment else None,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
