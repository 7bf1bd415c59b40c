"""The one list of importance criteria. A new one is one new file and one line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from edgeprune.errors import UsageError

if TYPE_CHECKING:
    from edgeprune.importance.criterion import Criterion

# Named by text, so that the command line can list the names without loading torch.
CRITERIA: dict[str, str] = {
    "l1": "edgeprune.importance.magnitude:L1",
    "l2": "edgeprune.importance.magnitude:L2",
    "taylor": "edgeprune.importance.taylor:Taylor",
    "apoz": "edgeprune.importance.activation:APoZ",
    "mean_activation": "edgeprune.importance.activation:MeanActivation",
    "random": "edgeprune.importance.control:Random",
}


def criterion(name: str, **options: Any) -> Criterion:
    """A criterion by name, with the options of its constructor.

    Raises:
        UsageError: an unknown name or option; lists what exists.
    """
    if name not in CRITERIA:
        raise UsageError(
            f"no criterion '{name}'", hint="criteria: " + ", ".join(sorted(CRITERIA)), known=sorted(CRITERIA)
        )
    module, _, class_name = CRITERIA[name].partition(":")
    made = getattr(import_module(module), class_name)
    try:
        return cast("Criterion", made(**options))
    except TypeError as error:
        raise UsageError(f"criterion '{name}' does not take these options: {error}", options=sorted(options)) from error
