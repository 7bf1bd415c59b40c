"""Processors as target files describe them, and the features of this computer's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(strict=True, gt=0)]


class Record(BaseModel):
    """Frozen, and without fields that nobody reads: a misspelt key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Llvm(Record):
    """How LLVM names the processor."""

    mtriple: str
    mcpu: str
    mattr: tuple[str, ...] = ()
    mfloat_abi: Literal["hard", "soft"] | None = Field(default=None, alias="mfloat-abi")

    def to_dict(self) -> dict[str, Any]:
        """The dictionary that ``tvm.target.Target`` takes."""
        target: dict[str, Any] = {"kind": "llvm", "mtriple": self.mtriple, "mcpu": self.mcpu}
        if self.mattr:
            target["mattr"] = list(self.mattr)
        if self.mfloat_abi:
            target["mfloat-abi"] = self.mfloat_abi
        return target


class Caches(Record):
    """Bytes of data cache that one core sees."""

    l1d: Positive
    l2: Positive


class Cuda(Record):
    """An NVIDIA GPU beside the cores.

    Attributes:
        arch: compute capability as the compiler names it: ``sm_87``.
        multiprocessors: of the smallest board sold.
        shared_bytes: shared memory that one thread block gets without asking for more.
        registers: 32-bit registers that one thread block can have.
        threads: most threads of one thread block.
        toolkit: newest CUDA major version whose drivers the board's systems have; decides which
            runtime libraries can be loaded there.
    """

    arch: Annotated[str, Field(pattern=r"^sm_[1-9]\d{1,2}$")]
    multiprocessors: Positive
    shared_bytes: Positive
    registers: Positive
    threads: Positive
    toolkit: Positive


def cuda_of(arch: str) -> Cuda:
    """What any GPU of that compute capability has (CUDA C++ Programming Guide, Technical Specifications)."""
    registers = 32768 if arch in ("sm_53", "sm_62") else 65536
    # Drivers of CUDA 11 at least: what is compiled is of that release.
    return Cuda(arch=arch, multiprocessors=1, shared_bytes=49152, registers=registers, threads=1024, toolkit=11)


class Vta(Record):
    """A VTA accelerator in the board's FPGA, in the configuration that apache/tvm-vta ships for the board.

    Attributes:
        hardware_version: ``HW_VER`` of that configuration.
        batch, block_in, block_out: shape of the matrix unit: (batch x block_in) by (block_in x block_out) a cycle.
        input_bits, weight_bits, accumulator_bits: widths of the integers.
        micro_op_bytes, input_bytes, weight_bytes, accumulator_bytes: on-chip buffers.
    """

    hardware_version: str
    batch: Positive
    block_in: Positive
    block_out: Positive
    input_bits: Positive
    weight_bits: Positive
    accumulator_bits: Positive
    micro_op_bytes: Positive
    input_bytes: Positive
    weight_bytes: Positive
    accumulator_bytes: Positive


def host_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> tuple[str, ...]:
    """CPU features of this computer, sorted; none where the kernel does not list them."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return tuple(sorted(value.split()))
    return ()
