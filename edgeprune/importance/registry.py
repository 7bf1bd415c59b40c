"""The one list of importance criteria."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeprune.errors import UsageError
from edgeprune.importance.activation import APoZ, MeanActivation
from edgeprune.importance.control import Random
from edgeprune.importance.criterion import Criterion
from edgeprune.importance.magnitude import L1, L2
from edgeprune.importance.taylor import Taylor

CRITERIA: dict[str, Callable[..., Criterion]] = {c.name: c for c in (L1, L2, Taylor, APoZ, MeanActivation, Random)}


def criterion(name: str, **options: Any) -> Criterion:
    """A criterion by name, with the options of its constructor.

    Raises:
        UsageError: an unknown name or option; lists what exists.
    """
    if name not in CRITERIA:
        raise UsageError(
            f"no criterion '{name}'", hint="criteria: " + ", ".join(sorted(CRITERIA)), known=sorted(CRITERIA)
        )
    try:
        return CRITERIA[name](**options)
    except TypeError as error:
        raise UsageError(f"criterion '{name}' does not take these options: {error}", options=sorted(options)) from error
