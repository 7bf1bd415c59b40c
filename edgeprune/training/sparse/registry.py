"""The one list of sparsities. Light: what they are is loaded when one is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeprune.errors import UsageError
from edgeprune.methods import Method, Methods

if TYPE_CHECKING:
    from edgeprune.training.sparse.sparsity import Sparsity

_HERE = "edgeprune.training.sparse."

SPARSITIES = Methods(
    "sparsity",
    {
        "kept": Method(_HERE + "masks:Kept", "weights that are 0 stay 0", "usual"),
        "weight": Method(
            _HERE + "masks:Weight",
            "single weights go, the share of them grows while the rest is trained",
            "Han et al. 2015, arXiv:1506.02626; Zhu and Gupta 2017, arXiv:1710.01878",
        ),
        "n_m": Method(
            _HERE + "masks:NofM", "n of each m weights in a row of inputs stay", "Mishra et al. 2021, arXiv:2104.08378"
        ),
        "block": Method(
            _HERE + "masks:Block",
            "blocks of weights go, a few outputs by a few inputs each",
            "Narang et al. 2017, arXiv:1711.02782",
        ),
        "l1": Method(
            _HERE + "lasso:L1",
            "weights shrink by a proximal step until enough of them are 0",
            "Tibshirani 1996; Parikh and Boyd 2014, Proximal Algorithms",
        ),
        "group_lasso": Method(
            _HERE + "lasso:GroupLasso",
            "channels shrink whole by a proximal step until enough of them are 0",
            "Yuan and Lin 2006; Wen et al. 2016, arXiv:1608.03665",
        ),
        "l0": Method(
            _HERE + "gates:L0",
            "gates of channels or weights are trained, and those that shut stay shut",
            "Louizos et al. 2018, arXiv:1712.01312",
        ),
    },
)


def sparsities_of(chain: str) -> tuple[Sparsity, ...]:
    """``group_lasso:target=0.5+weight:remove=0.8`` -> what is asked for, in this order; nothing for an empty chain.

    Raises:
        UsageError: one that there is not, one twice, or an option that it does not take.
    """
    steps = chain.split("+") if chain else []
    names = [step.partition(":")[0] for step in steps]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"sparsity '{twice}' is named twice", hint="join different ones by +")
    return tuple(SPARSITIES.made(step) for step in steps)
