"""The commands by name. Their modules are imported only when a command is run.

A new command is one file ``edgeprune/cli/NAME.py`` with a ``typer.Typer`` called ``app`` in it, and
one line here. How such a file looks is shown in :mod:`edgeprune.cli.output`.
"""

from __future__ import annotations

from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {
    "targets": "List the kinds of board edgeprune knows, or show one.",
    "devices": "List the boards and emulators that can be reached from here.",
    "doctor": "Check this computer: packages, tools, permissions; say what mends each.",
}
"""Name -> one line of help, in the order ``edgeprune --help`` lists them."""
