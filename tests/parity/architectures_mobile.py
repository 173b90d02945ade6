"""MobileNetV3 in torch, a bidirectional LSTM, and a detector in DETR's manner."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.parity.architectures_plain import Residual, unit

Row = tuple[int, int, int, bool, bool, int]
"""kernel, expanded, out, squeeze-and-excite, hard-swish (else ReLU), stride."""

LARGE: tuple[Row, ...] = (
    (3, 16, 16, False, False, 1), (3, 64, 24, False, False, 2), (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2), (5, 120, 40, True, False, 1), (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2), (3, 200, 80, False, True, 1), (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1), (3, 480, 112, True, True, 1), (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2), (5, 960, 160, True, True, 1), (5, 960, 160, True, True, 1),
)  # fmt: skip
FEW: tuple[Row, ...] = (
    (3, 8, 8, False, False, 1), (3, 24, 12, False, False, 2), (5, 36, 12, True, False, 1), (3, 40, 16, False, True, 2),
    (5, 64, 16, True, True, 1),
)  # fmt: skip


class Excite(nn.Module):
    """Squeeze and excite: a gate per channel, a hard sigmoid of two 1 x 1 convolutions of the mean."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(8, channels // 4)
        self.pool, self.relu, self.gate = nn.AdaptiveAvgPool2d(1), nn.ReLU(), nn.Hardsigmoid()
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.fc2(self.relu(self.fc1(self.pool(x)))))


class Bneck(nn.Module):
    """Expand, depthwise, excite, project; a residual where sizes agree."""

    def __init__(self, before: int, row: Row) -> None:
        super().__init__()
        kernel, wide, after, excite, hard, stride = row
        act = nn.Hardswish if hard else nn.ReLU
        layers: list[nn.Module] = []
        if wide != before:
            layers += [nn.Conv2d(before, wide, 1, bias=False), nn.BatchNorm2d(wide), act()]
        layers.append(nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide, bias=False))
        layers += [nn.BatchNorm2d(wide), act()]
        if excite:
            layers.append(Excite(wide))
        layers += [nn.Conv2d(wide, after, 1, bias=False), nn.BatchNorm2d(after)]
        self.block, self.residual = nn.Sequential(*layers), stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x) if self.residual else self.block(x)


class MobileNetV3(nn.Module):
    """MobileNetV3-Large with ``LARGE``, last 960, hidden 1280."""

    def __init__(self, rows: Sequence[Row], last: int, hidden: int, classes: int) -> None:
        super().__init__()
        before = rows[0][2]
        layers = [nn.Conv2d(3, before, 3, 2, 1, bias=False), nn.BatchNorm2d(before), nn.Hardswish()]
        for row in rows:
            layers.append(Bneck(before, row))
            before = row[2]
        layers += [nn.Conv2d(before, last, 1, bias=False), nn.BatchNorm2d(last), nn.Hardswish()]
        self.features, self.pool = nn.Sequential(*layers), nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(last, hidden), nn.Hardswish(), nn.Dropout(), nn.Linear(hidden, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(x)).flatten(1))


class BiLstm(nn.Module):
    """Tokens, an embedding, LSTM layers in both directions, the mean over time, a linear layer."""

    def __init__(self, words: int, size: int, hidden: int, layers: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, size)
        self.lstm = nn.LSTM(size, hidden, layers, batch_first=True, bidirectional=True)
        self.norm, self.tanh = nn.LayerNorm(2 * hidden), nn.Tanh()
        self.linear = nn.Linear(2 * hidden, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.lstm(self.embedding(tokens))
        return self.linear(self.tanh(self.norm(y)).mean(1))


class Heads(nn.Module):
    """Attention of several heads; positions are added to queries and keys, not to values."""

    def __init__(self, size: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(size, size) for _ in range(4))

    def _split(self, x: Tensor) -> Tensor:
        n, length, size = x.shape
        return x.reshape(n, length, self.heads, size // self.heads).transpose(1, 2)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = self._split(self.q(q)), self._split(self.k(k)), self._split(self.v(v))
        weights = torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """Self-attention, then (in a decoder) attention to ``memory``, then two linear layers; norms behind the sums."""

    def __init__(self, size: int, heads: int, crossing: bool) -> None:
        super().__init__()
        self.own, self.norm1 = Heads(size, heads), nn.LayerNorm(size)
        self.cross = Heads(size, heads) if crossing else None
        self.norm2 = nn.LayerNorm(size) if crossing else None
        self.mlp = nn.Sequential(nn.Linear(size, 4 * size), nn.ReLU(), nn.Linear(4 * size, size))
        self.norm3 = nn.LayerNorm(size)

    def forward(self, x: Tensor, at: Tensor, memory: Tensor | None = None, where: Tensor | None = None) -> Tensor:
        x = self.norm1(x + self.own(x + at, x + at, x))
        if self.cross is not None and self.norm2 is not None and memory is not None:
            x = self.norm2(x + self.cross(x + at, memory + where, memory))
        return self.norm3(x + self.mlp(x))


class Detector(nn.Module):
    """DETR: a residual network, sine positions, encoder, decoder with learned queries, classes and boxes.

    Output: logits [N, queries, classes + 1] and boxes [N, queries, 4] in 0–1 (centre, size).
    """

    def __init__(self, width: int, size: int, heads: int, layers: int, queries: int, classes: int) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            unit(3, width, 7, 2, 3), nn.MaxPool2d(3, 2, 1), Residual(width, width, 1, bottleneck=True),
            Residual(4 * width, 2 * width, 2, bottleneck=True), nn.Conv2d(8 * width, size, 1),
        )  # fmt: skip
        self.encoder = nn.ModuleList(Layer(size, heads, crossing=False) for _ in range(layers))
        self.decoder = nn.ModuleList(Layer(size, heads, crossing=True) for _ in range(layers))
        self.queries = nn.Parameter(torch.randn(queries, size))
        self.classes = nn.Linear(size, classes + 1)
        self.boxes = nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Linear(size, 4))
        self.size = size

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.backbone(x)
        where = self._positions(x)
        x = x.flatten(2).transpose(1, 2)
        for layer in self.encoder:
            x = layer(x, where)
        at = self.queries.unsqueeze(0)
        y = torch.zeros_like(at).expand(x.shape[0], -1, -1)
        for layer in self.decoder:
            y = layer(y, at, x, where)
        return self.classes(y), functional.sigmoid(self.boxes(y))

    def _positions(self, x: Tensor) -> Tensor:
        """[1, H·W, size]: sines and cosines of the row, then of the column, counted by cumulative sums as DETR does."""
        ones = torch.ones_like(x[:1, 0])
        rates = 2 * math.pi / 100 ** (torch.arange(self.size // 4, dtype=x.dtype, device=x.device) * 4 / self.size)
        parts = []
        for axis in (1, 2):
            count = ones.cumsum(axis)
            angle = (count / (count.amax(axis, keepdim=True) + 1e-6)).unsqueeze(-1) * rates
            parts.append(torch.cat([angle.sin(), angle.cos()], -1))
        return torch.cat(parts, -1).flatten(1, 2)
