from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DataType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DATA_TYPE_UNSPECIFIED: _ClassVar[DataType]
    DATA_TYPE_BOOL: _ClassVar[DataType]
    DATA_TYPE_UINT8: _ClassVar[DataType]
    DATA_TYPE_INT8: _ClassVar[DataType]
    DATA_TYPE_UINT16: _ClassVar[DataType]
    DATA_TYPE_INT16: _ClassVar[DataType]
    DATA_TYPE_UINT32: _ClassVar[DataType]
    DATA_TYPE_INT32: _ClassVar[DataType]
    DATA_TYPE_UINT64: _ClassVar[DataType]
    DATA_TYPE_INT64: _ClassVar[DataType]
    DATA_TYPE_FLOAT16: _ClassVar[DataType]
    DATA_TYPE_FLOAT32: _ClassVar[DataType]
    DATA_TYPE_FLOAT64: _ClassVar[DataType]
    DATA_TYPE_STRING: _ClassVar[DataType]

class RenderStyle(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RENDER_STYLE_UNSPECIFIED: _ClassVar[RenderStyle]
    RENDER_STYLE_OVERLAY: _ClassVar[RenderStyle]
    RENDER_STYLE_HEATMAP: _ClassVar[RenderStyle]
    RENDER_STYLE_SHEET: _ClassVar[RenderStyle]
DATA_TYPE_UNSPECIFIED: DataType
DATA_TYPE_BOOL: DataType
DATA_TYPE_UINT8: DataType
DATA_TYPE_INT8: DataType
DATA_TYPE_UINT16: DataType
DATA_TYPE_INT16: DataType
DATA_TYPE_UINT32: DataType
DATA_TYPE_INT32: DataType
DATA_TYPE_UINT64: DataType
DATA_TYPE_INT64: DataType
DATA_TYPE_FLOAT16: DataType
DATA_TYPE_FLOAT32: DataType
DATA_TYPE_FLOAT64: DataType
DATA_TYPE_STRING: DataType
RENDER_STYLE_UNSPECIFIED: RenderStyle
RENDER_STYLE_OVERLAY: RenderStyle
RENDER_STYLE_HEATMAP: RenderStyle
RENDER_STYLE_SHEET: RenderStyle

class Tensor(_message.Message):
    __slots__ = ("dtype", "shape", "raw", "artifact")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    dtype: DataType
    shape: _containers.RepeatedScalarFieldContainer[int]
    raw: bytes
    artifact: str
    def __init__(self, dtype: _Optional[_Union[DataType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., raw: _Optional[bytes] = ..., artifact: _Optional[str] = ...) -> None: ...

class EncodedImage(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("name", "image", "pixels", "tensor")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    PIXELS_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    name: str
    image: EncodedImage
    pixels: Tensor
    tensor: Tensor
    def __init__(self, name: _Optional[str] = ..., image: _Optional[_Union[EncodedImage, _Mapping]] = ..., pixels: _Optional[_Union[Tensor, _Mapping]] = ..., tensor: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class ClassSelector(_message.Message):
    __slots__ = ("class_index", "class_name")
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    class_index: int
    class_name: str
    def __init__(self, class_index: _Optional[int] = ..., class_name: _Optional[str] = ...) -> None: ...

class Target(_message.Message):
    __slots__ = ("output_name", "class_index", "class_name", "rank", "top_k", "minus")
    OUTPUT_NAME_FIELD_NUMBER: _ClassVar[int]
    CLASS_INDEX_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAME_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MINUS_FIELD_NUMBER: _ClassVar[int]
    output_name: str
    class_index: int
    class_name: str
    rank: int
    top_k: int
    minus: ClassSelector
    def __init__(self, output_name: _Optional[str] = ..., class_index: _Optional[int] = ..., class_name: _Optional[str] = ..., rank: _Optional[int] = ..., top_k: _Optional[int] = ..., minus: _Optional[_Union[ClassSelector, _Mapping]] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("max_seconds", "max_rows")
    MAX_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_ROWS_FIELD_NUMBER: _ClassVar[int]
    max_seconds: float
    max_rows: int
    def __init__(self, max_seconds: _Optional[float] = ..., max_rows: _Optional[int] = ...) -> None: ...

class RenderOptions(_message.Message):
    __slots__ = ("style", "opacity", "max_side")
    STYLE_FIELD_NUMBER: _ClassVar[int]
    OPACITY_FIELD_NUMBER: _ClassVar[int]
    MAX_SIDE_FIELD_NUMBER: _ClassVar[int]
    style: RenderStyle
    opacity: float
    max_side: int
    def __init__(self, style: _Optional[_Union[RenderStyle, str]] = ..., opacity: _Optional[float] = ..., max_side: _Optional[int] = ...) -> None: ...
