"""Rules in a run: what may stay by scores alone, judged by the task where a rule asks for that."""

from __future__ import annotations

from edgeprune.errors import UsageError
from edgeprune.fitting.planner import CALIBRATION
from edgeprune.graph.network import Network
from edgeprune.importance.criterion import Scores
from edgeprune.importance.registry import rule
from edgeprune.importance.rules import Judge, Widths
from edgeprune.pruning.mask import masking
from edgeprune.pruning.plan import make_plan
from edgeprune.training.data import DataSet
from edgeprune.training.evaluate import evaluate
from edgeprune.training.halves import Part, spread
from edgeprune.training.tasks.task import Task


def ruled(
    asked: str, network: Network, scores: Scores, data: DataSet | None = None, task: Task | None = None
) -> Widths:
    """What a rule leaves of each group at most; nothing where none is asked for.

    Raises:
        UsageError: it needs data and got none.
    """
    judge = None if data is None or task is None else _judge(network, scores, data, task)
    return rule(asked).choose(scores, judge) if asked else {}


def check_rule(asked: str, *, has_data: bool) -> None:
    """Raises UsageError for a rule that does not exist, or that needs data where there are none."""
    if asked and rule(asked).needs_data and not has_data:
        raise UsageError(f"rule '{rule(asked).name}' needs data: it judges networks", hint="give --data")


def _judge(network: Network, scores: Scores, data: DataSet, task: Task) -> Judge:
    """The task's figure on calibration samples, of the network masked to some widths: they are of the training half, so
    that what is told of the test half in the end was not chosen by it.
    """
    half = Part(data.train, spread(data.train, CALIBRATION))

    def judge(widths: Widths) -> float:
        with masking(network.module, network.channels, make_plan(network.channels, widths, scores)):
            score = evaluate(network.module, half, task)
        return score.value if score.higher_is_better else -score.value

    return judge
