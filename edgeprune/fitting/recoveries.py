"""The one list of recoveries: what wins accuracy back after channels were removed. They work one after the other."""

from __future__ import annotations

from typing import Any

from edgeprune.errors import UsageError
from edgeprune.methods import Method, Methods

_HERE = "edgeprune.fitting.recover:"

RECOVERIES = Methods(
    "recovery",
    {
        "reconstruct": Method(
            _HERE + "Reconstruct",
            "layers re-solved by least squares to yield what they did: no labels, no training",
            "He et al. 2017, arXiv:1707.06168; Luo et al. 2017, arXiv:1707.06342",
        ),
        "recalibrate": Method(
            _HERE + "Recalibrate", "statistics of batch norms measured anew", "Li et al. 2020, arXiv:2007.02491"
        ),
        "finetune": Method(
            _HERE + "Finetune",
            "training with the dense network as teacher, or by the task's own trainer",
            "Hinton et al. 2015, arXiv:1503.02531",
        ),
    },
)
WHOLE = "reconstruct+finetune"
"""What a fit does."""
UNTRAINED = "reconstruct"
"""What needs no training. Statistics of batch norms are those of the dense network again once its layers' outputs are,
and measured on few samples they are worse: `benchmarks/reconstruction.py`.
"""


def recoveries_of(chain: str) -> dict[str, Any]:
    """``reconstruct+finetune`` -> the recoveries that are asked for, by name, with their options; none for ``none``.

    Raises:
        UsageError: one that there is not, one twice, or an option that it does not take.
    """
    steps = () if chain == "none" else tuple(chain.split("+"))
    names = [step.partition(":")[0] for step in steps]
    for name in names:
        if name not in RECOVERIES or names.count(name) > 1:
            raise UsageError(
                f"no recovery '{name}'" if name not in RECOVERIES else f"recovery '{name}' is named twice",
                hint=f"join some of {', '.join(RECOVERIES)} by +, or give none",
            )
    return {name: RECOVERIES.made(step) for name, step in zip(names, steps, strict=True)}
