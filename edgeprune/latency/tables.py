"""Latency tables: one kernel family over its widths, read from records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.budget.interpolate import interpolate
from edgeprune.errors import ProfileError
from edgeprune.graph.spec import KernelSpec
from edgeprune.latency.records import KernelRecord, check_record

QUANTITIES = ("latency_ms", "spread_ms", "object_bytes", "weight_bytes")
_SHOWN = 8

Array = NDArray[np.float64]
Filling = Callable[[Sequence[NDArray[np.int64]], Array], None]
"""Gives values to cells that have none (NaN), in place, where it can. Takes the widths along each axis and the values,
as of :class:`LatencyTable`.
"""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted cost of a kernel.

    ``source`` is "table" for a figure that was measured, "interpolated" for one that lies between such.
    """

    latency_ms: float
    spread_ms: float
    object_bytes: float
    weight_bytes: float
    source: str

    @property
    def flash_bytes(self) -> float:
        return self.object_bytes + self.weight_bytes


@dataclass(frozen=True, slots=True)
class LatencyTable:
    """One kernel family over its widths.

    Attributes:
        family: ``KernelSpec.family``.
        axes: ``("in", "out")`` or ``("out",)``.
        grids: ascending widths, one array per axis.
        values: shape (len(grids[0]), …, 4), the last axis as in ``QUANTITIES``.
        estimated: True where a cell was interpolated, not measured; the shape of the grids.
    """

    family: str
    axes: tuple[str, ...]
    grids: tuple[NDArray[np.int64], ...]
    values: Array
    estimated: NDArray[np.bool_]

    @property
    def latency_ms(self) -> Array:
        return self.values[..., QUANTITIES.index("latency_ms")]

    @property
    def flash_bytes(self) -> Array:
        """Code and packed weights; a network's sum counts the code of equal kernels each time."""
        code, weights = QUANTITIES.index("object_bytes"), QUANTITIES.index("weight_bytes")
        flash: Array = self.values[..., code] + self.values[..., weights]
        return flash

    def predict(self, widths: Mapping[str, int]) -> Prediction:
        """Multilinear between grid points, exact on them, clamped outside.

        Raises:
            ProfileError: ``widths`` are not those of this table's axes.
        """
        if set(widths) != set(self.axes):
            raise ProfileError(f"a table over {self.axes} cannot be asked for {sorted(widths)}")
        point = [np.array([widths[a]], dtype=np.int64) for a in self.axes]
        row = interpolate(self.grids, self.values, point)[0]
        cell = tuple(int(np.searchsorted(g, p[0])) for g, p in zip(self.grids, point, strict=True))
        known = all(i < len(g) and g[i] == p[0] for i, g, p in zip(cell, self.grids, point, strict=True))
        source = "table" if known and not self.estimated[cell] else "interpolated"
        latency_ms, spread_ms, object_bytes, weight_bytes = (float(v) for v in row)
        return Prediction(latency_ms, spread_ms, object_bytes, weight_bytes, source)


def table_from_records(
    records: Iterable[KernelRecord],
    *,
    axes: tuple[str, ...] | None = None,
    grids: Sequence[NDArray[np.int64]] | None = None,
    estimate: bool | Filling = False,
) -> LatencyTable:
    """A latency table of one family.

    A cell several kernels share (a concat's total made of different parts) holds their mean. A failed
    record counts as missing. With ``estimate`` a missing cell is filled: by the function that is given, or by bracket
    interpolation: along each axis linearly between the nearest known cells below and above on its line, averaged over
    the axes that have both, repeated with what was filled until nothing more is. That never extrapolates.

    Args:
        records: all of one family.
        axes: those of the family; read off the first record if not given.
        grids: the widths wanted, one ascending array per axis; all measured ones if not given. Other
            measured widths serve the interpolation alone.
        estimate: fill missing cells, and mark them in ``estimated``.

    Raises:
        ProfileError: no records, records of two families, a record that does not check, or missing cells
            (details list their widths, and the errors of kernels that failed).
    """
    records = list(records)
    for record in records:
        check_record(record)
    strangers = [r for r in records if not _same_kernel(records[0].spec, r.spec)]
    if strangers or not records:
        raise ProfileError(
            "a latency table needs records of one kernel family"
            + (
                f"; {strangers[0].spec} is no {records[0].spec} at other widths"
                if strangers
                else ", and there are none"
            ),
            hint="profile the kernel first",
        )
    axes = tuple(records[0].spec.widths) if axes is None else axes
    measured: dict[tuple[int, ...], list[tuple[float, ...]]] = defaultdict(list)
    failed: dict[tuple[int, ...], str] = {}
    for r in records:
        cell = widths_on(axes, r)
        if r.ok:
            measured[cell].append((r.median_ns * 1e-6, r.spread_ns * 1e-6, r.object_bytes, r.weight_bytes))
        else:
            failed[cell] = r.error
    wanted = tuple(np.array(sorted(set(w)), dtype=np.int64) for w in zip(*measured, strict=True))
    if grids is not None:
        wanted = tuple(np.asarray(g, dtype=np.int64) for g in grids)
    if len(wanted) != len(axes):
        raise ProfileError(
            f"no kernel of the family of {records[0].spec} was measured: {'; '.join(sorted(set(failed.values())))}",
            hint="see why it failed, and profile it again",
        )
    lines = wanted
    fill = _fill if estimate is True else estimate
    if fill is _fill:
        lines = tuple(np.union1d(g, [w[i] for w in measured]).astype(np.int64) for i, g in enumerate(wanted))
    values = np.full([*map(len, lines), len(QUANTITIES)], np.nan)
    index = [{int(w): i for i, w in enumerate(g)} for g in lines]
    for cell, figures in measured.items():
        if all(w in at for w, at in zip(cell, index, strict=True)):
            values[tuple(at[w] for w, at in zip(cell, index, strict=True))] = np.mean(figures, axis=0)
    estimated = np.isnan(values[..., 0])
    if fill:
        fill(lines, values)
    part = np.ix_(*(np.searchsorted(g, w) for g, w in zip(lines, wanted, strict=True)))
    values, estimated = values[part], estimated[part]
    if (holes := np.argwhere(np.isnan(values[..., 0]))).size:
        missing = [tuple(int(g[i]) for g, i in zip(wanted, hole, strict=True)) for hole in holes]
        _refuse(records[0], axes, missing, failed)
    return LatencyTable(records[0].spec.family, axes, wanted, values, estimated)


def widths_on(axes: tuple[str, ...], record: KernelRecord) -> tuple[int, ...]:
    """The widths of a record in a table over ``axes`` (a depthwise kernel at one channel has both axes)."""
    return tuple(record.spec.widths[a] for a in axes)


def _same_kernel(a: KernelSpec, b: KernelSpec) -> bool:
    """Whether ``b`` is ``a`` at other widths, the smallest included, which may look like another kernel."""
    return a.family == b.family or a.operator.smallest(a) == b


def _fill(grids: Sequence[NDArray[np.int64]], values: Array) -> None:
    while (missing := np.isnan(values[..., 0])).any():
        bracketed = np.stack([_along(axis, grids[axis], values, ~missing) for axis in range(len(grids))])
        fillable = missing & ~np.isnan(bracketed[..., 0]).all(axis=0)
        if not fillable.any():
            return
        values[fillable] = np.nanmean(bracketed[:, fillable], axis=0)


def _along(axis: int, grid: NDArray[np.int64], values: Array, known: NDArray[np.bool_]) -> Array:
    """Each line along ``axis`` interpolated between its known cells; NaN outside them."""
    result = np.full_like(values, np.nan)
    lines, source = np.moveaxis(result, axis, 0), np.moveaxis(values, axis, 0)
    known = np.moveaxis(known, axis, 0)
    for line in np.ndindex(known.shape[1:]):
        at = known[(slice(None), *line)]
        if at.any():
            for q in range(values.shape[-1]):
                cells = (slice(None), *line, q)
                lines[cells] = np.interp(grid, grid[at], source[cells][at], left=np.nan, right=np.nan)
    return result


def _refuse(
    record: KernelRecord, axes: tuple[str, ...], missing: list[tuple[int, ...]], failed: Mapping[tuple[int, ...], str]
) -> None:
    parts = [str(cell) + (f" (failed: {failed[cell]})" if cell in failed else "") for cell in missing[:_SHOWN]]
    more = f" … and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    raise ProfileError(
        f"the latency table of {record.spec} lacks widths {axes}: {', '.join(parts)}{more}",
        hint="profile these widths, or allow estimates between measured ones",
        family=record.spec.family,
        missing=[list(cell) for cell in missing],
        failed={str(cell): failed[cell] for cell in missing if cell in failed},
    )
