"""A model file, its card and an engine around it: what ``explain`` and ``inspect`` run in this process."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from graph_tools.errors import InvalidRequest, nearest
from service.core import Engine
from service.models.card import Card, read_card
from service.models.loaded import LoadedModel
from service.models.repository import Repository
from service.runtime.home import Runtime


@dataclass(frozen=True)
class Opened:
    """A loaded file.

    Attributes:
        engine: explains it.
        model: the model, in the engine under its own name.
        card: the card's file, None where there is none.
    """

    engine: Engine
    model: LoadedModel
    card: Path | None


def open_model(
    path: Path, card: Path | None = None, preset: str | None = None, *, provider: str = "auto", threads: int = 0
) -> Opened:
    """Load ``path``.

    Args:
        path: an .onnx file.
        card: its card; None = see :func:`find_card`.
        preset: overrides what the card says about the numbers.
        provider: ``auto``, ``cpu`` or ``cuda``.
        threads: 0 = what this process may use.

    Raises:
        InvalidRequest, UnsupportedModel, ProviderUnavailable: the file, its card, or the machine.
    """
    check_file(path, "MODEL")
    found = card or find_card(path)
    said = read_card(found, allow_outside=card is not None) if found else Card()
    runtime = Runtime(provider, threads=threads)
    repository = Repository(runtime)
    model = repository.add(path.stem, path, parsed=with_preset(said, preset) if preset else said)
    return Opened(Engine(repository), model, found)


def find_card(path: Path) -> Path | None:
    """``NAME.toml`` beside ``NAME.onnx``; ``card.toml`` there where it is the only model; above a version's folder."""
    candidates = [path.with_suffix(".toml")]
    if len(list(path.parent.glob("*.onnx"))) == 1:
        candidates.append(path.parent / "card.toml")
        if path.name == "model.onnx":
            candidates.append(path.absolute().parents[1] / "card.toml")
    return next((c for c in candidates if c.is_file()), None)


def with_preset(card: Card, preset: str) -> Card:
    """``card`` with the preset's scale, mean, std and channel order; a grey card stays grey."""
    kept = card.input.channels if card.input.channels == "grey" else None
    entry = dataclasses.replace(card.input, scale=None, mean=None, std=None, channels=kept)
    return dataclasses.replace(card, preset=preset, input=entry.assuming(preset))


def check_file(path: Path, what: str) -> None:
    """Return if ``path`` is a file.

    Raises:
        InvalidRequest: it is not; with the nearest names in its folder.
    """
    if path.is_file():
        return
    if path.is_dir():
        raise InvalidRequest(what, f"{str(path)!r} is a folder; give a file")
    message = f"there is no file {str(path)!r}"
    close = nearest(path.name, (p.name for p in path.parent.iterdir())) if path.parent.is_dir() else []
    raise InvalidRequest(what, message + (f"; nearest: {', '.join(close)}" if close else ""))
