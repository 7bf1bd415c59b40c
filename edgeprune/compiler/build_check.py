"""Whether a bundle can be built for each target: a small network through the whole compiler."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.compiler.bundle import write_bundle
from edgeprune.compiler.compile import golden_pair, lower_network
from edgeprune.compiler.cuda.nvrtc import CUDA_MAJOR, embedded_gpus
from edgeprune.compiler.elf import Needs, version_of
from edgeprune.compiler.emulate import emulator, golden_check, static
from edgeprune.compiler.lower import Lowered
from edgeprune.compiler.manifest import Manifest
from edgeprune.compiler.program import write_program
from edgeprune.errors import EdgepruneError, MissingDependencyError, VerificationError
from edgeprune.graph.network import Network, read_network
from edgeprune.processors import host_features
from edgeprune.progress import SILENT, Progress
from edgeprune.targets import Target


@dataclass(frozen=True, slots=True)
class BuildResult:
    """What came of one target.

    Attributes:
        status: ``built``; ``failed``; ``unsupported``, where edgeprune builds no bundles for that kind of board.
        bytes: size of the program.
        architecture, libc: what the program needs, read from the program; with the GPU it carries code for.
        evidence: ``compiled``; ``emulated`` or ``measured`` where its golden check was right, in an
            emulator or on this computer; empty if there is no program.
        why: why there is none, or why the golden check was not run.
        exit_code: of the error that a failure was; 0 otherwise.
    """

    target: str
    kind: str
    status: Literal["built", "failed", "unsupported"]
    bytes: int | None = None
    architecture: str = ""
    libc: str = ""
    evidence: str = ""
    why: str = ""
    exit_code: int = 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class Small(nn.Module):
    """A stem, a depthwise and a pointwise convolution, a residual sum, pooling and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.ReLU())
        self.depthwise, self.pointwise = nn.Conv2d(12, 12, 3, padding=1, groups=12), nn.Conv2d(12, 12, 1)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x), 2)
        x = F.relu(x + self.pointwise(F.relu(self.depthwise(x))))
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))  # type: ignore[no-any-return]


def small_network() -> Network:
    """The network that is built for every target, with the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return read_network(Small().eval(), (torch.randn(1, 3, 16, 16),))


def build_check(targets: Sequence[Target], progress: Progress = SILENT) -> Iterator[BuildResult]:
    """Build a bundle for each target, here, with nothing of the target installed; one result each, in order."""
    network = small_network()
    progress.stage("building a small network for each target", len(targets))
    for target in targets:
        yield check_one(network, target)
        progress.advance()


def check_one(network: Network, target: Target) -> BuildResult:
    """Build for one target. What fails becomes part of the result: other targets are not less checked for it."""
    if target.kind == "vta":
        return BuildResult(target.name, target.kind, "unsupported", why="nothing can be built for VTA yet")
    try:
        with tempfile.TemporaryDirectory(prefix="edgeprune-check-") as folder:
            return _build(network, target, Path(folder))
    except EdgepruneError as e:
        why = f"{e.message}; {e.hint}" if isinstance(e, MissingDependencyError) else e.message
        return BuildResult(target.name, target.kind, "failed", why=why, exit_code=e.exit_code)


def _build(network: Network, target: Target, folder: Path) -> BuildResult:
    lowered = lower_network(network, target, name="small")
    golden = golden_pair(network)
    bundle = folder / "bundle"
    manifest = write_bundle(lowered, target, golden, bundle, threads=1, budget={}, provenance={})
    entry = manifest.files[manifest.program]
    require_built_for(target, entry.needs)
    assert entry.needs is not None
    evidence, why = _proved(lowered, target, bundle, manifest, folder)
    gpu = f"+ {target.cuda.arch}" if target.cuda else ""
    parts = (entry.needs.architecture, f"{entry.needs.bits} bit", _float(entry.needs), gpu)
    architecture = " ".join(filter(None, parts))
    return BuildResult(
        target.name, target.kind, "built", entry.bytes, architecture, entry.needs.libc or "none", evidence, why
    )


def _proved(lowered: Lowered, target: Target, bundle: Path, manifest: Manifest, folder: Path) -> tuple[str, str]:
    """Run the golden check where it can be run: the evidence, and what stood in the way of better."""
    if target.cuda:
        found = sorted(set(embedded_gpus((bundle / manifest.program).read_bytes())))
        if found != [target.cuda.arch]:
            raise VerificationError(f"the program for {target.name} carries code for {found}, not {target.cuda.arch}")
        older = f"; the board's drivers are of CUDA {target.cuda.toolkit} and may refuse code of CUDA {CUDA_MAJOR}"
        return "compiled", "never run: it needs the board's GPU" + (older if target.cuda.toolkit < CUDA_MAJOR else "")
    here = target.arch == platform.machine()
    missing = target.missing_features(host_features()) if here else ()
    if here and not missing:
        golden_check([str(bundle / manifest.program)], bundle, manifest)
        return "measured", ""
    if runner := emulator(target):
        program = write_program(lowered.program, static(target), folder)["program"]
        golden_check([*runner, str(program)], bundle, manifest)
        return "emulated", ""
    lacks = f"this computer lacks {', '.join(missing)}" if here else f"no emulator of {target.arch} here"
    return "compiled", f"not run: {lacks}"


def require_built_for(target: Target, needs: Needs | None) -> None:
    """What was built is for the target's processor and runs with its C library.

    Raises:
        VerificationError: it is not.
    """
    expected = target.architecture.elf
    if needs is None or needs.architecture != expected:
        raise VerificationError(f"the program for {target.name} is for {needs and needs.architecture}, not {expected}")
    if needs.float_abi and needs.float_abi != (target.llvm.mfloat_abi or needs.float_abi):
        raise VerificationError(f"the program for {target.name} has {needs.float_abi} floats")
    if needs.glibc > version_of(target.libc):
        raise VerificationError(f"the program for {target.name} needs {needs.libc}, the target has {target.libc}")


def _float(needs: Needs) -> str:
    return f"{needs.float_abi} float" if needs.float_abi else ""
