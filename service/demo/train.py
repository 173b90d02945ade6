"""Trains the embedded model on drawn scenes and exports it. Needs torch, which nothing else in the project does.

    python -m service.demo.train -o service/demo/scenes.onnx     draw, train, measure, export
    python -m service.demo.train --check service/demo/scenes.onnx

The network is small and plain: strided convolutions, residual blocks, global average pooling, one linear layer; the
last feature map keeps 16 x 16 places. Beside the labels of whole scenes, a second loss tells it for each of these
places which object lies there (right for the right reasons: Ross et al. 2017). So the masks say where its evidence
is, and a map that misses them is the fault of the explanation.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from service.demo.export import Conv, Stage, export
from service.demo.lessons import EDGE, Drawn, batches, training_set
from service.demo.quality import CARD, Report, evaluate, point, reference
from service.demo.scenes import CLASSES, SIZE, Scene, draw

WIDTHS = (12, 24, 48)
EVIDENCE = 40.0  # an object covers few of the places: one place's summand of the logit is this much larger
BATCH, RATE, DECAY = 64, 4e-3, 0.02


class Unit(nn.Module):
    """Convolution 3 x 3, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.relu = relu

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x))
        return torch.relu(y) if self.relu else y

    def folded(self) -> Conv:
        """Batch normalisation folded: g (w * x - m) + b = (g w) * x + (b - g m), g = gamma / sqrt(var + eps)."""
        norm = self.norm
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = self.conv.weight * gain[:, None, None, None]
        bias = norm.bias - gain * norm.running_mean
        return Conv(weight.detach().contiguous().numpy(), bias.detach().numpy(), self.conv.stride[0])


class Block(nn.Module):
    """relu(x + unit(unit(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = Unit(width, width), Unit(width, width, relu=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(self.first(x)))


class Net(nn.Module):
    """[N, 3, 128, 128] -> features [N, C, 16, 16] -> logits [N, classes]."""

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        a, b, c = widths
        stages = {
            "stem": Unit(3, a, 2),
            "down1": Unit(a, b, 2),
            "block1": Block(b),
            "down2": Unit(b, c, 2),
            "block2": Block(c),
            "features": Block(c),
        }
        self.stages = nn.ModuleDict(stages)
        self.classify = nn.Linear(c, len(CLASSES))
        self.rest = nn.Parameter(torch.tensor(-4.0))  # bias of the places; training only

    def features(self, x: torch.Tensor) -> torch.Tensor:
        for stage in self.stages.values():
            x = stage(x)
        return x

    def score(self, features: torch.Tensor) -> torch.Tensor:
        return self.classify(features.mean((2, 3)))

    def evidence(self, features: torch.Tensor) -> torch.Tensor:
        """What every place adds to every logit, scaled to a logit of its own: [N, classes, 16, 16]."""
        return functional.conv2d(features, self.classify.weight[:, :, None, None]) / EVIDENCE + self.rest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.score(self.features(x))


def normalised(images: torch.Tensor) -> torch.Tensor:
    """uint8 [N, 3, H, W] -> float32 as the card says, channels last."""
    mean, std = (torch.tensor(CARD["input"][key])[:, None, None] for key in ("mean", "std"))
    x = (images.float() * CARD["input"]["scale"] - mean) / std
    return x.contiguous(memory_format=torch.channels_last)


# --- training


def scene_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy of every class, where the label is a number."""
    asked = ~labels.isnan()
    return functional.binary_cross_entropy_with_logits(logits[asked], labels[asked])


def place_loss(evidence: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy of every class at every place that is clearly on an object or clearly off all."""
    wanted = (places[:, None] == torch.arange(len(CLASSES))[:, None, None]).float()
    clear = (places != EDGE)[:, None].float()
    losses = functional.binary_cross_entropy_with_logits(evidence, wanted, reduction="none")
    return (losses * clear * (1 + 4 * wanted)).mean() * len(CLASSES)


def train(drawn: Drawn, epochs: int, seed: int) -> Net:
    """AdamW with one cycle of the learning rate, bfloat16 features; returns the running average of the weights."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Net().to(memory_format=torch.channels_last)
    follow = torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=follow, use_buffers=True)
    optimizer = torch.optim.AdamW(net.parameters(), RATE, weight_decay=DECAY)
    steps = epochs * (len(drawn.images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.15)
    began = time.monotonic()
    for epoch in range(1, epochs + 1):
        losses = []
        for images, labels, places in (map(torch.from_numpy, batch) for batch in batches(drawn, BATCH, rng)):
            with torch.autocast("cpu", torch.bfloat16):
                features = net.features(normalised(images))
            features = features.float()
            whole = scene_loss(net.score(features), labels)
            local = place_loss(net.evidence(features), places)
            optimizer.zero_grad()
            (whole + local).backward()
            optimizer.step()
            schedule.step()
            mean.update_parameters(net)
            losses.append((whole.item(), local.item()))
        scene, place = np.mean(losses, 0)
        seconds = time.monotonic() - began
        print(f"  epoch {epoch:>2}/{epochs}  scene {scene:.4f}  place {place:.4f}  {seconds:.0f} s", flush=True)
    return mean.module.eval()


# --- figures


def check(net: Net, seeds: range) -> Report:
    @torch.inference_mode()
    def predict(images: np.ndarray) -> np.ndarray:
        return torch.sigmoid(net(normalised(torch.from_numpy(images.transpose(0, 3, 1, 2))))).numpy()

    return evaluate(predict, seeds)


def grad_cam(net: Net, scene: Scene) -> np.ndarray:
    """Selvaraju et al. 2017, equations 1 and 2, at ``features``, by autograd; a map per present class, [K, H, W]."""
    maps = net.features(normalised(torch.from_numpy(scene.image.transpose(2, 0, 1).copy())[None])).detach()
    coarse = []
    for target in scene.present:
        (slope,) = torch.autograd.grad(net.score(maps.requires_grad_())[0, target], maps)
        coarse.append(torch.relu((slope.mean((2, 3), keepdim=True) * maps.detach()).sum(1)))
    return functional.interpolate(torch.stack(coarse, 1), size=(SIZE, SIZE), mode="bilinear")[0].numpy()


@torch.inference_mode()
def occlusion(net: Net, scene: Scene, patch: int = 24, stride: int = 8) -> np.ndarray:
    """Drop of the logit behind a grey 128 patch, mean over the patches on a pixel (Zeiler 2014); [K, H, W]."""
    image = torch.from_numpy(scene.image.transpose(2, 0, 1).copy())
    steps = range(0, SIZE - patch + 1, stride)
    windows = [np.s_[top : top + patch, left : left + patch] for top in steps for left in steps]
    covered = image.repeat(len(windows) + 1, 1, 1, 1)  # the last one stays whole
    for row, (rows, columns) in zip(covered, windows, strict=False):
        row[:, rows, columns] = 128
    with torch.autocast("cpu", torch.bfloat16):
        features = net.features(normalised(covered))
    logits = net.score(features.float()).numpy()[:, list(scene.present)]
    heat, count = np.zeros((logits.shape[1], SIZE, SIZE)), np.zeros((SIZE, SIZE))
    for drop, window in zip(logits[-1] - logits[:-1], windows, strict=True):
        heat[:, *window] += drop[:, None, None]
        count[window] += 1
    return heat / count


# --- command line


def stages(net: Net) -> list[Stage]:
    """The net for the export, batch normalisation folded."""
    return [
        Stage(name, (s.folded(),) if isinstance(s, Unit) else (s.first.folded(), s.second.folded()))
        for name, s in net.stages.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("service/demo/scenes.onnx"))
    parser.add_argument("--check", type=Path, metavar="MODEL", help="measure this file instead of training")
    parser.add_argument("--scenes", type=int, default=20_000, help="training scenes (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=8, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.check:
        print(evaluate(reference(options.check)).table())
        return

    print(f"drawing {options.scenes} scenes")
    drawn = training_set(options.scenes, options.threads)
    print(f"training for {options.epochs} epochs")
    net = train(drawn, options.epochs, options.seed)
    report = check(net, range(2000))
    print(report.table())
    scenes = [draw(seed) for seed in range(200)]
    print("grad-cam :", point(lambda scene: grad_cam(net, scene), scenes))
    print("occlusion:", point(lambda scene: occlusion(net, scene), scenes))
    notes = {"training": f"{options.scenes} scenes, {options.epochs} epochs, seed {options.seed}", **report.notes()}
    weight, bias = (p.detach().numpy() for p in (net.classify.weight, net.classify.bias))
    model = export(stages(net), weight, bias, SIZE, notes)
    options.output.write_bytes(model.SerializeToString(deterministic=True))
    print(f"wrote {options.output}: {options.output.stat().st_size / 1e6:.2f} MB")
    if not report.good:
        raise SystemExit("the model does not reach its thresholds")


if __name__ == "__main__":
    main()
