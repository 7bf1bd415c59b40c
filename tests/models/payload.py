"""The pickle with a payload (docs/FAULTS.md, 1)."""

from __future__ import annotations

import os
from pathlib import Path


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.file),)
