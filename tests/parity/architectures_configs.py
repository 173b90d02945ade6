"""Nets of the transformers library from configurations of their own: random weights, nothing downloaded.

Heads of the small forms are 16 wide: 1/√16 is a number that files hold exactly, in float64 too.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class Logits(nn.Module):
    """A model's ``logits`` for its first argument."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x).logits


class Texts(nn.Module):
    """The logits for tokens [N, T] and a mask of ones: what a tokenizer's output looks like."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        return self.net(input_ids=tokens, attention_mask=mask).logits


def efficientnet(small: bool) -> nn.Module:
    """EfficientNet-B0 in full; small: three kinds of blocks (3 x 3, 5 x 5, strided), a third of the channels."""
    from transformers import EfficientNetConfig, EfficientNetForImageClassification

    sizes: dict[str, Any] = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "image_size": 224, "hidden_dim": 1280}
    if small:
        sizes = {
            "width_coefficient": 0.25, "depth_coefficient": 1.0, "image_size": 32, "hidden_dim": 320,
            "in_channels": [32, 16, 48], "out_channels": [16, 48, 64], "kernel_sizes": [3, 5, 3],
            "strides": [1, 2, 1], "num_block_repeats": [1, 2, 1], "expand_ratios": [1, 4, 4], "depthwise_padding": [1],
        }  # fmt: skip
    net = EfficientNetForImageClassification(EfficientNetConfig(**sizes, num_labels=10 if small else 1000))
    return Logits(net)


def convnext(small: bool) -> nn.Module:
    """ConvNeXt-tiny in full; small: two stages."""
    from transformers import ConvNextConfig, ConvNextForImageClassification

    sizes: dict[str, Any] = {"depths": [3, 3, 9, 3], "hidden_sizes": [96, 192, 384, 768], "layer_scale_init_value": 0.5}
    if small:
        sizes = {"num_stages": 2, "depths": [1, 2], "hidden_sizes": [12, 24], "layer_scale_init_value": 0.5}
    return Logits(ConvNextForImageClassification(ConvNextConfig(**sizes, num_labels=10)))


def vit(small: bool) -> nn.Module:
    """ViT-tiny in full (12 layers of 192, patches of 16); small: two layers."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes: dict[str, Any] = {
        "hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768,
        "image_size": 96, "patch_size": 16,
    }  # fmt: skip
    if small:
        sizes = {
            "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
            "image_size": 32, "patch_size": 8,
        }  # fmt: skip
    return Logits(ViTForImageClassification(ViTConfig(**sizes, num_labels=10)))


def swin(small: bool) -> nn.Module:
    """Swin-tiny in full, at 128 x 128 in windows of 4; small: two stages. Windows shifted in every second block."""
    from transformers import SwinConfig, SwinForImageClassification

    sizes: dict[str, Any] = {
        "embed_dim": 96,
        "depths": [2, 2, 6, 2],
        "num_heads": [3, 6, 12, 24],
        "image_size": 128,
        "window_size": 4,
    }
    if small:
        sizes = {"embed_dim": 32, "depths": [2, 2], "num_heads": [2, 4], "image_size": 32, "window_size": 4}
    net = SwinForImageClassification(SwinConfig(**sizes, num_labels=10))
    for stage, layers in enumerate(net.swin.encoder.layers):
        for layer in layers.blocks:
            side = sizes["image_size"] // 4 >> stage
            layer.set_shift_and_window_size((side, side))
            layer.set_shift_and_window_size = _nothing  # it compares tensors in Python, which torch.export refuses
    return Logits(net)


def _nothing(*_: object) -> None:
    """Stands for what was done once."""


def bert(small: bool) -> nn.Module:
    """BERT-base's 12 layers at a quarter of its width; small: two layers."""
    from transformers import BertConfig, BertForSequenceClassification

    sizes: dict[str, Any] = {
        "vocab_size": 200, "hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 12,
        "intermediate_size": 768,
    }  # fmt: skip
    if small:
        sizes |= {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(**sizes, max_position_embeddings=32, num_labels=5, initializer_range=0.1)
    return Texts(BertForSequenceClassification(config))


def gpt2(small: bool) -> nn.Module:
    """GPT-2's 12 layers at a quarter of its width, logits of every position; small: two layers."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes: dict[str, Any] = {"vocab_size": 200, "n_embd": 192, "n_layer": 12, "n_head": 12}
    if small:
        sizes = {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 2}
    config = GPT2Config(**sizes, n_positions=32, use_cache=False, initializer_range=0.1)
    return Texts(GPT2LMHeadModel(config))
