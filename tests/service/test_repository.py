"""The models folder: names, versions, cards, and loading once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import onnx
import pytest

from graph_tools.errors import Busy, InvalidRequest, UnknownModel, UnsupportedModel
from service.models.repository import Repository
from service.runtime.home import Runtime
from service.runtime.store import Stored
from tests.graph_tools.nets import cnn


@pytest.fixture(scope="module")
def runtime() -> Runtime:
    return Runtime("cpu", threads=1)


def put(path: Path, card: str = "", seed: int = 0, beside: str = "card.toml") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(cnn(seed=seed), path)
    if card:
        (path.parent / beside).write_text(f'preset = "{card}"\n', encoding="utf-8")


@pytest.mark.parametrize(
    "newest_first", [("10", "9", "1"), ("2.10", "2.9", "2"), ("2", "1-beta", "1"), ("v3", "v2"), ("20250101", "7")]
)
def test_versions_count_as_numbers(runtime: Runtime, tmp_path: Path, newest_first: tuple[str, ...]) -> None:
    for version in sorted(newest_first):
        put(tmp_path / "net" / version / "model.onnx")
    listed = Repository(runtime, tmp_path).list()
    assert tuple(m.version for m in listed) == newest_first
    assert [m.latest for m in listed] == [True] + [False] * (len(listed) - 1)


def test_the_newest_that_loads_answers(runtime: Runtime, tmp_path: Path) -> None:
    put(tmp_path / "net" / "1" / "model.onnx")
    (tmp_path / "net" / "2").mkdir()
    (tmp_path / "net" / "2" / "model.onnx").write_bytes(b"broken")
    repository = Repository(runtime, tmp_path)
    assert {m.state for m in repository.list()} == {"UNLOADED"}
    assert repository.get("net").version == "1"
    assert [(m.version, m.state) for m in repository.list()] == [("2", "UNAVAILABLE"), ("1", "READY")]
    with pytest.raises(UnsupportedModel):
        repository.get("net", "2")
    with pytest.raises(UnknownModel, match="nearest"):
        repository.get("nett")


def test_which_card_belongs_to_which_file(runtime: Runtime, tmp_path: Path) -> None:
    put(tmp_path / "a" / "1" / "model.onnx", "zero-to-one")
    put(tmp_path / "a" / "2" / "model.onnx")
    (tmp_path / "a" / "card.toml").write_text('preset = "none"\n', encoding="utf-8")
    put(tmp_path / "b.onnx", "imagenet-caffe", beside="b.toml")
    put(tmp_path / "c.onnx", "imagenet-torch")  # card.toml: two files could mean it, so neither does
    repository = Repository(runtime, tmp_path)
    cards = {(n, v): repository.get(n, v).card.preset for n, v in (("a", "1"), ("a", "2"), ("b", ""), ("c", ""))}
    assert cards == {("a", "1"): "zero-to-one", ("a", "2"): "none", ("b", ""): "imagenet-caffe", ("c", ""): ""}
    (tmp_path / "b.onnx").unlink()
    assert Repository(runtime, tmp_path).get("c").card.preset == "imagenet-torch"


def test_many_threads_load_once(runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path / "net.onnx")
    added, add = [], runtime.store.add
    monkeypatch.setattr(runtime.store, "add", lambda path: added.append(path) or add(path))
    repository = Repository(runtime, tmp_path)
    with ThreadPoolExecutor(4) as pool:
        models = list(pool.map(repository.get, ["net"] * 8))
    assert len({id(m) for m in models}) == len(added) == 1


def test_a_lack_of_space_is_not_the_files_fault(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "net.onnx")
    repository = Repository(runtime, tmp_path)

    def full(path: Path) -> Stored:
        raise Busy("the model store's disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(runtime.store, "add", full)
        with pytest.raises(Busy):
            repository.get("net")
        repository.load_all()
        assert repository.list()[0].state == "UNLOADED"
    assert repository.get("net").name == "net"


def test_a_folder_that_is_not_there(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no folder"):
        Repository(runtime, tmp_path / "nowhere")
    assert Repository(runtime, tmp_path).list() == []
