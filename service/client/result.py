"""The answer as a caller uses it."""

from __future__ import annotations

from dataclasses import dataclass

from service.api.codec.results import decode_result
from service.api.pb.onnx_explain.v1 import result_pb2
from service.types import Array, ExplainResult, Score


@dataclass(frozen=True)
class Result(ExplainResult):
    """An ExplainResult with shortcuts to the first input, and the pictures where they were asked for.

    Attributes:
        pictures: per input, the PNG of every map, then of every layer; b"" where there is none.
    """

    pictures: tuple[tuple[bytes, ...], ...] = ()

    @property
    def map(self) -> Array:
        """The first map of the first input: float32 [H, W], or the tensor's shape; not normalised.

        Raises:
            ValueError: the method makes no maps.
        """
        return self.maps[0]

    @property
    def maps(self) -> list[Array]:
        """The maps of the first input, one per target.

        Raises:
            ValueError: the method makes no maps.
        """
        maps = [a.values for a in self.items[0].attributions]
        if not maps:
            raise ValueError(f"{self.method} makes no maps; look at .items[0]")
        return maps

    @property
    def predictions(self) -> tuple[Score, ...]:
        """The strongest classes of the first input, best first."""
        return self.items[0].predictions

    @property
    def picture(self) -> bytes:
        """PNG of the first map or layer of the first input; b"" where none was asked for."""
        return self.pictures[0][0] if self.pictures and self.pictures[0] else b""


def result_of(message: result_pb2.ExplainResponse) -> Result:
    """The result that a message holds.

    Raises:
        FieldError: arrays that contradict themselves, or a method that is newer than this client.
    """
    pictures = tuple(
        tuple(part.picture.data for part in (*item.attributions, *item.activations)) for item in message.items
    )
    return Result(**vars(decode_result(message)), pictures=pictures)
