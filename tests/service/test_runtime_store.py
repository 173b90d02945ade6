"""The private store: what it takes, what it refuses, and that a served model is out of everybody's reach."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from graph_tools.errors import ExplainError, UnsupportedModel
from service.runtime import store as store_module
from service.runtime.session import Session
from service.runtime.store import Store
from tests.service.runtime_graphs import CPU_ONLY, affine, external, save_external
from tests.service.test_runtime_session import BROKEN, ROOT

DATA = np.arange(1024, dtype=np.float32)
ONE = {"x": np.ones(1, np.float32)}


def sha(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def files(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "secret-models"
    folder.mkdir()
    return folder


def test_a_single_file_is_named_by_its_sha256(store: Store, source: Path) -> None:
    raw = affine().SerializeToString()
    (source / "net.onnx").write_bytes(raw)
    stored = store.add(source / "net.onnx")
    assert stored.digest == f"sha256:{sha(raw)}"
    assert stored.path == store.folder / sha(raw) / "model.onnx"
    assert stored.path.read_bytes() == raw
    assert stored.size == len(raw)
    assert stat.S_IMODE(stored.path.stat().st_mode) == 0o400
    assert stat.S_IMODE(stored.path.parent.stat().st_mode) == 0o500
    assert files(store.folder) == [sha(raw), f"{sha(raw)}/model.onnx"]


def test_external_data_is_copied_and_in_the_digest(store: Store, source: Path) -> None:
    path = save_external(source, DATA, "data/w.bin")
    stored = store.add(path)
    listing = f"{sha(path.read_bytes())}  model.onnx\n{sha(DATA.tobytes())}  data/w.bin\n"
    assert stored.digest == f"sha256:{sha(listing.encode())}"
    assert stored.size == path.stat().st_size + DATA.nbytes
    assert stat.S_IMODE((stored.path.parent / "data").stat().st_mode) == 0o500
    assert np.array_equal(Session(stored.path, CPU_ONLY).run(ONE)["y"], DATA + 1)
    (DATA + 1).tofile(source / "data" / "w.bin")
    assert store.add(path).digest != stored.digest


def test_the_same_model_is_kept_once_and_other_names_do_not_matter(store: Store, source: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (source / name).write_bytes(affine().SerializeToString())
    assert store.add(source / "a.onnx") == store.add(source / "b.onnx")
    assert len(list(store.folder.iterdir())) == 1


def test_a_given_folder_serves_the_next_process_after_a_look_at_the_content(source: Path, tmp_path: Path) -> None:
    path = save_external(source, DATA)
    first = Store(tmp_path / "kept").add(path)
    inode = first.path.stat().st_ino
    assert Store(tmp_path / "kept").add(path) == first
    assert first.path.stat().st_ino == inode
    first.path.parent.chmod(0o700)
    weights = first.path.parent / "w.bin"
    weights.chmod(0o600)
    weights.write_bytes(b"\0" * DATA.nbytes)
    assert Store(tmp_path / "kept").add(path) == first
    assert weights.read_bytes() == DATA.tobytes()
    assert len(list((tmp_path / "kept").iterdir())) == 1


def test_many_threads_may_add_the_same_file(store: Store, source: Path) -> None:
    path = save_external(source, np.arange(1 << 18, dtype=np.float32))
    barrier = threading.Barrier(8)

    def add(_: int) -> object:
        barrier.wait()
        return store.add(path)

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(add, range(8)))) == 1
    assert len(list(store.folder.iterdir())) == 1


def test_the_default_folder_is_private_and_goes_with_the_store(source: Path) -> None:
    path = save_external(source, DATA, "data/w.bin")
    store = Store()
    folder = store.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    session = Session(store.add(path).path, CPU_ONLY)
    del store
    assert not folder.exists()
    assert np.array_equal(session.run(ONE)["y"], DATA + 1)  # what is mapped lives on


def test_the_default_folder_is_gone_after_the_process(source: Path) -> None:
    (source / "net.onnx").write_bytes(affine().SerializeToString())
    code = "import sys; from service.runtime.store import Store; s = Store(); s.add(sys.argv[1]); print(s.folder)"
    run = [sys.executable, "-c", code, str(source / "net.onnx")]
    found = subprocess.run(run, cwd=ROOT, check=True, timeout=60, capture_output=True, text=True)
    assert not Path(found.stdout.strip()).exists()


# What the served file must survive (a failure is a dead process, hence a process of its own).
UNDER_LOAD = """
import os, sys
import numpy as np
from pathlib import Path
from service.runtime.session import Session
from service.runtime.store import Store
from tests.service.runtime_graphs import CPU_ONLY
path, weights = Path(sys.argv[1]), Path(sys.argv[2])
store = Store()
stored = store.add(path)
one = {"x": np.ones(1, np.float32)}
session = Session(stored.path, CPU_ONLY)
before = session.run(one)["y"]
with open(weights, "r+b") as file:
    file.write(np.full(weights.stat().st_size // 4, 6, np.float32).tobytes())
    file.flush()
    assert np.array_equal(session.run(one)["y"], before), "overwritten weights were served"
    file.truncate(0)
assert np.array_equal(session.run(one)["y"], before)
path.write_bytes(b"gone")
assert np.array_equal(Session(stored.path, CPU_ONLY).run(one)["y"], before)
print("alive")
"""


def test_overwriting_and_cutting_the_source_changes_and_kills_nothing(source: Path) -> None:
    path = save_external(source, np.arange(1 << 20, dtype=np.float32))
    run = [sys.executable, "-c", UNDER_LOAD, str(path), str(source / "w.bin")]
    found = subprocess.run(run, cwd=ROOT, timeout=60, capture_output=True, text=True)
    assert (found.returncode, found.stdout.strip()) == (0, "alive"), found.stderr


def symlink(source: Path) -> Path:
    path = save_external(source, DATA)
    (source / "w.bin").rename(source / "real.bin")
    (source / "w.bin").symlink_to("real.bin")
    return path


def symlinked_folder(source: Path) -> Path:
    path = save_external(source, DATA, "data/w.bin")
    (source / "data").rename(source / "real")
    (source / "data").symlink_to("real")
    return path


def hard_link(source: Path) -> Path:
    path = save_external(source, DATA)
    os.link(source / "w.bin", source.parent / "elsewhere.bin")
    return path


def fifo(source: Path) -> Path:
    path = save_external(source, DATA)
    (source / "w.bin").unlink()
    os.mkfifo(source / "w.bin")
    return path


def folder(source: Path) -> Path:
    path = save_external(source, DATA)
    (source / "w.bin").unlink()
    (source / "w.bin").mkdir()
    return path


def refers_to(location: str, where: str = "initializer", **more: str) -> Callable[[Path], Path]:
    def make(source: Path) -> Path:
        for name in ("w.bin", "../w.bin", "*/_ORT_MEM_ADDR_/*"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            DATA.tofile(source / name)
        text = location.replace("HERE", str(source))
        (source / "net.onnx").write_bytes(external(text, where=where, **more).SerializeToString())
        return source / "net.onnx"

    return make


ATTACKS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "parent": (refers_to("../w.bin"), "relative path"),
    "parent in the middle": (refers_to("data/../../w.bin"), "relative path"),
    "parent in a constant": (refers_to("../w.bin", "constant"), "relative path"),
    "parent in a function": (refers_to("../w.bin", "function"), "relative path"),
    "parent in a subgraph": (refers_to("../w.bin", "body"), "relative path"),
    "absolute": (refers_to("HERE/w.bin"), "relative path"),
    "drive": (refers_to("C:w.bin"), "relative path"),
    "backslash": (refers_to("..\\w.bin"), "relative path"),
    "nul": (refers_to("w.bin\0.txt"), "relative path"),
    "no location": (refers_to(""), "relative path"),
    "the folder itself": (refers_to("."), "relative path"),
    "raw memory": (refers_to("*/_ORT_MEM_ADDR_/*", offset="140000000000000"), "relative path"),
    "the model itself": (refers_to("model.onnx"), "rename"),
    "symlink": (symlink, "symbolic link"),
    "symlinked folder": (symlinked_folder, "symbolic link"),
    "hard link": (hard_link, "hard links"),
    "fifo": (fifo, "not a regular file"),
    "a folder": (folder, "not a regular file"),
    "missing": (refers_to("nothing.bin"), "No such file"),
    "behind a file": (refers_to("w.bin/x"), "Not a directory"),
    "offset beyond the end": (refers_to("w.bin", offset="8"), "byte 4104, it has 4096"),
    "length beyond the end": (refers_to("w.bin", length="4097"), "byte 4097, it has 4096"),
    "shape beyond the end": (refers_to("w.bin", length="0", offset="4096"), "byte 8192, it has 4096"),
    "negative offset": (refers_to("w.bin", offset="-1"), "not a number of bytes"),
    "no number": (refers_to("w.bin", length="4e3"), "not a number of bytes"),
    "other digits": (refers_to("w.bin", length="４"), "not a number of bytes"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_external_data_outside_the_rules_is_refused(attack: str, store: Store, source: Path) -> None:
    make, words = ATTACKS[attack]
    with pytest.raises(UnsupportedModel, match=words) as caught:
        store.add(make(source))
    assert "secret-models" not in str(caught.value).replace(f"{str(source)!r}"[1:-1], "")
    assert files(store.folder) == []


def test_harmless_ways_to_write_a_path_are_taken(store: Store, source: Path) -> None:
    (source / "net.onnx").write_bytes(external("./w.bin").SerializeToString())
    DATA.tofile(source / "w.bin")
    assert np.array_equal(Session(store.add(source / "net.onnx").path, CPU_ONLY).run(ONE)["y"], DATA + 1)


def test_a_model_behind_a_symlink_is_taken(store: Store, source: Path) -> None:
    save_external(source, DATA).rename(source / "..net.onnx")
    (source / "net.onnx").symlink_to("..net.onnx")
    assert np.array_equal(Session(store.add(source / "net.onnx").path, CPU_ONLY).run(ONE)["y"], DATA + 1)


@pytest.mark.parametrize("kind", ["empty", "random", "truncated", "half", "text"])
def test_what_is_no_onnx_file_is_refused(kind: str, store: Store, source: Path) -> None:
    (source / "net.onnx").write_bytes(BROKEN[kind]())
    with pytest.raises(UnsupportedModel, match=r"empty|not an ONNX file") as caught:
        store.add(source / "net.onnx")
    assert "secret-models" not in str(caught.value)
    assert files(store.folder) == []


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo"])
def test_what_is_no_file_is_refused(kind: str, store: Store, source: Path) -> None:
    path = source / "net.onnx"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(UnsupportedModel, match=r"net\.onnx") as caught:
        store.add(path)
    assert "secret-models" not in str(caught.value)


def test_the_limit_counts_model_and_data(tmp_path: Path, source: Path) -> None:
    path = save_external(source, DATA)
    size = path.stat().st_size + DATA.nbytes
    assert Store(tmp_path / "fits", max_bytes=size).add(path).size == size
    for limit in (size - 1, path.stat().st_size - 1):
        with pytest.raises(UnsupportedModel, match="larger than the limit"):
            Store(tmp_path / "tight", max_bytes=limit).add(path)
    assert files(tmp_path / "tight") == []


def test_the_digest_is_of_what_was_copied(store: Store, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_external(source, DATA)
    opened = store_module.external.open_below

    def and_overwrite(folder: Path, location: str) -> int:
        path.write_bytes(affine().SerializeToString())  # the model changes after it was copied
        return opened(folder, location)

    original = path.read_bytes()
    monkeypatch.setattr(store_module.external, "open_below", and_overwrite)
    stored = store.add(path)
    assert stored.path.read_bytes() == original
    assert stored.digest == "sha256:" + sha(f"{sha(original)}  model.onnx\n{sha(DATA.tobytes())}  w.bin\n".encode())


def test_a_crash_leaves_no_entry_and_its_leftover_is_swept_a_day_later(source: Path, tmp_path: Path) -> None:
    path = save_external(source, DATA)
    code = (
        "import os, sys; from service.runtime import external, store\n"
        "external.open_below = lambda *_: os.kill(os.getpid(), 9)\n"
        "store.Store(sys.argv[1]).add(sys.argv[2])\n"
    )
    crashed = [sys.executable, "-c", code, str(tmp_path / "kept"), str(path)]
    assert subprocess.run(crashed, cwd=ROOT, timeout=60).returncode == -9
    [leftover] = (tmp_path / "kept").iterdir()
    assert leftover.name.startswith(".new-")
    Store(tmp_path / "kept")
    assert leftover.exists()  # it could be another process at work
    yesterday = time.time() - 2 * 86400
    os.utime(leftover, (yesterday, yesterday))
    stored = Store(tmp_path / "kept").add(path)
    assert [p.name for p in (tmp_path / "kept").iterdir()] == [stored.digest.removeprefix("sha256:")]


def test_mutated_files_raise_nothing_but_our_errors(store: Store, source: Path) -> None:
    rng = np.random.default_rng(3)
    whole = [external("w.bin", where=w).SerializeToString() for w in ("initializer", "constant", "function", "body")]
    DATA.tofile(source / "w.bin")
    refused = 0
    for _ in range(300):
        raw = bytearray(whole[rng.integers(4)])
        for at in rng.integers(0, len(raw), rng.integers(1, 4)):
            raw[at] = rng.integers(256)
        (source / "net.onnx").write_bytes(raw)
        try:
            store.add(source / "net.onnx")
        except UnsupportedModel:
            refused += 1
    assert 50 < refused < 300


def test_a_full_disk_is_busy(store: Store, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store, "_copy_file", full)
    (source / "net.onnx").write_bytes(affine().SerializeToString())
    with pytest.raises(ExplainError, match="disk is full"):
        store.add(source / "net.onnx")
    assert files(store.folder) == []
