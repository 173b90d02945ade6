"""Baselines: the input that means "absence"."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageFilter

from service.types import Array

BASELINES = ("grey", "mean", "zero", "blur", "value")


def baseline(kind: str, x: Array, value: float, *, image: bool) -> Array:
    """The baseline of one input, same shape and dtype.

    Args:
        kind: ``grey`` level 128 (0 for tensors that are not images); ``mean`` of the input, per channel for images;
            ``zero``; ``blur`` Gaussian with sigma a tenth of the short side (images; the mean for tensors);
            ``value`` the level given.
        x: [1, H, W, C] float grey levels for images, else the tensor with its batch axis.
        value: level for ``value``.
        image: whether ``x`` is an image.
    """
    if kind == "grey":
        return np.full_like(x, 128 if image else 0)
    if kind == "zero":
        return np.zeros_like(x)
    if kind == "value":
        return np.full_like(x, value)
    if kind == "mean" or not image:
        mean = x.mean(axis=(1, 2), keepdims=True) if image else x.astype(np.float64).mean()
        return np.broadcast_to(np.asarray(mean).astype(x.dtype), x.shape).copy()
    return _blurred(x)


def _blurred(x: Array) -> Array:
    sigma = max(1.0, min(x.shape[1:3]) / 10)
    planes = []
    for c in range(x.shape[3]):
        plane = Image.fromarray(np.clip(np.rint(x[0, :, :, c]), 0, 255).astype(np.uint8))
        planes.append(np.asarray(plane.filter(ImageFilter.GaussianBlur(sigma)), dtype=x.dtype))
    return np.stack(planes, axis=-1)[None]
