"""``edgeprune``: finds the command, runs it, and turns what went wrong into a message and an exit code.

Data goes to stdout; messages, logs and progress go to stderr. Under ``--json`` an error is one
object on stdout, ``{"schema": "edgeprune.error/1", "error": {...}}``, so that a script always reads JSON.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from edgeprune import __version__
from edgeprune.cli.output import print_error
from edgeprune.cli.registry import COMMANDS
from edgeprune.errors import EdgepruneError, InterruptedRunError, UsageError
from edgeprune.streams import data_alone

if TYPE_CHECKING:
    from collections.abc import Callable

DEBUG = "EDGEPRUNE_DEBUG"
"""Environment variable that shows the traceback of an error."""


class LazyGroup(TyperGroup):
    """Lists the commands from the registry; imports a command's module when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            near = get_close_matches(cmd_name, COMMANDS, n=1)
            raise UsageError(
                f"there is no command {cmd_name!r}",
                hint=f"did you mean {near[0]!r}?" if near else f"the commands are {', '.join(COMMANDS)}",
            )
        return load_command(cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def load_command(name: str) -> Any:
    """The parser of one command, with its module imported."""
    module = importlib.import_module(f"edgeprune.cli.{name.replace('-', '_')}")
    return typer.main.get_command(module.app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"edgeprune {__version__}")
        raise typer.Exit


app = typer.Typer(cls=LazyGroup, name="edgeprune", rich_markup_mode=None)


@app.callback()
def edgeprune(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Prune a trained network to a millisecond budget on a real board, compile it, flash it, prove it.

    Every command takes --json; exit codes are listed in docs/CLI.md.
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code (docs/CLI.md lists them).

    Args:
        argv: arguments after the program's name; those of this process by default.
    """
    args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    # Before torch is loaded: its threads wait for one another asleep. Awake, they take turns with whatever else runs
    # on this computer, and training beside one busy process took six times as long instead of less than twice.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # an ASCII terminal gets "?", not an exception
    alone = data_alone() if "--json" in args else nullcontext()

    def run() -> Any:
        with alone:
            return typer.main.get_command(app).main(args, prog_name="edgeprune", standalone_mode=False)

    return _guard(run, args)


def _guard(run: Callable[[], Any], args: Sequence[str]) -> int:
    """Exit code of ``run``; whatever it raises is reported once and never as a bare traceback."""
    try:
        code = run()
        sys.stdout.flush()
        # typer hands back the code of an Exit raised inside a command as a plain value
        if code == InterruptedRunError.exit_code:
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except EdgepruneError as e:
        return _fail(e, args)
    except typer.TyperException as e:
        return _fail(_parser_error(e), args)
    except (KeyboardInterrupt, typer.Abort):
        return _fail(InterruptedRunError("interrupted"), args)
    except BrokenPipeError:
        # the reader left (`| head`); point stdout elsewhere, or the interpreter complains again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 1
    except Exception as e:
        text = f"{type(e).__name__}: {e}"
        return _fail(EdgepruneError(f"internal error: {text}", hint=f"run again with {DEBUG}=1 and report it"), args)


def _parser_error(error: typer.TyperException) -> UsageError:
    """A command line the parser refused, as an error of ours."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "edgeprune"
    return UsageError(error.format_message(), hint=f"see {path} --help")


def _fail(error: EdgepruneError, args: Sequence[str]) -> int:
    if os.environ.get(DEBUG):
        import traceback

        traceback.print_exc()
    print_error(error, as_json="--json" in args)
    return error.exit_code
