"""The client of the native program: the one place that spells the command lines of docs/BOARD.md and reads its JSON.

It is given a way to run a command, so that it serves a device, an emulator and this computer alike.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Protocol

from edgeprune.board.anomalies import GUARD, Anomaly, anomalies_in, refused
from edgeprune.board.element_types import SIZES
from edgeprune.errors import BadInputError, DeviceError, DeviceUnreachableError, VerificationError
from edgeprune.jsonable import Jsonable


class ExitCode(IntEnum):
    """Exit codes of the program."""

    OK = 0
    INTERNAL = 1
    USAGE = 2
    BAD_INPUT = 3
    NOT_OPENED = 6  # no memory, or no GPU that it can use
    DIFFERENT = 7  # outputs differ
    ANOMALOUS = 11  # a sample that was refused for its values


class Ended(Protocol):
    """Outcome of a command: exit code and output."""

    @property
    def returncode(self) -> int: ...
    @property
    def stdout(self) -> str: ...
    @property
    def stderr(self) -> str: ...


class Run(Protocol):
    """Runs a command and waits for it; raises DeviceError if it does not end in time."""

    def __call__(self, argv: Sequence[str], /, *, timeout_s: float) -> Ended: ...


@dataclass(frozen=True, slots=True)
class GoldenResult(Jsonable):
    """How far the device's output is from the golden one; ``scale`` is the largest expected value."""

    max_abs_diff: float
    scale: float


@dataclass(frozen=True, slots=True)
class Launch(Jsonable):
    """End-to-end latencies of one launch of a program.

    Attributes:
        clock: as the program calls it: ``monotonic`` or ``virtual``.
        reference_ns: time of the program's reference loop before each sample; none under a virtual clock, and none
            from a program that was built before there was one.
        allocated_bytes: RAM that the program took for itself, thread stacks aside; None from a program that does not
            tell.
    """

    samples_ns: tuple[float, ...]
    clock: str
    reference_ns: tuple[float, ...] = ()
    allocated_bytes: int | None = None

    @property
    def samples_ms(self) -> list[float]:
        return [s / 1e6 for s in self.samples_ns]

    @property
    def median_ms(self) -> float:
        return statistics.median(self.samples_ns) / 1e6

    @property
    def reference_ms(self) -> float | None:
        return statistics.median(self.reference_ns) / 1e6 if self.reference_ns else None

    def repeats_in(self, ms: float, fewest: int, most: int) -> int:
        """Inferences of one more launch that takes about ``ms``, by the quickest of this one."""
        return int(min(most, max(fewest, ms / min(self.samples_ms))))


@dataclass(frozen=True, slots=True)
class KernelRow:
    """Samples of one kernel in ns, whether its output was finite, and the reference loop's time before the first sample
    and after each: none under a virtual clock, on a GPU, or where a clock is too coarse for it.
    """

    samples_ns: tuple[float, ...]
    finite: bool
    reference_ns: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Kernels:
    """Rows in call order, up to the kernel that stopped the program; ``ended`` is how it left. ``whole_ns`` has the
    inferences that kernels of a network were timed in: none of unrelated kernels, and none from earlier programs.
    """

    rows: tuple[KernelRow, ...]
    ended: Ended
    whole_ns: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class NativeProgram:
    """A native program at a path, on a device or an emulator.

    Attributes:
        run_command: runs an argv there.
        command: the program, after an emulator if it needs one.
    """

    run_command: Run
    command: tuple[str, ...]
    timeout_s: float

    def check(
        self, inputs: Sequence[str], expected: Sequence[str], *, rtol: float, atol: float, threads: int = 1
    ) -> GoldenResult:
        """Golden check: the program's output on ``inputs`` compared with ``expected`` on the device.

        Raises:
            VerificationError: it crashes, hangs or computes something else.
        """
        tolerance = ("--rtol", repr(rtol), "--atol", repr(atol), "--threads", str(threads))
        done = self._run("check", *_each("--input", inputs), *_each("--expect", expected), *tolerance)
        if done.returncode not in (ExitCode.OK, ExitCode.DIFFERENT):
            raise crashed("check", done)
        data = _object(done, "check")
        try:
            scale = float(data["scale"])
            if data["max_abs_diff"] is None:
                raise VerificationError("the output is not finite", max_abs_diff=None, scale=scale)
            result = GoldenResult(float(data["max_abs_diff"]), scale)
        except _NOT_THIS as e:
            raise VerificationError("check prints no difference", stdout=done.stdout) from e
        if not (math.isfinite(result.max_abs_diff) and math.isfinite(result.scale)):
            raise VerificationError("check prints no difference", stdout=done.stdout)
        if done.returncode != ExitCode.OK or data.get("ok") is not True:
            raise VerificationError(
                f"the output differs from the golden one by {result.max_abs_diff:g} at a scale of {result.scale:g} "
                f"(rtol {rtol:g}, atol {atol:g})",
                **result.to_json(),
            )
        return result

    def bench(self, *, warmup: int, repeats: int, threads: int = 1) -> Launch:
        """Latencies of ``repeats`` inferences.

        Raises:
            VerificationError: it crashes, hangs or prints no such samples.
        """
        done = self._run("bench", *_timing(warmup, repeats, threads))
        if done.returncode != ExitCode.OK:
            raise crashed("bench", done)
        data = _object(done, "bench")
        try:
            samples = tuple(float(sample) for sample in data["samples"])
            reference = tuple(float(sample) for sample in data.get("reference", ()))
            clock, unit = str(data["clock"]), data["unit"]
            allocated = None if "allocated_bytes" not in data else int(data["allocated_bytes"])
        except _NOT_THIS as e:
            raise VerificationError("bench prints no samples", stdout=done.stdout) from e
        if unit != "ns" or len(samples) != repeats or not all(math.isfinite(s) and s > 0 for s in samples):
            raise VerificationError(f"bench does not print {repeats} positive samples in ns", stdout=done.stdout)
        if len(reference) not in (0, repeats) or not all(math.isfinite(s) and s >= 0 for s in reference):
            raise VerificationError(f"bench does not print {repeats} times of its reference", stdout=done.stdout)
        if not all(reference):
            reference = ()  # a clock too coarse for it says nothing of the program
        return Launch(samples, clock, reference, allocated)

    def kernels(
        self,
        *,
        warmup: int,
        repeats: int,
        threads: int = 1,
        first: int = 0,
        min_ns: int = 0,
        weight_span: int = 0,
        most: int | None = None,
        retakes: int = 0,
        nominal_ns: int = 0,
    ) -> Kernels:
        """Samples of each kernel from number ``first`` on; at most ``most`` rows are read.

        Args:
            retakes: most samples of a kernel that are taken in place of those that met a slow clock.
            nominal_ns: time of the reference loop at the clock that counts; 0: the quickest it has in this run.

        Raises:
            VerificationError: the program does not end; which kernel it hung at is not known.
        """
        arguments = [*_timing(warmup, repeats, threads), "--first", str(first), "--min-ns", str(min_ns)]
        arguments += ["--weight-span", str(weight_span)]
        if retakes:  # an argument that programs of an earlier version do not know
            arguments += ["--retakes", str(retakes), "--nominal-ns", str(nominal_ns)]
        done = self._run("kernels", *arguments)
        rows: list[KernelRow] = []
        whole: tuple[float, ...] = ()
        for line in done.stdout.splitlines():
            row = _kernel_row(line, first + len(rows))
            if row is None or len(rows) == most:
                whole = _whole(line, repeats)
                break
            rows.append(row)
        return Kernels(tuple(rows), done, whole)

    def run(
        self,
        inputs: Sequence[str],
        outputs: Sequence[str],
        *,
        batch: int = 1,
        threads: int = 1,
        anomalies: str | None = None,
    ) -> tuple[Anomaly, ...]:
        """Outputs of ``batch`` stacked samples, written into files beside the program; samples that it flagged.

        Args:
            anomalies: what it does with anomalous samples; None: nothing is said, as to programs of an earlier version.

        Raises:
            AnomalousInputError: a sample is refused for its values; nothing was computed.
            BadInputError: an input is missing or has not the size of the batch.
            VerificationError: it crashes or does not end.
        """
        options = ["--batch", str(batch), "--threads", str(threads)]
        options += [] if anomalies is None else ["--anomalies", anomalies]
        done = self._run("run", *_each("--input", inputs), *_each("--output", outputs), *options)
        found = anomalies_in(done.stdout)
        if done.returncode == ExitCode.ANOMALOUS:
            raise refused(found, anomalies or GUARD, done.stderr)
        if done.returncode == ExitCode.BAD_INPUT:
            raise BadInputError(f"the model refuses the input: {done.stderr.strip()}", hint="see edgeprune run --help")
        if done.returncode != ExitCode.OK:
            raise crashed("run", done)
        return found

    def info(self) -> dict[str, Any]:
        """What the program says of itself: name, inputs, outputs, bytes, kernels.

        Raises:
            VerificationError: it crashes, hangs or prints no such description.
        """
        done = self._run("info")
        if done.returncode != ExitCode.OK:
            raise crashed("info", done)
        data = _object(done, "info")
        if not _describes_program(data):
            raise VerificationError("info describes no program", stdout=done.stdout)
        return data

    def _run(self, command: str, *arguments: str) -> Ended:
        try:
            return self.run_command([*self.command, command, *arguments], timeout_s=self.timeout_s)
        except DeviceUnreachableError:
            raise
        except DeviceError as e:
            raise VerificationError(f"{command} does not end: {e.message}") from e


def crashed(command: str, done: Ended) -> VerificationError:
    """The error for a program that neither succeeded nor failed by the rules of docs/BOARD.md."""
    stderr = done.stderr.strip()
    last = stderr.splitlines()[-1] if stderr else "no message"
    loader = "GLIBC_" in stderr or done.returncode in (126, 127)
    return VerificationError(
        f"{command} failed with exit code {done.returncode}: {last}",
        hint="the program does not fit the C library or processor of the board: compile for its libc" if loader else "",
        returncode=done.returncode,
        stderr=stderr,
    )


_NOT_THIS = (KeyError, TypeError, ValueError, OverflowError)
"""What reading an object raises that says something else; the last is of a number too large for a float."""


def _each(option: str, paths: Sequence[str]) -> list[str]:
    return [part for path in paths for part in (option, path)]


def _timing(warmup: int, repeats: int, threads: int) -> list[str]:
    return ["--warmup", str(warmup), "--repeats", str(repeats), "--threads", str(threads)]


def _object(done: Ended, command: str) -> dict[str, Any]:
    lines = done.stdout.strip().splitlines()
    try:
        data = json.loads(lines[-1]) if lines else None
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise VerificationError(f"{command} prints no JSON object", stdout=done.stdout, stderr=done.stderr)
    return data


def _describes_program(data: Mapping[str, Any]) -> bool:
    sizes = (data.get(key) for key in ("arena_bytes", "peak_ram_bytes", "weight_bytes"))
    return (
        _is_name(data.get("name"))
        and _lists(data.get("inputs"), _is_port)
        and _lists(data.get("outputs"), _is_port)
        and all(map(_is_size, sizes))
        and _lists(data.get("kernels"), _is_name)
    )


def _is_port(value: object) -> bool:
    return (
        isinstance(value, dict)
        and _is_name(value.get("name"))
        and _is_name(value.get("dtype"))
        and value["dtype"] in SIZES
        and _lists(value.get("shape"), _is_size)
    )


def _is_name(value: object) -> bool:
    return isinstance(value, str)


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0


def _lists(value: object, of: Callable[[object], bool]) -> bool:
    return isinstance(value, list) and all(map(of, value))


def _whole(line: str, repeats: int) -> tuple[float, ...]:
    """The inferences around the kernels of a network, if this is the line that tells them."""
    try:
        found = tuple(float(s) for s in json.loads(line)["whole"])
    except _NOT_THIS:
        return ()
    return found if len(found) == repeats and all(math.isfinite(s) and s > 0 for s in found) else ()


def _kernel_row(line: str, index: int) -> KernelRow | None:
    """The row of kernel ``index``, if this is the whole of its line."""
    try:
        row = json.loads(line)
        samples = tuple(float(s) for s in row["samples"])
        said = row.get("reference", [])
        # Earlier programs print one number for a kernel.
        reference = tuple(map(float, said if isinstance(said, list) else [said] * (len(samples) + 1)))
        whole = row["index"] == index and samples and all(map(math.isfinite, (*samples, *reference)))
        if not whole or len(reference) not in (0, len(samples) + 1):
            return None
        return KernelRow(samples, row["finite"] is True, reference if all(r > 0 for r in reference) else ())
    except _NOT_THIS:
        return None
