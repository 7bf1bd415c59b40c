"""The one table of architectures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from edgeprune.models import zoo

from .aggregated import DPN, DSCNN, EDSR, VoVNet
from .attention import CCT, ConvNeXt, MLPMixer, TorchViT, ViT
from .branched import GroupNormResNet, RegNetY, RepVGG, Res2Net
from .classic import VGG, AlexNet, GoogLeNet, LeNet, LeNet5, MaxoutNet
from .dense_prediction import FPN, DeepLab, StackedHourglass, UNet
from .detection import YOLO, SSDLite
from .gates import SKNet, cbam_resnet, coordinate_resnet, eca_resnet, se_resnet
from .generative import ESPCN, AutoEncoder, Discriminator, Generator, LinearGenerator, SRResNet, StyleTransfer
from .geometry import C3D, STGCN, PointNet, SpatialTransformer
from .hybrid import MobileViT, NAFNet, Swin
from .inception import InceptionV3
from .mobile import GhostNet, MobileNetV1, ShuffleNetV1, ShuffleNetV2
from .odd import CoordConvNet, MultiplierNet, MultiScale, Recurrent, Siamese, SpatialDropoutNet, TwoStream
from .residual import DenseNet, PreActResNet, ResNeXt, WideResNet
from .searched import EfficientNet, MnasNet
from .seeded import noise, seeded
from .segmentation import FCN8s, HRNet, PSPNet, SegNet
from .sequence import CRNN, TCN, AudioResNet, FrameGRU, ProjectedLSTM, StackedRecurrent, TextCNN, WaveNet


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network and what to feed it.

    Attributes:
        name: key in :data:`ARCHITECTURES`.
        factory: the network in ``eval`` mode; equal weights at every call, global random state untouched.
        inputs: example tensors, batch 1, equal at every call.
        convolutional: at least 95 % of the convolution parameters lie in a layer that could lose inputs or
            outputs without a change to what the rest of the network computes. False where all that convolutions
            make is normalised over its channels (layer norm), and so counted. Group norm may lose whole groups.
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
    """A network of the zoo, drawn as the zoo does, but for a smaller image."""
    shape = (1, 3, side, side)
    make = partial(zoo.ZOO[name].factory, num_classes=10, **options)
    return Architecture(name, partial(zoo.init.seeded, make, shape, 0), partial(noise, shape))


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
    _entry("dual_path", DPN, (1, 3, 32, 32)),
    _entry("vovnet", VoVNet, (1, 3, 64, 64)),
    _entry("repvgg", RepVGG, (1, 3, 64, 64)),
    _entry("res2net", Res2Net, (1, 3, 64, 64)),
    _entry("regnet_y", RegNetY, (1, 3, 64, 64)),
    _entry("group_norm_resnet", GroupNormResNet, (1, 3, 32, 32)),
    _entry("se_resnet", se_resnet, (1, 3, 32, 32)),
    _entry("cbam_resnet", cbam_resnet, (1, 3, 32, 32)),
    _entry("eca_resnet", eca_resnet, (1, 3, 32, 32)),
    _entry("coordinate_resnet", coordinate_resnet, (1, 3, 32, 32)),
    _entry("sknet", SKNet, (1, 3, 32, 32)),
    _entry("mobilenet_v1", MobileNetV1, (1, 3, 64, 64)),
    _zoo("mobilenet_v2", 64, width=0.5),
    _zoo("mobilenet_v3_small", 64),
    _entry("mnasnet", MnasNet, (1, 3, 64, 64)),
    _entry("efficientnet", EfficientNet, (1, 3, 64, 64)),
    _entry("ghostnet", GhostNet, (1, 3, 64, 64)),
    _entry("shufflenet_v1", ShuffleNetV1, (1, 3, 64, 64)),
    _entry("shufflenet_v2", ShuffleNetV2, (1, 3, 64, 64)),
    _entry("ds_cnn", DSCNN, (1, 1, 49, 10)),
    _entry("yolo", YOLO, (1, 3, 128, 128)),
    _entry("ssdlite", SSDLite, (1, 3, 96, 96)),
    _entry("fpn", FPN, (1, 3, 128, 128)),
    _entry("unet_transposed", UNet, (1, 3, 64, 64)),
    _entry("unet_bilinear_padded", partial(UNet, bilinear=True), (1, 3, 68, 92)),
    _zoo("unet_small", 64),
    _entry("deeplab", DeepLab, (1, 3, 96, 96)),
    _entry("hourglass", StackedHourglass, (1, 3, 64, 64)),
    _entry("hrnet", HRNet, (1, 3, 64, 64)),
    _entry("fcn8s", FCN8s, (1, 3, 96, 96)),
    _entry("segnet", SegNet, (1, 3, 48, 48)),
    _entry("pspnet", PSPNet, (1, 3, 96, 96)),
    _entry("srresnet", SRResNet, (1, 3, 24, 24)),
    _entry("edsr", EDSR, (1, 3, 24, 24)),
    _entry("espcn", ESPCN, (1, 1, 24, 24)),
    _entry("dcgan_generator", Generator, (1, 64, 1, 1)),
    _entry("dcgan_discriminator", Discriminator, (1, 3, 64, 64)),
    _entry("linear_generator", LinearGenerator, (1, 64)),
    _entry("autoencoder", AutoEncoder, (1, 1, 28, 28)),
    _entry("style_transfer", StyleTransfer, (1, 3, 48, 48)),
    _entry("nafnet", NAFNet, (1, 3, 32, 32), convolutional=False),
    _entry("vit", ViT, (1, 3, 64, 64), convolutional=False),
    _entry("vit_matmul", partial(ViT, fused=False, dim=64, heads=4), (1, 3, 64, 64), convolutional=False),
    _entry("vit_torch_layers", TorchViT, (1, 3, 64, 64), convolutional=False),
    _entry("mlp_mixer", MLPMixer, (1, 3, 64, 64), convolutional=False),
    _entry("cct", CCT, (1, 3, 32, 32)),
    _entry("convnext", ConvNeXt, (1, 3, 64, 64), convolutional=False),
    _entry("swin", Swin, (1, 3, 64, 64), convolutional=False),
    _entry("mobilevit", MobileViT, (1, 3, 64, 64)),
    _entry("crnn_lstm", CRNN, (1, 1, 32, 80)),
    _entry("stacked_recurrent", StackedRecurrent, (1, 12, 20)),
    _entry("projected_lstm", ProjectedLSTM, (1, 12, 20)),
    _entry("frame_gru", FrameGRU, (1, 4, 3, 32, 32)),
    _entry("tcn", TCN, (1, 64, 8)),
    _entry("wavenet", WaveNet, (1, 1, 256)),
    _entry("audio_resnet", AudioResNet, (1, 1, 4000)),
    _entry("text_cnn", TextCNN, (1, 20, 64)),
    _entry("c3d", C3D, (1, 3, 8, 32, 32)),
    _entry("st_gcn", STGCN, (1, 3, 16, 9)),
    _entry("pointnet", PointNet, (1, 3, 128)),
    _entry("spatial_transformer", SpatialTransformer, (1, 1, 28, 28)),
    _entry("siamese", Siamese, (1, 1, 32, 32), (1, 1, 32, 32)),
    _entry("recurrent_conv", Recurrent, (1, 3, 32, 32)),
    _entry("depth_multiplier", MultiplierNet, (1, 3, 32, 32)),
    _entry("spatial_dropout", SpatialDropoutNet, (1, 1, 32, 32)),
    _entry("coord_conv", CoordConvNet, (1, 3, 32, 32)),
    _entry("multi_scale", MultiScale, (1, 3, 64, 64)),
    _entry("two_stream", TwoStream, (1, 3, 32, 32), (1, 2, 4, 32, 32)),
)

ARCHITECTURES: dict[str, Architecture] = {a.name: a for a in _TABLE}
