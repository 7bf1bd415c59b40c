"""Constants without their zeros: what Python codes, the board's C brings back bit by bit, or refuses."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune.board import zig
from edgeprune.compiler.coding import coded
from edgeprune.compiler.link import board_sources

Words = NDArray[np.uint32]
Reader = Callable[..., "Words | None"]

# Code and values end where a page begins that may not be touched: a byte too far ends the process.
HARNESS = """
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "decode.h"

static unsigned char *guarded(uint64_t bytes, uint64_t *whole) {
  uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), used = (bytes + page - 1) / page * page;
  unsigned char *at = mmap(NULL, used + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(at + used, page, PROT_NONE);
  *whole = used + page;
  return at + used - bytes;
}

int read_back(const void *code, uint64_t bytes, uint64_t words, uint64_t part, void *result) {
  uint64_t in_whole, out_whole;
  unsigned char *in = guarded(bytes, &in_whole), *out = guarded(4 * words, &out_whole);
  memcpy(in, code, bytes);
  ep_decoder d;
  int failed = ep_decode_begin(&d, in, bytes, words);
  for (uint64_t at = 0; !failed && (at < words || words == 0); at += part) {
    uint64_t count = words - at < part ? words - at : part;
    failed = ep_decode_next(&d, (uint32_t *)out + at, count);
    if (words == 0) break;
  }
  memcpy(result, out, 4 * words);
  munmap(in + bytes + (uint64_t)sysconf(_SC_PAGESIZE) - in_whole, in_whole);
  munmap(out + 4 * words + (uint64_t)sysconf(_SC_PAGESIZE) - out_whole, out_whole);
  return failed;
}
"""


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """``read(code, words, part)``: the words, ``part`` of them at a time; None where the code is refused."""
    folder = tmp_path_factory.mktemp("decode")
    (folder / "harness.c").write_text(HARNESS)
    library = folder / "decode.so"
    sources = [str(folder / "harness.c"), str(board_sources() / "decode.c")]
    strict = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{board_sources()}"]
    done = zig.cc([*strict, "-shared", "-fPIC", "-o", str(library), *sources], folder)
    assert done.returncode == 0, done.stderr
    c = ctypes.CDLL(str(library))

    def back(code: bytes, words: int, part: int = 1 << 40) -> Words | None:
        result = np.full(words, 0xDEADBEEF, np.uint32)
        sizes = (ctypes.c_uint64(n) for n in (len(code), words, part))
        failed = c.read_back(code, *sizes, result.ctypes.data_as(ctypes.c_void_p))
        return None if failed else result

    return back


def bits(values: NDArray[np.float32]) -> Words:
    return np.ascontiguousarray(values).reshape(-1).view(np.uint32)


def with_zeros(size: int, share: float, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    values = random.standard_normal(size).astype(np.float32)
    values[random.random(size) < share] = 0
    return values


def masked(size: int, share: float) -> NDArray[np.float32]:
    """As ``w * mask`` leaves them: half of the zeros are -0.0."""
    random = np.random.default_rng(1)
    return (random.standard_normal(size) * (random.random(size) >= share)).astype(np.float32)


def blocks(of: int) -> NDArray[np.float32]:
    random = np.random.default_rng(2)
    return (random.standard_normal((1000, of)) * (random.random((1000, 1)) < 0.2) + 0.0).astype(np.float32)


def odd_words() -> NDArray[np.float32]:
    """NaN of both signs and with payloads, infinities, subnormals, -0.0 between zeros."""
    words = [0x7FC00000, 0xFFC00001, 0x7F800001, 0xFF800000, 0x7F800000, 0x80000000, 1, 0x80000001, 0, 0, 0, 0x80000000]
    return np.array(words * 7 + [0] * 91, np.uint32).view(np.float32)


SIZES = (0, 1, 7, 8, 9, 63, 64, 65, 511, 512, 513, 4097, 40_000)
ARRAYS = {
    **{f"zeros-{n}": np.zeros(n, np.float32) for n in SIZES},
    **{f"minus-{n}": np.full(n, -0.0, np.float32) for n in SIZES},
    **{f"none-{n}": with_zeros(n, 0.0) for n in SIZES},
    **{f"half-{n}": with_zeros(n, 0.5) for n in SIZES},
    **{f"few-{n}": with_zeros(n, 0.97) for n in SIZES},
    **{f"masked-{n}": masked(n, 0.8) for n in SIZES},
    **{f"last-{n}": np.eye(1, n, n - 1, dtype=np.float32) for n in SIZES if n},
    **{f"blocks-{n}": blocks(n) for n in (4, 8, 13, 16, 64)},
    "two of four": np.tile(np.array([1, 0, 0, 2], np.float32), 999),
    "one value": np.full(777, 2.5, np.float32),
    "odd words": odd_words(),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_every_bit_comes_back(name: str, read: Reader) -> None:
    values = ARRAYS[name]
    code = coded(values)
    assert coded(values.copy()) == code
    for part in (1 << 40, 512, 4096):
        found = read(code, values.size, part)
        assert found is not None
        assert np.array_equal(found, bits(values))


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9, 0.99])
def test_the_code_is_never_larger_than_a_bitmap_and_the_values(share: float) -> None:
    values = with_zeros(100_000, share)
    left = np.count_nonzero(values)
    assert len(coded(values)) <= 12 + values.size / 8 + 4 * left
    signed = masked(100_000, share)
    assert len(coded(signed)) <= 16 + 2 * signed.size / 8 + 4 * np.count_nonzero(signed)


def test_patterns_cost_less_than_a_bit_a_word() -> None:
    for of in (8, 16, 64):
        values = blocks(of)
        flags = len(coded(values)) - 4 * np.count_nonzero(values)
        assert flags < values.size / 8 / 4
    assert len(coded(np.zeros(1_000_000, np.float32))) < 80


def places(code: bytes) -> int:
    """Bytes of the code in front of the values, by the page that describes it."""
    _, levels, minus, _, _ = struct.unpack_from("<4BI", code)
    sizes = struct.unpack_from(f"<{levels + minus}I", code, 8)
    return 8 + 4 * len(sizes) + sum(sizes)


@pytest.mark.parametrize("name", ["half-513", "few-4097", "masked-513", "blocks-13", "odd words", "zeros-65"])
def test_damaged_codes_are_refused(name: str, read: Reader) -> None:
    values = ARRAYS[name]
    code, expected = coded(values), bits(values)
    for end in {*range(min(len(code), 200)), len(code) - 1}:
        assert read(code[:end], values.size) is None, f"cut to {end}"
    assert read(code + b"\0", values.size) is None
    assert read(code + b"\0\0\0\0", values.size) is None
    # All of head and sizes, then every few bytes of the flags.
    head = places(code)
    for at in (*range(min(head, 60)), *range(60, head, 7)):
        for bit in range(8):
            damaged = bytearray(code)
            damaged[at] ^= 1 << bit
            found = read(bytes(damaged), values.size)
            assert found is None or np.array_equal(found, expected), f"bit {bit} of byte {at}"


def test_a_code_of_another_size_is_refused(read: Reader) -> None:
    code = coded(with_zeros(1000, 0.8))
    assert read(code, 1000) is not None
    assert all(read(code, size) is None for size in (0, 1, 900, 2000, 1 << 20))


def test_noise_reads_and_writes_nothing_outside(read: Reader) -> None:
    """Refused or not, the process lives: pages behind code and values may not be touched."""
    random = np.random.default_rng(3)
    refused = 0
    for size in (0, 3, 8, 20, 100, 1000):
        for _ in range(200):
            noise = bytearray(random.bytes(size))
            if size >= 8 and random.random() < 0.8:  # a head that is looked into
                noise[:4] = bytes([random.integers(7), random.integers(1, 5), random.integers(5), 0])
                for at in range(8, min(size - 3, 40), 4):
                    noise[at : at + 4] = struct.pack("<I", random.integers(12))
            refused += read(bytes(noise), int(random.integers(0, 3000))) is None
    assert refused > 1000


def test_levels_and_units_are_those_of_the_c_sources() -> None:
    from edgeprune.compiler.coding import MOST_LEVELS, MOST_UNIT

    source = Path(board_sources() / "decode.c").read_text()
    assert f"MOST_LEVELS = {MOST_LEVELS}, MOST_UNIT = {MOST_UNIT}" in source
