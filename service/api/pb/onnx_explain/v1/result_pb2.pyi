from service.api.pb.onnx_explain.v1 import methods_pb2 as _methods_pb2
from service.api.pb.onnx_explain.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ClassScore(_message.Message):
    __slots__ = ("class_index", "class_name", "logit", "probability")
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    LOGIT_FIELD_NUMBER: _ClassVar[int]
    PROBABILITY_FIELD_NUMBER: _ClassVar[int]
    class_index: int
    class_name: str
    logit: float
    probability: float
    def __init__(self, class_index: _Optional[int] = ..., class_name: _Optional[str] = ..., logit: _Optional[float] = ..., probability: _Optional[float] = ...) -> None: ...

class ResolvedTarget(_message.Message):
    __slots__ = ("class_index", "class_name", "minus_class_index", "minus_class_name", "value")
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    MINUS_CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    MINUS_CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    class_index: int
    class_name: str
    minus_class_index: int
    minus_class_name: str
    value: float
    def __init__(self, class_index: _Optional[int] = ..., class_name: _Optional[str] = ..., minus_class_index: _Optional[int] = ..., minus_class_name: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...

class Quantity(_message.Message):
    __slots__ = ("name", "value", "standard_error", "unit")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    STANDARD_ERROR_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: float
    standard_error: float
    unit: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[float] = ..., standard_error: _Optional[float] = ..., unit: _Optional[str] = ...) -> None: ...

class Artifact(_message.Message):
    __slots__ = ("name", "mime_type", "size", "data")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MIME_TYPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    mime_type: str
    size: int
    data: bytes
    def __init__(self, name: _Optional[str] = ..., mime_type: _Optional[str] = ..., size: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Attribution(_message.Message):
    __slots__ = ("values", "target", "signed", "layer", "quantities", "picture")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    QUANTITIES_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    values: _types_pb2.Tensor
    target: ResolvedTarget
    signed: bool
    layer: str
    quantities: _containers.RepeatedCompositeFieldContainer[Quantity]
    picture: Artifact
    def __init__(self, values: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., target: _Optional[_Union[ResolvedTarget, _Mapping]] = ..., signed: _Optional[bool] = ..., layer: _Optional[str] = ..., quantities: _Optional[_Iterable[_Union[Quantity, _Mapping]]] = ..., picture: _Optional[_Union[Artifact, _Mapping]] = ...) -> None: ...

class LayerActivations(_message.Message):
    __slots__ = ("layer", "values", "channels", "energy", "sparsity", "total", "picture")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    SPARSITY_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    PICTURE_FIELD_NUMBER: _ClassVar[int]
    layer: str
    values: _types_pb2.Tensor
    channels: _containers.RepeatedScalarFieldContainer[int]
    energy: _containers.RepeatedScalarFieldContainer[float]
    sparsity: float
    total: int
    picture: Artifact
    def __init__(self, layer: _Optional[str] = ..., values: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ..., channels: _Optional[_Iterable[int]] = ..., energy: _Optional[_Iterable[float]] = ..., sparsity: _Optional[float] = ..., total: _Optional[int] = ..., picture: _Optional[_Union[Artifact, _Mapping]] = ...) -> None: ...

class Size(_message.Message):
    __slots__ = ("height", "width")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class Box(_message.Message):
    __slots__ = ("top", "left", "height", "width")
    TOP_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    top: int
    left: int
    height: int
    width: int
    def __init__(self, top: _Optional[int] = ..., left: _Optional[int] = ..., height: _Optional[int] = ..., width: _Optional[int] = ...) -> None: ...

class Geometry(_message.Message):
    __slots__ = ("original", "resized", "crop")
    ORIGINAL_FIELD_NUMBER: _ClassVar[int]
    RESIZED_FIELD_NUMBER: _ClassVar[int]
    CROP_FIELD_NUMBER: _ClassVar[int]
    original: Size
    resized: Size
    crop: Box
    def __init__(self, original: _Optional[_Union[Size, _Mapping]] = ..., resized: _Optional[_Union[Size, _Mapping]] = ..., crop: _Optional[_Union[Box, _Mapping]] = ...) -> None: ...

class ItemResult(_message.Message):
    __slots__ = ("attributions", "activations", "predictions", "geometry", "quantities", "artifacts")
    ATTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    GEOMETRY_FIELD_NUMBER: _ClassVar[int]
    QUANTITIES_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    attributions: _containers.RepeatedCompositeFieldContainer[Attribution]
    activations: _containers.RepeatedCompositeFieldContainer[LayerActivations]
    predictions: _containers.RepeatedCompositeFieldContainer[ClassScore]
    geometry: Geometry
    quantities: _containers.RepeatedCompositeFieldContainer[Quantity]
    artifacts: _containers.RepeatedCompositeFieldContainer[Artifact]
    def __init__(self, attributions: _Optional[_Iterable[_Union[Attribution, _Mapping]]] = ..., activations: _Optional[_Iterable[_Union[LayerActivations, _Mapping]]] = ..., predictions: _Optional[_Iterable[_Union[ClassScore, _Mapping]]] = ..., geometry: _Optional[_Union[Geometry, _Mapping]] = ..., quantities: _Optional[_Iterable[_Union[Quantity, _Mapping]]] = ..., artifacts: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("decode", "build", "run", "total", "rows", "built")
    DECODE_FIELD_NUMBER: _ClassVar[int]
    BUILD_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BUILT_FIELD_NUMBER: _ClassVar[int]
    decode: float
    build: float
    run: float
    total: float
    rows: int
    built: int
    def __init__(self, decode: _Optional[float] = ..., build: _Optional[float] = ..., run: _Optional[float] = ..., total: _Optional[float] = ..., rows: _Optional[int] = ..., built: _Optional[int] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("items", "model", "version", "model_digest", "method", "seed", "execution_provider", "timing", "notes", "truncated", "quantities", "artifacts")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    QUANTITIES_FIELD_NUMBER: _ClassVar[int]
    ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ItemResult]
    model: str
    version: str
    model_digest: str
    method: _methods_pb2.Method
    seed: int
    execution_provider: str
    timing: Timing
    notes: _containers.RepeatedScalarFieldContainer[str]
    truncated: bool
    quantities: _containers.RepeatedCompositeFieldContainer[Quantity]
    artifacts: _containers.RepeatedCompositeFieldContainer[Artifact]
    def __init__(self, items: _Optional[_Iterable[_Union[ItemResult, _Mapping]]] = ..., model: _Optional[str] = ..., version: _Optional[str] = ..., model_digest: _Optional[str] = ..., method: _Optional[_Union[_methods_pb2.Method, _Mapping]] = ..., seed: _Optional[int] = ..., execution_provider: _Optional[str] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., notes: _Optional[_Iterable[str]] = ..., truncated: _Optional[bool] = ..., quantities: _Optional[_Iterable[_Union[Quantity, _Mapping]]] = ..., artifacts: _Optional[_Iterable[_Union[Artifact, _Mapping]]] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("done", "total", "unit", "partial")
    DONE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_FIELD_NUMBER: _ClassVar[int]
    done: int
    total: int
    unit: str
    partial: _types_pb2.Tensor
    def __init__(self, done: _Optional[int] = ..., total: _Optional[int] = ..., unit: _Optional[str] = ..., partial: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...
