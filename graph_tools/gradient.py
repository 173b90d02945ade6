"""The public gradient: a model that computes vector-Jacobian products of any of its values."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from graph_tools import model as models
from graph_tools.backward import FLOATS, backward
from graph_tools.emit import Emitter
from graph_tools.errors import InvalidRequest, UnknownValue, UnsupportedGradient
from graph_tools.model import Source
from graph_tools.reverse import Reverse
from graph_tools.vjp.table import Table
from graph_tools.walk.sequence_ops import plain_type


def gradient(
    source: Source,
    outputs: Sequence[str],
    inputs: Sequence[str],
    *,
    overlay: Table | None = None,
    form: str = "cpu",
) -> ir.Model:
    """A model that returns d<cotangents, outputs>/d inputs beside its own outputs.

    Args:
        source: path, bytes, ``onnx.ModelProto`` or ``onnx_ir.Model``; not changed.
        outputs: names of the values that are differentiated, interior ones too; a name said twice counts once.
        inputs: names of the values to differentiate with respect to, interior ones too.
        overlay: rules (operator, input index) -> rule laid over the table, for modified backward passes.
        form: which of two equivalent operator sequences to emit: ``cpu`` or ``cuda``.

    Returns:
        The source's inputs plus ``cotangent_<output>`` (dtype and shape of that output) per output; the source's
        outputs plus ``grad_<input>`` (shape of that value; zeros where the outputs do not depend on it) per input,
        ``grad_grad_<input>`` where the source returns that already (it is itself a gradient: second order).
        Cotangents and gradients of sequences are sequences, those of optionals what is in them.
        The gradient of an integer value (uint8 image, quantised activation) is float32.

    Raises:
        InvalidRequest: no such form, no names, or a bare string in place of a list.
        UnknownValue: no value of this name, with the nearest ones.
        UnsupportedGradient: no rule on the path, or a value that is neither float nor quantised.
        UnsupportedModel: the source cannot be loaded.
    """
    if form not in ("cpu", "cuda"):
        raise InvalidRequest("form", f"{form!r} is neither 'cpu' nor 'cuda'")
    model = models.load(source)
    named = models.values_by_name(model)
    ys = [_pick(named, name, "value") for name in models.names_of("outputs", outputs)]
    xs = [_pick(named, name, "value") for name in models.names_of("inputs", inputs)]
    for v in ys:
        if v.dtype not in FLOATS:
            raise UnsupportedGradient(
                f"value {v.name!r} is {v.dtype}, which has no gradient; differentiate a float value before it"
            )
    b = Emitter(model)
    seeds = {}
    for v in ys:
        shape = None if v.shape is None else [d if isinstance(d, int) else d.value for d in v.shape]
        seeds[v] = b.input(f"cotangent_{v.name}", v.dtype or ir.DataType.FLOAT, shape)
        if not isinstance(v.type, ir.TensorType):
            seeds[v].type = plain_type(v)
    found = backward(model, seeds, xs, overlay=overlay, form=form)
    writer = Reverse(model, None, frozenset())
    returned = {v.name for v in model.graph.outputs}
    for x, ct in zip(xs, found, strict=True):
        name = f"grad_{x.name}"
        while name in returned:
            name = f"grad_{name}"
        out = writer.output(writer.zeros_like(x) if ct is None else ct, name)
        if out.type is None:
            out.type = ir.TensorType(x.dtype if x.dtype in FLOATS else ir.DataType.FLOAT)
    return model


def _pick(named: dict[str, ir.Value], name: str, kind: str) -> ir.Value:
    if name not in named:
        raise UnknownValue(kind, name, named)
    return named[name]
