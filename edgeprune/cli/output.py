"""The one way a command prints: a table for people, the same facts as JSON for programs.

A command file looks like this (``edgeprune/cli/boards.py``, plus one line in ``cli/registry.py``)::

    import typer

    from edgeprune.cli.output import Column, JsonOption, emit, listing

    app = typer.Typer(rich_markup_mode=None)


    @app.command()
    def boards(where: str, as_json: JsonOption = False) -> None:
        \"""List the boards in a room.\"""
        from edgeprune.boards import find_boards  # heavy imports go inside the function

        rows = [board.to_json() for board in find_boards(where)]
        emit(listing("edgeprune.boards/1", "boards", rows, [Column("name"), Column("ram_bytes", "RAM", size)]), as_json)

Rules: data on stdout through :func:`emit` and nothing else; messages and progress on stderr
(:mod:`edgeprune.api.progress`). Failures are raised as :class:`~edgeprune.errors.EdgepruneError`
and never caught here; ``cli/main.py`` prints them and sets the exit code. A command that has
results *and* a verdict (``doctor``) emits first and then raises ``typer.Exit(code)``. Options
that every command shares are the annotated types below, so that they read the same everywhere.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import Annotated, Any

import typer
from pydantic_core import to_json

from edgeprune.errors import EdgepruneError
from edgeprune.report.tables import Table, cell, facts_table, printable
from edgeprune.streams import data

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout (docs/CLI.md).")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]

ERROR_SCHEMA = "edgeprune.error/1"


@dataclass(frozen=True, slots=True)
class Result:
    """Result of a command: the JSON body, and the tables that show it to a person.

    Attributes:
        schema: name and version of the body, ``edgeprune.targets/1``; raised when a field is renamed or removed.
        body: JSON-serialisable; printed beside ``schema`` at the top level.
        tables: the same facts, drawn. :func:`listing` and :func:`record` make both from one source.
    """

    schema: str
    body: Mapping[str, Any]
    tables: tuple[Table, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """Which field of a row is shown, under which heading, written how."""

    key: str
    heading: str = ""
    show: Callable[[Any], str] = cell


def columns(keys: str, **headings: str) -> tuple[Column, ...]:
    """Columns by their keys, a space between; ``headings`` where one is not its key."""
    return tuple(Column(key, headings.get(key, "")) for key in keys.split())


def listing(
    schema: str, name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], **fields: Any
) -> Result:
    """Many things of one kind: JSON ``{"schema": …, **fields, name: [row, …]}``, table with one line a row."""
    headings = tuple(c.heading or c.key.replace("_", " ") for c in columns)
    lines = tuple(tuple(c.show(row.get(c.key)) for c in columns) for row in rows)
    return Result(schema, {**fields, name: list(rows)}, (Table("", headings, lines),))


def record(schema: str, fields: Mapping[str, Any], title: str = "") -> Result:
    """One thing: JSON ``{"schema": …, **fields}``, table with one line a field (nested ones as ``a.b``)."""
    return Result(schema, dict(fields), (facts_table(fields, title),))


def wants_json(ctx: typer.Context, as_json: bool) -> bool:
    """``--json`` of a subcommand; it counts before the name of that, too."""
    return as_json or bool(ctx.parent and ctx.parent.params["as_json"])


def emit(result: Result, as_json: bool) -> None:
    """Print a result on stdout."""
    if as_json:
        _print_json({"schema": result.schema, **result.body})
    else:
        for table in result.tables:
            print_table(table)


def print_table(table: Table) -> None:
    """Draw one table on stdout, as wide as the terminal, or as wide as it needs where there is none."""
    from edgeprune.report.text import drawn, text_of

    if sys.stdout.isatty():
        from rich.console import Console

        console = Console(highlight=False)
        console.print(*drawn(table, console.width), "", sep="\n")
    else:
        print(text_of([table]), end="\n\n", file=data())


def print_error(error: EdgepruneError, *, as_json: bool) -> None:
    """One error, once: JSON object on stdout or ``error: … / hint: …`` on stderr."""
    if as_json:
        # Whatever an error carries, whoever reads gets JSON: a figure that is none becomes its name.
        said = to_json(error.to_json(), fallback=str, inf_nan_mode="strings", bytes_mode="base64")
        return _print_json({"schema": ERROR_SCHEMA, "error": json.loads(said)})
    lines = [f"error: {printable(error.message)}"]
    if error.hint:
        lines.append(f"hint: {printable(error.hint)}")
    print("\n".join(lines), file=sys.stderr)


def _print_json(body: Mapping[str, Any]) -> None:
    # a NaN is no JSON: whoever lets one come this far has a bug, and the exception says so
    print(json.dumps(body, indent=2, allow_nan=False, default=_plain), file=data())


def _plain(value: Any) -> Any:
    if isinstance(value, PathLike):
        return str(value)
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} is not JSON-serialisable")
