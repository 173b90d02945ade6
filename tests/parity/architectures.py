"""The architectures under test: a small form with every kind of layer, a full one, seeded weights and inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.parity import architectures_configs as configs
from tests.parity import nets
from tests.parity.architectures_mobile import FEW, LARGE, BiLstm, Detector, MobileNetV3
from tests.parity.architectures_plain import DenseNet, Inception, ResNet, UNet, Vgg16

Make = Callable[[], nn.Module]
INVERTED = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]


@dataclass(frozen=True)
class Architecture:
    """One architecture.

    Attributes:
        small: few layers of each kind, narrow: for every exporter and opset.
        full: the published depth and widths (VGG16's linear layers, U-Net, BERT and GPT-2 at a quarter of the width).
        side: pixels, (small, full), fewer than published; 0: a text of nine tokens.
        full_form: exporter and opset of the full form.
        dynamic_form: exporter and opset of the small form with any number of rows.
        words: of a text's vocabulary, (small, full).
    """

    name: str
    small: Make
    full: Make
    side: tuple[int, int]
    full_form: str
    dynamic_form: str
    words: tuple[int, int] = (0, 0)
    masked: bool = False

    def build(self, full: bool = False) -> nn.Module:
        """In eval mode, float32, seeded, BatchNormalization settled on the inputs it will see."""
        net = nets.build(self.full if full else self.small, seed=1)
        for path, weight in net.named_parameters():
            if path.endswith(_SCORES):
                weight.data *= 0.5
        if any(isinstance(m, nn.BatchNorm2d) for m in net.modules()):
            nets.settle(_Called(net), self.inputs(full, rows=16))  # type: ignore[arg-type]
        return net

    def inputs(self, full: bool = False, rows: int = 2, seed: int = 5) -> tuple[Tensor, ...]:
        """Images float32 [rows, 3, H, W], or tokens int64 [rows, T] (with a mask of ones where it is asked for)."""
        generator = torch.Generator().manual_seed(seed)
        side = self.side[full]
        if side:
            return (torch.randn((rows, 3, side, side), generator=generator),)
        tokens = torch.randint(0, self.words[full], (rows, 9), generator=generator)
        return (tokens, torch.ones_like(tokens)) if self.masked else (tokens,)


_SCORES = ("q.weight", "k.weight", "q_proj.weight", "k_proj.weight", "query.weight", "key.weight")
"""What attention's softmax sees stays small: a saturated one magnifies rounding."""


class _Called(nn.Module):
    """``net(*inputs)`` as ``net(inputs)``."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, inputs: tuple[Tensor, ...]) -> Tensor:
        return self.net(*inputs)


def _vision(name: str, small: Make, full: Make, side: tuple[int, int], full_form: str, dynamic: str) -> Architecture:
    return Architecture(name, small, full, side, full_form, dynamic)


ALL = (
    _vision(
        "vgg16", lambda: Vgg16((4, 6, 8, 8, 8), 16, 7, 1), lambda: Vgg16((64, 128, 256, 512, 512), 1024, 1000, 2),
        (32, 64), "torchscript-9", "torchscript-9",
    ),
    _vision(
        "resnet18", lambda: ResNet((1, 1, 1, 1), 8, 7, False), lambda: ResNet((2, 2, 2, 2), 64, 1000, False),
        (32, 64), "torchscript-12", "torchscript-12",
    ),
    _vision(
        "resnet50", lambda: ResNet((1, 2, 1, 1), 6, 7, True), lambda: ResNet((3, 4, 6, 3), 64, 1000, True),
        (32, 64), "dynamo-20", "dynamo-20",
    ),
    _vision(
        "mobilenet_v2", nets.small_mobilenet, lambda: nets.MobileNet(INVERTED, 32, 1280, 1000),
        (32, 64), "torchscript-9", "dynamo-18",
    ),
    _vision(
        "mobilenet_v3", lambda: MobileNetV3(FEW, 32, 24, 7), lambda: MobileNetV3(LARGE, 960, 1280, 1000),
        (32, 64), "dynamo-18", "torchscript-17",
    ),
    _vision(
        "densenet", lambda: DenseNet((2, 1, 1), 6, 7), lambda: DenseNet((6, 12, 24, 16), 32, 1000),
        (32, 64), "torchscript-17", "dynamo-23",
    ),
    _vision(
        "inception", lambda: Inception((1, 1, 1), 16, 7), lambda: Inception((3, 4, 2), 1, 1000),
        (79, 107), "torchscript-20", "torchscript-20",
    ),
    _vision(
        "efficientnet", lambda: configs.efficientnet(True), lambda: configs.efficientnet(False),
        (32, 64), "torchscript-17", "dynamo-20",
    ),
    _vision(
        "convnext", lambda: configs.convnext(True), lambda: configs.convnext(False),
        (32, 64), "dynamo-18", "torchscript-12",
    ),
    _vision("vit", lambda: configs.vit(True), lambda: configs.vit(False), (32, 96), "dynamo-23", "torchscript-17"),
    _vision("swin", lambda: configs.swin(True), lambda: configs.swin(False), (32, 128), "torchscript-17", "dynamo-20"),
    Architecture(
        "bert", lambda: configs.bert(True), lambda: configs.bert(False), (0, 0), "torchscript-12", "dynamo-18",
        words=(200, 200), masked=True,
    ),
    Architecture(
        "gpt2", lambda: configs.gpt2(True), lambda: configs.gpt2(False), (0, 0), "dynamo-20", "torchscript-17",
        words=(60, 200), masked=True,
    ),
    Architecture(
        "bilstm", lambda: BiLstm(50, 8, 6, 1, 5), lambda: BiLstm(500, 128, 256, 2, 20), (0, 0), "torchscript-17",
        "torchscript-12", words=(50, 500),
    ),
    _vision(
        "unet", lambda: UNet((4, 6, 8), 3, False), lambda: UNet((16, 32, 64, 128, 256), 21, True),
        (16, 64), "dynamo-18", "torchscript-9",
    ),
    _vision(
        "unet_resize", lambda: UNet((4, 6, 8), 3, True), lambda: UNet((16, 32, 64, 128, 256), 21, False),
        (16, 64), "torchscript-12", "dynamo-23",
    ),
    _vision(
        "detr", lambda: Detector(4, 32, 2, 1, 5, 6), lambda: Detector(64, 256, 8, 6, 100, 91),
        (32, 96), "torchscript-17", "torchscript-12",
    ),
)  # fmt: skip
BY_NAME = {a.name: a for a in ALL}
