from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_STATE_UNSPECIFIED: _ClassVar[ModelState]
    MODEL_STATE_LOADING: _ClassVar[ModelState]
    MODEL_STATE_READY: _ClassVar[ModelState]
    MODEL_STATE_UNAVAILABLE: _ClassVar[ModelState]
    MODEL_STATE_UNLOADED: _ClassVar[ModelState]

class ScoreKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCORE_KIND_UNSPECIFIED: _ClassVar[ScoreKind]
    SCORE_KIND_SOFTMAX: _ClassVar[ScoreKind]
    SCORE_KIND_MULTI_LABEL: _ClassVar[ScoreKind]
    SCORE_KIND_BINARY: _ClassVar[ScoreKind]
    SCORE_KIND_LOGITS: _ClassVar[ScoreKind]
    SCORE_KIND_PROBABILITIES: _ClassVar[ScoreKind]
    SCORE_KIND_REGRESSION: _ClassVar[ScoreKind]
MODEL_STATE_UNSPECIFIED: ModelState
MODEL_STATE_LOADING: ModelState
MODEL_STATE_READY: ModelState
MODEL_STATE_UNAVAILABLE: ModelState
MODEL_STATE_UNLOADED: ModelState
SCORE_KIND_UNSPECIFIED: ScoreKind
SCORE_KIND_SOFTMAX: ScoreKind
SCORE_KIND_MULTI_LABEL: ScoreKind
SCORE_KIND_BINARY: ScoreKind
SCORE_KIND_LOGITS: ScoreKind
SCORE_KIND_PROBABILITIES: ScoreKind
SCORE_KIND_REGRESSION: ScoreKind

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelStatus]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[ModelStatus, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ModelStatus(_message.Message):
    __slots__ = ("name", "version", "state", "reason", "model_digest", "latest")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    state: ModelState
    reason: str
    model_digest: str
    latest: bool
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., state: _Optional[_Union[ModelState, str]] = ..., reason: _Optional[str] = ..., model_digest: _Optional[str] = ..., latest: _Optional[bool] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name", "version", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    values: bool
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., values: _Optional[bool] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: ModelInfo
    def __init__(self, model: _Optional[_Union[ModelInfo, _Mapping]] = ...) -> None: ...

class Dimension(_message.Message):
    __slots__ = ("size", "symbol")
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    size: int
    symbol: str
    def __init__(self, size: _Optional[int] = ..., symbol: _Optional[str] = ...) -> None: ...

class ValueInfo(_message.Message):
    __slots__ = ("name", "type", "shape", "rank_known", "operator", "node", "gradient")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    RANK_KNOWN_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    GRADIENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    shape: _containers.RepeatedCompositeFieldContainer[Dimension]
    rank_known: bool
    operator: str
    node: str
    gradient: bool
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., shape: _Optional[_Iterable[_Union[Dimension, _Mapping]]] = ..., rank_known: _Optional[bool] = ..., operator: _Optional[str] = ..., node: _Optional[str] = ..., gradient: _Optional[bool] = ...) -> None: ...

class ImageEntry(_message.Message):
    __slots__ = ("height", "width", "channels")
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    height: int
    width: int
    channels: int
    def __init__(self, height: _Optional[int] = ..., width: _Optional[int] = ..., channels: _Optional[int] = ...) -> None: ...

class ModelInfo(_message.Message):
    __slots__ = ("name", "version", "model_digest", "execution_provider", "size", "fixed_rows", "inputs", "outputs", "image", "preprocessing", "labels", "classes", "output", "logits", "score_kind", "default_layer", "layers", "multiply_adds", "notes", "whitebox_error", "values")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_PROVIDER_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    FIXED_ROWS_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PREPROCESSING_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LOGITS_FIELD_NUMBER: _ClassVar[int]
    SCORE_KIND_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_LAYER_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    MULTIPLY_ADDS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    WHITEBOX_ERROR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    model_digest: str
    execution_provider: str
    size: int
    fixed_rows: int
    inputs: _containers.RepeatedCompositeFieldContainer[ValueInfo]
    outputs: _containers.RepeatedCompositeFieldContainer[ValueInfo]
    image: ImageEntry
    preprocessing: str
    labels: _containers.RepeatedScalarFieldContainer[str]
    classes: int
    output: str
    logits: str
    score_kind: ScoreKind
    default_layer: str
    layers: _containers.RepeatedScalarFieldContainer[str]
    multiply_adds: int
    notes: _containers.RepeatedScalarFieldContainer[str]
    whitebox_error: str
    values: _containers.RepeatedCompositeFieldContainer[ValueInfo]
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., model_digest: _Optional[str] = ..., execution_provider: _Optional[str] = ..., size: _Optional[int] = ..., fixed_rows: _Optional[int] = ..., inputs: _Optional[_Iterable[_Union[ValueInfo, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[ValueInfo, _Mapping]]] = ..., image: _Optional[_Union[ImageEntry, _Mapping]] = ..., preprocessing: _Optional[str] = ..., labels: _Optional[_Iterable[str]] = ..., classes: _Optional[int] = ..., output: _Optional[str] = ..., logits: _Optional[str] = ..., score_kind: _Optional[_Union[ScoreKind, str]] = ..., default_layer: _Optional[str] = ..., layers: _Optional[_Iterable[str]] = ..., multiply_adds: _Optional[int] = ..., notes: _Optional[_Iterable[str]] = ..., whitebox_error: _Optional[str] = ..., values: _Optional[_Iterable[_Union[ValueInfo, _Mapping]]] = ...) -> None: ...
