"""Products: MatMul, Gemm, Einsum, Det. Weights are used as they are: a transposition is a flag, never a copy."""

from __future__ import annotations

import string

import numpy as np
import onnx_ir as ir

from graph_tools.emit import dims, rank
from graph_tools.errors import UnsupportedGradient
from graph_tools.reverse import Reverse
from graph_tools.vjp.pointwise import operand
from graph_tools.vjp.table import ANY, vjp


@vjp("MatMul", 0)
def matmul_a(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """dA = ct · Bᵀ; for a matrix B all rows of ct in one Gemm that reads B with its flag toggled."""
    a, w = operand(node, 0), operand(node, 1)
    if rank(a) is None or rank(w) is None:  # matrices then: a vector makes the run fail, never a wrong number
        return b.Einsum(ct, b.primal(w), equation="...ij,...kj->...ik")
    rank_a, rank_w = b.rank_of(a), b.rank_of(w)
    if rank_w == 1:
        return b.Mul(ct if rank_a == 1 else b.Unsqueeze(ct, [-1]), b.primal(w))
    if rank_a == 1:
        return b.Squeeze(b.MatMul(b.primal(w), b.Unsqueeze(ct, [-1])), [-1])
    if rank_w > 2:
        return b.MatMul(ct, _swapped(b, b.primal(w), rank_w))
    return _rows_like(b, b.Gemm(_rows(b, ct, rank_a), w, transB=1), a)


@vjp("MatMul", 1)
def matmul_b(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """dB = Aᵀ · ct, summed over the rows of all batches where B is a vector or a matrix."""
    a, w = operand(node, 0), operand(node, 1)
    x = b.primal(a)
    if rank(a) is None or rank(w) is None:
        return b.Einsum(x, ct, equation="...ij,...ik->...jk")
    rank_a, rank_w = b.rank_of(a), b.rank_of(w)
    if rank_a == 1:
        return b.Mul(x, ct) if rank_w == 1 else b.Mul(b.Unsqueeze(x, [1]), b.Unsqueeze(ct, [-2]))
    if rank_w == 1:
        return b.MatMul(b.Reshape(ct, [-1]), _rows(b, x, rank_a))
    if rank_w == 2:
        return b.Gemm(_rows(b, x, rank_a), _rows(b, ct, rank_a), transA=1)
    return b.MatMul(_swapped(b, x, rank_a), ct)


def _rows(b: Reverse, v: ir.Value, axes: int) -> ir.Value:
    """``v`` with so many ``axes`` as a matrix of its last axis' vectors."""
    if axes == 2:
        return v
    behind, known = b.reshaped_from(v), dims(v)
    if behind is not None and known is not None and known[-1]:
        return v_rows if (v_rows := _as_rows(behind, known[-1])) else b.Reshape(behind, [-1, known[-1]])
    return b.Flatten(v, axis=axes - 1)


def _as_rows(v: ir.Value, width: int) -> ir.Value | None:
    """``v`` where it is a matrix of this width already."""
    known = dims(v)
    return v if known is not None and len(known) == 2 and known[1] == width else None


def _rows_like(b: Reverse, rows: ir.Value, v: ir.Value) -> ir.Value:
    return b.shaped_like(rows, v) if b.rank_of(v) == 2 else b.reshape_like(rows, v)


def _swapped(b: Reverse, v: ir.Value, axes: int) -> ir.Value:
    """The last two of so many ``axes`` exchanged (ONNX Runtime fuses this into the product)."""
    return b.Transpose(v, perm=[*range(axes - 2), axes - 1, axes - 2])


def _gemm_flags(node: ir.Node) -> tuple[float | None, int, int]:
    """alpha (None: 1), transA, transB."""
    alpha = node.attributes.get_float("alpha", 1.0)
    trans_a, trans_b = (node.attributes.get_int(key, 0) for key in ("transA", "transB"))
    return (None if alpha == 1.0 else alpha), trans_a, trans_b


@vjp("Gemm", 0)
def gemm_a(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """y = α A' B' + β C: dA' = α ct B'ᵀ."""
    alpha, trans_a, trans_b = _gemm_flags(node)
    a, w = operand(node, 0), b.primal(operand(node, 1))
    if trans_a:
        found = b.Gemm(w, ct, alpha=alpha, transA=trans_b, transB=1)
    else:
        found = b.Gemm(ct, w, alpha=alpha, transB=1 - trans_b)
    return b.shaped_like(found, a)


@vjp("Gemm", 1)
def gemm_b(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """y = α A' B' + β C: dB' = α A'ᵀ ct."""
    alpha, trans_a, trans_b = _gemm_flags(node)
    a, w = b.primal(operand(node, 0)), operand(node, 1)
    if trans_b:
        found = b.Gemm(ct, a, alpha=alpha, transA=1, transB=trans_a)
    else:
        found = b.Gemm(a, ct, alpha=alpha, transA=1 - trans_a)
    return b.shaped_like(found, w)


@vjp("Gemm", 2)
def gemm_c(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """y = α A' B' + β C: dC = β ct."""
    beta = node.attributes.get_float("beta", 1.0)
    return ct if beta == 1.0 else b.Mul(ct, b.const(beta, like=ct))


@vjp("Einsum", ANY)
def einsum(b: Reverse, node: ir.Node, index: int, ct: ir.Value) -> ir.Value:
    """The operand and the output change places in the equation: ``ab,bc->ac`` gives dA by ``ac,bc->ab``.

    A label that only this operand has was summed over: its cotangent is repeated. A label that it has twice
    (a diagonal) gets zeros off the diagonal.
    """
    x = operand(node, index)
    labels = einsum_labels(node)
    if labels is None:
        raise UnsupportedGradient(
            f"Einsum (node {node.name!r}) has an ellipsis over an operand whose number of dimensions is unknown",
            operator="Einsum",
            node=node.name or "",
        )
    terms, out = labels
    mine = terms[index]
    rest = [(t, b.primal(v)) for i, (t, v) in enumerate(zip(terms, node.inputs, strict=True)) if i != index]
    present = set(out).union(*(t for t, _ in rest))
    unique = "".join(dict.fromkeys(mine))
    kept = "".join(c for c in unique if c in present)
    factors = [(out, ct), *rest] if out or not rest else rest  # a scalar is multiplied afterwards
    found = factors[0][1]
    if len(factors) > 1 or factors[0][0] != kept:
        equation = ",".join(t for t, _ in factors) + "->" + kept
        found = b.Einsum(*(v for _, v in factors), equation=equation)
    if not out and rest:
        found = b.Mul(found, ct)
    if gaps := [i for i, c in enumerate(unique) if c not in present]:
        found = b.Unsqueeze(found, gaps)
    found = _on_diagonal(b, found, mine, x)
    sizes = _sizes(node, terms)
    if all(len(sizes[c]) == 1 and None not in sizes[c] for c in kept):
        return b.expand_like(found, x) if gaps else b.shaped_like(found, x)
    # A dimension of 1 may have been broadcast: repeat where the others had it, the walk sums where this one had it.
    return b.Expand(found, b.ct_shape(x, exact=True)) if gaps or not set(kept) <= set(out) else found


def einsum_labels(node: ir.Node) -> tuple[list[str], str] | None:
    """One letter per axis for every operand and for the output; None where an ellipsis stands for unknown axes.

    The axes of an ellipsis get letters of their own, aligned on the right.
    """
    equation = node.attributes.get_string("equation").replace(" ", "")
    left, arrow, out = equation.partition("->")
    terms = left.split(",")
    spans = []
    for term, v in zip(terms, node.inputs, strict=True):
        r = None if v is None else rank(v)
        if "..." in term and r is None:
            return None
        spans.append((r or 0) - len(term.replace("...", "")) if "..." in term else 0)
    dots = "".join([c for c in string.ascii_letters if c not in equation][: max(spans)])
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        out = "..." + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    filled = [t.replace("...", dots[len(dots) - n :]) for t, n in zip(terms, spans, strict=True)]
    return filled, out.replace("...", dots)


def _sizes(node: ir.Node, terms: list[str]) -> dict[str, set[int | str | None]]:
    """Every dimension that a label stands for: a single one that is known (or named) is never broadcast."""
    found: dict[str, set[int | str | None]] = {}
    for term, v in zip(terms, node.inputs, strict=True):
        shape = v.shape if v is not None and v.shape is not None else [None] * len(term)
        for label, d in zip(term, shape, strict=True):
            found.setdefault(label, set()).add(d.value if isinstance(d, ir.SymbolicDim) else d)
    return found


def _on_diagonal(b: Reverse, found: ir.Value, labels: str, x: ir.Value) -> ir.Value:
    """``found`` (one axis per distinct label) with an axis per label: zero where equal labels differ in index."""
    again = [(labels.index(c), i) for i, c in enumerate(labels) if labels.index(c) != i]
    if not again:
        return found
    found = b.Unsqueeze(found, [later for _, later in again])
    shape = b.shape_of(x)
    for first, later in again:
        size = b.Reshape(b.Slice(shape, [first], [first + 1]), np.array([], np.int64))
        along = b.Range(0, size, 1)
        row, column = (b.Unsqueeze(along, [i for i in range(len(labels)) if i != axis]) for axis in (first, later))
        found = b.Where(b.Equal(row, column), found, b.const(0.0, like=found))
    return found


@vjp("Det", 0)
def det(b: Reverse, node: ir.Node, ct: ir.Value) -> ir.Value:
    """The cofactors, (−1)^(i+j) det(X without row i and column j): right for singular matrices too."""
    x = operand(node, 0)
    rank, n = b.rank_of(x), (dims(x) or (None,))[-1]
    wide = b.Unsqueeze(ct, [-2, -1])
    if n == 1:
        return wide
    others, signs = _cofactors(b, x, n)
    minors = b.Gather(b.Gather(b.primal(x), others, axis=-2), others, axis=-1)
    lead = list(range(rank - 2))
    minors = b.Transpose(minors, perm=[*lead, rank - 2, rank, rank - 1, rank + 1])
    return b.Mul(wide, b.Mul(b.Det(minors), signs))


def _cofactors(b: Reverse, x: ir.Value, n: int | None) -> tuple[ir.Value, ir.Value]:
    """For matrices [n, n]: int64 [n, n − 1], row i without i; and [n, n], the signs (−1)^(i+j)."""
    if n is not None:
        others = np.array([[r for r in range(n) if r != i] for i in range(n)], np.int64)
        return b.const(others), b.const(np.fromfunction(lambda i, j: (-1.0) ** (i + j), (n, n)), like=x)
    size = b.Gather(b.Shape(x), -1)
    row, column = b.Unsqueeze(b.Range(0, size, 1), [1]), b.Unsqueeze(b.Range(0, b.Sub(size, 1), 1), [0])
    others = b.Add(column, b.Cast(b.GreaterOrEqual(column, row), to=ir.DataType.INT64.value))
    odd = b.Mod(b.Add(row, b.Unsqueeze(b.Range(0, size, 1), [0])), 2)
    signs = b.Where(b.Equal(odd, 1), b.const(-1.0, like=x), b.const(1.0, like=x))
    return others, signs
