"""Trains the embedded model on drawn scenes and exports it. Needs torch, which nothing else in the project does.

    python -m service.demo.train -o service/demo/scenes.onnx     train, check, export
    python -m service.demo.train --check service/demo/scenes.onnx

The network is small and plain: strided convolutions, residual blocks, global average pooling, one linear layer. The
last feature map keeps 16 x 16 places. It is trained on the labels of whole scenes alone: no mask, no box.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from .quality import Report, evaluate, point
from .scenes import CLASSES, SIZE, TRAINING_SEEDS, Scene, draw

MEAN, STD = 0.5, 0.25  # of intensities in 0..1; the card says the same


class Unit(nn.Module):
    """Convolution 3 x 3, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, last: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.last = last  # whether a ReLU follows at once

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x))
        return torch.relu(y) if self.last else y


class Block(nn.Module):
    """relu(x + Unit(Unit(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = Unit(width, width), Unit(width, width, last=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(self.first(x)))


class Net(nn.Module):
    """[N, 3, 128, 128] -> features [N, 64, 16, 16] -> logits [N, 12]."""

    def __init__(self, widths: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        a, b, c = widths
        self.stages = nn.ModuleDict({
            "stem": Unit(3, a, 2),
            "down1": Unit(a, b, 2),
            "block1": Block(b),
            "down2": Unit(b, c, 2),
            "block2": Block(c),
            "features": Block(c),
        })
        self.classify = nn.Linear(c, len(CLASSES))

    def features(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.stages.values():
            x = stage(x)
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(x).mean((2, 3)))


def normalise(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 3, H, W] -> float32, channels last."""
    x = (images.float() / 255 - MEAN) / STD
    return x.contiguous(memory_format=torch.channels_last)


# --- data


def _render(seed: int) -> tuple[np.ndarray, np.ndarray]:
    scene = draw(seed)
    return scene.image.transpose(2, 0, 1), np.isin(np.arange(len(CLASSES)), scene.present)


def training_set(count: int, workers: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images uint8 [count, 3, H, W] and labels float32 [count, classes]."""
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    labels = np.empty((count, len(CLASSES)), np.float32)
    with Pool(workers) as pool:
        for i, (image, label) in enumerate(pool.imap(_render, TRAINING_SEEDS[:count], chunksize=64)):
            images[i], labels[i] = image, label
            if (i + 1) % 4000 == 0:
                print(f"  drawn {i + 1} of {count} scenes", flush=True)
    return torch.from_numpy(images), torch.from_numpy(labels)


def augmented(images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Mirror, colour channels permuted, and small grey or coloured squares: what occlusion will show the net."""
    x = images[:, torch.from_numpy(rng.permutation(3))]
    flip = torch.from_numpy(rng.random(len(x)) < 0.5)
    x[flip] = x[flip].flip(3)
    for row in x:
        for _ in range(rng.integers(0, 4)):
            side = int(rng.integers(6, 15))
            top, left = rng.integers(0, SIZE - side, 2)
            color = torch.full((3,), 128) if rng.random() < 0.5 else torch.from_numpy(rng.integers(0, 256, 3))
            row[:, top : top + side, left : left + side] = color.to(torch.uint8)[:, None, None]
    return x


def batches(images: torch.Tensor, labels: torch.Tensor, size: int, rng: np.random.Generator) -> Iterator[tuple]:
    order = rng.permutation(len(images))
    for first in range(0, len(order) - size + 1, size):
        rows = torch.from_numpy(order[first : first + size])
        yield normalise(augmented(images[rows], rng)), labels[rows]


# --- training


def train(images: torch.Tensor, labels: torch.Tensor, epochs: int, seed: int) -> Net:
    """AdamW with one cycle of the learning rate; returns the running average of the weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Net().to(memory_format=torch.channels_last)
    mean = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
    )
    optimizer = torch.optim.AdamW(net.parameters(), 4e-3, weight_decay=0.02)
    size = 64
    total = epochs * (len(images) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total, pct_start=0.15)
    began = time.monotonic()
    for epoch in range(epochs):
        losses = []
        for x, y in batches(images, labels, size, rng):
            with torch.autocast("cpu", torch.bfloat16):
                logits = net(x)
            loss = nn.functional.binary_cross_entropy_with_logits(logits.float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            mean.update_parameters(net)
            losses.append(loss.item())
        seconds = time.monotonic() - began
        print(f"  epoch {epoch + 1:>2}/{epochs}  loss {np.mean(losses):.4f}  {seconds:.0f} s", flush=True)
        if os.environ.get("TRAIN_PEEK") and (epoch % 2 == 1 or epoch < 3):
            print(check(mean.module, 300).table().splitlines()[-4:], flush=True)
            torch.save(mean.module.state_dict(), os.environ["TRAIN_PEEK"])
    return mean.module.eval()


# --- figures


def check(net: Net, count: int = 2000) -> Report:
    net.eval()

    @torch.inference_mode()
    def predict(images: np.ndarray) -> np.ndarray:
        return torch.sigmoid(net(normalise(torch.from_numpy(images.transpose(0, 3, 1, 2))))).numpy()

    return evaluate(predict, range(count))
