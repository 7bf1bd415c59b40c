"""Transfer rules, one file a family of operators.

A rule reads the layouts of a node's operands, binds the parameters it uses and gives the result
its layouts. It may raise :class:`~edgeprune.graph.flow.Refused`. Overloads that are not in the
table, and refused nodes, freeze the channels of their operands and results; nothing is ever taken
for element-wise silently.

What holds of every rule: the masked network, whose removed channels are written as zeros and read
with zero weights, must equal the network without these channels. So an operator may pass values
at removed channels that are not zero (sigmoid does), but none that is not finite, for zero times
infinity is no zero.
"""

from edgeprune.graph.rules import (  # noqa: F401  (each fills the table)
    elementwise,
    images,
    layers,
    norms,
    parts,
    products,
    recurrent,
    reductions,
    shapes,
)
from edgeprune.graph.rules.table import RULES, Rule, rule

__all__ = ["RULES", "Rule", "rule"]
