"""ATen operators, one file a family: what each does to channels, and which kernels compute it.

A transfer rule (``@rule``) reads the layouts of a node's operands, binds the parameters it uses and gives the result
its layouts. It may raise :class:`~edgeprune.graph.flow.Refused`. Overloads without a rule, and refused nodes, freeze
the channels of their operands and results; nothing is ever taken for elementwise silently. What holds of every rule:
the masked network, whose removed channels are written as zeros and read with zero weights, must equal the network
without these channels. So an operator may pass values at removed channels that are not zero (sigmoid does), but none
that is not finite, for zero times infinity is no zero.

A handler (``@handles``) asks the cutter for its operands and begins a kernel, joins the one before, or yields another
view of data that exist.
"""
