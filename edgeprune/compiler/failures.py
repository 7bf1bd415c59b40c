"""What goes wrong where kernels are built."""

from edgeprune.errors import EdgepruneError


class KernelBuildError(EdgepruneError):
    """TVM or NVRTC could not build a kernel; a defect of a rule or of the compiler, never of the user."""
