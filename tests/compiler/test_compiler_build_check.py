"""``edgeprune targets --build-check``: what is built, what is not, and that it notices."""

from __future__ import annotations

import json
import platform
import shutil
from dataclasses import replace

import pytest

from edgeprune.cli.main import main
from edgeprune.compiler import build_check as module
from edgeprune.compiler.build_check import build_check, check_one, require_built_for, small_network
from edgeprune.compiler.compile import golden_pair
from edgeprune.compiler.elf import Needs
from edgeprune.compiler.emulate import emulator
from edgeprune.errors import VerificationError
from edgeprune.targets import Target, load_target

ARM = {"armv7_generic": "arm 32 bit hard float", "rpi_zero2w": "aarch64 64 bit"}


def broken(name: str) -> Target:
    """A target that compiles and cannot be linked."""
    return load_target(name).model_copy(update={"zig_target": "aarch64-linux-gnuabc"})


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.xdist_group("arm")) if "armv7" in name else name for name in ARM]
)
def test_a_board_without_anything_of_it_here(name: str) -> None:
    (result,) = build_check([load_target(name)])
    assert result.status == "built", result.why
    assert result.architecture == ARM[name]
    assert result.libc == "glibc 2.17"
    assert 20_000 < (result.bytes or 0) < 200_000
    there = shutil.which(emulator(load_target(name))[0]) if emulator(load_target(name)) else None
    assert (result.evidence, result.why) == (
        ("emulated", "") if there else ("compiled", f"not run: no emulator of {load_target(name).arch} here")
    )


def test_without_an_emulator_it_is_compiled_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "emulator", lambda target: None)
    other = "rpi_zero2w" if platform.machine() != "aarch64" else "x86_64_sse4"
    result = check_one(small_network(), load_target(other))
    assert (result.status, result.evidence) == ("built", "compiled")
    assert "no emulator" in result.why


def test_this_very_computer_runs_what_it_built() -> None:
    result = check_one(small_network(), load_target("host"))
    assert (result.status, result.evidence, result.why) == ("built", "measured", "")


@pytest.mark.skipif(emulator(load_target("rpi3")) is None, reason="QEMU's user mode is not here")
def test_the_emulated_processor_is_the_boards() -> None:
    assert (emulator(load_target("rpi3")) or [])[-1] == "cortex-a53"
    assert (emulator(load_target("armv7_generic")) or [])[-1] == "cortex-a7"


@pytest.mark.parametrize("name", ["host", "rpi_zero2w"])
def test_a_wrong_result_is_a_failure(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    target = load_target(name)
    if name != "host" and emulator(target) is None:
        pytest.skip("QEMU's user mode is not here")

    def altered(*arguments: object) -> object:
        pair = golden_pair(*arguments)  # type: ignore[arg-type]
        return replace(pair, outputs=tuple(y + 1 for y in pair.outputs))

    monkeypatch.setattr(module, "golden_pair", altered)
    result = check_one(small_network(), target)
    assert (result.status, result.evidence, result.exit_code) == ("failed", "", 7)
    assert result.why.startswith("the output differs from the golden one by ")


@pytest.mark.parametrize(
    ("needs", "says"),
    [
        (None, "None"),
        (Needs(architecture="x86_64", bits=64), "x86_64, not arm"),
        (Needs(architecture="arm", bits=32, float_abi="soft"), "soft floats"),
        (Needs(architecture="arm", bits=32, float_abi="hard", versions=("GLIBC_2.34",)), "glibc 2.34"),
    ],
)
def test_a_program_that_is_not_for_the_target(needs: Needs | None, says: str) -> None:
    with pytest.raises(VerificationError, match=says):
        require_built_for(load_target("armv7_generic"), needs)


def checked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *targets: Target) -> tuple[int, dict]:
    monkeypatch.setattr("edgeprune.targets.list_targets", lambda: list(targets))
    code = main(["targets", "--build-check", "--json", "--quiet"])
    return code, json.loads(capsys.readouterr().out)


def test_the_command_fails_where_a_cpu_target_does(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, body = checked(capsys, monkeypatch, broken("rpi4"), load_target("pynq_z1"), load_target("host"))
    assert code == 3
    assert (body["schema"], body["ok"]) == ("edgeprune.build_check/1", False)
    failed, record, fine = body["targets"]
    assert (failed["target"], failed["status"], failed["exit_code"]) == ("rpi4", "failed", 3)
    assert "linking" in failed["why"]
    assert (record["status"], record["kind"], record["bytes"]) == ("unsupported", "vta", None)
    assert "VTA" in record["why"]
    assert fine["status"] == "built", "one failure does not keep the others from being checked"


def test_boards_that_nothing_is_built_for_are_no_failure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, body = checked(capsys, monkeypatch, load_target("ultra96"))
    assert (code, body["ok"]) == (0, True)


def test_it_is_about_all_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--build-check", "show", "rpi4"]) == 2
    assert "--build-check" in capsys.readouterr().err
