"""A card's preset as a torch module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from service.models.card import PRESETS


class Normalised(nn.Module):
    """Grey levels [N, 3, H, W], RGB, to the net's input as a preset has it, then the net."""

    def __init__(self, module: Any, preset: str) -> None:
        super().__init__()
        self.module, self.explained = module, module.explained
        numbers = PRESETS[preset]
        kind = next(module.parameters()).dtype
        self.scale, self.flip = numbers.scale, numbers.channels == "bgr"
        self.mean, self.std = (torch.tensor(v, dtype=kind).reshape(-1, 1, 1) for v in (numbers.mean, numbers.std))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flip(1) if self.flip else x
        return self.module((x * self.scale - self.mean) / self.std)
