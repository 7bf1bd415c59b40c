"""How the examples call edgeprune: as a user would, with ``--json``."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def edgeprune(*arguments: object) -> dict[str, Any]:
    """Run one command with ``--json``; its progress goes to this terminal."""
    command = [sys.executable, "-m", "edgeprune", *map(str, arguments), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed with {done.returncode}: {done.stdout}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result
