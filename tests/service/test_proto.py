"""The contract, its stubs and the registry say the same."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import FieldDescriptor

from service.api import generate
from service.api.codec import methods
from service.api.pb.onnx_explain.v1.methods_pb2 import Method
from service.explainers.registry import EXPLAINERS

KINDS = {
    "int": {FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_INT64},
    "float": {FieldDescriptor.TYPE_DOUBLE},
    "bool": {FieldDescriptor.TYPE_BOOL},
    "str": {FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_ENUM},
}


def test_stubs_are_fresh(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="grpcio-tools is not installed (dependency group dev)")
    fresh = {p.relative_to(tmp_path): p.read_text() for p in generate.generate(tmp_path)}
    committed = {
        p.relative_to(generate.STUBS): p.read_text()
        for p in generate.STUBS.rglob("*.py*")
        if "__pycache__" not in p.parts
    }
    assert sorted(fresh) == sorted(committed)
    stale = [str(p) for p in fresh if fresh[p] != committed[p]]
    assert not stale, "run `make proto`"


def test_the_oneof_is_the_registry() -> None:
    assert set(methods.names()) == set(EXPLAINERS)


def test_numbers_of_methods() -> None:
    assert all(10 <= f.number <= 199 for f in Method.DESCRIPTOR.fields)


@pytest.mark.parametrize("name", methods.names())
def test_fields_are_the_parameters(name: str) -> None:
    message = Method.DESCRIPTOR.fields_by_name[name].message_type
    infos = {p.name: p for p in EXPLAINERS[name].parameter_infos()}
    assert set(message.fields_by_name) == set(infos)
    for field in message.fields:
        info = infos[field.name]
        listed = re.fullmatch(r"list\[(\w+)\]", info.type)
        assert field.is_repeated == bool(listed), field.name
        assert field.type in KINDS[listed[1] if listed else info.type], field.name
        assert field.is_repeated or field.has_presence or field.enum_type, f"{field.name} is not optional"
        if field.enum_type:
            assert tuple(methods.choices(field.enum_type)) == info.choices


@pytest.mark.parametrize("name", methods.names())
def test_every_default_can_be_echoed(name: str) -> None:
    explainer = EXPLAINERS[name]
    resolved = vars(explainer.make({}))
    method, given = methods.from_method(methods.to_method(name, resolved))
    assert method == name
    assert vars(explainer.make(given)) == resolved


def test_every_field_has_a_comment() -> None:
    """What a caller reads is the proto: no message and no field goes without a word."""
    bare = []
    for file in generate.PROTOS.rglob("*.proto"):
        lines = file.read_text().splitlines()
        for above, line in itertools.pairwise(lines):
            if re.match(r"\s*(message|rpc|service|enum|(optional |repeated )?[\w.]+ \w+ = \d+;)", line):
                enum_value = re.match(r"\s*[A-Z0-9_]+ = \d+;", line)
                if not enum_value and not above.strip().startswith("//"):
                    bare.append(f"{file.name}: {line.strip()}")
    assert not bare
