"""Tensors and rows of tables as inputs of ``explain``."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from service.types import Array
from tests.service.cli.conftest import Run

CPU = ("--provider", "cpu")


def logits(run: Run, model: Path, source: Path | str, *more: str) -> list[dict[int, float]]:
    """Per input, class -> logit, as ``predict`` writes them."""
    done = run("explain", model, source, "-m", "predict", "-o", "p.json", *more, *CPU)
    assert done.code == 0, done.err
    items = json.loads(Path("p.json").read_text())["items"]
    return [{s["index"]: s["logit"] for s in item["predictions"]} for item in items]


def save(path: str, array: Array) -> str:
    np.save(path, array)
    return path


def test_npy_is_fed_as_it_is_and_gets_a_batch_axis(run: Run, colours: Path) -> None:
    one = np.random.default_rng(0).normal(size=(3, 8, 8)).astype(np.float32)
    assert logits(run, colours, save("a.npy", one)) == logits(run, colours, save("b.npy", one[None]))
    two = logits(run, colours, save("c.npy", np.stack([one, 2 * one])))
    assert two[1][0] == pytest.approx(2 * two[0][0], rel=1e-5)
    done = run("explain", colours, "c.npy", "-m", "saliency", "-o", "maps.npy", *CPU)
    assert done.code == 0, done.err
    assert np.load("maps.npy").shape == (2, 3, 8, 8)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((3, 8, 9), np.float32), "has shape [1, 3, 8, 9], but the model takes [N, 3, 8, 8]"),
        (np.zeros((8, 8), np.float32), "has shape [8, 8], but the model takes [N, 3, 8, 8]"),
        (np.zeros((3, 8, 8), np.uint8), "is uint8, but the model takes float32"),
        (np.full((3, 8, 8), np.nan, np.float32), "192 values that are not finite"),
        (np.array([{"a": 1}], object), "is no .npy file of numbers"),
    ],
)
def test_tensors_that_do_not_fit(run: Run, colours: Path, array: Array, said: str) -> None:
    done = run("explain", colours, save("t.npy", array), "-m", "saliency", *CPU)
    assert done.code == 2
    assert said in done.error
    Path("t.npy").write_bytes(b"\x93NUMPY rubbish")
    assert "is no .npy file of numbers" in run("explain", colours, "t.npy", "-m", "saliency", *CPU).error


def test_json_rows(run: Run, flowers: Path) -> None:
    Path("row.json").write_text("[1, 2, 3, 0.5]")
    Path("rows.json").write_text("[[1, 2, 3, 0.5], [0, 0, 0, 1]]")
    Path("named.json").write_text('{"row": [1, 2, 3, 0.5]}')
    Path("list.json").write_text('[{"row": [1, 2, 3, 0.5]}, {"row": [0, 0, 0, 1]}]')
    first, second = {0: 2.0, 1: 2.0, 2: 2.5}, {0: 2.0, 1: 0.0, 2: -1.0}
    assert logits(run, flowers, "row.json") == logits(run, flowers, "named.json") == [first]
    assert logits(run, flowers, "rows.json") == logits(run, flowers, "list.json") == [first, second]


def test_csv_rows(run: Run, flowers: Path) -> None:
    Path("plain.csv").write_text("1,2,3,0.5\n0,0,0,1\n")
    Path("header.csv").write_text("sepal,petal,x,y\n1,2,3,0.5\n\n0,0,0,1\n")
    want = [{0: 2.0, 1: 2.0, 2: 2.5}, {0: 2.0, 1: 0.0, 2: -1.0}]
    assert logits(run, flowers, "plain.csv") == logits(run, flowers, "header.csv") == want


def test_the_columns_of_a_table_are_explained_one_by_one(run: Run, flowers: Path) -> None:
    Path("row.json").write_text("[1, 2, 3, 0.5]")
    more = ["--set", "patch=1", "--set", "baseline=zero", "-t", "0", "-o", "m.npy", "-o", "m.png"]
    done = run("explain", flowers, "row.json", "-m", "occlusion", *more, *CPU)
    assert done.code == 0, done.err
    np.testing.assert_allclose(np.load("m.npy"), [1, 0, 0, 1], atol=1e-6)  # z_0 = x_0 + 2 x_3


def test_several_inputs_by_name(run: Run, columns: Path) -> None:
    want = [{0: 5.0, 1: -1.0}, {0: 9.0, 1: 1.0}]
    np.savez("n.npz", age=np.array([[2], [5]], np.float32), height=np.array([[3], [4]], np.float32))
    Path("o.json").write_text('[{"age": 2, "height": 3}, {"height": 4, "age": 5}]')
    Path("t.csv").write_text("height,name,age\n3,Ann,2\n4,Bob,5\n")
    assert logits(run, columns, "n.npz") == logits(run, columns, "o.json") == logits(run, columns, "t.csv") == want
    Path("l.json").write_text("[2, 3]")
    done = run("explain", columns, "l.json", "-m", "predict", *CPU)
    assert done.code == 2
    assert "the model has 2 inputs (age, height): name each" in done.error


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.json", "{oops", "is no JSON"),
        ("a.json", '{"rwo": [1, 2, 3, 4]}', "'rwo' is no input of the model; nearest: row"),
        ("a.json", "[[1, 2, 3, 4], [1, 2]]", "is ragged"),
        ("a.json", '[1, "two", 3, 4]', "takes numbers (float32), not"),
        ("a.json", "[1, null, 3, 4]", "takes numbers (float32), not None"),
        ("a.json", "[1, 2, 3]", "has shape [1, 3], but the model takes [N, 4]"),
        ("a.json", '[{"row": [1, 2, 3, 4]}, {"raw": 1}]', "different keys"),
        ("a.json", "[1, NaN, 3, 4]", "not finite"),
        ("a.csv", "", "has no rows"),
        ("a.csv", "a,b,c,d\n", "has no rows"),
        ("a.csv", "1,2,3,4\n1,2\n", "line 2 has 2 cells, others have 4"),
        ("a.csv", "a,b,c,d\n1,2,3,4\n1,x,3,4\n", "line 3, column 2: 'x' is no number"),
        ("a.csv", "1,2\n", "has shape [1, 2], but the model takes [N, 4]"),
    ],
)
def test_rows_that_do_not_fit(run: Run, flowers: Path, name: str, text: str, said: str) -> None:
    Path(name).write_text(text)
    done = run("explain", flowers, name, "-m", "predict", *CPU)
    assert done.code == 2
    assert said in done.error


def test_a_flat_row_takes_the_shape_of_the_input(run: Run, colours: Path) -> None:
    x = np.random.default_rng(1).normal(size=(3, 8, 8)).astype(np.float32)
    Path("flat.csv").write_text(",".join(str(v) for v in x.ravel()) + "\n")
    assert logits(run, colours, "flat.csv") == logits(run, colours, save("x.npy", x))
