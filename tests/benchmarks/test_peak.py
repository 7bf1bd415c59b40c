"""The multiply-add peak: what its loop is made of decides what it measures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import peak

from edgeprune.targets import load_target

LOOP = """
chains:
	vbroadcastss	(%rdi), %ymm13
.LBB0_1:
	vfmadd213ps	%ymm14, %ymm13, %ymm0
	vfmadd213ps	%ymm14, %ymm13, %ymm1
	vfmadd213ss	%xmm14, %xmm13, %xmm2
	jne	.LBB0_1
	.size	chains, .-chains
main:
	vfmadd213ps	%ymm14, %ymm13, %ymm3
	.size	main, .-main
"""


def test_multiply_adds_of_the_loop_are_counted_by_their_width() -> None:
    found = {bits: peak.multiply_adds(LOOP, peak.MULTIPLY_ADDS["x86_64", bits]) for bits in (128, 256, 512)}
    assert found == {128: 0, 256: 2, 512: 0}
    assert peak.multiply_adds("main:\n", peak.MULTIPLY_ADDS["x86_64", 256]) == 0


def test_a_loop_of_another_width_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    host = load_target("host")
    known = {(host.arch, host.vector_bits): "no such instruction"}
    monkeypatch.setattr(peak, "MULTIPLY_ADDS", known)
    with pytest.raises(RuntimeError, match="became 0 multiply-adds"):
        peak.measure(host, host.vector_bits, 8, 1)


def test_this_computer_runs_the_widest_loop() -> None:
    host = load_target("host")
    found = peak.measure(host, host.vector_bits, 8, 1)
    assert (found.vector_bits, found.chains) == (host.vector_bits, 8)
    assert found.gflops > 0
