"""The one list of importance criteria, and that of rules. A new one is one new file and one line here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from edgeprune.methods import Method, Methods

if TYPE_CHECKING:
    from edgeprune.importance.criterion import Criterion
    from edgeprune.importance.rules import Rule

_HERE = "edgeprune.importance."

CRITERIA = Methods(
    "criterion",
    {
        "l1": Method(_HERE + "magnitude:L1", "sum of absolute weights", "Li et al. 2017, arXiv:1608.08710"),
        "l2": Method(_HERE + "magnitude:L2", "root of the sum of squared weights", "Li et al. 2017, arXiv:1608.08710"),
        "relative_l2": Method(
            _HERE + "magnitude:RelativeL2",
            "l2 over the largest of the layer",
            "Molchanov et al. 2017, arXiv:1611.06440 (normalisation by layer)",
        ),
        "bn_scale": Method(
            _HERE + "norms:BatchNormScale", "absolute scale of the batch norm", "Liu et al. 2017, arXiv:1708.06519"
        ),
        "geometric_median": Method(
            _HERE + "median:GeometricMedian",
            "distance of the filters to all others of the layer",
            "He et al. 2019, arXiv:1811.00250",
        ),
        "activation": Method(
            _HERE + "activation:Activation",
            "a statistic of the values that layers read: mean_abs, mean, l2 or apoz",
            "Hu et al. 2016, arXiv:1607.03250; Molchanov et al. 2017, arXiv:1611.06440",
        ),
        "gradient": Method(
            _HERE + "gradients:Gradient", "norm of the loss's gradient", "Molchanov et al. 2017, arXiv:1611.06440"
        ),
        "taylor": Method(
            _HERE + "gradients:Taylor",
            "first-order change of the loss: weights times gradient, summed before the absolute value",
            "Molchanov et al. 2019, arXiv:1906.10771",
        ),
        "hessian_diagonal": Method(
            _HERE + "hessian:HessianDiagonal",
            "second-order change of the loss by the Hessian's diagonal: fisher, hutchinson or exact",
            "LeCun et al. 1990, Optimal Brain Damage; Bekas et al. 2007 (hutchinson)",
        ),
        "hessian_product": Method(
            _HERE + "hessian:HessianProduct",
            "weights times the Hessian's product with all weights; form=row: the product alone",
            "Pearlmutter 1994, Fast Exact Multiplication by the Hessian",
        ),
        "reconstruction": Method(
            _HERE + "reconstruction:Reconstruction",
            "error of the layers that read a channel, after their other weights made up for it",
            "Hassibi and Stork 1993; Frantar and Alistarh 2022, arXiv:2208.11580; Meng et al. 2024, arXiv:2403.12983",
        ),
        "loss_change": Method(
            _HERE + "loss_change:LossChange",
            "change of the loss without the channel, measured",
            "Mozer and Smolensky 1989, Skeletonization",
        ),
        "predictor": Method(
            _HERE + "predictor:Predictor",
            "loss change, measured for some channels and learned for the others from other criteria",
            "own; after He et al. 2018, arXiv:1802.03494, and Liu et al. 2019, arXiv:1903.10258",
        ),
        "random": Method(_HERE + "control:Random", "the control of experiments", "none"),
    },
)


def criterion(asked: str, *, seed: int | None = None, **options: Any) -> Criterion:
    """A criterion by its name, with options of its constructor: ``activation:statistic=apoz``, say.

    Args:
        seed: of criteria that have one and were not given it.

    Raises:
        UsageError: an unknown name or option; lists what exists.
    """
    usual = {} if seed is None else {"seed": seed}
    return cast("Criterion", CRITERIA.made(asked, usual=usual, **options))


_RULES = "edgeprune.importance.rules:"

RULES = Methods(
    "rule",
    {
        "threshold": Method(_RULES + "Threshold", "scores below a value go", "Han et al. 2015, arXiv:1506.02626"),
        "deviation": Method(
            _RULES + "Deviation", "scores over k standard deviations below their group's mean go", "usual"
        ),
        "relative": Method(_RULES + "Relative", "scores below a share of their group's largest go", "usual"),
        "ratio": Method(_RULES + "Ratio", "the lowest share of each group goes", "Li et al. 2017, arXiv:1608.08710"),
        "dynamic": Method(
            _RULES + "Dynamic",
            "scores below a share of the largest go, as large as the task's figure allows",
            "Guo et al. 2016, arXiv:1608.04493 (thresholds that are revised)",
        ),
        "global_ratio": Method(
            _RULES + "GlobalRatio", "the lowest share of all channels goes", "Molchanov et al. 2017, arXiv:1611.06440"
        ),
    },
)


def rule(asked: str) -> Rule:
    """A rule by its name, with its options: ``ratio:remove=0.3``, say.

    Raises:
        UsageError: an unknown name, option or value; lists what exists.
    """
    return cast("Rule", RULES.made(asked))
