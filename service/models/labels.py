"""Class names: reading the files they come in, and finding the class a person means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from graph_tools.errors import InvalidRequest, UnknownValue
from service.models.card_fields import WrongError, read_text

MOST_BYTES = 16 << 20

_SYNSET = re.compile(r"n\d{8}$")
_LISTS = ("id2label", "labels", "classes", "class_names", "names", "target_labels_space")


def read_labels(file: str, folder: Path, where: str, *, allow_outside: bool = False) -> tuple[str, ...]:
    """Labels from the file that a card names.

    ``.txt``: one label a line, ``n01440764 tench, Tinca tinca`` without its synset number; the list ends at
    the first empty line (what follows is a remark). ``.json``: a list, ``{"0": "tench", …}``, an object that
    holds one of these under ``id2label``, ``labels``, ``classes``…; where an entry is a list
    (``["n01440764", "tench"]``) its last text is the label.

    Args:
        file: path relative to ``folder``.
        folder: the card's folder.
        where: what the messages call the card.
        allow_outside: whether ``file`` may lie outside ``folder``.

    Raises:
        InvalidRequest: field ``labels``: outside, unreadable, no regular file, larger than 16 MB, or not labels.
    """
    path = folder / file
    if not allow_outside and not _inside(path, folder):
        raise InvalidRequest(
            "labels", f"{file!r} is not in the card's folder; put the labels beside the card (card {where})"
        )
    try:
        text = read_text(path, MOST_BYTES)
        return checked_labels(_from_json(json.loads(text)) if path.suffix == ".json" else _lines(text), where)
    except WrongError as wrong:
        raise InvalidRequest("labels", f"{wrong} (card {where})") from None
    except OSError as error:
        raise InvalidRequest("labels", f"{Path(file).name} cannot be read: {error.strerror} (card {where})") from error
    except (ValueError, RecursionError) as error:  # JSON and UTF-8 errors are ValueErrors
        raise InvalidRequest("labels", f"{Path(file).name} holds no labels: {error} (card {where})") from error


def checked_labels(labels: Sequence[Any], where: str) -> tuple[str, ...]:
    """``labels`` as a tuple of texts.

    Raises:
        InvalidRequest: none at all, or an entry that is not a text.
    """
    if not labels:
        raise InvalidRequest("labels", f"there are none (card {where})")
    for i, label in enumerate(labels):
        if not isinstance(label, str) or not label.strip():
            raise InvalidRequest(f"labels[{i}]", f"expected a name, got {label!r} (card {where})")
    return tuple(str(label).strip() for label in labels)


def match(labels: Sequence[str], name: str) -> int:
    """Index of the class that ``name`` means.

    Upper and lower case, ``_`` and spaces are the same. Tried in this order, and each must fit one class
    only: the whole label; one of its names between commas (``tabby`` in ``tabby, tabby cat``); whole words
        in it.

    Raises:
        UnknownValue: no class fits, or several do (then they are listed with their indices).
    """
    wanted = _plain(name)
    for reading in (_whole, _synonyms, _words):
        found = [i for i, label in enumerate(labels) if wanted and reading(_plain(label), wanted)]
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(f"{i} ({labels[i]})" for i in found[:8])
            more = f" and {len(found) - 8} more" if len(found) > 8 else ""
            raise UnknownValue(
                "single class",
                name,
                [labels[i] for i in found],
                f"It fits {listed}{more}: give the index or more of the name",
            )
    raise UnknownValue("class", name, [n for label in labels for n in _names(label)], _range(labels))


def _whole(label: str, wanted: str) -> bool:
    return label == wanted


def _synonyms(label: str, wanted: str) -> bool:
    return wanted in label.split(", ")


def _words(label: str, wanted: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(wanted)}(?!\w)", label) is not None


def _plain(text: str) -> str:
    return re.sub(r"\s*,\s*", ", ", " ".join(text.replace("_", " ").split())).casefold()


def _names(label: str) -> Iterator[str]:
    yield from (part.strip() for part in label.split(","))


def _range(labels: Sequence[str]) -> str:
    return f"There are {len(labels)} classes; give a label or an index 0 to {len(labels) - 1}"


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.splitlines()]
    lines = lines[: lines.index("")] if "" in lines else lines
    return [_without_synset(line.split(" ")) for line in lines]


def _without_synset(parts: list[str]) -> str:
    return " ".join(parts[1:] if len(parts) > 1 and _SYNSET.match(parts[0]) else parts)


def _from_json(data: Any) -> list[Any]:
    if isinstance(data, dict):
        inner = next((data[key] for key in _LISTS if isinstance(data.get(key), list | dict)), None)
        if inner is not None:
            return _from_json(inner)
        if not all(str(key).isdigit() for key in data) or {int(k) for k in data} != set(range(len(data))):
            raise ValueError(f'the keys must be "0" to "{len(data) - 1}" without gaps')
        data = [data[key] for key in sorted(data, key=int)]
    if not isinstance(data, list):
        raise ValueError("expected a list of labels or an object from index to label")
    return [_entry(entry) for entry in data]


def _entry(entry: Any) -> Any:
    """``["n01440764", "great_white_shark"]`` → ``great white shark``."""
    if isinstance(entry, list) and entry and isinstance(entry[-1], str):
        return entry[-1].replace("_", " ")
    return entry
