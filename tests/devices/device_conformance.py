"""What every device must do, over any transport: each scheme of the registry runs this suite.

A transport's test module derives from :class:`DeviceConformance`, names its ``scheme`` and says in
``connect`` how to open a device whose root is empty. Only POSIX tools are used on the device.
"""

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from edgeprune.acceptance.board_check import board_check
from edgeprune.devices.protocol import Device
from edgeprune.errors import BadInputError, DeviceError, UsageError
from edgeprune.models.loading import load_model
from edgeprune.targets import load_target

NET = Path(__file__).parents[1] / "fitting" / "tiny_net.py"

CONTENTS = {
    "empty": b"",
    "text": b"hello\n",
    "no newline": b"x",
    "every byte": bytes(range(256)) * 3,
    "looks like a command": b"$(rm -rf /); `reboot` \x03\x04\x18\x1b[2J\r\n.\r\n",
    "large": random.Random(7).randbytes(3_000_001),
}

# Prints each argument as hex, so that nothing between the program and the test can tidy it up.
SHOW_ARGUMENTS = b"""#!/bin/sh
for argument in "$@"; do printf '%s' "$argument" | od -An -v -tx1 | tr -d ' \\n'; echo; done
"""
ARGUMENTS = [
    "",
    " ",
    "two words",
    "; touch pwned",
    "$(touch pwned)",
    "`touch pwned`",
    "a\nb",
    "\ttab",
    "it's",
    'say "hi"',
    "-rf",
    "--help",
    "*",
    "~",
    "$HOME",
    "a\\b",
    "!!",
    "größe 幅 🦊",
    "|&<>(){}[]#",
    "x" * 2000,
]

REFUSED_PATHS = [
    "",
    "/etc/passwd",
    "..",
    "../x",
    "a/../../x",
    "a/..",
    ".",
    "./a",
    "a//b",
    "a/",
    "-rf",
    "a/-x",
    "a\nb",
    "a\0b",
    "a\rb",
    "a\x1bb",
    "a\\b",
    "\ud800",
]


class DeviceConformance:
    scheme: ClassVar[str]
    # A slow line may be spared the longest files.
    large: ClassVar[bytes] = CONTENTS["large"]
    rounds: ClassVar[int] = 8
    target: ClassVar[str] = "host"

    def connect(self, tmp_path: Path) -> Device:
        raise NotImplementedError

    @pytest.fixture
    def device(self, tmp_path: Path) -> Iterator[Device]:
        with self.connect(tmp_path / "root") as device:
            assert isinstance(device, Device)
            yield device

    def names(self, device: Device, folder: str = ".") -> list[str]:
        return sorted(device.run(["ls", "-A", folder]).stdout.splitlines())

    @pytest.mark.parametrize("content", CONTENTS.values(), ids=CONTENTS)
    @pytest.mark.parametrize("from_file", [False, True], ids=["bytes", "file"])
    def test_put_then_get_gives_the_same_bytes(
        self, device: Device, tmp_path: Path, content: bytes, from_file: bool
    ) -> None:
        content = self.large if content is CONTENTS["large"] else content
        source = tmp_path / "source"
        source.write_bytes(content)
        device.put(source if from_file else content, "file")
        assert device.get("file") == content
        assert self.names(device) == ["file"]

    @pytest.mark.parametrize(
        "path", ["a/b/c.bin", "two words", "größe", ".hidden", "a;b", "it's", "$HOME", "%20", "a:b"]
    )
    def test_paths_are_taken_literally(self, device: Device, path: str) -> None:
        device.put(b"here", path)
        assert device.get(path) == b"here"
        assert self.names(device) == [path.split("/")[0]]
        device.remove(path.split("/")[0])
        assert self.names(device) == []

    @pytest.mark.parametrize("path", REFUSED_PATHS)
    def test_paths_outside_the_rules_are_refused(self, device: Device, path: str) -> None:
        for verb in (lambda: device.put(b"", path), lambda: device.get(path), lambda: device.remove(path)):
            with pytest.raises(UsageError):
                verb()
        assert self.names(device) == []

    def test_progress_counts_up_to_the_size(self, device: Device) -> None:
        seen: list[tuple[int, int]] = []
        device.put(self.large, "file", progress=lambda done, total: seen.append((done, total)))
        size = len(self.large)
        assert seen[-1] == (size, size)
        assert [done for done, _ in seen] == sorted({done for done, _ in seen})

    def test_an_interrupted_put_leaves_the_old_file_and_nothing_else(self, device: Device) -> None:
        device.put(b"old", "file")

        def interrupt(done: int, total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            device.put(self.large, "file", progress=interrupt)
        assert device.get("file") == b"old"
        assert self.names(device) == ["file"]

    def test_a_reader_sees_the_old_or_the_new_file(self, device: Device) -> None:
        versions = {b"a" * 1_000_000, b"b" * 700_000}
        device.put(b"a" * 1_000_000, "file")
        done = threading.Event()

        def write() -> None:
            for _ in range(self.rounds):
                for content in versions:
                    device.put(content, "file")
            done.set()

        writer = threading.Thread(target=write)
        writer.start()
        try:
            while not done.is_set():
                assert device.get("file") in versions
        finally:
            writer.join()

    def test_replacing_changes_the_executable_bit_too(self, device: Device) -> None:
        device.put(b"#!/bin/sh\necho one\n", "tool", executable=True)
        assert device.run(["./tool"]).stdout == "one\n"
        device.put(b"#!/bin/sh\necho two\n", "tool")
        assert device.run(["./tool"]).returncode == 126
        assert device.run(["sh", "tool"]).stdout == "two\n"

    def test_a_source_that_cannot_be_read_is_bad_input(self, device: Device, tmp_path: Path) -> None:
        for source in (tmp_path / "missing", tmp_path):
            with pytest.raises(BadInputError):
                device.put(source, "file")
        assert self.names(device) == []

    def test_put_onto_a_folder_fails_and_keeps_it(self, device: Device) -> None:
        device.put(b"x", "folder/file")
        with pytest.raises(DeviceError):
            device.put(b"y", "folder")
        assert self.names(device) == ["folder"]
        assert device.get("folder/file") == b"x"

    @pytest.mark.parametrize("path", ["missing", "folder", "folder/file/below"])
    def test_get_of_what_is_no_file_fails(self, device: Device, path: str) -> None:
        device.put(b"x", "folder/file")
        with pytest.raises(DeviceError):
            device.get(path)

    def test_arguments_arrive_as_they_are(self, device: Device) -> None:
        device.put(SHOW_ARGUMENTS, "show", executable=True)
        done = device.run(["./show", *ARGUMENTS])
        assert [bytes.fromhex(line).decode() for line in done.stdout.splitlines()] == ARGUMENTS
        assert self.names(device) == ["show"]

    def test_a_program_in_a_folder_runs_in_the_root(self, device: Device) -> None:
        device.put(b"#!/bin/sh\necho ran > here\n", "folder/with space/tool", executable=True)
        assert device.run(["folder/with space/tool"]).returncode == 0
        assert device.get("here") == b"ran\n"

    def test_exit_code_and_both_streams_come_back(self, device: Device) -> None:
        done = device.run(["sh", "-c", "echo out; echo err >&2; exit 42"])
        assert (done.returncode, done.stdout, done.stderr) == (42, "out\n", "err\n")

    def test_a_signal_reads_as_in_a_shell(self, device: Device) -> None:
        assert device.run(["sh", "-c", "kill -SEGV $$"]).returncode == 139

    def test_a_missing_program_is_an_exit_code_and_no_error(self, device: Device) -> None:
        assert device.run(["no-such-program-here"]).returncode == 127
        assert device.run(["./no-such-program-here"]).returncode == 127

    def test_output_that_is_not_utf8_is_replaced(self, device: Device) -> None:
        assert device.run(["printf", r"a\377b"]).stdout == "a\N{REPLACEMENT CHARACTER}b"

    def test_much_output_on_both_streams_does_not_block(self, device: Device) -> None:
        done = device.run(["sh", "-c", "yes out | head -n 100000; yes err | head -n 100000 >&2"])
        assert (len(done.stdout), len(done.stderr)) == (400_000, 400_000)

    def test_standard_input_is_empty(self, device: Device) -> None:
        assert device.run(["cat"], timeout_s=20).stdout == ""

    @pytest.mark.parametrize("argv", [[], [""], "ls", ["echo", "a\0b"], ["echo", "\ud800"]])
    def test_what_cannot_be_a_command_is_refused(self, device: Device, argv: Sequence[str]) -> None:
        with pytest.raises(UsageError):
            device.run(argv)

    def test_a_timeout_kills_the_command_and_its_children(self, device: Device) -> None:
        script = b"#!/bin/sh\n(while :; do echo tick >> ticks; sleep 0.02; done) &\nwait\n"
        device.put(script, "spawn", executable=True)
        with pytest.raises(DeviceError, match="did not finish"):
            device.run(["./spawn"], timeout_s=0.5)
        ticks = device.get("ticks")
        assert ticks
        time.sleep(0.3)
        assert device.get("ticks") == ticks
        assert device.run(["echo", "usable"]).stdout == "usable\n"

    def test_remove_takes_files_folders_links_and_nothing(self, device: Device) -> None:
        device.put(b"x", "folder/deep/file")
        device.put(b"x", "kept/file")
        device.run(["ln", "-s", "kept", "link"])
        device.remove("folder/deep/file")
        assert self.names(device, "folder") == ["deep"]
        device.put(b"x", "folder/deep/file")
        device.remove("folder")
        device.remove("link")
        device.remove("missing")
        device.remove("missing/below")
        assert self.names(device) == ["kept"]
        assert device.get("kept/file") == b"x"

    def test_describe_is_stable_and_json(self, device: Device) -> None:
        first, second = device.describe(), device.describe()
        assert first == second
        assert json.loads(json.dumps(first.to_json()))["machine"] == device.run(["uname", "-m"]).stdout.strip()
        assert first.cpu
        assert first.cores >= 1
        assert list(first.features) == sorted(first.features)
        assert (first.clock == "virtual") <= (first.evidence == "simulated")

    def test_a_network_is_built_timed_profiled_installed_and_rolled_back(self, device: Device) -> None:
        """The whole acceptance over this transport. How steady and well predicted this computer is, does not count."""
        model = load_model(f"{NET}:net", input_shape=(1, 3, 8, 8))
        outcome = board_check(device, load_target(self.target), model)
        checks = {c.name: c for c in outcome.checks}
        timed = {name: checks.pop(name) for name in ("timing", "prediction")}
        assert {name: (c.status, c.found) for name, c in checks.items() if c.status != "ok"} == {}
        assert all(c.figures["latency_ms"] > 0 for c in timed.values()), timed
        assert {c.evidence for c in timed.values()} == {device.describe().evidence}
        assert self.names(device) == []

    def test_closing_twice_is_fine(self, device: Device) -> None:
        device.close()
        device.close()
