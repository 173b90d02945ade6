"""What a request means for one model: its tensors checked, its targets as indices, its fields by their path."""

from __future__ import annotations

from typing import Any

import numpy as np

from graph_tools.errors import InvalidRequest, UnknownValue
from service.explainers.base import Explainer, Targets
from service.models.labels import match
from service.models.loaded import LoadedModel
from service.models.served import check_finite
from service.runtime.session import TensorInfo
from service.types import Array, ExplainRequest, Selector, Target

MOST_TARGETS = 100


def tensors(model: LoadedModel, given: dict[str, Array]) -> dict[str, Array]:
    """The model's own inputs, checked against the session's names, dtypes and shapes."""
    inputs = {v.name: v for v in model.served.session.inputs}
    if list(given) == [""]:
        given = {model.primary_input: given[""]}
    for i, name in enumerate(given):
        if name not in inputs:
            raise InvalidRequest(
                f"inputs[{i}].name", f"there is no input {name!r}; the model takes {', '.join(inputs)}"
            )
    missing = [n for n in inputs if n not in given]
    if missing:
        raise InvalidRequest("inputs", f"input {missing[0]!r} is missing")
    checked = {
        name: _tensor(array, inputs[name], f"inputs[{i}].tensor") for i, (name, array) in enumerate(given.items())
    }
    rows = {len(a) for a in checked.values()}
    if len(rows) > 1:
        raise InvalidRequest("inputs", f"the inputs disagree on the number of rows: {sorted(rows)}")
    return checked


def _tensor(array: Array, want: TensorInfo, field: str) -> Array:
    """``array`` as the input ``want``; floats are cast to its precision."""
    if "(" in want.dtype:
        raise InvalidRequest(field, f"input {want.name!r} is a {want.dtype}; only tensors can be sent")
    if str(array.dtype) != want.dtype and not (want.dtype == "string" and array.dtype.kind in "OU"):
        if array.dtype.kind != "f" or not want.dtype.startswith("float"):
            kind = "string" if array.dtype.kind in "OU" else array.dtype
            raise InvalidRequest(f"{field}.dtype", f"{want.name!r} is {kind}, but the model takes {want.dtype}")
        with np.errstate(over="ignore"):  # what overflows is refused below
            array = array.astype(want.dtype)
    fits = not want.shape or (
        len(array.shape) == len(want.shape)
        and all(not isinstance(w, int) or w == s for w, s in list(zip(want.shape, array.shape, strict=True))[1:])
    )
    if not fits or not array.size:
        shown = ", ".join(str(d or "?") for d in want.shape)
        raise InvalidRequest(
            f"{field}.shape", f"{want.name!r} has shape {list(array.shape)}, but the model takes [{shown}]"
        )
    check_finite(f"{field}.raw", array)
    return np.ascontiguousarray(array)


def field_path(field: str, explainer: Explainer, request: ExplainRequest) -> str:
    """The request's path of a field as models and runtime name it: a parameter, or an input of the file."""
    for parameter in explainer.parameter_infos():
        if field in (parameter.name, parameter.name.removesuffix("s")):
            return f"{explainer.name}.{parameter.name}"
    return f"inputs[{list(request.tensors).index(field)}].tensor" if field in request.tensors else field


def layer_named(parameters: Any) -> str:
    """The layer that the parameters name, "" where they name none."""
    return str(getattr(parameters, "layer", "") or next(iter(getattr(parameters, "layers", ())), ""))


def targets_of(model: LoadedModel, request: ExplainRequest, rows: int, classes: int | None) -> Targets:
    """Every target for every row; ranks stay ranks (−j)."""
    asked = request.targets or (Target(),)
    if len(asked) > MOST_TARGETS:
        raise InvalidRequest("targets", f"{len(asked)} targets; at most {MOST_TARGETS} go into one call")
    index, minus = [], []
    for i, target in enumerate(asked):
        if target.output and target.output != model.tail.output:
            outputs = [v.name for v in model.served.session.outputs]
            if target.output not in outputs:
                raise UnknownValue("output", target.output, outputs)
            raise InvalidRequest(
                f"targets[{i}].output_name",
                f"the output explained is {model.tail.output!r}; for {target.output!r} name it in the model card",
            )
        index.append(_class(model, target.select, f"targets[{i}]", classes))
        minus.append(-1 if target.minus is None else _class(model, target.minus, f"targets[{i}].minus", classes))
        if target.minus is not None and minus[-1] < 0:
            raise InvalidRequest(f"targets[{i}].minus", "name a class or its index")
    shape = (rows, len(index))
    return Targets(np.broadcast_to(np.array(index, np.int64), shape).copy(),
                   np.broadcast_to(np.array(minus, np.int64), shape).copy())  # fmt: skip


def _class(model: LoadedModel, select: Selector, field: str, classes: int | None) -> int:
    """Class index, or −rank; ``classes`` = how many there are, None where nobody asks for one."""
    if select.name is not None:
        if not model.labels:
            raise InvalidRequest(
                f"{field}.class_name", "this model has no labels; give a class index, or labels in the model card"
            )
        return match(model.labels, select.name)
    if select.index is not None:
        if select.index < 0 or (classes is not None and select.index >= classes):
            last = "" if classes is None else str(classes - 1)
            raise InvalidRequest(f"{field}.class_index", f"class {select.index} is out of range: 0 to {last}")
        return select.index
    rank = select.rank or 1
    if rank < 1 or (classes is not None and rank > classes):
        raise InvalidRequest(f"{field}.rank", f"rank {rank} is out of range: 1 to {classes or ''}")
    return -rank
