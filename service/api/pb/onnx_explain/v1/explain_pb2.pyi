from service.api.pb.onnx_explain.v1 import methods_pb2 as _methods_pb2
from service.api.pb.onnx_explain.v1 import result_pb2 as _result_pb2
from service.api.pb.onnx_explain.v1 import types_pb2 as _types_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MethodKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    METHOD_KIND_UNSPECIFIED: _ClassVar[MethodKind]
    METHOD_KIND_BLACK_BOX: _ClassVar[MethodKind]
    METHOD_KIND_WHITE_BOX: _ClassVar[MethodKind]
METHOD_KIND_UNSPECIFIED: MethodKind
METHOD_KIND_BLACK_BOX: MethodKind
METHOD_KIND_WHITE_BOX: MethodKind

class ExplainRequest(_message.Message):
    __slots__ = ("model", "version", "method", "inputs", "targets", "top_k", "seed", "budget", "render")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    RENDER_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    method: _methods_pb2.Method
    inputs: _containers.RepeatedCompositeFieldContainer[_types_pb2.Input]
    targets: _containers.RepeatedCompositeFieldContainer[_types_pb2.Target]
    top_k: int
    seed: int
    budget: _types_pb2.Budget
    render: _types_pb2.RenderOptions
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., method: _Optional[_Union[_methods_pb2.Method, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[_types_pb2.Input, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[_types_pb2.Target, _Mapping]]] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., budget: _Optional[_Union[_types_pb2.Budget, _Mapping]] = ..., render: _Optional[_Union[_types_pb2.RenderOptions, _Mapping]] = ...) -> None: ...

class ExplainStreamRequest(_message.Message):
    __slots__ = ("request", "partial_maps")
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_MAPS_FIELD_NUMBER: _ClassVar[int]
    request: ExplainRequest
    partial_maps: bool
    def __init__(self, request: _Optional[_Union[ExplainRequest, _Mapping]] = ..., partial_maps: _Optional[bool] = ...) -> None: ...

class ExplainStreamResponse(_message.Message):
    __slots__ = ("progress", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: _result_pb2.Progress
    result: _result_pb2.ExplainResponse
    def __init__(self, progress: _Optional[_Union[_result_pb2.Progress, _Mapping]] = ..., result: _Optional[_Union[_result_pb2.ExplainResponse, _Mapping]] = ...) -> None: ...

class ExplainBatchRequest(_message.Message):
    __slots__ = ("header", "item")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    header: ExplainBatchHeader
    item: ExplainBatchItem
    def __init__(self, header: _Optional[_Union[ExplainBatchHeader, _Mapping]] = ..., item: _Optional[_Union[ExplainBatchItem, _Mapping]] = ...) -> None: ...

class ExplainBatchHeader(_message.Message):
    __slots__ = ("models", "method", "targets", "top_k", "seed", "budget", "render")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    RENDER_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[ModelReference]
    method: _methods_pb2.Method
    targets: _containers.RepeatedCompositeFieldContainer[_types_pb2.Target]
    top_k: int
    seed: int
    budget: _types_pb2.Budget
    render: _types_pb2.RenderOptions
    def __init__(self, models: _Optional[_Iterable[_Union[ModelReference, _Mapping]]] = ..., method: _Optional[_Union[_methods_pb2.Method, _Mapping]] = ..., targets: _Optional[_Iterable[_Union[_types_pb2.Target, _Mapping]]] = ..., top_k: _Optional[int] = ..., seed: _Optional[int] = ..., budget: _Optional[_Union[_types_pb2.Budget, _Mapping]] = ..., render: _Optional[_Union[_types_pb2.RenderOptions, _Mapping]] = ...) -> None: ...

class ModelReference(_message.Message):
    __slots__ = ("name", "version")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class ExplainBatchItem(_message.Message):
    __slots__ = ("item_id", "inputs", "targets", "truth", "mask")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    TRUTH_FIELD_NUMBER: _ClassVar[int]
    MASK_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    inputs: _containers.RepeatedCompositeFieldContainer[_types_pb2.Input]
    targets: _containers.RepeatedCompositeFieldContainer[_types_pb2.Target]
    truth: _types_pb2.ClassSelector
    mask: _types_pb2.Tensor
    def __init__(self, item_id: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[_types_pb2.Input, _Mapping]]] = ..., targets: _Optional[_Iterable[_Union[_types_pb2.Target, _Mapping]]] = ..., truth: _Optional[_Union[_types_pb2.ClassSelector, _Mapping]] = ..., mask: _Optional[_Union[_types_pb2.Tensor, _Mapping]] = ...) -> None: ...

class ExplainBatchResponse(_message.Message):
    __slots__ = ("progress", "chunk", "item", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: _result_pb2.Progress
    chunk: ArtifactChunk
    item: ExplainBatchItemResult
    result: _result_pb2.ExplainResponse
    def __init__(self, progress: _Optional[_Union[_result_pb2.Progress, _Mapping]] = ..., chunk: _Optional[_Union[ArtifactChunk, _Mapping]] = ..., item: _Optional[_Union[ExplainBatchItemResult, _Mapping]] = ..., result: _Optional[_Union[_result_pb2.ExplainResponse, _Mapping]] = ...) -> None: ...

class ArtifactChunk(_message.Message):
    __slots__ = ("item_id", "name", "offset", "data")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    name: str
    offset: int
    data: bytes
    def __init__(self, item_id: _Optional[str] = ..., name: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ExplainBatchItemResult(_message.Message):
    __slots__ = ("item_id", "result", "error")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    result: _result_pb2.ExplainResponse
    error: ItemError
    def __init__(self, item_id: _Optional[str] = ..., result: _Optional[_Union[_result_pb2.ExplainResponse, _Mapping]] = ..., error: _Optional[_Union[ItemError, _Mapping]] = ...) -> None: ...

class ItemError(_message.Message):
    __slots__ = ("code", "message", "reason", "field")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FIELD_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    reason: str
    field: str
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., reason: _Optional[str] = ..., field: _Optional[str] = ...) -> None: ...

class EstimateExplainRequest(_message.Message):
    __slots__ = ("request",)
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    request: ExplainRequest
    def __init__(self, request: _Optional[_Union[ExplainRequest, _Mapping]] = ...) -> None: ...

class EstimateExplainResponse(_message.Message):
    __slots__ = ("forward_rows", "backward_rows", "seconds", "peak_bytes")
    FORWARD_ROWS_FIELD_NUMBER: _ClassVar[int]
    BACKWARD_ROWS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    PEAK_BYTES_FIELD_NUMBER: _ClassVar[int]
    forward_rows: int
    backward_rows: int
    seconds: float
    peak_bytes: int
    def __init__(self, forward_rows: _Optional[int] = ..., backward_rows: _Optional[int] = ..., seconds: _Optional[float] = ..., peak_bytes: _Optional[int] = ...) -> None: ...

class ListMethodsRequest(_message.Message):
    __slots__ = ("model", "version", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListMethodsResponse(_message.Message):
    __slots__ = ("methods", "next_page_token")
    METHODS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    methods: _containers.RepeatedCompositeFieldContainer[MethodInfo]
    next_page_token: str
    def __init__(self, methods: _Optional[_Iterable[_Union[MethodInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class MethodInfo(_message.Message):
    __slots__ = ("name", "kind", "summary", "supported", "why_not", "parameters", "reports_progress", "needs_layer", "needs_target")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_FIELD_NUMBER: _ClassVar[int]
    WHY_NOT_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    REPORTS_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    NEEDS_LAYER_FIELD_NUMBER: _ClassVar[int]
    NEEDS_TARGET_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: MethodKind
    summary: str
    supported: bool
    why_not: str
    parameters: _containers.RepeatedCompositeFieldContainer[ParameterInfo]
    reports_progress: bool
    needs_layer: bool
    needs_target: bool
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[MethodKind, str]] = ..., summary: _Optional[str] = ..., supported: _Optional[bool] = ..., why_not: _Optional[str] = ..., parameters: _Optional[_Iterable[_Union[ParameterInfo, _Mapping]]] = ..., reports_progress: _Optional[bool] = ..., needs_layer: _Optional[bool] = ..., needs_target: _Optional[bool] = ...) -> None: ...

class ParameterInfo(_message.Message):
    __slots__ = ("name", "type", "default_value", "minimum", "maximum", "choices", "unit", "help")
    NAME_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_VALUE_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    CHOICES_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    HELP_FIELD_NUMBER: _ClassVar[int]
    name: str
    type: str
    default_value: str
    minimum: float
    maximum: float
    choices: _containers.RepeatedScalarFieldContainer[str]
    unit: str
    help: str
    def __init__(self, name: _Optional[str] = ..., type: _Optional[str] = ..., default_value: _Optional[str] = ..., minimum: _Optional[float] = ..., maximum: _Optional[float] = ..., choices: _Optional[_Iterable[str]] = ..., unit: _Optional[str] = ..., help: _Optional[str] = ...) -> None: ...
