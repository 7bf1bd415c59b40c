"""Tables as text for a terminal or a log, and as HTML for a notebook."""

from __future__ import annotations

import io
from collections.abc import Iterable
from html import escape

from rich import box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from edgeprune.report.tables import Table, printable

UNBOUNDED = 10_000
"""Columns of a "terminal" that is a file or a pipe: nothing is folded, so that grep and cut find it."""


def drawn(table: Table) -> tuple[Text | str | RichTable, ...]:
    """What rich prints for a table: its title, if it has one, and the grid."""
    grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_header=any(table.columns))
    for heading in table.columns:
        grid.add_column(Text(heading), overflow="fold")
    for row in table.rows:
        # Text, not str: a name with brackets in it is not markup
        grid.add_row(*(Text(printable(value)) for value in row))
    title = (Text(printable(table.title), style="bold"), "") if table.title else ()
    return (*title, grid)


def text_of(tables: Iterable[Table]) -> str:
    """Tables as plain lines as wide as they need, an empty line between them."""
    console = Console(file=io.StringIO(), width=UNBOUNDED, highlight=False)
    texts = []
    for table in tables:
        with console.capture() as capture:
            console.print(*drawn(table), sep="\n")
        texts.append("\n".join(line.rstrip() for line in capture.get().splitlines()))
    return "\n\n".join(texts)


def html_of(tables: Iterable[Table]) -> str:
    """Tables as HTML without styles or scripts; every text is escaped."""
    parts = []
    for table in tables:
        head = "".join(f"<th>{_html(c)}</th>" for c in table.columns) if any(table.columns) else ""
        rows = "".join("<tr>" + "".join(f"<td>{_html(c)}</td>" for c in row) + "</tr>" for row in table.rows)
        title = f"<p><b>{_html(table.title)}</b></p>" if table.title else ""
        parts.append(f"{title}<table>{f'<thead><tr>{head}</tr></thead>' if head else ''}<tbody>{rows}</tbody></table>")
    return "\n".join(parts)


def _html(text: str) -> str:
    return escape(printable(text)).replace("\n", "<br>")
