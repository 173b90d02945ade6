"""Units that rounding switches: which they are, and what the gradient is with exactly those switched.

A ReLU whose input is within rounding of 0 may be on in one correct float32 computation and off in another, and one
unit moves a whole gradient by up to 1e-2. Where ours is farther from autograd's than rounding explains, the program
is asked for its own activations: autograd in float64, told to take the other side at exactly the units where these
differ from its own, each within rounding of its kink, must then say what ours says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

Array = np.ndarray


@dataclass(frozen=True)
class Unit:
    """One unit in question.

    Attributes:
        call: the how-manieth operator with kinks.
        place: flat index in its input; of a max pool: in its output.
        kink: where its slope jumps by ``jump``; a max pool's are its two largest values.
        margin: distance of the input from the kink in float64; ``near``: in multiples of the largest input.
        tied: a max pool's two largest values are equal in ONNX Runtime: rounded there, and either may have won.
    """

    call: int
    operator: str
    module: str
    place: int
    kink: float
    jump: float
    margin: float
    near: float
    tied: bool = False

    def __str__(self) -> str:
        return f"{self.operator} at {self.module}, unit {self.place}: {self.margin:+.0e} from its kink"


def _jumps(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    """(kink, jump of the slope there) of an elementwise function."""
    if name == "hardtanh":
        low = kwargs.get("min_val", args[1] if len(args) > 1 else -1.0)
        high = kwargs.get("max_val", args[2] if len(args) > 2 else 1.0)
        return (float(low), 1.0), (float(high), -1.0)
    return {
        "relu": ((0.0, 1.0),),
        "relu6": ((0.0, 1.0), (6.0, -1.0)),
        "hardswish": ((-3.0, -0.5), (3.0, -0.5)),
        "hardsigmoid": ((-3.0, 1 / 6), (3.0, -1 / 6)),
    }.get(name, ())


def _windows(x: Tensor, kernel: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """[N·C, places, windows] of a 2-d max pool."""
    edge = (padding, padding) if isinstance(padding, int) else tuple(padding)
    wide = functional.pad(x.flatten(0, 1).unsqueeze(1), (edge[1], edge[1], edge[0], edge[0]), value=-1e30)
    return functional.unfold(wide, kernel, stride=stride or kernel)


@dataclass(frozen=True)
class Seen:
    """What an operator with kinks got (``x``) and returned (``y``), float64; ``pool``: a max pool's arguments."""

    operator: str
    module: str
    x: Tensor
    y: Tensor
    jumps: tuple[tuple[float, float], ...]
    pool: tuple[Any, ...] = ()

    @property
    def by_output(self) -> bool:
        """Whether the output tells the side: a program keeps it, and reading it changes nothing in the run."""
        return self.operator in ("relu", "relu6", "hardtanh")

    @property
    def shown(self) -> Array:
        """What is looked for in the file."""
        return (self.y if self.by_output else self.x).numpy()

    def winners(self, x: Array) -> Array:
        """Of each window of a max pool: the place of the first of its largest values."""
        return _windows(torch.from_numpy(np.asarray(x, np.float64)), *self.pool).argmax(1).numpy()

    def tied(self, x: Array) -> Array:
        """Windows whose two largest values are equal."""
        two = _windows(torch.from_numpy(np.asarray(x, np.float64)), *self.pool).topk(2, 1).values
        return (two[:, 0] == two[:, 1]).flatten().nonzero()[:, 0].numpy()

    def near(self, margin: Any) -> tuple[float, float]:
        """The margin, and how much of the largest input it is."""
        return float(margin), abs(float(margin)) / float(self.x.abs().max())

    def gap(self, place: int) -> float:
        """Between the two largest values of a window."""
        two = _windows(self.x, *self.pool).topk(2, 1).values
        return float((two[:, 0] - two[:, 1]).flatten()[place])


class Kinks(TorchFunctionMode):
    """Records what operators with kinks get, and switches the units it is told to."""

    def __init__(self, module: nn.Module, switched: Sequence[Unit] = ()) -> None:
        super().__init__()
        self.seen: list[Seen] = []
        self._switched, self._path = switched, [""]
        self._handles = []
        for path, part in module.named_modules():
            self._handles.append(part.register_forward_pre_hook(lambda *_, p=path: self._path.append(p)))
            self._handles.append(part.register_forward_hook(lambda *_: self._leave()))

    def _leave(self) -> None:
        self._path.pop()

    def __exit__(self, *args: Any) -> None:
        super().__exit__(*args)
        for handle in self._handles:
            handle.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        y = func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        pool = name in ("max_pool2d", "_max_pool2d") or func is functional.max_pool2d
        jumps = _jumps(name, args, kwargs)
        if not pool and not jumps:
            return y
        x = args[0] if args else kwargs["input"]
        more = _pool_arguments(args, kwargs) if pool else ()
        mine = [unit for unit in self._switched if unit.call == len(self.seen)]
        self.seen.append(Seen("max_pool" if pool else name, self._path[-1], x.detach(), y.detach(), jumps, more))
        kept = _windows(x, *more).topk(2, 1).values if pool and mine else x
        for unit in mine:
            y = _other_side(y, kept, unit)
        return y


def _pool_arguments(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """kernel, stride, padding."""
    given = dict(zip(("kernel_size", "stride", "padding"), args[1:4], strict=False)) | kwargs
    return given["kernel_size"], given.get("stride"), given.get("padding", 0)


def _other_side(y: Tensor, x: Tensor, unit: Unit) -> Tensor:
    """``y`` with the slope of one unit taken from beyond its kink; its value moves by no more than its margin."""
    at = torch.zeros(y.numel(), dtype=y.dtype)
    if unit.operator == "max_pool":
        at[unit.place] = 1.0
        return y + at.reshape(y.shape) * (x[:, 1] - x[:, 0]).reshape(y.shape)
    at[unit.place] = unit.jump if unit.margin <= 0 else -unit.jump
    return y + at.reshape(y.shape) * (x - unit.kink)


def switched(
    wide: nn.Module, inputs: Sequence[Tensor], find: Callable[[Sequence[Array]], Sequence[Array]]
) -> list[Unit]:
    """The units that ONNX Runtime has on the other side than torch in float64.

    Args:
        find: what ONNX Runtime computed in place of these arrays (what each operator with kinks returns, or gets).
    """
    with torch.no_grad(), Kinks(wide) as exact:
        wide(*(x.double() if x.is_floating_point() else x for x in inputs))
    found = []
    for call, (seen, got) in enumerate(zip(exact.seen, find([s.shown for s in exact.seen]), strict=True)):
        if seen.operator == "max_pool":
            places = np.flatnonzero(seen.winners(got) != seen.winners(seen.shown)).tolist()
            gaps = {p: seen.near(seen.gap(p)) for p in places}
            tied = set(seen.tied(got).tolist())
            found += [Unit(call, seen.operator, seen.module, p, 0.0, 1.0, *gaps[p], p in tied) for p in places]
            continue
        for kink, jump in seen.jumps:
            above = got >= kink if seen.by_output and jump < 0 else got > kink  # a clipped output is the bound itself
            places = np.flatnonzero((above != (seen.x.numpy() > kink)).ravel())
            off = seen.x.flatten() - kink
            found += [Unit(call, seen.operator, seen.module, int(p), kink, jump, *seen.near(off[p])) for p in places]
    return found
