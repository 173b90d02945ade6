from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoreScale(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SCORE_SCALE_UNSPECIFIED: _ClassVar[ScoreScale]
    SCORE_SCALE_LOGIT: _ClassVar[ScoreScale]
    SCORE_SCALE_PROBABILITY: _ClassVar[ScoreScale]

class Baseline(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BASELINE_UNSPECIFIED: _ClassVar[Baseline]
    BASELINE_GREY: _ClassVar[Baseline]
    BASELINE_MEAN: _ClassVar[Baseline]
    BASELINE_ZERO: _ClassVar[Baseline]
    BASELINE_BLUR: _ClassVar[Baseline]
    BASELINE_VALUE: _ClassVar[Baseline]
SCORE_SCALE_UNSPECIFIED: ScoreScale
SCORE_SCALE_LOGIT: ScoreScale
SCORE_SCALE_PROBABILITY: ScoreScale
BASELINE_UNSPECIFIED: Baseline
BASELINE_GREY: Baseline
BASELINE_MEAN: Baseline
BASELINE_ZERO: Baseline
BASELINE_BLUR: Baseline
BASELINE_VALUE: Baseline

class Method(_message.Message):
    __slots__ = ("predict", "activations", "saliency", "grad_cam", "occlusion")
    PREDICT_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    SALIENCY_FIELD_NUMBER: _ClassVar[int]
    GRAD_CAM_FIELD_NUMBER: _ClassVar[int]
    OCCLUSION_FIELD_NUMBER: _ClassVar[int]
    predict: PredictParameters
    activations: ActivationsParameters
    saliency: SaliencyParameters
    grad_cam: GradCamParameters
    occlusion: OcclusionParameters
    def __init__(self, predict: _Optional[_Union[PredictParameters, _Mapping]] = ..., activations: _Optional[_Union[ActivationsParameters, _Mapping]] = ..., saliency: _Optional[_Union[SaliencyParameters, _Mapping]] = ..., grad_cam: _Optional[_Union[GradCamParameters, _Mapping]] = ..., occlusion: _Optional[_Union[OcclusionParameters, _Mapping]] = ...) -> None: ...

class PredictParameters(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ActivationsParameters(_message.Message):
    __slots__ = ("layers", "channels")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    CHANNELS_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedScalarFieldContainer[str]
    channels: int
    def __init__(self, layers: _Optional[_Iterable[str]] = ..., channels: _Optional[int] = ...) -> None: ...

class SaliencyParameters(_message.Message):
    __slots__ = ("signed",)
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    signed: bool
    def __init__(self, signed: _Optional[bool] = ...) -> None: ...

class GradCamParameters(_message.Message):
    __slots__ = ("layer", "relu", "resize")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    RELU_FIELD_NUMBER: _ClassVar[int]
    RESIZE_FIELD_NUMBER: _ClassVar[int]
    layer: str
    relu: bool
    resize: bool
    def __init__(self, layer: _Optional[str] = ..., relu: _Optional[bool] = ..., resize: _Optional[bool] = ...) -> None: ...

class OcclusionParameters(_message.Message):
    __slots__ = ("patch", "stride", "baseline", "value", "score")
    PATCH_FIELD_NUMBER: _ClassVar[int]
    STRIDE_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    patch: _containers.RepeatedScalarFieldContainer[int]
    stride: _containers.RepeatedScalarFieldContainer[int]
    baseline: Baseline
    value: float
    score: ScoreScale
    def __init__(self, patch: _Optional[_Iterable[int]] = ..., stride: _Optional[_Iterable[int]] = ..., baseline: _Optional[_Union[Baseline, str]] = ..., value: _Optional[float] = ..., score: _Optional[_Union[ScoreScale, str]] = ...) -> None: ...
