"""Our side: requests through the engine, maps as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from service.core import Engine
from service.models.card import Card
from service.models.repository import Repository
from service.runtime.context import Run
from service.runtime.home import Runtime
from service.types import ExplainRequest, ExplainResult, Target
from tests.parity.subjects import Subject


class Ours:
    """An engine with the exported nets."""

    def __init__(self, store: Path) -> None:
        self.engine = Engine(Repository(Runtime("cpu", store=store, threads=1)))
        self._added: set[str] = set()

    def add(self, subject: Subject, name: str = "", card: Card | None = None) -> None:
        """Load the file under ``name`` (the subject's own), once."""
        name = name or subject.name
        if name not in self._added:
            self.engine.repository.add(name, subject.path, parsed=card)
            self._added.add(name)

    def ask(
        self,
        subject: Subject,
        method: str,
        x: Tensor | None = None,
        targets: tuple[Target, ...] = (),
        *,
        model: str = "",
        images: tuple[Any, ...] = (),
        **parameters: Any,
    ) -> ExplainResult:
        """One request with the tensor ``x``, or with ``images``."""
        tensors = {} if x is None else {"x": x.numpy()}
        request = ExplainRequest(
            model or subject.name, method, parameters=parameters, tensors=tensors, images=images, targets=targets
        )
        return self.engine.explain(request, Run())

    def maps(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """float32 [rows, K, …] of the same request."""
        items = self.ask(*args, **kwargs).items
        return np.stack([np.stack([a.values for a in item.attributions]) for item in items])
