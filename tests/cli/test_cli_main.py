"""The frame of the command line: lazy commands, exit codes, one message for whatever goes wrong."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
import typer

from edgeprune import __version__, errors
from edgeprune.acceptance.outcome import SCHEMA as CHECK_SCHEMA
from edgeprune.budget.solving import SCHEMA as SOLUTION_SCHEMA
from edgeprune.cli import main as frame
from edgeprune.cli.main import load_command, main
from edgeprune.cli.output import ERROR_SCHEMA
from edgeprune.cli.registry import COMMANDS
from edgeprune.devices.local.device import LocalDevice
from edgeprune.importance.registry import CRITERIA
from edgeprune.report.schema import SCHEMA as REPORT_SCHEMA

DOC = Path(__file__).parents[2] / "docs" / "CLI.md"
HEAVY = {"torch", "tvm", "numpy", "scipy", "onnx", "matplotlib", "pydantic", "rich", "jinja2"}


def edgeprune(*args, **options):
    return subprocess.run([sys.executable, "-m", "edgeprune", *args], capture_output=True, text=True, **options)


@pytest.fixture
def command(monkeypatch):
    """Registers a command called ``trial`` that runs the given function."""

    def register(run):
        module = types.ModuleType("edgeprune.cli.trial")
        module.app = typer.Typer(rich_markup_mode=None)

        @module.app.command()
        def trial(as_json: bool = typer.Option(False, "--json")) -> None:
            run()

        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setattr(frame, "COMMANDS", {**COMMANDS, "trial": "A command of the tests."})

    return register


def test_help_lists_every_command_and_imports_none():
    program = (
        "import sys; from edgeprune.cli.main import main; code = main(['--help']);"
        "print('LOADED', *sorted(sys.modules)); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    shown, _, loaded = done.stdout.partition("LOADED")
    for name, summary in COMMANDS.items():
        assert re.search(rf"^  {name} +{summary.split()[0]}", shown, re.MULTILINE)
        assert f"edgeprune.cli.{name}" not in loaded.split()
    assert not HEAVY & {m.partition(".")[0] for m in loaded.split()}


def test_no_arguments_is_help(capsys):
    assert main([]) == 0
    assert "Commands:" in capsys.readouterr().out


@pytest.mark.parametrize(("before", "after"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_asleep_if_nobody_said_otherwise(before, after, monkeypatch, capsys):
    monkeypatch.setenv("OMP_WAIT_POLICY", "restored at the end")
    if before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    else:
        monkeypatch.setenv("OMP_WAIT_POLICY", before)
    assert main(["--version"]) == 0
    assert os.environ["OMP_WAIT_POLICY"] == after


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"edgeprune {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_light_and_takes_json(name):
    program = (
        "import sys; from edgeprune.cli.main import load_command; c = load_command(sys.argv[1]);"
        "print('--json' in [o for p in c.params for o in p.opts], *{m.partition('.')[0] for m in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", program, name], capture_output=True, text=True, check=True)
    takes_json, *loaded = done.stdout.split()
    assert takes_json == "True"
    assert not {"torch", "tvm", "onnx", "matplotlib"} & set(loaded), "import these inside the command's function"


@pytest.mark.parametrize("name", ["prune", "fit"])
def test_the_help_names_every_criterion(name):
    (option,) = (parameter for parameter in load_command(name).params if parameter.name == "criterion")
    assert option.help.removesuffix(".").partition(": ")[2].split(", ") == list(CRITERIA)


@pytest.mark.parametrize("name", COMMANDS)
def test_who_takes_a_device_takes_the_permission_for_new_host_keys(name):
    options = [option for parameter in load_command(name).params for option in parameter.opts]
    assert ("--accept-new-host-key" in options) is ("--device" in options)


@pytest.mark.parametrize(("command", "code"), [("status", 0), ("rollback", errors.UsageError.exit_code)])
def test_a_command_closes_its_device_however_it_ends(command, code, tmp_path, monkeypatch, capsys):
    closed = []
    monkeypatch.setattr(LocalDevice, "close", lambda self: closed.append(self.url))
    assert main([command, "--device", f"local:{tmp_path}"]) == code
    assert closed == [f"local:{tmp_path}"]


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_the_registry_is_the_first_line_of_the_command(name):
    assert load_command(name).help.splitlines()[0] == COMMANDS[name]


def test_the_document_lists_the_commands():
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", DOC.read_text().split("## Output")[0], re.MULTILINE)
    assert dict(rows) == COMMANDS


def test_the_document_lists_every_schema_that_commands_print():
    sources = [Path(frame.__file__).with_name(f"{name.replace('-', '_')}.py").read_text() for name in COMMANDS]
    printed = {schema for text in sources for schema in re.findall(r'"(edgeprune\.[\w-]+/\d+)"', text)}
    assert "edgeprune.targets/1" in printed
    documented = set(re.findall(r"^\| `(edgeprune\.[\w-]+/\d+)`", DOC.read_text(), re.MULTILINE))
    assert printed | {REPORT_SCHEMA, CHECK_SCHEMA, ERROR_SCHEMA, SOLUTION_SCHEMA} == documented


ERRORS = [cls for cls in vars(errors).values() if isinstance(cls, type) and issubclass(cls, errors.EdgepruneError)]


@pytest.mark.parametrize("cls", ERRORS, ids=lambda c: c.__name__)
def test_an_error_becomes_its_exit_code(cls, command, capsys):
    def fail():
        raise cls("conv1 is odd", hint="even it out", node="conv1")

    command(fail)
    assert main(["trial"]) == cls.exit_code
    out, err = capsys.readouterr()
    assert (out, err) == ("", "error: conv1 is odd\nhint: even it out\n")

    assert main(["trial", "--json"]) == cls.exit_code
    out, err = capsys.readouterr()
    assert err == ""
    body = json.loads(out)
    assert body["schema"] == "edgeprune.error/1"
    assert body["error"]["details"] == {"node": "conv1"}
    assert body["error"]["exit_code"] == cls.exit_code


def test_a_bug_is_one_line_and_exit_1(command, capsys, monkeypatch):
    command(lambda: {}["width"])
    assert main(["trial"]) == 1
    err = capsys.readouterr().err
    assert err.splitlines()[0] == "error: internal error: KeyError: 'width'"
    assert "EDGEPRUNE_DEBUG=1" in err
    assert "Traceback" not in err

    monkeypatch.setenv("EDGEPRUNE_DEBUG", "1")
    assert main(["trial"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_a_command_may_leave_with_a_code_of_its_own(command, capsys):
    def verdict():
        raise typer.Exit(5)

    command(verdict)
    assert main(["trial"]) == 5
    assert capsys.readouterr() == ("", "")


def test_an_error_message_cannot_move_the_cursor(command, capsys):
    def fail():
        raise errors.DeviceError("board said \x1b[2J\r")

    command(fail)
    main(["trial"])
    assert capsys.readouterr().err == "error: board said \\x1b[2J\\r\n"


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["tragets"], "there is no command 'tragets'", "did you mean 'targets'?"),
        (["xyzzy"], "there is no command 'xyzzy'", "the commands are fit,"),
        (["targets", "--nope"], "--nope", "see edgeprune targets --help"),
        (["targets", "show"], "NAME", "see edgeprune targets show --help"),
        (["targets", "hide"], "hide", "see edgeprune targets --help"),
    ],
)
def test_a_command_line_that_makes_no_sense(args, message, hint, capsys):
    assert main(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message.lower() in err.splitlines()[0].lower()
    assert f"hint: {hint}" in err

    assert main([*args, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "UsageError"


@pytest.mark.parametrize("args", [[], ["--json"]])
def test_ctrl_c_is_130(args):
    """A real signal to a real process, while the command is at work."""
    program = (
        # A shell that starts the tests in the background has SIGINT ignored, and children inherit that.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import sys, time, types, typer\n"
        "from edgeprune.cli import main as frame\n"
        "module = types.ModuleType('edgeprune.cli.trial'); module.app = typer.Typer()\n"
        "@module.app.command()\n"
        "def trial(as_json: bool = typer.Option(False, '--json')) -> None:\n"
        "    print('at work', file=sys.stderr, flush=True); time.sleep(60)\n"
        "sys.modules['edgeprune.cli.trial'] = module; frame.COMMANDS = {'trial': ''}\n"
        "sys.exit(frame.main(['trial', *sys.argv[1:]]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr.readline() == "at work\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    if args:
        assert json.loads(out)["error"]["type"] == "InterruptedRunError"
    else:
        assert err == "error: interrupted\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_no_traceback(unbuffered):
    """Buffered, the pipe breaks when the output is flushed at the end; unbuffered, inside the command."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "edgeprune", "targets"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    process = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, env=environment)
    os.close(write)
    assert process.stderr == b""
    assert process.returncode == 1


def test_an_ascii_terminal_is_no_traceback():
    done = edgeprune("targets", "show", "rpi3", env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    assert "rpi3" in done.stdout
