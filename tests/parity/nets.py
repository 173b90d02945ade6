"""Nets in torch, seeded: weights, biases and BatchNormalization statistics are random, none is trained.

Every net has ``explained``: its modules whose outputs CAMs are asked at, the default layer last.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class Smooth(nn.Module):
    """No kink anywhere: Tanh, both GELUs, Softplus, SiLU, BatchNormalization, average pools, softmax at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.conv2, self.bn2 = nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.gelu = nn.GELU()
        self.conv3 = nn.Conv2d(16, 16, 3, stride=2, padding=1)
        self.softplus = nn.Softplus()
        self.conv4 = nn.Conv2d(16, 12, 1)
        self.silu = nn.SiLU()
        self.linear = nn.Linear(12, 7)
        self.explained = (self.gelu, self.silu)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.avg_pool2d(torch.tanh(self.bn1(self.conv1(x))), 2)
        x = self.gelu(self.bn2(self.conv2(x)))
        x = self.softplus(self.conv3(x))
        x = functional.gelu(x, approximate="tanh")
        x = self.silu(self.conv4(x))
        return self.linear(x.mean((2, 3)))


class Residual(nn.Module):
    """Functional and reused ReLU, max pool, a residual Add, depthwise and strided convolutions; 24 x 32 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 5, stride=2, padding=2)
        self.same = nn.Conv2d(12, 12, 3, padding=1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.pointwise = nn.Conv2d(12, 24, 1)
        self.down = nn.Conv2d(24, 24, 3, stride=2, padding=1)
        self.bn = nn.BatchNorm2d(24)
        self.linear = nn.Linear(24, 5)
        self.relu, self.last = nn.ReLU(), nn.ReLU()
        self.explained = (self.stem, self.last)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.max_pool2d(functional.relu(self.stem(x)), 3, stride=1, padding=1)
        x = functional.relu(self.same(x)) + x
        x = self.relu(self.pointwise(self.relu(self.depthwise(x))))
        x = self.last(self.bn(self.down(x)))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Vgg(nn.Module):
    """Plain convolutions and max pools, a classifier of two layers with Dropout, softmax at the end."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 8), (8, 16), (16, 16)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.Conv2d(after, after, 3, padding=1)]
            layers += [nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Linear(256, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 6))
        self.explained = (self.features[6], self.features[13])

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class Inverted(nn.Module):
    """MobileNetV2's block: expand, depthwise, project, each with BatchNormalization; ReLU6 but for the last."""

    def __init__(self, before: int, after: int, stride: int, expand: int) -> None:
        super().__init__()
        wide = before * expand
        widen = [nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU6()] if expand > 1 else []
        self.block = nn.Sequential(
            *widen,
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False), nn.BatchNorm2d(wide), nn.ReLU6(),
            nn.Conv2d(wide, after, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.residual else self.block(x)


class MobileNet(nn.Module):
    """MobileNetV2 with ``rows`` of (expand, channels, repeats, stride) between its stem and its last convolution."""

    def __init__(self, rows: list[tuple[int, int, int, int]], stem: int, last: int, classes: int) -> None:
        super().__init__()
        layers = [nn.Conv2d(3, stem, 3, 2, 1, bias=False), nn.BatchNorm2d(stem), nn.ReLU6()]
        before = stem
        for expand, after, repeats, stride in rows:
            for i in range(repeats):
                layers.append(Inverted(before, after, stride if i == 0 else 1, expand))
                before = after
        layers += [nn.Conv2d(before, last, 1, bias=False), nn.BatchNorm2d(last), nn.ReLU6()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(last, classes))
        self.explained = (self.features[4], self.features[-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def small_mobilenet() -> nn.Module:
    """Three kinds of blocks, 32 x 32."""
    return MobileNet([(1, 8, 1, 1), (4, 12, 2, 2), (4, 16, 2, 1)], 8, 32, 9)


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 1.0 in full: 53 layers, 3.5 million weights."""
    rows = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    return MobileNet(rows, 32, 1280, 1000)


class Basic(nn.Module):
    """ResNet's block of two convolutions, its ReLU used twice."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.relu = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return self.relu(y + self.shortcut(x))


class ResNet18(nn.Module):
    """ResNet-18 in full: 11.7 million weights."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        self.pool = nn.MaxPool2d(3, 2, 1)
        widths = [64, 64, 128, 256, 512]
        stages = [
            nn.Sequential(Basic(a, b, 1 if i == 0 else 2), Basic(b, b, 1)) for i, (a, b) in enumerate(pairwise(widths))
        ]
        self.stages = nn.Sequential(*stages)
        self.linear = nn.Linear(512, 1000)
        self.explained = (self.stages[1], self.stages[3])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.pool(self.stem(x)))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Binary(nn.Module):
    """One logit; the exported file ends in its sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ELU(), nn.AvgPool2d(2), nn.Conv2d(8, 12, 3, padding=1), nn.LeakyReLU(0.1)
        )
        self.linear = nn.Linear(12, 1)
        self.explained = (self.features[1], self.features[4])

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(functional.adaptive_avg_pool2d(self.features(x), 1).flatten(1))


class Vit(nn.Module):
    """A vision transformer of two blocks from its configuration: LayerNormalization, attention, GELU."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import ViTConfig, ViTForImageClassification

        config = ViTConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32,
            patch_size=8, num_labels=6, hidden_act="gelu",
        )  # fmt: skip
        self.net = ViTForImageClassification(config)
        self.explained = (self.net.vit.embeddings.patch_embeddings.projection,)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).logits


def build(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The net in eval mode with weights drawn so that signals keep their size through the depth."""
    torch.manual_seed(seed)
    net = make()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.normal_(module.bias, 0, 0.1)
            elif isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.6, 1.6)
                module.weight.uniform_(0.7, 1.3)
                module.bias.normal_(0, 0.2)
            elif isinstance(module, nn.LayerNorm):
                module.weight.uniform_(0.7, 1.3)
                module.bias.normal_(0, 0.2)
    return net.eval()


def settle(net: nn.Module, x: Tensor) -> None:
    """Set the statistics of every BatchNormalization to those of ``x``, as training would.

    Deep nets with random ones saturate: few units carry the whole gradient, and one switched by rounding shows.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        net(x)
    net.eval()
