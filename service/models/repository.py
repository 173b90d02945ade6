"""The models folder: ``NAME.onnx`` or ``NAME/VERSION/model.onnx``, each with an optional card.

The card of ``NAME.onnx`` is ``NAME.toml``, or a ``card.toml`` in the same folder where it is the only model; that of
``NAME/VERSION/model.onnx`` lies beside it or in ``NAME/``. A file that cannot be loaded is listed with the reason; the
others are served.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from graph_tools.errors import Busy, ExplainError, InvalidRequest, UnknownModel, UnsupportedModel
from service.models.card import Card, read_card
from service.models.loaded import LoadedModel
from service.runtime.home import Runtime

_log = logging.getLogger(__name__)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class ModelStatus:
    """One model version in the repository.

    Attributes:
        name, version: "" = the file has no version.
        state: ``READY``, ``LOADING``, ``UNLOADED`` (not asked for yet) or ``UNAVAILABLE``.
        reason: why it is unavailable.
        digest: once loaded.
        latest: whether it is the version served by default.
    """

    name: str
    version: str
    state: str
    reason: str = ""
    digest: str = ""
    latest: bool = True


@dataclass
class _Entry:
    name: str
    version: str
    path: Path
    card: Path | None
    lock: threading.Lock = field(default_factory=threading.Lock)
    model: LoadedModel | None = None
    error: str = ""  # a text: a kept exception would hold on to its frames, the model's bytes among them
    loading: bool = False


class Repository:
    """Models by name and version, loaded when first asked for (or all at once by :meth:`load_all`). Thread-safe."""

    def __init__(self, runtime: Runtime, folder: Path | None = None) -> None:
        """Scan ``folder``; None = empty, to be filled by :meth:`add`.

        Raises:
            InvalidRequest: there is no such folder.
        """
        self.runtime = runtime
        self._entries: dict[str, dict[str, _Entry]] = {}
        if folder is not None:
            if not folder.is_dir():
                raise InvalidRequest("models", f"there is no folder {str(folder)!r}")
            for entry in _scan(folder):
                self._entries.setdefault(entry.name, {})[entry.version] = entry

    def add(self, name: str, path: Path, card: Path | None = None, parsed: Card | None = None) -> LoadedModel:
        """Load one file under ``name`` (the command line); errors are raised.

        Raises:
            UnsupportedModel, InvalidRequest: the file or its card.
        """
        entry = _Entry(name, "", path, card)
        given = parsed or (read_card(card, allow_outside=True) if card else None)
        entry.model = LoadedModel(name, "", path, given or Card(), self.runtime)
        self._entries.setdefault(name, {})[""] = entry
        return entry.model

    def load_all(self) -> None:
        """Load every version; failures are kept as reasons and logged."""
        for versions in self._entries.values():
            for entry in versions.values():
                try:
                    self._load(entry)
                except ExplainError as error:
                    _log.warning("model %s %s is unavailable: %s", entry.name, entry.version, error)

    def list(self) -> Sequence[ModelStatus]:
        """All versions, sorted by name, newest version first."""
        found = []
        for name in sorted(self._entries):
            for i, version in enumerate(_newest_first(self._entries[name])):
                found.append(_status(self._entries[name][version], latest=i == 0))
        return found

    def get(self, name: str, version: str = "") -> LoadedModel:
        """The model, loaded now where it was not yet; version "" = the newest that loads.

        Raises:
            UnknownModel: no such name or version, with the nearest.
            UnsupportedModel: the file cannot be loaded.
        """
        if name not in self._entries:
            raise UnknownModel("model", name, self._entries, "ListModels shows what is served" if self._entries else "")
        versions = self._entries[name]
        if version:
            if version not in versions:
                raise UnknownModel(f"version of model {name!r}:", version, versions)
            return self._load(versions[version])
        first: ExplainError | None = None
        for each in _newest_first(versions):
            try:
                return self._load(versions[each])
            except ExplainError as error:
                first = first or error
        assert first is not None
        raise first

    def _load(self, entry: _Entry) -> LoadedModel:
        with entry.lock:
            if entry.model is not None:
                return entry.model
            if entry.error:
                raise UnsupportedModel(entry.error)
            entry.loading = True
            try:
                card = read_card(entry.card) if entry.card else Card()
                entry.model = LoadedModel(entry.name, entry.version, entry.path, card, self.runtime)
            except (Busy, MemoryError):
                raise  # the next call may have more luck
            except ExplainError as error:
                entry.error = f"model {entry.name!r} cannot be served: {error}"
                raise UnsupportedModel(entry.error) from error
            except Exception as error:  # a file that trips the loader must not take the others with it
                _log.exception("loading %s failed", entry.name)
                entry.error = f"model {entry.name!r} cannot be served: an unexpected failure, see the log"
                raise UnsupportedModel(entry.error) from error
            finally:
                entry.loading = False
            return entry.model


def _scan(folder: Path) -> list[_Entry]:
    flat = sorted(p for p in folder.glob("*.onnx") if p.is_file())
    found = []
    for path in flat:
        shared = folder / "card.toml" if len(flat) == 1 else None
        found.append(_Entry(path.stem, "", path, _first(path.with_suffix(".toml"), shared)))
    for path in sorted(folder.glob("*/*/model.onnx")):
        name, version = path.parent.parent.name, path.parent.name
        found.append(_Entry(name, version, path, _first(path.parent / "card.toml", path.parents[1] / "card.toml")))
    for entry in found:
        for part in (entry.name, entry.version):
            if part and not NAME.fullmatch(part):
                entry.error = (
                    f"{part!r} is no valid name: letters, digits, '.', '_' and '-', at most 128, beginning with a "
                    "letter or digit"
                )
    return found


def _first(*candidates: Path | None) -> Path | None:
    return next((c for c in candidates if c is not None and c.is_file()), None)


def _newest_first(versions: dict[str, _Entry]) -> list[str]:
    """Versions by number, then by name, newest first (``10`` before ``9``)."""

    def key(version: str) -> list[tuple[int, int, str]]:
        return [(1, int(p), "") if p.isdigit() else (0, 0, p) for p in re.split(r"[._-]|(?<=\D)(?=\d)", version) if p]

    return sorted(versions, key=key, reverse=True)


def _status(entry: _Entry, latest: bool) -> ModelStatus:
    if entry.model is not None:
        return ModelStatus(entry.name, entry.version, "READY", "", entry.model.digest, latest)
    if entry.error:
        return ModelStatus(entry.name, entry.version, "UNAVAILABLE", entry.error, "", latest)
    return ModelStatus(entry.name, entry.version, "LOADING" if entry.loading else "UNLOADED", "", "", latest)
