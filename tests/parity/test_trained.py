"""A trained net on photos: the file as it was published, and the same weights out of both exporters."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from service.models.card import Card, InputCard
from service.types import Selector, Target
from tests.parity import oracles
from tests.parity.normalised import Normalised
from tests.parity.ours import Ours
from tests.parity.squeezenet import SqueezeNet, trained
from tests.parity.subjects import ENDINGS, Net, Subject, write
from tests.service.zoo import SHARED, need

pytestmark = pytest.mark.parity
FILE = "squeezenet11_caffe2_fp32_op7.onnx"
PHOTOS = ("both_dog_cat.png", "tabby_cat.jpg", "zebra.jpeg", "peacock.jpeg")
PRESET = "imagenet-caffe"
DOG, CAT = 243, 285


@pytest.fixture(scope="module", params=["published", "torchscript-17", "dynamo-18"])
def asking(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ours, Subject]:
    """An engine with the file, and the subject."""
    need(f"models/{FILE}", *(f"images/{name}" for name in PHOTOS))
    path, net = SHARED / "models" / FILE, Net("squeezenet", SqueezeNet, 1000, (224, 224), end="softmax", real=True)
    module = trained(path)
    if request.param == "published":
        layers = ("fire5/concat_1", "fire9/concat_1")
        subject = Subject(net, request.param, path, module, ENDINGS[net.end](), layers)
    else:
        subject = write(net, request.param, module, tmp_path_factory.mktemp("squeezenet"))
    engine = Ours(tmp_path_factory.mktemp("store"))
    engine.add(subject, card=Card(input=InputCard().assuming(PRESET)))
    return engine, subject


def ask(asking: tuple[Ours, Subject], method: str, target: Target, **parameters: object) -> tuple[np.ndarray, Tensor]:
    """Maps [photos, …], and the pictures as the model saw them: grey levels [photos, 3, H, W]."""
    engine, subject = asking
    images = tuple((SHARED / "images" / name).read_bytes() for name in PHOTOS)
    items = engine.ask(subject, method, images=images, targets=(target,), **parameters).items
    seen = torch.from_numpy(np.stack([item.image for item in items])).permute(0, 3, 1, 2).float()
    return np.stack([item.attributions[0].values for item in items]), seen


def compare(asking: tuple[Ours, Subject], method: str, ours: np.ndarray, x: Tensor, oracle: oracles.Oracle) -> None:
    """Torch's own distance is that of the same maps."""
    subject = asking[1]
    oracles.compare((method, subject.form), subject, ours, x, lambda m, x: oracle(Normalised(m, PRESET), x), at=None)


def test_saliency(asking: tuple[Ours, Subject]) -> None:
    ours, x = ask(asking, "saliency", Target())
    best = oracles.strongest(Normalised(asking[1].module, PRESET), x)
    compare(asking, "saliency, photos", ours, x, lambda m, x: oracles.captum_saliency(m, x, best).amax(1))


@pytest.mark.parametrize("place", [0, 1])
def test_grad_cam_of_a_difference(asking: tuple[Ours, Subject], place: int) -> None:
    target, layer = Target(Selector(index=DOG), minus=Selector(index=CAT)), asking[1].layers[place]
    ours, x = ask(asking, "grad_cam", target, layer=layer, resize=False, relu=False)

    def difference(m: nn.Module, x: Tensor) -> Tensor:
        return oracles.cam(m, x, place, lambda s: s[:, DOG] - s[:, CAT], relu=False)

    compare(asking, "grad_cam, photos", ours, x, difference)


def test_the_default_layer(asking: tuple[Ours, Subject]) -> None:
    engine, subject = asking
    assert engine.engine.repository.get(subject.name).default_layer == subject.layers[-1]


def test_occlusion(asking: tuple[Ours, Subject]) -> None:
    ours, x = ask(asking, "occlusion", Target(), patch=(75,), stride=(75,), baseline="grey")
    best = oracles.strongest(Normalised(asking[1].module, PRESET), x)
    compare(
        asking, "occlusion, photos", ours, x,
        lambda m, x: oracles.captum_occlusion(m, x, best, (75, 75), (75, 75), 128),
    )  # fmt: skip
