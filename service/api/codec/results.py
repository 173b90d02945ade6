"""ExplainResponse and Progress: value <-> message, both ways."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from service.api.codec.methods import from_method, to_method
from service.api.codec.tensors import to_array, to_tensor
from service.api.pb.onnx_explain.v1 import result_pb2, types_pb2
from service.types import (
    Array,
    Attribution,
    ExplainResult,
    Geometry,
    ItemResult,
    LayerActivations,
    Progress,
    ResolvedTarget,
    Score,
    Timing,
)

Draw = Callable[[ItemResult, Attribution | LayerActivations], bytes | None]
"""The PNG of one map or layer of an item; None where it cannot be drawn."""


def encode_result(result: ExplainResult, draw: Draw | None = None) -> result_pb2.ExplainResponse:
    """The message of an answer, with a picture of everything that ``draw`` can draw."""
    return result_pb2.ExplainResponse(
        items=[_item_message(i, item, draw) for i, item in enumerate(result.items)],
        model=result.model,
        version=result.version,
        model_digest=result.digest,
        method=to_method(result.method, result.parameters),
        seed=result.seed,
        execution_provider=result.provider,
        timing=result_pb2.Timing(**vars(result.timing)),
        notes=result.notes,
        truncated=result.truncated,
    )


def decode_result(message: result_pb2.ExplainResponse) -> ExplainResult:
    """The answer that a message holds.

    Raises:
        FieldError: arrays that contradict themselves.
    """
    method, parameters = from_method(message.method, echo=True)
    timing = message.timing
    return ExplainResult(
        model=message.model,
        version=message.version,
        digest=message.model_digest,
        method=method,
        parameters=parameters,
        provider=message.execution_provider,
        seed=message.seed,
        items=tuple(_item(f"items[{i}]", item) for i, item in enumerate(message.items)),
        timing=Timing(timing.decode, timing.build, timing.run, timing.total, timing.rows, timing.built),
        notes=tuple(message.notes),
        truncated=message.truncated,
    )


def encode_progress(progress: Progress) -> result_pb2.Progress:
    """The message of a progress report."""
    partial = None if progress.partial is None else to_tensor(progress.partial)
    return result_pb2.Progress(done=progress.done, total=progress.total, unit=progress.unit, partial=partial)


def decode_progress(message: result_pb2.Progress) -> Progress:
    """The progress report that a message holds."""
    partial = _received(message.partial, "partial") if message.HasField("partial") else None
    return Progress(message.done, message.total, message.unit, partial)


def _item_message(index: int, item: ItemResult, draw: Draw | None) -> result_pb2.ItemResult:
    def picture(name: str, part: Attribution | LayerActivations) -> result_pb2.Artifact | None:
        data = None if draw is None else draw(item, part)
        if data is None:
            return None
        return result_pb2.Artifact(name=f"item-{index}-{name}.png", mime_type="image/png", size=len(data), data=data)

    return result_pb2.ItemResult(
        attributions=[
            result_pb2.Attribution(
                values=to_tensor(a.values),
                target=_resolved_message(a.target),
                signed=a.signed,
                layer=a.layer,
                picture=picture(f"target-{k}", a),
            )
            for k, a in enumerate(item.attributions)
        ],
        activations=[
            result_pb2.LayerActivations(
                layer=a.layer,
                values=to_tensor(a.values),
                channels=a.channels.tolist(),
                energy=a.energy.tolist(),
                sparsity=a.sparsity,
                total=a.total,
                picture=picture(f"layer-{k}", a),
            )
            for k, a in enumerate(item.activations)
        ],
        predictions=[
            result_pb2.ClassScore(class_index=s.index, class_name=s.label, logit=s.logit, probability=s.probability)
            for s in item.predictions
        ],
        geometry=None if item.geometry is None else _geometry_message(item.geometry),
    )


def _item(path: str, message: result_pb2.ItemResult) -> ItemResult:
    return ItemResult(
        attributions=tuple(
            Attribution(
                _received(a.values, f"{path}.attributions[{k}].values"),
                _resolved(a.target),
                a.signed,
                a.layer,
            )
            for k, a in enumerate(message.attributions)
        ),
        activations=tuple(
            LayerActivations(
                a.layer,
                _received(a.values, f"{path}.activations[{k}].values"),
                np.array(a.channels, np.int64),
                np.array(a.energy, np.float64),
                a.sparsity,
                a.total,
            )
            for k, a in enumerate(message.activations)
        ),
        predictions=tuple(
            Score(
                s.class_index,
                s.class_name,
                s.logit if s.HasField("logit") else None,
                s.probability if s.HasField("probability") else None,
            )
            for s in message.predictions
        ),
        geometry=_geometry(message.geometry) if message.HasField("geometry") else None,
    )


def _received(tensor: types_pb2.Tensor, path: str) -> Array:
    """Writable, and as the method left it: a map with NaN is the caller's to see."""
    return to_array(tensor, path, finite=False).copy()


def _resolved_message(target: ResolvedTarget) -> result_pb2.ResolvedTarget:
    return result_pb2.ResolvedTarget(
        class_index=target.index,
        class_name=target.label,
        minus_class_index=target.minus_index,
        minus_class_name=target.minus_label,
        value=target.value,
    )


def _resolved(message: result_pb2.ResolvedTarget) -> ResolvedTarget:
    return ResolvedTarget(
        message.class_index,
        message.class_name,
        message.minus_class_index if message.HasField("minus_class_index") else None,
        message.minus_class_name,
        message.value if message.HasField("value") else None,
    )


def _geometry_message(geometry: Geometry) -> result_pb2.Geometry:
    top, left, height, width = geometry.crop
    return result_pb2.Geometry(
        original=result_pb2.Size(height=geometry.original[0], width=geometry.original[1]),
        resized=result_pb2.Size(height=geometry.resized[0], width=geometry.resized[1]),
        crop=result_pb2.Box(top=top, left=left, height=height, width=width),
    )


def _geometry(message: result_pb2.Geometry) -> Geometry:
    crop = message.crop
    return Geometry(
        (message.original.height, message.original.width),
        (message.resized.height, message.resized.width),
        (crop.top, crop.left, crop.height, crop.width),
    )
