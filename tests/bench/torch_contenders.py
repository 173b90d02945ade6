"""torch in eager mode, forward and backward to the image alone: contenders, run by the parity environment's Python."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.bench.gradient_contenders import seeded

Made = tuple[Callable[[], object], dict[str, Any]]


def libraries(kind: str) -> None:
    """Import torch and what the nets are made of, so that memory is counted from there."""
    import tests.bench.torch_nets  # noqa: F401


def torch_gradient(net: str, batch: int, threads: int, side: int = 224) -> Made:
    """The logits' gradient with respect to the image; only the image asks for one."""
    import torch

    from tests.bench import torch_nets

    torch.set_num_threads(threads)
    model = torch_nets.build(net)
    x = torch.from_numpy(seeded((batch, 3, side, side), 0)).requires_grad_()
    ct = torch.from_numpy(seeded((batch, 1000), 1))

    def once() -> object:
        return torch.autograd.grad(model(x), x, ct)

    return once, {"torch": torch.__version__, "threads": torch.get_num_threads()}


def torch_forward(net: str, batch: int, threads: int, side: int = 224) -> Made:
    """The forward pass alone, nothing kept for a backward."""
    import torch

    from tests.bench import torch_nets

    torch.set_num_threads(threads)
    model = torch_nets.build(net)
    x = torch.from_numpy(seeded((batch, 3, side, side), 0))

    def once() -> object:
        with torch.inference_mode():
            return model(x)

    return once, {"torch": torch.__version__, "threads": torch.get_num_threads()}


KINDS = {"torch_gradient": torch_gradient, "torch_forward": torch_forward}
