"""The private, content-addressed copies that are served in place of the files in the models folder.

ONNX Runtime maps external data: a file cut short under a running server kills the process (SIGBUS), a file
written over in place silently changes the answers. A copy that nobody else writes, named by its content, is
safe from both.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
import time
import weakref
from dataclasses import dataclass
from pathlib import Path

from graph_tools.errors import Busy, UnsupportedModel
from service.runtime import external

MODEL = "model.onnx"
CHUNK = 1 << 20
STAGING = ".new-"
STALE = 86400.0  # seconds after which an unfinished copy of another process is taken for a crash's leftover


@dataclass(frozen=True)
class Stored:
    r"""A model in the store.

    Attributes:
        digest: ``sha256:`` and the SHA-256 of the file; with external data the SHA-256 of the listing
            ``<sha256>  model.onnx\n<sha256>  <location>\n…`` (data sorted by location), as ``sha256sum``
            prints it.
        path: the copy; its external data lies beside it under the same relative paths.
        size: bytes of all files.
    """

    digest: str
    path: Path
    size: int


class Store:
    """A folder of entries named by digest: files 0400, folders 0500, published by one rename(2). Thread-safe."""

    def __init__(self, folder: str | os.PathLike[str] | None = None, *, max_bytes: int = 16 << 30) -> None:
        """Open or create a store.

        Args:
            folder: kept between runs and possibly shared between processes; None = a fresh private temporary
                folder that is removed when the store is dropped or the process exits.
            max_bytes: largest model with its data that is taken.
        """
        self.max_bytes = max_bytes
        self._verified: set[str] = set()
        if folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="onnx-explain-"))
            weakref.finalize(self, _remove_own, self.folder, os.getpid())
        else:
            self.folder = Path(folder).absolute()
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()

    def add(self, path: str | os.PathLike[str]) -> Stored:
        """Copy a model and its external data into the store; the digest is that of the bytes that were
        copied.

        Args:
            path: the ``.onnx`` file; only relative external data in its folder or below is accepted.

        Raises:
            UnsupportedModel: unreadable, not ONNX, too large, or with external data that is missing, too
                short, a link, or outside the model's folder. The message has no folder names.
            Busy: the store's disk is full.
        """
        source = Path(path)
        staging = Path(tempfile.mkdtemp(prefix=STAGING, dir=self.folder))
        try:
            digest, size = self._copy(source, staging)
            return Stored(f"sha256:{digest}", self._publish(staging, digest) / MODEL, size)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise Busy("the model store's disk is full", retry_after=60.0) from error
            raise UnsupportedModel(f"{source.name} cannot be read: {error.strerror}") from error
        finally:
            _remove(staging)

    def _copy(self, source: Path, staging: Path) -> tuple[str, int]:
        """Copy and check; returns the hexadecimal digest and the bytes copied."""
        descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise UnsupportedModel(f"{source.name} is not a regular file")
        digest, size = self._copy_file(descriptor, staging / MODEL, self.max_bytes)
        if not size:
            raise UnsupportedModel(f"{source.name} is empty")
        ends: dict[str, int] = {}
        for reference in external.references(external.parse(staging / MODEL)):
            ends[reference.location] = max(ends.get(reference.location, 0), reference.end)
        hashes = {}
        for location, end in sorted(ends.items()):
            if location == MODEL:
                raise UnsupportedModel(f"external data may not be called {MODEL}; rename the data file")
            target = staging / location
            target.parent.mkdir(parents=True, exist_ok=True)
            descriptor = external.open_below(source.parent, location)
            hashes[location], copied = self._copy_file(descriptor, target, self.max_bytes - size)
            size += copied
            if end > copied:
                raise UnsupportedModel(
                    f"external data file {location!r} is too short: the model refers to byte {end}, it has {copied}"
                )
        return _digest(digest, hashes), size

    def _copy_file(self, descriptor: int, target: Path, limit: int) -> tuple[str, int]:
        """Copy an open file (and close it); returns the SHA-256 and the bytes copied."""
        sha, size = hashlib.sha256(), 0
        with open(descriptor, "rb", buffering=0) as source, open(target, "xb", buffering=0) as copy:
            while chunk := source.read(CHUNK):
                size += len(chunk)
                if size > limit:
                    raise UnsupportedModel(f"the model is larger than the limit of {self.max_bytes / 1e9:.3g} GB")
                sha.update(chunk)
                copy.write(chunk)
            os.fchmod(copy.fileno(), 0o400)
        return sha.hexdigest(), size

    def _publish(self, staging: Path, digest: str) -> Path:
        """Rename ``staging`` to its digest; keep an entry that is there already, if its content is what it says."""
        entry = self.folder / digest
        for folder in [*(p for p in staging.rglob("*") if p.is_dir()), staging]:
            folder.chmod(0o500)
        try:
            staging.rename(entry)
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            if digest not in self._verified and not _intact(entry, digest):
                broken = Path(tempfile.mkdtemp(prefix=STAGING, dir=self.folder))
                with contextlib.suppress(FileNotFoundError):  # another thread is mending it too
                    entry.rename(broken)  # onto the empty folder; a 0500 folder cannot change its parent
                _remove(broken)
                return self._publish(staging, digest)
        self._verified.add(digest)
        return entry

    def _sweep(self) -> None:
        """Remove what crashed copies left behind."""
        for leftover in self.folder.glob(f"{STAGING}*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - leftover.stat().st_mtime > STALE:
                    _remove(leftover)


def _digest(model: str, data: dict[str, str]) -> str:
    """The digest of :class:`Stored`, from hexadecimal SHA-256 of the model and of its data files by location."""
    if not data:
        return model
    listing = [(model, MODEL), *((sha, location) for location, sha in sorted(data.items()))]
    return hashlib.sha256("".join(f"{sha}  {name}\n" for sha, name in listing).encode()).hexdigest()


def _intact(entry: Path, digest: str) -> bool:
    """Whether an entry written earlier still has the content its name says."""
    hashes = {}
    try:
        for path in (p for p in entry.rglob("*") if not p.is_dir()):
            with open(path, "rb") as file:
                hashes[path.relative_to(entry).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
        return _digest(hashes.pop(MODEL), hashes) == digest
    except (OSError, KeyError):
        return False


def _remove(folder: Path) -> None:
    """Delete a folder whatever its modes; a file that a session has mapped lives on until the session is gone."""
    with contextlib.suppress(FileNotFoundError):
        for path in [folder, *(p for p in folder.rglob("*") if p.is_dir() and not p.is_symlink())]:
            path.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _remove_own(folder: Path, pid: int) -> None:
    if os.getpid() == pid:  # not in a forked child
        _remove(folder)
