"""What goes wrong where kernels are built."""

from edgeprune.errors import UnsupportedOperatorError


class KernelBuildError(UnsupportedOperatorError):
    """TVM or NVRTC could not build a kernel: a rule or the compiler lacks something that this network asks for."""
