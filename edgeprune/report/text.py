"""Tables as text for a terminal or a log, and as HTML for a notebook."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from html import escape

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from edgeprune.report.tables import Table, printable

UNBOUNDED = 10_000
"""Columns of a "terminal" that is a file or a pipe: nothing is folded, so that grep and cut find it."""

GAP, LONGEST_WORD = 3, 24
"""Columns of a terminal between two columns of a table; and what a word may take before it is broken."""
MOST_BLOCKS = 12


def drawn(table: Table, width: int = UNBOUNDED) -> tuple[Text | str | RichTable, ...]:
    """What rich prints for a table: its title, if it has one, and the grid.

    Where a terminal is too narrow for it without breaking words, each row is a block of its own, a line a cell; of many
    rows words are broken, for so many blocks nobody reads.

    Args:
        width: columns of the terminal.
    """
    title = (Text(printable(table.title), style="bold"), "") if table.title else ()
    least = [max(map(_longest, column), default=0) for column in zip(table.columns, *table.rows, strict=True)]
    if not any(table.columns) or sum(least) + GAP * (len(least) - 1) <= width:
        return (*title, _grid(table.columns, table.rows, least))
    if len(table.rows) > MOST_BLOCKS:
        return (*title, _grid(table.columns, table.rows, [0] * len(least)))
    blocks: list[str | RichTable] = []
    for row in table.rows:
        blocks += ["", _grid(("", ""), zip(table.columns, row, strict=True), [max(map(_longest, table.columns)), 0])]
    return (*title, *blocks[1:])


def _grid(columns: Sequence[str], rows: Iterable[Iterable[str]], least: Sequence[int]) -> RichTable:
    """Args:
    least: columns of the terminal that each column has at least.
    """
    grid = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, show_header=any(columns))
    for heading, narrowest in zip(columns, least, strict=True):
        grid.add_column(Text(heading), overflow="fold", min_width=narrowest)
    for row in rows:
        # Text, not str: a name with brackets in it is not markup
        grid.add_row(*(Text(printable(value)) for value in row))
    return grid


def _longest(text: str) -> int:
    """Columns that the longest word of a cell takes."""
    return min(max(map(cell_len, printable(text).split()), default=0), LONGEST_WORD)


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
