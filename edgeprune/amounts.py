"""Amounts in words: the one place where numbers are written out for people."""

from __future__ import annotations


def number(value: float) -> str:
    """Four significant digits, and never fewer than all the whole ones."""
    return f"{value:.0f}" if 1000 <= abs(value) < 1e15 else f"{value:.4g}"


def percent(fraction: float) -> str:
    return f"{fraction * 100:.2f} %"


def share(fraction: float) -> str:
    """A share to two digits, never 0 % where there is some, nor 100 % where something lacks: ``70 %``, ``0.42 %``."""
    if 0.985 < fraction < 1:
        return f"{min(fraction * 100, 99.9):.3g} %"
    return f"{float(f'{fraction * 100:.2g}'):g} %"


def written(value: float, unit: str) -> str:
    """A value in its unit: ``5.83 ms``, ``142.0 kB``."""
    return size(value) if unit == "bytes" else f"{number(value)} {unit}"


def count(n: int) -> str:
    """``69.3 M``; exact below a thousand."""
    return _scaled(n, "")


def size(n: float) -> str:
    """Bytes in powers of ten, as storage is sold: ``142.0 kB``."""
    return _scaled(n, "B")


def _scaled(n: float, unit: str) -> str:
    for factor, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(n) >= factor:
            return f"{n / factor:.1f} {prefix}{unit}"
    return f"{n:.0f} {unit}".rstrip()
