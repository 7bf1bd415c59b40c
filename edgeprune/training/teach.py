"""Training without labels: the dense network is the teacher of the pruned one."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from edgeprune.training.data import DataSet
from edgeprune.training.evaluate import predict


def labelled_by_teacher(module: nn.Module, data: DataSet) -> DataSet:
    """``data`` with the labels that ``module`` gives: the strongest output of each example (or pixel).

    A data set that has labels is returned as it is. Fine-tuning on the result should not look at these labels
    but at the outputs themselves (``distil_weight=1``); criteria that need a loss may.
    """
    if data.labelled:
        return data
    x, _ = data.train
    return replace(data, train=(x, predict(module, x).argmax(1)), labelled=True)
