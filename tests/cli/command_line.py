"""Command lines with ``--json``, in this process or in one of their own: exit code and what was printed."""

import contextlib
import io
import json
import signal
import subprocess
import sys
from typing import Any

from edgeprune.cli.main import main


def call(*args: object) -> tuple[int, dict[str, Any]]:
    """Exit code and JSON of one command line."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = main([*map(str, args), "--json"])
    return code, json.loads(out.getvalue())


def done(*args: object) -> dict[str, Any]:
    code, body = call(*args)
    assert code == 0, body
    return body


def refused(code: int, kind: str, *args: object) -> dict[str, Any]:
    return error_of(*call(*args), code, kind)


def error_of(found: int, body: dict[str, Any], code: int, kind: str) -> dict[str, Any]:
    """The error that a command printed, which has to be of this kind."""
    assert (found, body["schema"]) == (code, "edgeprune.error/1"), body
    error: dict[str, Any] = body["error"]
    assert (error["exit_code"], error["type"]) == (code, kind), error
    return error


class Command:
    """A command line in a process of its own, as a person starts it; Ctrl-C reaches it."""

    def __init__(self, *args: object) -> None:
        # A shell that starts the tests in the background has SIGINT ignored, and children inherit that.
        program = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from edgeprune.cli.main import main; sys.exit(main(sys.argv[1:]))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", program, *map(str, args), "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, stage: str) -> None:
        """Until it tells of this stage."""
        assert self.process.stderr
        assert any(line.split()[:1] == [stage] for line in self.process.stderr)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def end(self) -> tuple[int, dict[str, Any]]:
        out, _ = self.process.communicate(timeout=120)
        return self.process.returncode, json.loads(out)
