"""From whole inferences, with a clock around each kernel, to figures of the network and of its kernels in their places.

The figures of kernels have to add up to that of the network. Medians do not add up, and low quantiles still less: the
sum of the lucky moments of forty kernels is no moment of the network. So inferences are chosen by what they took as a
whole, and all figures are means over the same ones. These are the middle half: what takes a network from its usual time
goes either way, by neighbours on the chip that come and go, and by where memory lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune.latency.records import spread
from edgeprune.profiling.figures import ENOUGH, NEAR, Clock

Array = NDArray[np.float64]

MIDDLE = 0.5
"""Share of the inferences that count."""


@dataclass(frozen=True, slots=True)
class NetworkLaunch:
    """Inferences of one launch of a network, in ns.

    Attributes:
        whole_ns: each as a whole.
        calls_ns: of each call, those in each inference; none where calls were not timed.
        reference_ns: the reference's time before the first and after each; none where there is no reference.
    """

    whole_ns: tuple[float, ...]
    calls_ns: tuple[tuple[float, ...], ...] = ()
    reference_ns: tuple[float, ...] = ()

    @property
    def table(self) -> Array:
        """Shape (inferences, calls + 1), the last column the whole ones."""
        return np.array([*self.calls_ns, self.whole_ns]).T

    @property
    def around(self) -> Array:
        """The slower of the reference's times before and after each inference; zeros where there is no reference."""
        reference = np.array(self.reference_ns)
        return np.maximum(reference[:-1], reference[1:]) if len(reference) else np.zeros(len(self.whole_ns))


@dataclass(frozen=True, slots=True)
class Inferences:
    """What launches of one network say, in ns at the clock at which the reference takes ``reference_ns``; 0 where that
    is not known.

    Attributes:
        spread_ns: interquartile range of the inferences.
        calls_ns, errors_ns: of each call, and its standard error by how launches differ; shape (calls,).
        error_ns: that of ``latency_ns``.
    """

    latency_ns: float
    spread_ns: float
    error_ns: float
    samples: int
    reference_ns: float
    calls_ns: Array
    errors_ns: Array


def steady_launches(launches: Sequence[NetworkLaunch], nominal_ns: float) -> list[Array]:
    """The inferences of each launch that met the nominal clock, of launches that have enough of them; all where there
    is no reference.
    """
    found = []
    for launch in launches:
        kept = launch.table[launch.around <= nominal_ns * (1 + NEAR)] if launch.reference_ns else launch.table
        if len(kept) >= min(ENOUGH, len(launch.whole_ns)):
            found.append(kept)
    return found


def inferences(launches: Sequence[NetworkLaunch], clock: Clock) -> Inferences:
    """Figures of a network from its launches, of which there is at least one.

    Where the nominal clock was too rare, all inferences are brought to it, as far as kernels feel another.
    """
    paced = all(launch.reference_ns for launch in launches)
    of_each = steady_launches(launches, clock.nominal_ns)
    if len(of_each) < min(ENOUGH, len(launches)):
        felt = np.vectorize(clock.as_felt)
        of_each = [x.table * (clock.nominal_ns / felt(x.around))[:, None] for x in launches]
    every = np.concatenate(of_each)
    ends = int(len(every) * (1 - MIDDLE) / 2)
    order = np.argsort(every[:, -1])
    figures = every[order[ends : len(every) - ends]].mean(axis=0)
    if len(of_each) > 1:
        errors = np.std([x.mean(axis=0) for x in of_each], axis=0, ddof=1) / np.sqrt(len(of_each))
    else:
        errors = np.std(every, axis=0)  # how launches differ is not known; not less than inferences of one
    reference_ns = clock.nominal_ns if paced else 0.0
    said = (float(figures[-1]), spread(list(every[:, -1])), float(errors[-1]), len(every))
    return Inferences(*said, reference_ns, figures[:-1], errors[:-1])
