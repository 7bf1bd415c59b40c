"""targets, devices, doctor: as they are run."""

import json
import shlex
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from edgeprune.acceptance import computer as checks
from edgeprune.acceptance.computer import Check
from edgeprune.cli.main import main
from edgeprune.targets import data_folder, list_targets, load_target


def run_json(capsys, *args):
    code = main([*args, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_targets_as_json_is_the_library_s_list(capsys):
    code, body = run_json(capsys, "targets")
    assert code == 0
    assert body == {"schema": "edgeprune.targets/1", "targets": [t.to_json() for t in list_targets()]}


def test_targets_as_a_table_has_a_line_each(capsys):
    assert main(["targets"]) == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.rstrip().splitlines()[2:]] == [t.name for t in list_targets()]


@pytest.mark.parametrize("args", [("targets", "show", "rpi4", "--json"), ("targets", "--json", "show", "rpi4")])
def test_targets_show(args, capsys):
    assert main(args) == 0
    target = load_target("rpi4")
    assert json.loads(capsys.readouterr().out) == {
        "schema": "edgeprune.target/1",
        **target.to_json(),
        "libc": "glibc 2.28",
        "digest": target.digest,
        "file": str(data_folder("targets") / "rpi4.toml"),
    }


def test_targets_show_for_people(capsys):
    assert main(["targets", "show", "rpi4"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(load_target("rpi4").title)
    assert "cortex-a72" in out


def test_an_unknown_target_is_bad_input(capsys):
    code, body = run_json(capsys, "targets", "show", "rpi")
    assert code == 3
    assert "rpi4" in body["error"]["details"]["known"]


@pytest.mark.parametrize(
    ("verb", "name", "why"),
    [("profile", "ultra96", "VTA"), ("compile", "ultra96", "VTA")],
)
def test_what_cannot_be_done_for_a_board_is_said(capsys, tmp_path, verb, name, why):
    out = [] if verb == "profile" else ["--out", str(tmp_path / "bundle")]
    code, body = run_json(capsys, verb, "zoo:resnet20", "--target", name, *out)
    assert code == 3
    assert why in body["error"]["message"]
    assert "aarch64_generic" in body["error"]["hint"]
    assert not list(tmp_path.iterdir())


def test_devices_lists_at_least_this_computer(capsys):
    code, body = run_json(capsys, "devices")
    assert code == 0
    assert body["schema"] == "edgeprune.devices/1"
    assert "local:" in [d["url"] for d in body["devices"]]


@pytest.fixture
def few_checks(monkeypatch):
    """doctor with the given checks instead of its own."""

    def replace(*found):
        monkeypatch.setattr(checks, "all_checks", lambda home: iter(found))

    return replace


def test_doctor_on_a_computer_that_runs_these_tests(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("EDGEPRUNE_HOME", str(tmp_path / "home"))
    main(["doctor", "--json"])
    out, err = capsys.readouterr()
    body = json.loads(out)
    by_name = {c["check"]: c for c in body["checks"]}
    assert body["ok"] is all(c["status"] != "fail" for c in body["checks"])
    assert by_name["torch"]["found"] == version("torch")
    assert by_name["tvm loads"]["status"] == "ok", by_name["tvm loads"]
    assert by_name["zig runs"]["status"] == "ok", by_name["zig runs"]
    assert all(c["mend"] for c in body["checks"] if c["status"] != "ok")
    assert not (tmp_path / "home").exists(), "looking changes nothing"
    assert err == "checking this computer\n"


def test_doctor_leaves_with_5_only_if_something_needed_fails(few_checks, capsys):
    few_checks(Check("python", "ok", "3.11"), Check("qemu", "warn", "absent", "apt-get install qemu"))
    assert main(["doctor", "-q"]) == 0
    few_checks(Check("python", "ok", "3.11"), Check("torch", "fail", "not installed", "pip install torch"))
    capsys.readouterr()
    assert main(["doctor", "-q"]) == 5
    out, err = capsys.readouterr()
    assert "pip install torch" in out
    assert err == ""
    code, body = run_json(capsys, "doctor", "-q")
    assert (code, body["ok"]) == (5, False)


def test_a_package_of_the_wrong_version_is_found_and_mended():
    requirements = [
        "pytest<1",
        "edgeprune-no-such-package>=2",
        "pytest>=1",
        "pytest<1; extra == 'test'",
        "pytest<1; python_version < '3'",
    ]
    wrong, absent, right = checks.packages(requirements)
    assert (wrong.status, absent.status, right.status) == ("fail", "fail", "ok")
    assert wrong.found == f"{version('pytest')}, needs <1"
    assert wrong.mend.startswith(f"{sys.executable} -m pip install ")
    assert wrong.mend.endswith(" 'pytest<1'")
    assert absent.found == "not installed"
    with pytest.raises(PackageNotFoundError):
        version("edgeprune-no-such-package")


def test_the_pin_on_tvm_ffi_is_among_the_checks(monkeypatch):
    """Later releases crash the process (docs/DECISIONS.md, 1), so the bound must reach the user's computer."""
    (pin,) = [r for r in requires("edgeprune") if r.startswith("apache-tvm-ffi")]
    (installed,) = checks.packages([pin])
    assert installed.status == "ok"
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1.15")
    (crashing,) = checks.packages([pin])
    assert (crashing.check, crashing.status) == ("apache-tvm-ffi", "fail")
    monkeypatch.setattr(checks, "TVM_PROBE", "raise SystemExit(1)")
    for mend in (crashing.mend, checks.compiler().mend):
        (asked,) = [Requirement(word) for word in shlex.split(mend) if word.startswith("apache-tvm-ffi")]
        assert asked.specifier == Requirement(pin).specifier


def test_a_compiler_that_crashes_is_reported_not_shared(monkeypatch):
    monkeypatch.setattr(checks, "TVM_PROBE", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    check = checks.compiler()
    assert (check.status, check.found) == ("fail", "exit code -11")
    monkeypatch.setattr(checks, "TVM_PROBE", "print('0.27.0', 'no llvm')")
    assert checks.compiler().status == "fail"


@pytest.mark.parametrize(("version", "status"), [((3, 10, 9), "fail"), ((3, 13, 1), "ok"), ((3, 14, 0), "fail")])
def test_python(version, status):
    assert checks.python(version).status == status


def test_a_home_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    check = checks.writable(tmp_path / "file" / "home")
    assert check.status == "fail"
    assert str(tmp_path / "file") in check.found
    assert checks.writable(tmp_path / "a" / "b").status == "ok"


def test_a_serial_port_without_permission_names_the_group(tmp_path, monkeypatch):
    port = tmp_path / "ttyUSB0"
    port.write_text("")
    assert checks.serial_ports(tmp_path).found == str(port)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    check = checks.serial_ports(tmp_path)
    assert check.status == "fail"
    assert f"usermod -aG {port.group()} " in check.mend
    assert checks.serial_ports(Path("/no/such/folder")).status == "ok"


def test_a_disk_that_is_nearly_full(tmp_path, monkeypatch):
    for free, status in ((1e6, "fail"), (1e9, "warn"), (1e11, "ok")):
        monkeypatch.setattr("shutil.disk_usage", lambda path, free=free: type("Usage", (), {"free": free}))
        assert checks.disk(tmp_path / "not" / "yet").status == status
