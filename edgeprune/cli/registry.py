"""The commands by name. Their modules are imported only when a command is run.

A new command is one file ``edgeprune/cli/NAME.py`` with a ``typer.Typer`` called ``app`` in it, and
one line here. How such a file looks is shown in :mod:`edgeprune.cli.output`.
"""

from __future__ import annotations

from collections.abc import Mapping

COMMANDS: Mapping[str, str] = {
    "fit": "Profile, prune to a budget, fine-tune, compile, flash and prove: the whole chain.",
    "profile": "Measure a network's kernels over their widths on a device, or on several of one kind.",
    "prune": "Choose widths inside a budget from a stored profile; write the smaller network.",
    "explain": "Say which limits shaped the widths of a run, and what other widths would cost.",
    "frontier": "Show what any budget would retain: plans from the smallest to the widest, each with its gap.",
    "solve": "Choose widths for a problem in a file; say how much better a plan could be.",
    "compile": "Compile a network, or the folder of a run, into a bundle.",
    "export": "Write a network, or the pruned one of a run, as an ONNX file.",
    "flash": "Install a bundle on a device, prove it there, roll back if it fails.",
    "rollback": "Make the previous release of a device current again.",
    "status": "Show what is installed on a device.",
    "run": "Run the installed network, or that of a bundle, on data.",
    "bench": "Time the installed network.",
    "report": "Show the report of a run, and draw its page anew.",
    "profiles": "List the profiles at hand; show, compare and pass on: profiles show, diff, export, import, merge.",
    "methods": "List criteria, rules, sparsities and recoveries, with their options and where they come from.",
    "targets": "List the kinds of board edgeprune knows, or show one.",
    "devices": "List the boards and emulators that can be reached from here.",
    "board-check": "Try everything on a board: identity, build, transfer, numerics, timing, flash, rollback.",
    "emulator": "List the boards that run inside QEMU, or prepare them: emulator prepare.",
    "doctor": "Check this computer: packages, tools, permissions; say what mends each.",
}
"""Name -> one line of help, in the order ``edgeprune --help`` lists them."""
