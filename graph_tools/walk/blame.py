"""What goes wrong inside a rule or a body is told as what it is: this operator, this node, this input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir

from graph_tools.errors import ExplainError, UnsupportedGradient
from graph_tools.scopes import operator_name


@contextmanager
def blamed(node: ir.Node, index: int | None = None) -> Iterator[None]:
    """Turn any failure of a rule for input ``index`` (of a body where None) into an error that names it.

    Raises:
        UnsupportedGradient: with operator and node; errors made for callers pass as they are.
    """
    try:
        yield
    except (ExplainError, MemoryError):
        raise
    except Exception as error:
        x = None if index is None or index >= len(node.inputs) else node.inputs[index]
        where = f"rule for input {index} ({x.name!r})" if x is not None else "computation"
        detail = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UnsupportedGradient(
            f"operator {operator_name(node)} (node {node.name!r}): the {where} cannot be built from its attributes and "
            f"operands: {type(error).__name__}: {detail}; black-box methods (occlusion, predict) work on this model",
            operator=operator_name(node),
            node=node.name or "",
        ) from error
