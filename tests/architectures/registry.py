"""The one table of architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from edgeprune.models import zoo

from .branched import GroupNormResNet, RegNetY, RepVGG, Res2Net
from .classic import VGG, AlexNet, GoogLeNet, LeNet, LeNet5, MaxoutNet
from .gates import SKNet, cbam_resnet, se_resnet
from .inception import InceptionV3
from .mobile import GhostNet, MobileNetV1, ShuffleNetV1, ShuffleNetV2
from .residual import DenseNet, PreActResNet, ResNeXt, WideResNet
from .searched import EfficientNet, MnasNet
from .seeded import noise, seeded


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network and what to feed it.

    Attributes:
        name: key in :data:`ARCHITECTURES`.
        factory: the network in ``eval`` mode; equal weights at every call, global random state untouched.
        inputs: example tensors, batch 1, equal at every call.
        convolutional: at least 95 % of the convolution parameters lie in a layer that could lose inputs or
            outputs without a change to what the rest of the network computes. False where everything that
            convolutions make is normalised over channels (layer and group norm), which counts them.
    """

    name: str
    factory: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]
    convolutional: bool = True


def _entry(
    name: str, make: Callable[[], nn.Module], *shapes: tuple[int, ...], convolutional: bool = True
) -> Architecture:
    return Architecture(name, partial(seeded, make, shapes), partial(noise, *shapes), convolutional)


def _zoo(name: str, side: int, **options: float) -> Architecture:
    return Architecture(name, partial(zoo.build, name, num_classes=10, **options), partial(noise, (1, 3, side, side)))


_TABLE = (
    _entry("lenet", LeNet, (1, 1, 28, 28)),
    _entry("lenet5_tanh", LeNet5, (1, 1, 32, 32)),
    _entry("alexnet", AlexNet, (1, 3, 127, 127)),
    _entry("vgg16", VGG, (1, 3, 64, 64)),
    _zoo("vgg11_bn", 32, width=0.25),
    _entry("googlenet", GoogLeNet, (1, 3, 96, 96)),
    _entry("inception_v3", InceptionV3, (1, 3, 139, 139)),
    _entry("maxout", MaxoutNet, (1, 3, 32, 32)),
    _zoo("squeezenet", 64, width=0.5),
    _zoo("resnet20", 32),
    _zoo("resnet18", 64, width=0.25),
    _zoo("resnet50", 64, width=0.25),
    _entry("resnext", ResNeXt, (1, 3, 32, 32)),
    _entry("wide_resnet", WideResNet, (1, 3, 32, 32)),
    _entry("preact_resnet", PreActResNet, (1, 3, 32, 32)),
    _entry("densenet", DenseNet, (1, 3, 64, 64)),
    _entry("repvgg", RepVGG, (1, 3, 64, 64)),
    _entry("res2net", Res2Net, (1, 3, 64, 64)),
    _entry("regnet_y", RegNetY, (1, 3, 64, 64)),
    _entry("group_norm_resnet", GroupNormResNet, (1, 3, 32, 32), convolutional=False),
    _entry("se_resnet", se_resnet, (1, 3, 32, 32)),
    _entry("cbam_resnet", cbam_resnet, (1, 3, 32, 32)),
    _entry("sknet", SKNet, (1, 3, 32, 32)),
    _entry("mobilenet_v1", MobileNetV1, (1, 3, 64, 64)),
    _zoo("mobilenet_v2", 64, width=0.5),
    _zoo("mobilenet_v3_small", 64),
    _entry("mnasnet", MnasNet, (1, 3, 64, 64)),
    _entry("efficientnet", EfficientNet, (1, 3, 64, 64)),
    _entry("ghostnet", GhostNet, (1, 3, 64, 64)),
    _entry("shufflenet_v1", ShuffleNetV1, (1, 3, 64, 64)),
    _entry("shufflenet_v2", ShuffleNetV2, (1, 3, 64, 64)),
)

ARCHITECTURES: dict[str, Architecture] = {a.name: a for a in _TABLE}
