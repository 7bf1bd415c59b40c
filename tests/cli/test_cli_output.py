"""One formatter: the table and the JSON are the same facts; neither can be broken by what they hold."""

import json
import os
import pty
import subprocess
import sys
from pathlib import PurePosixPath

import pytest

from edgeprune.api import progress
from edgeprune.api.progress import Lines, reporting
from edgeprune.cli.output import Column, Result, emit, listing, record
from edgeprune.progress import SILENT

ROWS = [{"name": "rpi4", "ram_bytes": 1024, "odd": "x"}, {"name": "[red]pi[/red]", "ram_bytes": None}]
COLUMNS = (Column("name", "board"), Column("ram_bytes", "RAM", lambda n: f"{n} B" if n else "?"))


def test_a_listing_as_json_holds_whole_rows(capsys):
    emit(listing("edgeprune.boards/1", "boards", ROWS, COLUMNS, room=4), as_json=True)
    assert json.loads(capsys.readouterr().out) == {"schema": "edgeprune.boards/1", "room": 4, "boards": ROWS}


def test_a_listing_as_a_table_shows_the_same_rows(capsys):
    emit(listing("edgeprune.boards/1", "boards", ROWS, COLUMNS), as_json=False)
    header, _, *rows = capsys.readouterr().out.rstrip("\n").splitlines()
    assert header.split() == ["board", "RAM"]
    assert [row.split() for row in rows] == [["rpi4", "1024", "B"], ["[red]pi[/red]", "?"]]


def test_a_pipe_gets_whole_lines(capsys):
    emit(listing("x/1", "rows", [{"name": "w" * 300}], [Column("name")]), as_json=False)
    out = capsys.readouterr().out
    assert "w" * 300 in out
    assert all(line == line.rstrip() for line in out.splitlines())
    assert "\x1b" not in out


def test_a_record_flattens_what_is_nested(capsys):
    emit(record("x/1", {"llvm": {"mcpu": "cortex-a72"}, "cores": 4}, "A board"), as_json=False)
    out = capsys.readouterr().out.split("\n")
    assert out[0] == "A board"
    assert [line.split() for line in out if line][1:] == [["llvm.mcpu", "cortex-a72"], ["cores", "4"]]


def test_control_characters_stay_on_their_side(capsys):
    emit(listing("x/1", "rows", [{"name": "a\x1b[2Jb\rc"}], [Column("name")]), as_json=False)
    assert "a\\x1b[2Jb\\rc" in capsys.readouterr().out


def test_json_knows_paths_and_sets(capsys):
    emit(Result("x/1", {"path": PurePosixPath("a/b"), "names": {"b", "a"}}, ()), as_json=True)
    assert json.loads(capsys.readouterr().out) == {"schema": "x/1", "path": "a/b", "names": ["a", "b"]}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_what_is_no_json_is_a_bug_not_a_string(value):
    with pytest.raises((ValueError, TypeError)):
        emit(Result("x/1", {"value": value}, ()), as_json=True)


def test_progress_goes_to_stderr_in_plain_lines(capsys):
    with reporting(True) as report:
        report.stage("profiling", total=100)
        for _ in range(100):
            report.advance()
        report.note("conv1 was measured again")
        report.stage("linking")
        report.advance()
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "profiling (0/100)"
    assert lines[1:11] == [f"profiling ({n}/100)" for n in range(10, 101, 10)]
    assert lines[11:] == ["conv1 was measured again", "linking"]


@pytest.mark.parametrize(("total", "lines"), [(0, 1), (3, 4), (10, 11), (1000, 11)])
def test_a_stage_says_neither_nothing_nor_everything(total, lines, capsys):
    report = Lines()
    report.stage("profiling", total)
    for _ in range(max(total, 1)):
        report.advance()
    assert len(capsys.readouterr().err.splitlines()) == lines


def test_quiet_says_nothing():
    with reporting(False) as report:
        assert report is SILENT


def test_a_terminal_gets_a_bar_and_gets_its_cursor_back():
    """On a pseudo-terminal: notes survive, the bar does not, also when the command fails."""
    program = (
        "from edgeprune.api.progress import reporting\n"
        "with reporting(True) as report:\n"
        "    report.stage('profiling [x]', total=2); report.advance(); report.note('kept [red]')\n"
        "    raise SystemExit(3)\n"
    )
    parent, child = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", program], stderr=child, env={**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    )
    os.close(child)
    written = b""
    while True:
        try:
            chunk = os.read(parent, 4096)
        except OSError:  # Linux reports the closed end of a pseudo-terminal as an I/O error
            break
        if not chunk:
            break
        written += chunk
    os.close(parent)
    assert process.wait(timeout=30) == 3
    text = written.decode()
    assert "profiling [x]" in text
    assert "kept [red]" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is shown again"


NOISY = """
import os, sys
from edgeprune.cli import main as cli
from edgeprune.cli.output import emit, record
from edgeprune.errors import VerificationError

def noisy(args, **_):
    print("from a model's code")
    os.write(1, b"from a library in C\\n")
    if "fail" in args:
        raise VerificationError("differs", difference=float("nan"), limit=float("inf"), what=object, raw=b"\\xff")
    emit(record("x/1", {"value": 1}), "--json" in args)

class Command:
    main = staticmethod(noisy)

cli.typer.main.get_command = lambda app: Command
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize("what", ["pass", "fail"])
def test_stdout_is_json_and_nothing_else_whatever_is_printed(what):
    done = subprocess.run([sys.executable, "-c", NOISY, what, "--json"], capture_output=True, text=True)
    body = json.loads(done.stdout)
    assert "from a model's code" in done.stderr
    assert "from a library in C" in done.stderr
    if what == "pass":
        assert (done.returncode, body) == (0, {"schema": "x/1", "value": 1})
    else:
        assert done.returncode == 7
        assert body["error"]["details"] == {
            "difference": "NaN",
            "limit": "Infinity",
            "what": "<class 'object'>",
            "raw": "_w==",
        }


def test_without_json_what_is_printed_stays_where_it_is():
    done = subprocess.run([sys.executable, "-c", NOISY, "pass"], capture_output=True, text=True)
    assert "from a model's code" in done.stdout
    assert "from a library in C" in done.stdout


def test_a_reader_that_left_is_no_error_under_json():
    command = f"{sys.executable} -c '{NOISY.replace(chr(39), chr(34))}' pass --json | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.split()[-1] in ("0", "1")
    assert "Traceback" not in done.stderr


def test_lines_say_how_long_it_takes_where_that_is_worth_saying(capsys, monkeypatch):
    now = iter([0.0, 20.0, 40.0, 197.0, 199.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(now))
    lines = Lines()
    lines.stage("profiling", 10)
    lines.advance(1)
    lines.advance(5)
    lines.advance(3)
    lines.advance(1)
    said = capsys.readouterr().err.splitlines()
    assert said[1:] == [
        "profiling (1/10, 3 min left)",
        "profiling (6/10, 27 s left)",
        "profiling (9/10, 22 s left)",
        "profiling (10/10)",
    ]


def test_a_bar_forgets_the_length_of_the_stage_before():
    bars = progress.Bars()
    try:
        bars.stage("scoring", 11)
        bars.advance(3)
        for total in (None, 0):
            bars.stage("exact", total)
            (task,) = bars._bar.tasks
            assert (task.description, task.total, task.completed) == ("exact", None, 0)
    finally:
        bars.close()
