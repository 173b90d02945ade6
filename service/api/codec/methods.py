"""Method <-> (name, parameters): one function each way for every method there is or will be.

It works from the message descriptors alone: field names are the parameters' names, an enum value is its
lower-case name without the prefix, an absent field is an absent parameter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor import EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from service.api.codec.fields import MAX_TEXT, FieldError, text
from service.api.pb.onnx_explain.v1.methods_pb2 import Method

_FLOATS = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)
_MAX_ENTRIES = 1000


def names() -> list[str]:
    """The methods that the contract has, in its order."""
    return [f.name for f in Method.DESCRIPTOR.oneofs_by_name["method"].fields]


def from_method(method: Method, *, echo: bool = False, at: str = "") -> tuple[str, dict[str, Any]]:
    """The method's name, and the parameters that are present.

    Args:
        method: the message.
        echo: it comes from a reply, which holds every parameter: a list that is absent is an empty one.
        at: path of the message that holds it, for example ``request.``.

    Raises:
        FieldError: no method, or one or a parameter that is newer than this server.
    """
    chosen = method.WhichOneof("method")
    if chosen is None:
        raise FieldError(f"{at}method", f"method unset or newer than this server, which has {', '.join(names())}")
    message = getattr(method, chosen)
    for unknown in UnknownFieldSet(message):
        raise FieldError(chosen, f"parameter number {unknown.field_number} is newer than this server; leave it out")
    return chosen, {f.name: _value(chosen, f, message) for f in message.DESCRIPTOR.fields if _given(f, message, echo)}


def to_method(name: str, parameters: Mapping[str, Any]) -> Method:
    """The message of a method with ``parameters``; None = absent; text is parsed where the field is a number.

    Raises:
        FieldError: no such method or parameter, or a value that does not fit its type.
    """
    if name not in names():
        raise FieldError("method", f"there is no method {name!r}; there are {', '.join(names())}")
    method = Method()
    message: Message = getattr(method, name)
    message.SetInParent()
    for key, value in parameters.items():
        field = message.DESCRIPTOR.fields_by_name.get(key)
        if field is None:
            known = ", ".join(message.DESCRIPTOR.fields_by_name) or "none"
            raise FieldError(f"{name}.{key}", f"no such parameter; it has {known}")
        if value is None:
            continue
        try:
            if field.is_repeated:
                getattr(message, key).extend(_convert(field, v) for v in _entries(value))
            else:
                setattr(message, key, _convert(field, value))
        except (TypeError, ValueError) as error:
            raise FieldError(f"{name}.{key}", f"{value!r} does not fit: {error}") from None
    return method


def choices(enum: EnumDescriptor) -> dict[str, int]:
    """The values of an enum by their lower-case name without the prefix; the zero value is none of them."""
    prefix = enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return {v.name.removeprefix(prefix).lower(): v.number for v in enum.values if v.number}


def _given(field: FieldDescriptor, message: Message, echo: bool) -> bool:
    if field.is_repeated:
        return echo or len(getattr(message, field.name)) > 0
    return message.HasField(field.name) if field.has_presence else bool(getattr(message, field.name))


def _value(method: str, field: FieldDescriptor, message: Message) -> Any:
    path, value = f"{method}.{field.name}", getattr(message, field.name)
    if field.is_repeated:
        if len(value) > _MAX_ENTRIES:
            raise FieldError(path, f"{len(value)} entries; at most {_MAX_ENTRIES}")
        return tuple(_scalar(f"{path}[{i}]", field, v) for i, v in enumerate(value))
    return _scalar(path, field, value)


def _scalar(path: str, field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        known = {number: name for name, number in choices(field.enum_type).items()}
        if value not in known:
            raise FieldError(path, f"value {value} is newer than this server, which has {', '.join(known.values())}")
        return known[value]
    return text(value, path) if isinstance(value, str) else value


def _entries(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [v.strip() for v in value.split(",") if v.strip()]
    return list(value) if hasattr(value, "__iter__") else [value]


def _convert(field: FieldDescriptor, value: Any) -> Any:
    if field.enum_type is not None:
        known = choices(field.enum_type)
        if str(value).lower() not in known:
            raise ValueError(f"one of {', '.join(known)}")
        return known[str(value).lower()]
    if isinstance(value, str) and field.cpp_type != FieldDescriptor.CPPTYPE_STRING:
        return _parse(field, value)
    if isinstance(value, str) and len(value) > MAX_TEXT:
        raise ValueError(f"longer than {MAX_TEXT} characters")
    return value


def _parse(field: FieldDescriptor, value: str) -> bool | int | float:
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if value.lower() not in ("true", "1", "yes", "false", "0", "no"):
            raise ValueError("true or false")
        return value.lower() in ("true", "1", "yes")
    return float(value) if field.cpp_type in _FLOATS else int(value)
