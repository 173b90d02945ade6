"""The oracles: torch, captum, grad-cam. A peer that cannot be imported fails the group: nothing here is optional."""

from __future__ import annotations

import importlib.util
import sys
import types

import torch
import transformers.models.vit.modeling_vit  # noqa: F401  before the stand-in: it looks for torchvision, too
from captum.attr import LayerGradCam, Occlusion, Saliency

_STAND_INS = {
    "torchvision": (),
    "torchvision.transforms": ("Compose", "Normalize", "ToTensor"),
    "torchvision.transforms.functional": ("resize",),
}


def _import_grad_cam() -> tuple[type, type]:
    """``GradCAM`` and its target class; what they import of torchvision is for other methods and stays empty."""
    if importlib.util.find_spec("torchvision") is None:
        return _with_stand_ins()
    return _grad_cam()


def _with_stand_ins() -> tuple[type, type]:
    for name, attributes in _STAND_INS.items():
        module = types.ModuleType(name)
        for attribute in attributes:
            setattr(module, attribute, None)
        sys.modules[name] = module
    try:
        return _grad_cam()
    finally:
        for name in _STAND_INS:
            del sys.modules[name]


def _grad_cam() -> tuple[type, type]:
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    return GradCAM, ClassifierOutputTarget


GradCAM, ClassifierOutputTarget = _import_grad_cam()

torch.set_num_threads(1)  # on few cores two thread pools, torch's and ONNX Runtime's, wait for each other

__all__ = ["ClassifierOutputTarget", "GradCAM", "LayerGradCam", "Occlusion", "Saliency", "torch"]
