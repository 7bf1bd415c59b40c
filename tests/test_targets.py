from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgeprune import targets
from edgeprune.errors import TargetError
from edgeprune.processors import Cuda, host_features
from edgeprune.targets import Target, data_folder, list_targets, load_target, read_target, target_file

CPU = {
    "aarch64_generic",
    "armv7_generic",
    "emulated_a53",
    "emulated_a72",
    "emulated_rpi3",
    "rpi3",
    "rpi4",
    "rpi5",
    "rpi_zero2w",
    "x86_64_avx2",
    "x86_64_avx512",
    "x86_64_sse4",
}
CUDA = {
    "jetson_agx_orin": "sm_87",
    "jetson_nano": "sm_53",
    "jetson_orin_nano": "sm_87",
    "jetson_xavier_nx": "sm_72",
}
VTA = {"pynq_z1", "ultra96"}
FIGURES = ("cores", "clock_mhz", "ram_bytes", "caches", "cuda", "vta")


@pytest.fixture(autouse=True)
def _no_folders_of_the_user(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.delenv(targets.ENVIRONMENT, raising=False)


def edited(tmp_path: Path, *changes: tuple[str, str], name: str = "rpi4") -> Path:
    text = (data_folder("targets") / "rpi4.toml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    file = tmp_path / f"{name}.toml"
    file.write_text(text)
    return file


def test_the_boards_that_are_shipped() -> None:
    found = list_targets()
    assert [t.name for t in found] == sorted(t.name for t in found)
    by_kind = {kind: {t.name for t in found if t.kind == kind} for kind in ("cpu", "cuda", "vta")}
    assert by_kind["cpu"] >= CPU
    assert {t.name: t.cuda.arch for t in found if t.cuda}.items() >= CUDA.items()
    assert by_kind["vta"] >= VTA


@pytest.mark.parametrize("target", list_targets(), ids=lambda t: t.name)
def test_every_figure_names_its_source(target: Target) -> None:
    cited = " ".join(target.sources)
    for figure in FIGURES:
        if getattr(target, figure) is not None and not (figure == "cores" and target.generic):
            assert figure in cited, f"no source for {figure}"


def test_every_target_has_a_page_of_its_family() -> None:
    index = (Path(__file__).parents[1] / "docs" / "boards" / "README.md").read_text(encoding="utf-8")
    assert not {target.name for target in list_targets() if f"`{target.name}`" not in index}


@pytest.mark.parametrize("name", sorted(VTA))
def test_nothing_is_built_for_vta_and_a_target_says_so(name: str) -> None:
    for other in ("rpi4", *CUDA):
        load_target(other).require_buildable()
    with pytest.raises(TargetError, match=name) as caught:
        load_target(name).require_buildable()
    offered = {"ultra96": "aarch64_generic", "pynq_z1": "no target fits"}
    assert offered[name] in caught.value.hint, "a Cortex-A9 has no VFPv4"


def test_the_c_library_of_a_target(tmp_path: Path) -> None:
    assert load_target("jetson_nano").libc == "glibc 2.27"
    musl = read_target(edited(tmp_path, ("aarch64-linux-gnu.2.28", "aarch64-linux-musl")))
    assert musl.libc == "musl"


def test_lanes_and_compiler_target() -> None:
    assert {t.name: t.lanes for t in list_targets()}["x86_64_avx512"] == 16
    rpi4 = load_target("rpi4")
    assert rpi4.lanes == 4
    assert rpi4.llvm.to_dict() == {
        "kind": "llvm",
        "mtriple": "aarch64-linux-gnu",
        "mcpu": "cortex-a72",
        "mattr": ["+neon"],
    }


def test_float_abi_is_read_under_the_compilers_name(tmp_path: Path) -> None:
    file = edited(
        tmp_path,
        ('arch = "aarch64"', 'arch = "armv7l"'),
        ("aarch64-linux-gnu.2.28", "arm-linux-gnueabihf.2.28"),
        ('mtriple = "aarch64-linux-gnu"', 'mtriple = "armv7a-linux-gnueabihf"\nmfloat-abi = "hard"'),
    )
    target = read_target(file)
    assert target.llvm.to_dict()["mfloat-abi"] == "hard"
    assert Target.model_validate(target.to_json()) == target


COMPILED = {
    "kind": "cuda",
    "arch": "x86_64",
    "llvm": {"mcpu": "cortex-a53"},
    "zig_target": "aarch64-linux-musl",
    "vector_bits": 256,
    "cuda": {"arch": "sm_72", "shared_bytes": 1, "registers": 1, "threads": 1},
    "vta": {"batch": 2},
}
"""Fields that compiled code depends on, each with another value; a digest follows them."""
DESCRIPTIVE = {
    "name": "spare",
    "title": "another",
    "notes": ("another",),
    "sources": ("another",),
    "default_device": "local:",
    "requires": ("fphp",),
    "generic": True,
    "cores": 99,
    "clock_mhz": 99,
    "ram_bytes": 99,
    "flash_bytes": 99,
    "caches": {"l1d": 99},
    "cuda": {"multiprocessors": 99, "toolkit": 99},
}
"""Fields that say something about a board; correcting one makes no profile foreign."""
BOARDS = {"cuda": "jetson_nano", "vta": "pynq_z1"}


def corrected(fields: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(field, digest as shipped, digest with another value) for each field, those of tables one by one."""
    for name, value in fields.items():
        shipped = load_target(BOARDS.get(name, "rpi4"))
        for field, other in value.items() if isinstance(value, dict) else [("", value)]:
            update = getattr(shipped, name).model_copy(update={field: other}) if field else other
            assert update != getattr(shipped, name), "another value is needed"
            yield f"{name}.{field}".rstrip("."), shipped.digest, shipped.model_copy(update={name: update}).digest


def test_the_digest_follows_what_compiled_code_depends_on() -> None:
    assert len(load_target("rpi4").digest) == 16
    assert [field for field, shipped, other in corrected(COMPILED) if other == shipped] == []


def test_a_corrected_description_makes_no_profile_foreign(tmp_path: Path) -> None:
    assert [field for field, shipped, other in corrected(DESCRIPTIVE) if other != shipped] == []
    faster = read_target(edited(tmp_path, ("clock_mhz = 1500", "clock_mhz = 1800"), ("Throttles at", "Slows down at")))
    assert faster.digest == load_target("rpi4").digest


def test_every_field_either_counts_or_does_not() -> None:
    assert {*COMPILED, *DESCRIPTIVE} == set(Target.model_fields)
    assert COMPILED.keys() & DESCRIPTIVE == {"cuda"}
    assert {*COMPILED["cuda"], *DESCRIPTIVE["cuda"]} == set(Cuda.model_fields)


def test_the_document_says_which_fields_are_in_the_digest() -> None:
    text = (Path(__file__).parents[1] / "docs" / "TARGETS.md").read_text()
    table = text.partition("| in the digest |")[2].partition("\n\n")[0]
    rows = [row.strip("| ").split(" | ") for row in table.splitlines() if row.startswith("| `")]
    said = {name: row[3] for row in rows for name in re.findall(r"`\[?(\w+)\]?`", row[0])}
    meant = {**dict.fromkeys(DESCRIPTIVE, "no"), **dict.fromkeys(COMPILED, "yes")}
    assert said == meant | dict.fromkeys(("cuda", "vta"), "see below")


def test_folders_override_environment_overrides_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    for folder, cores in ((mine, 1), (theirs, 2)):
        folder.mkdir()
        edited(folder, ("cores = 4", f"cores = {cores}"))
    monkeypatch.setenv(targets.ENVIRONMENT, str(theirs))
    assert load_target("rpi4").cores == 2
    assert load_target("rpi4", [mine]).cores == 1
    assert load_target("rpi5").cores == 4
    assert len(list_targets([mine])) == len(list_targets())


def test_the_users_own_folder_comes_after_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    own, theirs = home / "targets", tmp_path / "theirs"
    for folder, cores in ((own, 1), (theirs, 2)):
        folder.mkdir(parents=True)
        edited(folder, ("cores = 4", f"cores = {cores}"))
    edited(own, ('name = "rpi4"', 'name = "my_board"'), name="my_board")
    assert load_target("rpi4").cores == 1
    assert target_file("rpi4") == own / "rpi4.toml"
    assert "my_board" in [t.name for t in list_targets()]
    monkeypatch.setenv(targets.ENVIRONMENT, str(theirs))
    assert load_target("rpi4").cores == 2
    assert target_file("rpi5") == data_folder("targets") / "rpi5.toml"
    assert target_file("abacus") is None


def test_two_files_of_one_folder_cannot_claim_one_name(tmp_path: Path) -> None:
    edited(tmp_path)
    edited(tmp_path, name="spare")
    for name in ("rpi4", "rpi5"):
        with pytest.raises(TargetError, match=r"called 'rpi4': rpi4\.toml and spare\.toml"):
            load_target(name, [tmp_path])


def test_unknown_target_lists_what_exists_and_suggests() -> None:
    with pytest.raises(TargetError, match="rpi3, rpi4, rpi5") as caught:
        load_target("rpi44")
    assert "'rpi4'" in caught.value.hint
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("name", ["../targets/rpi4", "/etc/passwd", "rpi4.toml", ""])
def test_a_name_is_never_a_path(name: str) -> None:
    with pytest.raises(TargetError, match="there is no target"):
        load_target(name)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (("cores = 4", "cores = 0"), "cores"),
        (("cores = 4", 'cores = "4"'), "cores"),
        (("vector_bits = 128", "vector_bits = 100"), "vector_bits"),
        (("l2 = 1048576", ""), "caches.l2"),
        (("clock_mhz = 1500", "clock_mzh = 1500"), "clock_mzh"),
        (('zig_target = "aarch64-linux-gnu.2.28"', 'zig_target = "aarch64-linux-gnu; rm"'), "zig_target"),
        (('mtriple = "aarch64-linux-gnu"', 'mtriple = "x86_64-linux-gnu"'), "(whole file)"),
        (('requires = ["asimd", "crc32"]', 'requires = "asimd"'), "requires"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path: Path, change: tuple[str, str], field: str) -> None:
    file = edited(tmp_path, change)
    with pytest.raises(TargetError) as caught:
        read_target(file)
    assert str(file) in caught.value.message
    assert list(caught.value.details["fields"]) == [field]
    assert field in caught.value.message


CUDA_TABLE = """
[cuda]
arch = "sm_87"
multiprocessors = 4
shared_bytes = 49152
registers = 65536
threads = 1024
toolkit = 12
"""


@pytest.mark.parametrize(
    ("kind", "table", "field", "says"),
    [
        ("cuda", "", "(whole file)", r"needs a table \[cuda\]"),
        ("cpu", CUDA_TABLE, "(whole file)", r"has no place for \[cuda\]"),
        ("vta", CUDA_TABLE, "(whole file)", r"has no place for \[cuda\]"),
        ("cuda", CUDA_TABLE.replace("sm_87", "ampere"), "cuda.arch", "pattern"),
        ("cuda", CUDA_TABLE.replace("toolkit = 12", "toolkit = 0"), "cuda.toolkit", "greater"),
        ("cuda", CUDA_TABLE.replace("toolkit = 12", ""), "cuda.toolkit", "required"),
        ("npu", "", "kind", "'cpu', 'cuda' or 'vta'"),
    ],
)
def test_the_accelerator_is_described_where_there_is_one(
    tmp_path: Path, kind: str, table: str, field: str, says: str
) -> None:
    file = edited(tmp_path, ('kind = "cpu"', f'kind = "{kind}"'))
    file.write_text(file.read_text() + table)
    with pytest.raises(TargetError, match=says) as caught:
        read_target(file)
    assert list(caught.value.details["fields"]) == [field]


def test_every_wrong_field_is_named_at_once(tmp_path: Path) -> None:
    file = edited(tmp_path, ("cores = 4", "cores = 0"), ("l1d = 32768", "l1d = -1"))
    with pytest.raises(TargetError) as caught:
        read_target(file)
    assert set(caught.value.details["fields"]) == {"cores", "caches.l1d"}


def test_file_name_and_target_name_must_agree(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="the file is called 'board'"):
        read_target(edited(tmp_path, name="board"))


@pytest.mark.parametrize("content", [b"cores = = 4", b"\xff\xfe", b""])
def test_damaged_files_are_clear_errors(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(content)
    with pytest.raises(TargetError, match=r"x\.toml"):
        read_target(file)


def test_a_missing_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="does not exist"):
        list_targets([tmp_path / "nowhere"])


X86 = ("cx16", "popcnt", "sse4_1", "sse4_2", "ssse3")
X86_V3 = (*X86, "abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")
X86_V4 = (*X86_V3, "avx512bw", "avx512cd", "avx512dq", "avx512f", "avx512vl")


@pytest.mark.parametrize(
    ("machine", "features", "expected"),
    [
        ("x86_64", X86_V4, "x86_64_avx512"),
        ("x86_64", tuple(f for f in X86_V4 if f != "avx512vl"), "x86_64_avx2"),
        ("x86_64", tuple(f for f in X86_V4 if f != "fma"), "x86_64_sse4"),
        ("aarch64", ("asimd", "asimddp", "crc32", "fphp"), "aarch64_generic"),
    ],
)
def test_host_is_the_best_this_computer_can_run(
    monkeypatch: pytest.MonkeyPatch, machine: str, features: tuple[str, ...], expected: str
) -> None:
    monkeypatch.setattr(targets.platform, "machine", lambda: machine)
    monkeypatch.setattr(targets, "host_features", lambda: features)
    assert load_target("host").name == expected


def test_host_without_a_match_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets.platform, "machine", lambda: "riscv64")
    with pytest.raises(TargetError, match="riscv64") as caught:
        load_target("host")
    assert "--device" in caught.value.hint


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no target for this computer")
def test_host_of_this_very_computer() -> None:
    host = load_target("host")
    assert host.arch == platform.machine()
    assert host.missing_features(host_features()) == ()


def test_cpuinfo_of_both_architectures(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nflags\t\t: fma avx2 sse4_2\n\nprocessor\t: 1\nflags\t\t: none\n")
    assert host_features(file) == ("avx2", "fma", "sse4_2")
    file.write_text("processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd crc32\n")
    assert host_features(file) == ("asimd", "crc32", "fp")
    assert host_features(tmp_path / "missing") == ()


def test_reading_targets_imports_nothing_heavy() -> None:
    code = "import sys, edgeprune.targets as t; t.list_targets(); print({'torch', 'tvm', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_tvm_knows_every_processor() -> None:
    tvm = pytest.importorskip("tvm")
    for target in list_targets():
        assert str(tvm.target.Target(target.llvm.to_dict()).attrs["mcpu"]) == target.llvm.mcpu
