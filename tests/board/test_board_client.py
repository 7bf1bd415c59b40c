"""The client of the native program: what it makes of good output, of bad output and of every exit code."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import edgeprune
from edgeprune.board.client import ExitCode, GoldenResult, KernelRow, Launch, NativeProgram, crashed
from edgeprune.errors import (
    AnomalousInputError,
    BadInputError,
    DeviceError,
    DeviceUnreachableError,
    EdgepruneError,
    VerificationError,
)

ROOT = Path(edgeprune.__file__).parent
PAGE = (ROOT.parent / "docs" / "BOARD.md").read_text()
SOURCES = [ROOT / "board" / name for name in ("main.h", "main.c", "data.c")]
PROGRAM = "".join(source.read_text() for source in SOURCES)
OPTION = r"--[a-z][a-z-]*"
TIMES = {"warmup": 1, "repeats": 2, "threads": 2}
CRASHES = [*sorted(set(ExitCode) - {ExitCode.OK}), 126, 127, 134, 139, -11]
HUGE = 10**400  # an integer to JSON, too large for a float


@dataclass
class Program:
    """A way to run that answers each command line with the same, and keeps it."""

    stdout: str = ""
    returncode: int = 0
    stderr: str = ""
    fault: EdgepruneError | None = None
    argv: list[str] = field(default_factory=list)
    timeout_s: float = 0.0

    def __call__(self, argv: Sequence[str], /, *, timeout_s: float) -> Program:
        self.argv, self.timeout_s = list(argv), timeout_s
        if self.fault:
            raise self.fault
        return self


VERBS = {
    "info": lambda native: native.info(),
    "run": lambda native: native.run(["x", "z"], ["y"], batch=3, threads=2, anomalies="flag"),
    "check": lambda native: native.check(["a", "b"], ["y"], rtol=1e-4, atol=1e-6, threads=2),
    "bench": lambda native: native.bench(**TIMES),
    "kernels": lambda native: native.kernels(
        first=1, min_ns=50, weight_span=4096, retakes=3, nominal_ns=40000, **TIMES
    ),
}
LINES = {
    "info": "",
    "run": "--input x --input z --output y --batch 3 --threads 2 --anomalies flag",
    "check": "--input a --input b --expect y --rtol 0.0001 --atol 1e-06 --threads 2",
    "bench": "--warmup 1 --repeats 2 --threads 2",
    "kernels": "--warmup 1 --repeats 2 --threads 2 --first 1 --min-ns 50 --weight-span 4096 --retakes 3 "
    "--nominal-ns 40000",
}
SPELT = {option for line in LINES.values() for option in re.findall(OPTION, line)}
GOOD = {
    "info": {
        "name": "net",
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 3]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": []}],
        "arena_bytes": 1,
        "peak_ram_bytes": 2,
        "weight_bytes": 0,
        "kernels": ["conv"],
    },
    "run": {"samples": 3},
    "check": {"max_abs_diff": 0.5, "scale": 2.0, "ok": True},
    "bench": {"clock": "monotonic", "unit": "ns", "samples": [5, 6.5], "reference": [2, 3], "allocated_bytes": 7},
    "kernels": {"index": 1, "name": "conv", "samples": [5, 6.5], "finite": True, "reference": [2, 3, 4]},
}


def said(command: str, **changes: object) -> Program:
    return Program(json.dumps({**GOOD[command], **changes}) + "\n")


def lacking(command: str, key: str) -> Program:
    return Program(json.dumps({k: v for k, v in GOOD[command].items() if k != key}))


def call(command: str, program: Program):
    return VERBS[command](NativeProgram(program, ("emulator", "home/model"), 9.0))


# ---- the program and its page --------------------------------------------------------------------


@pytest.mark.parametrize("command", VERBS)
def test_the_command_line_is_that_of_the_program_and_its_page(command):
    program = said(command)
    call(command, program)
    assert program.argv == ["emulator", "home/model", command, *LINES[command].split()]
    assert program.timeout_s == 9.0
    (line,) = re.findall(rf"^\| `model {command}(?: [^`]*)?`.*$", PAGE, re.MULTILINE)
    everywhere = {"--min-ns", "--weight-span", "--retakes", "--nominal-ns"}  # described below the table
    assert set(re.findall(OPTION, LINES[command])) <= set(re.findall(OPTION, line)) | everywhere
    assert f'strcmp(command, "{command}") == 0' in PROGRAM


def test_what_is_not_told_is_left_to_no_default_of_the_program():
    program = said("check")
    native = NativeProgram(program, ("model",), 1.0)
    native.check(["x"], ["y"], rtol=0.0, atol=1e-12)
    assert " ".join(program.argv) == "model check --input x --expect y --rtol 0.0 --atol 1e-12 --threads 1"
    native.run(["x"], ["y"])
    assert " ".join(program.argv) == "model run --input x --output y --batch 1 --threads 1"
    native.kernels(warmup=0, repeats=1)
    times, rest = "--warmup 0 --repeats 1 --threads 1", "--first 0 --min-ns 0 --weight-span 0"
    assert " ".join(program.argv) == f"model kernels {times} {rest}"


def test_the_exit_codes_are_those_of_the_program_and_its_page():
    (listed,) = re.findall(r"enum \{ (OK = 0, .*?) \};", PROGRAM)
    assert listed == ", ".join(f"{code.name} = {code.value}" for code in ExitCode)
    (told,) = re.findall(r"Exit codes: (.*?)\.", PAGE, re.DOTALL)
    assert [int(part.split()[0]) for part in re.split(r",\s+", told)] == list(ExitCode)


def test_the_options_are_those_of_the_program_and_its_page():
    parsed = set(re.findall(rf'strcmp\(a, "({OPTION})"\)', PROGRAM))
    assert parsed == SPELT | {"--virtual-clock"}  # which the device puts in that has no other clock
    assert parsed == set(re.findall(OPTION, PAGE))


@pytest.mark.parametrize("command", ["info", "check", "bench", "kernels"])
def test_the_fields_are_those_of_the_program_and_its_page(command):
    for key in GOOD[command]:
        assert f'\\"{key}\\"' in PROGRAM
        assert command == "info" or f'"{key}"' in PAGE


def test_nobody_else_spells_the_options_of_the_program():
    """edgeprune's own command line has some of the same names: there they are typer's."""
    spelling = {ROOT / "board" / "client.py", *SOURCES}
    files = [f for f in ROOT.rglob("*") if f.suffix in (".py", ".c", ".h", ".j2") and f not in spelling]
    assert len(files) > 100
    found = set()
    for file in files:
        own = (
            {"--input", "--output", "--anomalies", "--warmup", "--repeats", "--threads"}
            if file.parent == ROOT / "cli"
            else set()
        )
        text = file.read_text()
        found |= {f"{file.relative_to(ROOT)}: {o}" for o in SPELT - own if re.search(rf"{o}(?![\w-])", text)}
    assert not found


# ---- good output ---------------------------------------------------------------------------------


def test_what_good_output_says():
    assert call("info", said("info")) == GOOD["info"]
    assert call("run", said("run")) == ()
    assert call("check", said("check")) == GoldenResult(0.5, 2.0)
    assert call("bench", said("bench")) == Launch((5.0, 6.5), "monotonic", (2.0, 3.0), 7)
    found = call("kernels", said("kernels"))
    assert found.rows == (KernelRow((5.0, 6.5), True, (2.0, 3.0, 4.0)),)
    assert found.ended.returncode == ExitCode.OK


@pytest.mark.parametrize("command", ["info", "check", "bench"])
def test_only_the_last_line_is_the_object(command):
    program = said(command)
    program.stdout = f'a loader\'s greeting\n{{"ok": false}}\n{program.stdout}\n'
    assert call(command, program) == call(command, said(command))


def test_figures_of_a_launch():
    launch = Launch((3e6, 1e6, 2e6), "monotonic", (5e4, 7e4))
    assert (launch.median_ms, launch.reference_ms) == (2.0, 0.06)
    assert Launch((1.0,), "virtual").reference_ms is None


@pytest.mark.parametrize(
    "kept", [Launch((1.0, 2.0), "virtual"), Launch((1.0,), "monotonic", (3.0,), 7), GoldenResult(1, 2)]
)
def test_what_is_kept_as_json_comes_back(kept):
    assert type(kept).from_json(json.loads(json.dumps(kept.to_json()))) == kept


def test_an_older_program_times_no_reference_and_does_not_tell_its_bytes():
    assert call("bench", lacking("bench", "reference")) == Launch((5.0, 6.5), "monotonic", (), 7)
    assert call("bench", lacking("bench", "allocated_bytes")).allocated_bytes is None
    assert call("kernels", lacking("kernels", "reference")).rows == (KernelRow((5.0, 6.5), True),)
    assert call("kernels", said("kernels", reference=2.5)).rows == (KernelRow((5.0, 6.5), True, (2.5, 2.5, 2.5)),)


def test_a_reference_that_the_clock_cannot_resolve_is_none():
    assert call("bench", said("bench", reference=[])).reference_ns == ()
    assert call("bench", said("bench", reference=[0, 40])).reference_ns == ()
    assert call("kernels", said("kernels", reference=[])).rows[0].reference_ns == ()
    assert call("kernels", said("kernels", reference=[0, 40, 40])).rows[0].reference_ns == ()
    assert call("kernels", said("kernels", reference=0)).rows[0].reference_ns == ()


# ---- exit codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("returncode", CRASHES)
@pytest.mark.parametrize("command", ["info", "run", "check", "bench"])
def test_every_exit_code(command, returncode):
    """Whatever was printed before."""
    program = Program(said(command).stdout, returncode, "first\nlast words\n")
    error, says = VerificationError, f"^{command} failed with exit code {returncode}: last words$"
    if (command, returncode) == ("run", ExitCode.BAD_INPUT):
        error, says = BadInputError, "^the model refuses the input: first\nlast words$"
    elif (command, returncode) == ("run", ExitCode.ANOMALOUS):
        error, says = AnomalousInputError, "^first\nlast words; nothing was computed$"
    elif (command, returncode) == ("check", ExitCode.DIFFERENT):
        says = r"^the output differs from the golden one by 0.5 at a scale of 2 \(rtol 0.0001, atol 1e-06\)$"
    with pytest.raises(error, match=says) as caught:
        call(command, program)
    assert bool(caught.value.hint) is (returncode in (126, 127) or issubclass(error, BadInputError))


@pytest.mark.parametrize("returncode", CRASHES)
def test_kernels_leave_every_exit_code_to_the_caller(returncode):
    program = Program(said("kernels").stdout, returncode, "Segmentation fault\n")
    found = call("kernels", program)
    assert (len(found.rows), found.ended) == (1, program)
    assert f"exit code {returncode}: Segmentation fault" in crashed("kernels", found.ended).message


def test_outputs_that_differ_are_told_by_how_much():
    program = said("check", ok=False)
    program.returncode = ExitCode.DIFFERENT
    with pytest.raises(VerificationError) as caught:
        call("check", program)
    assert caught.value.details == {"max_abs_diff": 0.5, "scale": 2.0}


def test_a_program_that_the_loader_refuses_is_told_to_be_of_another_libc():
    with pytest.raises(VerificationError, match="no message") as caught:
        call("bench", Program(returncode=126))
    assert "libc" in caught.value.hint
    with pytest.raises(VerificationError, match=r"GLIBC_2\.38") as caught:
        call("check", Program(returncode=1, stderr="version GLIBC_2.38 not found"))
    assert "libc" in caught.value.hint
    assert caught.value.details == {"returncode": 1, "stderr": "version GLIBC_2.38 not found"}


@pytest.mark.parametrize("command", VERBS)
def test_a_program_that_does_not_end_fails(command):
    with pytest.raises(VerificationError, match=f"{command} does not end: 9 s passed") as caught:
        call(command, Program(fault=DeviceError("9 s passed")))
    assert caught.value.exit_code == 7


@pytest.mark.parametrize("command", VERBS)
def test_a_device_that_is_gone_says_nothing_of_the_program(command):
    with pytest.raises(DeviceUnreachableError):
        call(command, Program(fault=DeviceUnreachableError("gone")))


# ---- bad output ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stdout", ["", "\n", "words", "[1]", "null", '{"max_abs_diff": 0.5', '{"a": 1}\n{"b'])
@pytest.mark.parametrize("command", ["info", "check", "bench"])
def test_output_that_is_no_object(command, stdout):
    with pytest.raises(VerificationError, match=f"{command} prints no JSON object") as caught:
        call(command, Program(stdout))
    assert caught.value.details["stdout"] == stdout


NO_DIFFERENCE, NO_SAMPLES, NO_PROGRAM = "check prints no difference", "bench prints no samples", "describes no program"
NOT_SO_MANY, NO_REFERENCE = "does not print 2 positive samples", "does not print 2 times of its reference"
PORT = GOOD["info"]["inputs"][0]


@pytest.mark.parametrize(
    ("command", "changes", "says"),
    [
        ("check", {"max_abs_diff": None}, "not finite"),
        ("check", {"max_abs_diff": "far"}, NO_DIFFERENCE),
        ("check", {"max_abs_diff": float("nan")}, NO_DIFFERENCE),
        ("check", {"max_abs_diff": HUGE}, NO_DIFFERENCE),
        ("check", {"scale": None}, NO_DIFFERENCE),
        ("check", {"scale": float("inf")}, NO_DIFFERENCE),
        ("check", {"ok": False}, "differs from the golden one"),
        ("check", {"ok": 1}, "differs from the golden one"),
        ("bench", {"samples": None}, NO_SAMPLES),
        ("bench", {"samples": ["quick", 1]}, NO_SAMPLES),
        ("bench", {"samples": [HUGE, 1]}, NO_SAMPLES),
        ("bench", {"samples": []}, NOT_SO_MANY),
        ("bench", {"samples": [5]}, NOT_SO_MANY),
        ("bench", {"samples": [5, 6, 7]}, NOT_SO_MANY),
        ("bench", {"samples": [5, 0]}, NOT_SO_MANY),
        ("bench", {"samples": [5, -1]}, NOT_SO_MANY),
        ("bench", {"samples": [5, float("nan")]}, NOT_SO_MANY),
        ("bench", {"samples": [5, float("inf")]}, NOT_SO_MANY),
        ("bench", {"unit": "ms"}, NOT_SO_MANY),
        ("bench", {"reference": 4}, NO_SAMPLES),
        ("bench", {"reference": None}, NO_SAMPLES),
        ("bench", {"reference": [5]}, NO_REFERENCE),
        ("bench", {"reference": [5, 5, 5]}, NO_REFERENCE),
        ("bench", {"reference": [5, -1]}, NO_REFERENCE),
        ("bench", {"reference": [5, float("nan")]}, NO_REFERENCE),
        ("bench", {"reference": [5, float("inf")]}, NO_REFERENCE),
        ("info", {"name": None}, NO_PROGRAM),
        ("info", {"kernels": None}, NO_PROGRAM),
        ("info", {"kernels": "conv"}, NO_PROGRAM),
        ("info", {"kernels": [1]}, NO_PROGRAM),
        ("info", {"inputs": {}}, NO_PROGRAM),
        ("info", {"inputs": ["x"]}, NO_PROGRAM),
        ("info", {"inputs": [{"name": "x"}]}, NO_PROGRAM),
        ("info", {"inputs": [{**PORT, "dtype": None}]}, NO_PROGRAM),
        ("info", {"inputs": [{**PORT, "dtype": "int12"}]}, NO_PROGRAM),
        ("info", {"inputs": [{**PORT, "dtype": ["float32"]}]}, NO_PROGRAM),
        ("info", {"outputs": [{**PORT, "shape": 3}]}, NO_PROGRAM),
        ("info", {"outputs": [{**PORT, "shape": [1, "many"]}]}, NO_PROGRAM),
        ("info", {"outputs": [{**PORT, "shape": [1, -1]}]}, NO_PROGRAM),
        ("info", {"weight_bytes": "many"}, NO_PROGRAM),
        ("info", {"arena_bytes": True}, NO_PROGRAM),
        ("info", {"peak_ram_bytes": -1}, NO_PROGRAM),
    ],
)
def test_an_object_that_says_something_else(command, changes, says):
    with pytest.raises(VerificationError, match=says):
        call(command, said(command, **changes))


@pytest.mark.parametrize(
    ("command", "key", "says"),
    [
        *(("info", key, NO_PROGRAM) for key in GOOD["info"]),
        ("check", "max_abs_diff", NO_DIFFERENCE),
        ("check", "scale", NO_DIFFERENCE),
        ("check", "ok", "differs from the golden one"),
        *(("bench", key, NO_SAMPLES) for key in ("clock", "unit", "samples")),
    ],
)
def test_an_object_that_lacks_something(command, key, says):
    with pytest.raises(VerificationError, match=says):
        call(command, lacking(command, key))


# ---- kernels: what was timed before the one that stopped the program counts ----------------------

ROWS = [json.dumps({**GOOD["kernels"], "index": i, "samples": [i], "reference": [9, 9]}) for i in (1, 2, 3)]


def timed(*lines: str, returncode: int = 0, **arguments: int) -> list[float]:
    program = Program("\n".join(lines), returncode)
    found = NativeProgram(program, ("model",), 9.0).kernels(warmup=0, repeats=1, first=1, **arguments)
    return [row.samples_ns[0] for row in found.rows]


def test_kernels_before_a_crash_are_kept():
    assert timed(*ROWS) == [1, 2, 3]
    assert timed(*ROWS[:2], ROWS[2][:20], returncode=139) == [1, 2]
    assert timed(returncode=139) == []


def test_no_more_kernels_are_read_than_were_asked_for():
    assert timed(*ROWS, most=2) == [1, 2]
    assert timed(*ROWS, most=9) == [1, 2, 3]


def test_rows_are_counted_from_the_first_that_was_asked_for():
    assert timed(*ROWS[1:]) == []
    assert timed(*reversed(ROWS)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"index": 7},
        {"index": None},
        {"samples": []},
        {"samples": [float("nan")]},
        {"samples": [1, float("inf")]},
        {"samples": [HUGE]},
        {"samples": None},
        {"samples": ["quick"]},
        {"reference": None},
        {"reference": float("inf")},
        {"reference": [1]},
        {"reference": [1, float("nan")]},
        {"reference": [1, "quick"]},
    ],
)
def test_kernels_end_at_an_object_that_is_no_row(changes):
    wrong = json.dumps({**json.loads(ROWS[1]), **changes})
    assert timed(ROWS[0], wrong, ROWS[2]) == [1]


@pytest.mark.parametrize("line", ["", "words", "[]", "null", '"samples"', *(r[:-1] for r in ROWS[1:2])])
def test_kernels_end_at_a_line_that_is_no_object(line):
    assert timed(ROWS[0], line, ROWS[2]) == [1]


@pytest.mark.parametrize("key", ["index", "samples", "finite"])
def test_kernels_end_at_a_row_that_lacks_something(key):
    wrong = json.dumps({k: v for k, v in json.loads(ROWS[1]).items() if k != key})
    assert timed(ROWS[0], wrong, ROWS[2]) == [1]


@pytest.mark.parametrize("finite", [False, None, 1, "true"])
def test_only_true_is_finite(finite):
    assert call("kernels", said("kernels", finite=finite)).rows[0].finite is False
