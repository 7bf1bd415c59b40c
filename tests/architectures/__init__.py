"""Well-known architectures in small, written the ways strangers write networks: the test bed of pruning.

Each keeps its paper's topology; widths, depths and images are cut so that a forward pass takes
milliseconds. Between them they spell the same thing differently on purpose (``F.relu`` and ``nn.ReLU``,
``view`` with constants and ``flatten``, ``chunk`` and ``split``, modules and functions, in-place and not):
please do not tidy them up.
"""

from .registry import ARCHITECTURES, Architecture

__all__ = ["ARCHITECTURES", "Architecture"]
