"""VGG, ResNet, DenseNet, Inception v3 and U-Net in torch, of any width and depth."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional


class Vgg16(nn.Module):
    """Thirteen convolutions in five groups, each ended by a max pool, and three linear layers."""

    def __init__(self, widths: Sequence[int], hidden: int, classes: int, side: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width, repeats in zip(widths, (2, 2, 3, 3, 3), strict=True):
            for _ in range(repeats):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
                before = width
            layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(side)
        self.classifier = nn.Sequential(
            nn.Linear(before * side * side, hidden), nn.ReLU(), nn.Dropout(),
            nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(), nn.Linear(hidden, classes),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)).flatten(1))


def unit(before: int, after: int, kernel: int | tuple[int, int], stride: int = 1, padding: object = 0) -> nn.Sequential:
    """Convolution, BatchNormalization, ReLU."""
    conv = nn.Conv2d(before, after, kernel, stride, padding, bias=False)  # type: ignore[arg-type]
    return nn.Sequential(conv, nn.BatchNorm2d(after), nn.ReLU())


class Residual(nn.Module):
    """ResNet's block: two 3 x 3 convolutions, or 1 x 1, 3 x 3, 1 x 1 (the bottleneck, four times as wide outside)."""

    def __init__(self, before: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.after = width * 4 if bottleneck else width
        if bottleneck:
            units = [
                unit(before, width, 1),
                unit(width, width, 3, stride, 1),
                nn.Conv2d(width, self.after, 1, bias=False),
            ]
        else:
            units = [unit(before, width, 3, stride, 1), nn.Conv2d(width, width, 3, 1, 1, bias=False)]
        self.block = nn.Sequential(*units, nn.BatchNorm2d(self.after))
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != self.after:
            conv = nn.Conv2d(before, self.after, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(self.after))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.block(x) + self.shortcut(x))


class ResNet(nn.Module):
    """ResNet-18: (2, 2, 2, 2); ResNet-50: (3, 4, 6, 3) bottlenecks; ``width`` 64."""

    def __init__(self, repeats: Sequence[int], width: int, classes: int, bottleneck: bool) -> None:
        super().__init__()
        self.stem, self.pool = unit(3, width, 7, 2, 3), nn.MaxPool2d(3, 2, 1)
        blocks: list[nn.Module] = []
        before = width
        for stage, count in enumerate(repeats):
            for i in range(count):
                block = Residual(before, width << stage, 2 if stage and i == 0 else 1, bottleneck)
                blocks.append(block)
                before = block.after
        self.stages = nn.Sequential(*blocks)
        self.linear = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.pool(self.stem(x)))
        return self.linear(functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Dense(nn.Module):
    """DenseNet's layer: BatchNormalization and ReLU before each convolution, the input kept beside the output."""

    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.norm1, self.relu1 = nn.BatchNorm2d(before), nn.ReLU()
        self.conv1 = nn.Conv2d(before, 4 * growth, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(4 * growth), nn.ReLU()
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.relu2(self.norm2(self.conv1(self.relu1(self.norm1(x))))))
        return torch.cat([x, y], 1)


class DenseNet(nn.Module):
    """DenseNet-121: blocks (6, 12, 24, 16), growth 32; transitions halve channels and size."""

    def __init__(self, blocks: Sequence[int], growth: int, classes: int) -> None:
        super().__init__()
        channels = 2 * growth
        layers: list[nn.Module] = [unit(3, channels, 7, 2, 3), nn.MaxPool2d(3, 2, 1)]
        for i, count in enumerate(blocks):
            for _ in range(count):
                layers.append(Dense(channels, growth))
                channels += growth
            if i + 1 < len(blocks):
                norm, conv = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels // 2, 1, bias=False)
                layers.append(nn.Sequential(norm, nn.ReLU(), conv, nn.AvgPool2d(2, 2)))
                channels //= 2
        self.features = nn.Sequential(*layers, nn.BatchNorm2d(channels))
        self.linear = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.features(x))
        return self.linear(functional.adaptive_avg_pool2d(x, (1, 1)).flatten(1))


class Mixed(nn.Module):
    """Branches side by side, joined along the channels."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class Inception(nn.Module):
    """Inception v3: its five kinds of blocks, ``repeats`` of the three that keep the size; ``d`` divides the widths."""

    def __init__(self, repeats: tuple[int, int, int], d: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [unit(3, 32 // d, 3, 2), unit(32 // d, 32 // d, 3), unit(32 // d, 64 // d, 3, 1, 1)]
        layers += [nn.MaxPool2d(3, 2), unit(64 // d, 80 // d, 1), unit(80 // d, 192 // d, 3), nn.MaxPool2d(3, 2)]
        before = 192 // d
        for i in range(repeats[0]):
            layers.append(self._a(before, (32 if i == 0 else 64) // d, d))
            before = 3 * (64 // d) + 96 // d - 64 // d + (32 if i == 0 else 64) // d
        a, b = 64 // d, 96 // d
        triple = nn.Sequential(unit(before, a, 1), unit(a, b, 3, 1, 1), unit(b, b, 3, 2))
        layers.append(Mixed(unit(before, 384 // d, 3, 2), triple, nn.MaxPool2d(3, 2)))
        before += 384 // d + b
        for i in range(repeats[1]):
            layers.append(self._c(before, (128, 160, 160, 192)[i] // d, 192 // d))
            before = 4 * (192 // d)
        w = 192 // d
        seven = nn.Sequential(
            unit(before, w, 1), unit(w, w, (1, 7), 1, (0, 3)), unit(w, w, (7, 1), 1, (3, 0)), unit(w, w, 3, 2)
        )
        layers.append(Mixed(nn.Sequential(unit(before, w, 1), unit(w, 320 // d, 3, 2)), seven, nn.MaxPool2d(3, 2)))
        before += 320 // d + w
        for _ in range(repeats[2]):
            layers.append(self._e(before, d))
            before = 320 // d + 4 * (384 // d) + 192 // d
        self.features = nn.Sequential(*layers)
        self.dropout, self.linear = nn.Dropout(), nn.Linear(before, classes)

    @staticmethod
    def _a(before: int, pooled: int, d: int) -> nn.Module:
        five = nn.Sequential(unit(before, 48 // d, 1), unit(48 // d, 64 // d, 5, 1, 2))
        three = nn.Sequential(
            unit(before, 64 // d, 1), unit(64 // d, 96 // d, 3, 1, 1), unit(96 // d, 96 // d, 3, 1, 1)
        )
        return Mixed(
            unit(before, 64 // d, 1), five, three, nn.Sequential(nn.AvgPool2d(3, 1, 1), unit(before, pooled, 1))
        )

    @staticmethod
    def _c(before: int, c: int, after: int) -> nn.Module:
        wide, tall = ((1, 7), 1, (0, 3)), ((7, 1), 1, (3, 0))
        once = nn.Sequential(unit(before, c, 1), unit(c, c, *wide), unit(c, after, *tall))
        twice = nn.Sequential(
            unit(before, c, 1), unit(c, c, *tall), unit(c, c, *wide), unit(c, c, *tall), unit(c, after, *wide)
        )
        return Mixed(unit(before, after, 1), once, twice, nn.Sequential(nn.AvgPool2d(3, 1, 1), unit(before, after, 1)))

    @staticmethod
    def _e(before: int, d: int) -> nn.Module:
        w = 384 // d

        def split() -> nn.Module:
            return Mixed(unit(w, w, (1, 3), 1, (0, 1)), unit(w, w, (3, 1), 1, (1, 0)))

        once = nn.Sequential(unit(before, w, 1), split())
        twice = nn.Sequential(unit(before, 448 // d, 1), unit(448 // d, w, 3, 1, 1), split())
        pooled = nn.Sequential(nn.AvgPool2d(3, 1, 1), unit(before, 192 // d, 1))
        return Mixed(unit(before, 320 // d, 1), once, twice, pooled)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.linear(self.dropout(x).flatten(1))


class UNet(nn.Module):
    """Down by max pools, up by transposed convolutions (by bilinear resizing where ``resize``), with skips."""

    def __init__(self, widths: Sequence[int], classes: int, resize: bool) -> None:
        super().__init__()
        self.down = nn.ModuleList(self._double(a, b) for a, b in pairwise((3, *widths)))
        self.pool = nn.MaxPool2d(2)
        ups: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            by_size = nn.Sequential(
                nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False), nn.Conv2d(wide, narrow, 1)
            )
            ups.append(by_size if resize else nn.ConvTranspose2d(wide, narrow, 2, 2))
        self.up = nn.ModuleList(ups)
        self.join = nn.ModuleList(self._double(2 * narrow, narrow) for narrow in widths[:-1])
        self.last = nn.Conv2d(widths[0], classes, 1)

    @staticmethod
    def _double(before: int, after: int) -> nn.Module:
        return nn.Sequential(unit(before, after, 3, 1, 1), unit(after, after, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for i, level in enumerate(self.down):
            x = level(x if i == 0 else self.pool(x))
            kept.append(x)
        for i in reversed(range(len(self.up))):
            x = self.join[i](torch.cat([kept[i], self.up[i](x)], 1))
        return self.last(x)
