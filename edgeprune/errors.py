"""The one exception tree of edgeprune.

Every error carries data (``details``), a ``hint`` that says what to do next, and the exit code
that the command line returns for it. An error that one part raises is defined there, in the module in brackets::

    EdgepruneError                      1  internal
    ├── UsageError                      2  the command line or the arguments make no sense
    ├── BadInputError                   3  a file or value the user gave cannot be used
    │   ├── ModelLoadError              3  a model, weight file or data set was refused
    │   ├── UnsupportedOperatorError    3  an operator that cannot be traced, cut or compiled
    │   │   └── KernelBuildError        3  a kernel that TVM or NVRTC does not build (compiler.failures)
    │   ├── LinkError                   3  a program that cannot be linked for its target (compiler.link)
    │   ├── TargetError                 3  a target file that does not exist or does not check
    │   ├── ProfileError                3  latency records that cannot be used
    │   │   └── ProfileMismatchError    3  a profile of another device, compiler or thread count
    │   ├── BundleError                 3  a bundle folder that is incomplete or altered
    │   ├── AnomalousInputError        11  a sample with NaN, infinity or values far from the data's
    │   └── PlanError                   3  a plan that does not fit the model
    ├── InfeasibleBudgetError           4  no plan reaches the budget; carries the smallest reachable
    ├── MissingDependencyError          5  a package or tool is absent or has a wrong version
    ├── DeviceError                     6  a device failed while it was used
    │   └── DeviceUnreachableError      6  a device that does not answer
    │       └── NoisyLineError          6  a serial line on which no answer arrives whole (devices.console.session)
    ├── VerificationError               7  hashes, outputs or masked-against-shrunk differ
    │   └── UndecidedError              10  a latency too near to its limit to decide on this device
    ├── BusyError                       8  a lock, port or device is in use
    ├── RolledBackError                 9  a release failed its checks; the previous one runs again
    └── InterruptedRunError           130  stopped by the user (Ctrl-C)

Source of the habit: httpx draws its tree in the docstring; pyOCD lets errors carry data.
"""

from __future__ import annotations

from typing import Any, ClassVar


class EdgepruneError(Exception):
    """Base of everything edgeprune raises on purpose.

    Args:
        message: what happened, and to which node, file or device.
        hint: what to do next; empty if there is nothing to advise.
        **details: the facts behind the message, JSON-serialisable.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details

    def to_json(self) -> dict[str, Any]:
        """The error as the ``error`` object that every command prints under ``--json``."""
        return {
            "type": type(self).__name__,
            "message": self.message,
            "hint": self.hint,
            "details": self.details,
            "exit_code": self.exit_code,
        }


class UsageError(EdgepruneError):
    exit_code = 2


class BadInputError(EdgepruneError):
    exit_code = 3


class ModelLoadError(BadInputError):
    pass


class UnsupportedOperatorError(BadInputError):
    pass


class TargetError(BadInputError):
    pass


class ProfileError(BadInputError):
    pass


class ProfileMismatchError(ProfileError):
    pass


class BundleError(BadInputError):
    pass


class AnomalousInputError(BadInputError):
    exit_code = 11


class PlanError(BadInputError):
    pass


class InfeasibleBudgetError(EdgepruneError):
    exit_code = 4


class MissingDependencyError(EdgepruneError):
    exit_code = 5


class DeviceError(EdgepruneError):
    exit_code = 6


class DeviceUnreachableError(DeviceError):
    pass


class VerificationError(EdgepruneError):
    exit_code = 7


class UndecidedError(VerificationError):
    exit_code = 10


class BusyError(EdgepruneError):
    exit_code = 8


class RolledBackError(EdgepruneError):
    exit_code = 9


class InterruptedRunError(EdgepruneError):
    exit_code = 130
