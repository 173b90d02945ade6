"""Trains the embedded model on drawn scenes and exports it. Needs torch, which nothing else in the project does.

    python -m service.demo.train -o service/demo/scenes.onnx     train, check, export
    python -m service.demo.train --check service/demo/scenes.onnx

The network is small and plain: strided convolutions, residual blocks, global average pooling, one linear layer. The
last feature map keeps 16 x 16 places. Beside the labels of whole scenes, a second loss shows it at each of these places
which object lies there (right for the right reason: Ross et al. 2017), so that the masks are a ground truth for where its
evidence is, and an explanation that misses them is wrong about the model and not the model about the scene.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from .quality import Report, evaluate, point
from .scenes import CLASSES, SIZE, TRAINING_SEEDS, Scene, draw

WIDTHS = (16, 32, 64)
PLACES = 16  # side of the last feature map
NOTHING, EDGE = 255, 254
EVIDENCE = 40.0  # an object covers a small share of the places, so that one place's summand is this much larger
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

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
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
        self.rest = nn.Parameter(torch.tensor(-4.0))  # bias of the place logits; training only

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


class Drawn(NamedTuple):
    """Scenes as tensors.

    Attributes:
        images: uint8 [N, 3, H, W].
        labels: float32 [N, classes], 1 = the scene shows the class.
        places: uint8 [N, 16, 16]: the class that covers most of the place, ``NOTHING``, or ``EDGE`` where neither holds.
    """

    images: torch.Tensor
    labels: torch.Tensor
    places: torch.Tensor

    def take(self, rows: torch.Tensor) -> Drawn:
        return Drawn(self.images[rows], self.labels[rows], self.places[rows])


def _render(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    scene = draw(seed)
    places = np.full((PLACES, PLACES), NOTHING, np.uint8)
    cell = SIZE // PLACES
    for name, mask in scene.masks.items():
        share = mask.reshape(PLACES, cell, PLACES, cell).mean((1, 3))
        places[(share > 0.1) & (places == NOTHING)] = EDGE
        places[share > 0.5] = CLASSES.index(name)
    return scene.image.transpose(2, 0, 1), np.isin(np.arange(len(CLASSES)), scene.present), places


def training_set(count: int, workers: int) -> Drawn:
    """The first ``count`` scenes of ``TRAINING_SEEDS``."""
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    labels = np.empty((count, len(CLASSES)), np.float32)
    places = np.empty((count, PLACES, PLACES), np.uint8)
    with Pool(workers) as pool:
        for i, row in enumerate(pool.imap(_render, TRAINING_SEEDS[:count], chunksize=64)):
            images[i], labels[i], places[i] = row
            if (i + 1) % 4000 == 0:
                print(f"  drawn {i + 1} of {count} scenes", flush=True)
    return Drawn(*map(torch.from_numpy, (images, labels, places)))


def augmented(drawn: Drawn, rng: np.random.Generator) -> Drawn:
    """Mirror, colour channels permuted, and small grey or coloured squares: what occlusion will show the net."""
    x, places = drawn.images[:, torch.from_numpy(rng.permutation(3))], drawn.places
    flip = torch.from_numpy(rng.random(len(x)) < 0.5)
    x[flip], places[flip] = x[flip].flip(3), places[flip].flip(2)
    for row in x:
        for _ in range(rng.integers(0, 4)):
            side = int(rng.integers(6, 15))
            top, left = rng.integers(0, SIZE - side, 2)
            color = torch.full((3,), 128) if rng.random() < 0.5 else torch.from_numpy(rng.integers(0, 256, 3))
            row[:, top : top + side, left : left + side] = color.to(torch.uint8)[:, None, None]
    return Drawn(x, drawn.labels, places)


def batches(drawn: Drawn, size: int, rng: np.random.Generator) -> Iterator[Drawn]:
    order = rng.permutation(len(drawn.images))
    for first in range(0, len(order) - size + 1, size):
        yield augmented(drawn.take(torch.from_numpy(order[first : first + size])), rng)


# --- training


def place_loss(evidence: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy of every class at every place that is clearly on or off the objects.

    Args:
        evidence: [N, classes, 16, 16], the place's summand of the logit, scaled to a logit of its own.
        places: see ``Drawn``.
    """
    wanted = (places[:, None] == torch.arange(len(CLASSES))[None, :, None, None]).float()
    clear = (places != EDGE)[:, None].float()
    losses = nn.functional.binary_cross_entropy_with_logits(evidence, wanted, reduction="none")
    return (losses * clear * (1 + 4 * wanted)).mean() * len(CLASSES)


def train(drawn: Drawn, epochs: int, seed: int, widths: tuple[int, int, int] = WIDTHS) -> Net:
    """AdamW with one cycle of the learning rate; returns the running average of the weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Net(widths).to(memory_format=torch.channels_last)
    mean = torch.optim.swa_utils.AveragedModel(
        net, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995), use_buffers=True
    )
    optimizer = torch.optim.AdamW(net.parameters(), 4e-3, weight_decay=0.02)
    size = 64
    total = epochs * (len(drawn.images) // size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total, pct_start=0.15)
    began = time.monotonic()
    for epoch in range(epochs):
        losses = []
        for batch in batches(drawn, size, rng):
            with torch.autocast("cpu", torch.bfloat16):
                maps = net.features(normalise(batch.images))
            maps = maps.float()
            logits = net.classify(maps.mean((2, 3)))
            evidence = nn.functional.conv2d(maps, net.classify.weight[:, :, None, None]) / EVIDENCE + net.rest
            whole = nn.functional.binary_cross_entropy_with_logits(logits, batch.labels)
            local = place_loss(evidence, batch.places)
            optimizer.zero_grad()
            (whole + local).backward()
            optimizer.step()
            schedule.step()
            mean.update_parameters(net)
            losses.append((whole.item(), local.item()))
        seconds = time.monotonic() - began
        print(f"  epoch {epoch + 1:>2}/{epochs}  loss {np.mean(losses, 0)}  {seconds:.0f} s", flush=True)
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


def cam(net: Net, scene: Scene, target: int) -> np.ndarray:
    """Grad-CAM at ``features``, by autograd (Selvaraju et al. 2017, equations 1 and 2), at the scene's size."""
    x = normalise(torch.from_numpy(scene.image.transpose(2, 0, 1))[None])
    maps = net.features(x).detach().requires_grad_()
    net.classify(maps.mean((2, 3)))[0, target].backward()
    weights = maps.grad.mean((2, 3), keepdim=True)
    coarse = torch.relu((weights * maps.detach()).sum(1, keepdim=True))
    return nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bilinear")[0, 0].numpy()


@torch.inference_mode()
def occlusion(net: Net, scene: Scene, target: int, patch: int = 16, stride: int = 8) -> np.ndarray:
    """Drop of the logit behind a grey 128 patch, averaged over the patches that cover a pixel."""
    image = torch.from_numpy(scene.image.transpose(2, 0, 1))
    corners = [(top, left) for top in range(0, SIZE - patch + 1, stride) for left in range(0, SIZE - patch + 1, stride)]
    covered = image.repeat(len(corners), 1, 1, 1)
    for row, (top, left) in zip(covered, corners, strict=True):
        row[:, top : top + patch, left : left + patch] = 128
    drop = net(normalise(image[None]))[0, target] - net(normalise(covered))[:, target]
    heat, count = torch.zeros(SIZE, SIZE), torch.zeros(SIZE, SIZE)
    for value, (top, left) in zip(drop, corners, strict=True):
        heat[top : top + patch, left : left + patch] += value
        count[top : top + patch, left : left + patch] += 1
    return (heat / count).numpy()


# --- export


def _folded(unit: Unit) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of the convolution with its batch normalisation folded in."""
    norm = unit.norm
    gain = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
    weight = unit.conv.weight.detach() * gain[:, None, None, None]
    return weight.contiguous().numpy(), (norm.bias.detach() - gain * norm.running_mean).numpy()


def _unit(unit: Unit, x: str, y: str, made: tuple[list, list]) -> str:
    nodes, weights = made
    for role, array in zip(("weight", "bias"), _folded(unit), strict=True):
        weights.append(numpy_helper.from_array(array, f"{y}.{role}"))
    plain = f"{y}.conv" if unit.last else y
    stride = list(unit.conv.stride)
    nodes.append(
        helper.make_node("Conv", [x, f"{y}.weight", f"{y}.bias"], [plain], plain, kernel_shape=[3, 3], pads=[1] * 4, strides=stride)
    )
    if unit.last:
        nodes.append(helper.make_node("Relu", [plain], [y], f"{y}.relu"))
    return y


def export(net: Net, path: Path, notes: dict[str, str]) -> None:
    """Writes the net as ONNX, opset 18, readable names, any batch; ``notes`` become metadata of the file."""
    made: tuple[list, list] = ([], [])
    nodes, weights = made
    x = "image"
    for name, stage in net.stages.items():
        if isinstance(stage, Unit):
            x = _unit(stage, x, name, made)
            continue
        inner = _unit(stage.second, _unit(stage.first, x, f"{name}.1", made), f"{name}.2", made)
        nodes.append(helper.make_node("Add", [x, inner], [f"{name}.sum"], f"{name}.add"))
        nodes.append(helper.make_node("Relu", [f"{name}.sum"], [name], f"{name}.relu"))
        x = name
    weights.append(numpy_helper.from_array(net.classify.weight.detach().numpy(), "classify.weight"))
    weights.append(numpy_helper.from_array(net.classify.bias.detach().numpy(), "classify.bias"))
    nodes += [
        helper.make_node("GlobalAveragePool", [x], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["descriptor"], "flatten"),
        helper.make_node("Gemm", ["descriptor", "classify.weight", "classify.bias"], ["logits"], "classify", transB=1),
        helper.make_node("Sigmoid", ["logits"], ["probabilities"], "sigmoid"),
    ]
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 3, SIZE, SIZE])
    result = helper.make_tensor_value_info("probabilities", onnx.TensorProto.FLOAT, ["batch", len(CLASSES)])
    graph = helper.make_graph(nodes, "scenes", [image], [result], weights)
    opsets = [helper.make_opsetid("", 18)]
    model = helper.make_model(graph, producer_name="onnx-explain", opset_imports=opsets, ir_version=8)
    helper.set_model_props(model, notes)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
