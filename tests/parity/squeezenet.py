"""SqueezeNet 1.1 in torch with the trained weights of an ONNX file."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from torch import Tensor, nn


class Fire(nn.Module):
    """A squeezing 1 x 1 convolution, then 1 x 1 and 3 x 3 side by side."""

    def __init__(self, before: int, squeezed: int, after: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(before, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, after, 1)
        self.expand3x3 = nn.Conv2d(squeezed, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze1x1(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class SqueezeNet(nn.Module):
    """Up to the logits: the class map of the last convolution, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, 2)
        self.pool = nn.MaxPool2d(3, 2)
        sizes = [(64, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128), (256, 48, 192), (384, 48, 192)]
        sizes += [(384, 64, 256), (512, 64, 256)]
        for i, size in enumerate(sizes, start=2):
            self.add_module(f"fire{i}", Fire(*size))
        self.conv10 = nn.Conv2d(512, 1000, 1)
        self.explained = (self.fire5, self.fire9)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv1(x).relu())
        x = self.pool(self.fire3(self.fire2(x)))
        x = self.pool(self.fire5(self.fire4(x)))
        x = self.fire9(self.fire8(self.fire7(self.fire6(x))))
        return self.conv10(x).relu().mean((2, 3))


def trained(path: Path) -> SqueezeNet:
    """With the file's initializers: ``fire2/squeeze1x1_w_0`` is ``fire2.squeeze1x1.weight``."""
    held = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    state = {}
    for name, array in held.items():
        for suffix, kind in (("_w_0", "weight"), ("_b_0", "bias")):
            if name.endswith(suffix):
                state[f"{name.removesuffix(suffix).replace('/', '.')}.{kind}"] = torch.from_numpy(array.copy())
    net = SqueezeNet()
    net.load_state_dict(state)
    return net.eval()
