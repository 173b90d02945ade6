"""Rows for graph_tools/vjp/linear.py."""

from __future__ import annotations

import numpy as np

from tests.graph_tools.harness import Case

RNG = np.random.default_rng(3)

CASES = [
    Case("MatMul", ((3, 4), (4, 2))),
    Case("MatMul", ((2, 3, 4), (4, 5)), id="batch-times-matrix"),
    Case("MatMul", ((2, 2, 3, 4), (4, 5)), id="two-batch-axes-times-matrix"),
    Case("MatMul", ((3, 4), (2, 4, 5)), id="matrix-times-batch"),
    Case("MatMul", ((2, 3, 4), (2, 4, 5)), id="batches"),
    Case("MatMul", ((2, 1, 3, 4), (3, 4, 5)), id="broadcast-both"),
    Case("MatMul", ((3, 3, 4), (1, 4, 5)), id="broadcast-second"),
    Case("MatMul", ((4,), (4,)), id="vectors"),
    Case("MatMul", ((3, 4), (4,)), id="matrix-times-vector"),
    Case("MatMul", ((2, 3, 4), (4,)), id="batch-times-vector"),
    Case("MatMul", ((4,), (4, 3)), id="vector-times-matrix"),
    Case("MatMul", ((4,), (2, 4, 3)), id="vector-times-batch"),
    Case("MatMul", ((2, 3, 4), (4, 5)), id="constant-weight", constants=(1,)),
    Case("Gemm", ((3, 4), (4, 2), (2,))),
    Case("Gemm", ((3, 4), (4, 2)), id="no-bias"),
    Case("Gemm", ((4, 3), (4, 2), (3, 1)), {"transA": 1}, id="transA"),
    Case("Gemm", ((3, 4), (2, 4), (1, 2)), {"transB": 1, "alpha": 0.5, "beta": 2.0}, id="transB-alpha-beta"),
    Case("Gemm", ((4, 3), (2, 4), ()), {"transA": 1, "transB": 1, "alpha": 1.5}, id="transAB-scalar-bias"),
    Case("Gemm", ((3, 4), (2, 4), (3, 2)), {"transB": 1}, id="full-bias"),
    Case("Einsum", ((2, 3, 4), (2, 4, 5)), {"equation": "bij,bjk->bik"}),
    Case("Einsum", ((2, 3), (4, 3)), {"equation": "ij,kj"}, id="implicit"),
    Case("Einsum", ((4, 3),), {"equation": "ba"}, id="implicit-transpose"),
    Case("Einsum", ((2, 3, 4), (4, 5)), {"equation": "...i,ij->...j"}, id="ellipsis"),
    Case("Einsum", ((2, 1, 3, 4), (5, 4, 2)), {"equation": "a...ij , ...jk -> a...ik"}, id="ellipsis-broadcast"),
    Case("Einsum", ((2, 3), (2, 3)), {"equation": "...a,...a"}, id="implicit-ellipsis"),
    Case("Einsum", ((3, 3),), {"equation": "ii->i"}, id="diagonal"),
    Case("Einsum", ((3, 3),), {"equation": "ii->"}, id="trace"),
    Case("Einsum", ((2, 3, 3), (3,)), {"equation": "bii,i->b"}, id="diagonal-of-batch"),
    Case("Einsum", ((2, 3),), {"equation": "ij->"}, id="sum"),
    Case("Einsum", ((2, 3),), {"equation": "ij->j"}, id="sum-axis"),
    Case("Einsum", ((3,), (3,)), {"equation": "i,i->"}, id="dot"),
    Case("Einsum", ((3,), (4,)), {"equation": "i,j->ij"}, id="outer"),
    Case("Einsum", ((2, 3), (4,)), {"equation": "ij,k->k"}, id="summed-alone"),
    Case("Einsum", ((2, 3), (3, 4), (4, 2)), {"equation": "ij,jk,ki->ik"}, id="three"),
    Case("Einsum", ((2, 1), (3, 4)), {"equation": "ij,jk->ik"}, id="broadcast-label"),
    Case("Einsum", ((2, 5, 3, 4), (2, 6, 3, 4)), {"equation": "bqhd,bkhd->bhqk"}, id="attention"),
    Case("Det", ((3, 3),)),
    Case("Det", ((2, 2, 2),), id="batch"),
    Case("Det", ((2, 1, 1),), id="one"),
    Case("Det", (np.outer(RNG.uniform(0.5, 1, 3), RNG.uniform(0.5, 1, 3)),), id="singular"),
]
