"""Tables on terminals of any width: no line is too long, and no word is broken where that can be helped."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgeprune.report.tables import Table, facts_table
from edgeprune.report.text import MOST_BLOCKS, drawn, text_of

ROW = ("13269814ab78c410", "emulated_a53", "Cortex-A53 (emulated, instructions as nanoseconds)", "1", "instructions")
WORDS = {word for text in ROW for word in text.split()}


def table(rows: int) -> Table:
    return Table("profiles", ("fingerprint", "target", "cpu", "threads", "clock"), (ROW,) * rows)


def printed(what: Table, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(*drawn(what, width), sep="\n")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("width", [40, 60, 70, 71, 72, 80, 100, 200])
@pytest.mark.parametrize("rows", [1, 2, MOST_BLOCKS])
def test_words_stay_whole(width, rows):
    lines = printed(table(rows), width)
    assert max(map(len, lines)) <= width
    assert {word for line in lines for word in line.split()} >= WORDS


def test_a_row_is_a_line_where_there_is_room_and_a_block_elsewhere():
    assert len(printed(table(3), 200)) == len(printed(table(3), 120)) == 2 + 2 + 3
    narrow = printed(table(3), 66)
    assert len(narrow) == 2 + 3 * len(ROW) + 2
    assert [line.split()[0] for line in narrow if line.strip()] == ["profiles", *table(3).columns * 3]


def test_many_rows_stay_a_grid():
    lines = printed(table(MOST_BLOCKS + 1), 60)
    assert max(map(len, lines)) <= 60
    assert sum("fingerprint" in line for line in lines) <= 1


def test_facts_and_empty_tables():
    facts = facts_table({"store": "x" * 100, "kernels": 3}, "profile")
    assert max(map(len, printed(facts, 50))) <= 50
    assert printed(Table("none", ("a", "b"), ()), 80)[0] == "none"


def test_a_pipe_gets_lines_as_long_as_they_need():
    (line,) = [line for line in text_of([table(1)]).splitlines() if ROW[0] in line]
    assert ROW[2] in line
