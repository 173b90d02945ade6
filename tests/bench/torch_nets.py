"""The benchmarks' nets as torch modules, in full, BatchNormalization where the published nets have it.

The residual, plain and mobile ones are those of the parity tests. The transformers and ConvNeXt are written here as
torch runs them fastest in eager mode: fused attention, one linear layer for queries, keys and values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.parity import nets
from tests.parity.architectures_plain import ResNet, Vgg16
from tests.parity.squeezenet import SqueezeNet


class Block(nn.Module):
    """Attention and a perceptron, each behind a LayerNormalization and beside a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        n, t, c = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(n, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(y.transpose(1, 2).reshape(n, t, c))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """Patches, a class token, positions, blocks, the class token's logits."""

    def __init__(self, width: int, depth: int, heads: int, size: int = 224, patch: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width) * 0.02)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class ChannelNorm(nn.LayerNorm):
    """LayerNormalization over the channels of [N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """Depthwise 7 x 7, LayerNormalization, a perceptron over the channels, a scale per channel, a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        return x + (self.scale * y).permute(0, 3, 1, 2)


class ConvNext(nn.Module):
    """ConvNeXt: a stem of 4 x 4 patches, four stages, halving in between."""

    def __init__(self, depths: tuple[int, ...] = (3, 3, 9, 3), widths: tuple[int, ...] = (96, 192, 384, 768)) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4), ChannelNorm(widths[0], eps=1e-6)]
        before = widths[0]
        for depth, width in zip(depths, widths, strict=True):
            if width != before:
                layers += [ChannelNorm(before, eps=1e-6), nn.Conv2d(before, width, 2, 2)]
            layers += [ConvNextBlock(width) for _ in range(depth)]
            before = width
        self.features = nn.Sequential(*layers)
        self.norm, self.head = nn.LayerNorm(before, eps=1e-6), nn.Linear(before, 1000)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.features(x).mean((2, 3))))


MAKERS = {
    "resnet50": lambda: ResNet((3, 4, 6, 3), 64, 1000, True),
    "vgg16": lambda: Vgg16((64, 128, 256, 512, 512), 4096, 1000, 7),
    "mobilenet_v2": nets.mobilenet_v2,
    "squeezenet": SqueezeNet,
    "convnext_tiny": ConvNext,
    "vit_tiny": lambda: Vit(192, 12, 3),
    "vit_base": lambda: Vit(768, 12, 12),
}


def build(name: str) -> nn.Module:
    """In eval mode; signals keep their size through the depth; no weight asks for a gradient."""
    return nets.build(MAKERS[name], seed=0).requires_grad_(False)
