"""External data of an ONNX file: which tensors have it, and opening it without leaving the model's folder.

ONNX Runtime refuses ``..``, absolute paths and symlinks, but takes hard links, and resolves a model given as
bytes against the working directory. Here all of it is refused before anything is loaded.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto

from graph_tools.errors import UnsupportedModel
from graph_tools.loading.stored import Reference as Reference
from graph_tools.loading.stored import references as references


def parse(path: Path) -> ModelProto:
    """The model proto without its external data.

    Raises:
        UnsupportedModel: not an ONNX file, cut short, or empty.
    """
    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError, RecursionError):
        raise UnsupportedModel("it is not an ONNX file, or it is cut short") from None
    if not model.HasField("graph"):
        raise UnsupportedModel("it is not an ONNX file: it holds no graph")
    return model


def open_below(folder: Path, location: str) -> int:
    """A read-only file descriptor of ``folder/location``; no link is followed on the way.

    Args:
        folder: the model's folder.
        location: as in :class:`graph_tools.loading.stored.Reference`.

    Raises:
        UnsupportedModel: missing, a link (symbolic, or a file with several hard links), or not a regular
            file.
    """
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        *above, name = PurePosixPath(location).parts
        for part in above:
            _refuse_links(directory, part, location)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            child = os.open(part, flags, dir_fd=directory)
            os.close(directory)
            directory = child
        _refuse_links(directory, name, location)
        # O_NONBLOCK: opening a FIFO must not wait for a writer.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        raise UnsupportedModel(f"external data file {location!r} cannot be opened: {error.strerror}") from None
    finally:
        os.close(directory)
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink == 1:
        return descriptor
    os.close(descriptor)
    kind = "has several hard links" if stat.S_ISREG(status.st_mode) else "is not a regular file"
    raise UnsupportedModel(f"external data file {location!r} {kind}; put a plain copy in its place")


def _refuse_links(directory: int, name: str, location: str) -> None:
    """The message for a symbolic link; O_NOFOLLOW at the open is what holds."""
    if stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        raise UnsupportedModel(
            f"external data file {location!r} is or lies behind a symbolic link; put a plain copy in its place"
        )
