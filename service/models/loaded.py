"""A model as the core and the explainers see it: served for predictions, compiled for explanations."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

import graph_tools
from graph_tools import cost, find
from graph_tools import model as models
from graph_tools.backward import check_path
from graph_tools.errors import ExplainError, InvalidRequest, UnknownValue, UnsupportedGradient, UnsupportedModel
from service.explainers.base import Batch, Explainer, Graph
from service.models import classes, distance, preprocess, served, shapes, signature, whitebox
from service.models.card import Card, InputCard
from service.models.compiled import Compiled, Composed, rows_for
from service.models.tail import Tail
from service.models.whitebox import Whitebox
from service.runtime.context import Run
from service.runtime.home import Runtime
from service.types import Array

VERSION = "1"  # part of every program's key: raise it when emitted graphs change
OPEN_SIZE = 224  # side assumed where neither file nor card says it


class LoadedModel:
    """One model version, ready to predict and to be explained (fulfils ``service.explainers.base.Explainable``).

    Attributes:
        name, version: in the repository; version "" for a file.
        digest: ``sha256:…`` of the file and its external data.
        card: the model card, or an empty one.
        image: the image input, None where the model takes none (``no_image`` says why).
        numbers: scale, mean, std and channel order in force.
        tail: how outputs become scores.
        labels: by class index, () where unknown.
        notes: assumptions in plain sentences, part of every reply.
        image_notes: those that concern images only.
        batch_note: what was done so that the file takes any number of rows, or why it does not.
        whitebox_error: why gradients and activations are not to be had, None where they are.
    """

    def __init__(self, name: str, version: str, path: Path, card: Card, runtime: Runtime) -> None:
        """Copy the file into the private store, find out what it is, and load its session.

        Raises:
            UnsupportedModel: ONNX Runtime or the store refuses the file.
            InvalidRequest, UnknownValue: the card does not fit the file.
        """
        stored = runtime.store.add(path)
        self.name, self.version, self.card, self.digest, self.size = name, version, card, stored.digest, stored.size
        self.notes: list[str] = []
        self.image_notes: list[str] = []
        self._runtime, self._folder = runtime, stored.path.parent
        proto, _ = models.read(stored.path)
        self.image, self.no_image = shapes.find_entry(signature.own_inputs(proto), card.input)
        self.numbers = self._pixels(card.input)
        files = served.make_batchable(proto, self._folder, runtime, self._open_size())
        self._proto, self.rows = files.relaxed, files.rows
        self.quantised = distance.is_quantised(proto)
        graph, self.whitebox_error = self._graph()
        self.tail, self.default_layer = self._ending(graph, proto)
        signature.check_rows(proto, self.tail.output)
        self.served = served.Served(files, graph, self.tail, self.quantised, runtime)
        self.macs, self._max_node = (0, 0) if graph is None else cost.macs(graph)
        self._row_bytes = 0 if graph is None else cost.row_bytes(graph)
        self.batch_note = files.note
        self._lock = threading.Lock()
        self._whitebox: dict[bool, Whitebox] = {}
        self._gradient_errors: dict[str, ExplainError | None] = {}
        self.labels = card.labels or classes.labels(self.tail.keys)
        self._check_labels()
        if self.image is not None and None in (self.image.height, self.image.width):
            height, width = self.input_size()
            self.image_notes.append(f"the file takes any size: {width} x {height} assumed; give input.size in the card")
        if self.tail.averaged:
            self.notes.append("scores are means over the positions of the output, and no probabilities")
        if len(self.served.session.inputs) > 1:
            self.notes.append(f"of {len(self.served.session.inputs)} inputs {self.primary_input!r} is explained")

    # -- what explainers use -------------------------------------------------------------------------------------

    @property
    def provider(self) -> str:
        """Execution provider in use."""
        return self._runtime.provider.name

    def program(
        self, method: str, structure: tuple[Any, ...], batch: Batch, build: Callable[[Graph], ir.Model],
        run: Run | None = None,
    ) -> Compiled:  # fmt: skip
        """The compiled program (see ``Explainable.program``)."""
        image = batch.image is not None
        key = (self.digest, self.card, method, structure, image, self._runtime.form, VERSION)

        def compile_() -> Compiled:
            model = build(self._graph_copy(image))
            session = self._runtime.program(model, self.digest, self._folder, plain=self.quantised)
            rows = self.rows or rows_for(self._max_node, self._row_bytes * 3)
            return Compiled(session, rows, fixed=self.rows is not None)

        return self._runtime.programs.get(key, compile_, run)  # type: ignore[no-any-return]

    def compose(
        self, method: str, structure: tuple[Any, ...], batch: Batch, build: Callable[[Graph], ir.Model],
        run: Run | None = None,
    ) -> Composed:  # fmt: skip
        """Composer and served file as one call (see ``Explainable.compose``)."""
        image = batch.image is not None
        key = (self.digest, self.card, "compose", method, structure, image, self._runtime.form, VERSION)

        def compile_() -> Compiled:
            front = self._front() if image else signature.identity(self.served.session.inputs, self.primary(batch))
            graph = Graph(front, "", self.primary(batch), image, {}, self.plane(batch), self._runtime.form)
            session = self._runtime.session(ir.to_proto(build(graph)).SerializeToString(), None)
            return Compiled(session, 1 << 30, fixed=False)

        program = self._runtime.programs.get(key, compile_, run)
        rows = self.rows or rows_for(self._max_node, self._row_bytes)
        fed = self.image.name if image and self.image else self.primary(batch)
        return Composed(program, rows, fed, self.scored)

    def scores(self, batch: Batch, score: str, run: Run | None = None) -> Array:
        """float32 [N, classes] of the served file."""
        feeds = self._own_feeds(batch, run)
        rows = self.rows or rows_for(self._max_node, self._row_bytes)
        parts = [self.scored({k: v[i : i + rows] for k, v in feeds.items()}, score, run)
                 for i in range(0, batch.rows, rows)]  # fmt: skip
        return np.concatenate(parts)

    def scored(self, feeds: Mapping[str, Any], score: str, run: Run | None = None) -> Array:
        """Scores of the model's own inputs (arrays or OrtValues).

        Raises:
            InvalidRequest: a probability was asked of a model that has none.
        """
        if score == "logit":
            return self.served.logits(feeds, run)
        found = self.tail.probabilities(*self.served.run(feeds, run))
        if found is None:
            raise InvalidRequest("score", "this model's output is no probability; use score=logit")
        return found

    def predict(self, batch: Batch, run: Run | None = None) -> tuple[Array | None, Array | None]:
        """(logits or None, probabilities or None), each float32 [N, classes], of the served file."""
        feeds = self._own_feeds(batch, run)
        rows = self.rows or rows_for(self._max_node, self._row_bytes)
        found = []
        for i in range(0, batch.rows, rows):
            logits, own = self.served.run({k: v[i : i + rows] for k, v in feeds.items()}, run)
            shown = logits if logits is not None else own if self.tail.kind in ("logits", "regression") else None
            found.append((shown, self.tail.probabilities(logits, own)))
        return tuple(  # type: ignore[return-value]
            None if each[0] is None else np.concatenate([np.asarray(e) for e in each])
            for each in zip(*found, strict=True)
        )

    def primary(self, batch: Batch) -> str:
        """Name of the explained input."""
        if batch.image is not None:
            return preprocess.IMAGE
        return self.primary_input

    @functools.cached_property
    def primary_input(self) -> str:
        """The model's own input that is explained: the card's, the image, the first float one, the first."""
        inputs = self.served.session.inputs
        floats = [v.name for v in inputs if v.dtype in ("float32", "float16", "float64")]
        return self.card.input.name or (self.image.name if self.image else (floats or [inputs[0].name])[0])

    def plane(self, batch: Batch) -> tuple[int, int | None]:
        """Axes over which patches slide."""
        if batch.image is not None:
            return 1, 2
        if self.image is not None:
            return (2, 3) if self.image.layout == "nchw" else (1, 2)
        shape = next(v.shape for v in self.served.session.inputs if v.name == self.primary_input)
        if len(shape) < 2:
            raise InvalidRequest("inputs", f"input {self.primary_input!r} has no axis behind the batch to cover")
        if len(shape) == 4:  # planes of more than three channels: channels first unless the last axis is the thinnest
            last, first = shape[3], shape[1]
            return (1, 2) if isinstance(last, int) and (not isinstance(first, int) or last < first) else (2, 3)
        return 1, None

    def layer(self, name: str) -> str:
        """The value name meant by ``name`` ("" = default)."""
        own = self.whitebox(self.image is not None).own
        if not name:
            if self.default_layer is None:
                nearby = ", ".join((self.layers() or own)[-3:])
                raise InvalidRequest(
                    "layer",
                    f"this model has no layer with space on every path to its scores; name one, such as {nearby}",
                )
            return self.default_layer
        if name not in own:
            raise UnknownValue(
                "layer", name, [*self.layers(), *own], "`onnx-explain inspect MODEL --layers` lists all layers"
            )
        return name

    # -- what the core and GetModel use --------------------------------------------------------------------------

    def whitebox(self, image: bool) -> Whitebox:
        """The white-box graph, made (and checked against the file) on first use.

        Raises:
            UnsupportedModel: with the reason.
        """
        if self.whitebox_error is not None:
            raise UnsupportedModel(self.whitebox_error)
        with self._lock:
            if image not in self._whitebox:
                try:
                    self._whitebox[image] = self._make_whitebox(image)
                except UnsupportedModel as error:
                    self.whitebox_error = str(error)
                    raise
            return self._whitebox[image]

    def obstacle(self, explainer: Explainer, layer: str = "") -> ExplainError | None:
        """Why the method cannot be used on this model; None where it can.

        Layer methods need a gradient from the scores to ``layer`` ("" = the default one), the others to the input;
        methods without a target need the graph only.
        """
        if explainer.kind == "black-box":
            return None
        try:
            self.whitebox(self.image is not None)
        except UnsupportedModel as error:
            return error
        if not explainer.needs_target:
            return None
        if explainer.needs_layer and not layer and self.default_layer is None and not self.layers():
            return UnsupportedGradient("the model has no layer with space; saliency, occlusion and predict need none")
        return self._gradient_error((layer or self.default_layer or "") if explainer.needs_layer else "")

    def layers(self) -> list[str]:
        """Names of the model's own values with space, in graph order; [] where its graph cannot be rewritten."""
        try:
            return whitebox.layers(self.whitebox(self.image is not None))
        except UnsupportedModel:
            return []

    def distance(self) -> distance.Distance | None:
        """How far explanations of a quantised file are from what is served; None where there is nothing to compare.

        Raises:
            ExplainError: the graph cannot be rewritten, or one of the two does not run.
        """
        if not self.quantised or self.whitebox_error is not None:
            return None
        session = self.served.session
        return distance.measure(self._proto, self._folder, self._runtime, session, self._open_size(), self.rows)

    def label(self, index: int) -> str:
        """The class's label, or ``class <index>``."""
        return self.labels[index] if index < len(self.labels) else f"class {index}"

    def _gradient_error(self, layer: str) -> ExplainError | None:
        """Why no gradient of the scores with respect to ``layer`` ("" = the input) can be built; None where it can."""
        if layer not in self._gradient_errors:
            box = self.whitebox(self.image is not None)
            if layer and layer not in box.own:
                return None  # the explainer says that there is no such layer
            try:
                check_path(models.load(box.model), box.scores, layer or box.entry)
                self._gradient_errors[layer] = None
            except (UnsupportedGradient, UnsupportedModel) as error:
                self._gradient_errors[layer] = error.with_traceback(None)  # whose frames hold the copied graph
        return self._gradient_errors[layer]

    # -- making --------------------------------------------------------------------------------------------------

    def _pixels(self, said: InputCard) -> InputCard:
        """Scale, mean, std and channels in force; the preset assumed where the card is silent goes into the notes."""
        if self.image is None or said.pixels_known:
            return said
        if self.image.dtype in ("uint8", "int8"):
            return said.assuming("none")
        small = self.image.channels == 1 or (self.image.height or OPEN_SIZE) < 96
        preset = "zero-to-one" if small else "imagenet-torch"
        numbers = said.assuming(preset)
        self.image_notes.append(
            f"no preprocessing was given: assumed preset {preset} "
            f"({preprocess.sentence(numbers, self.image.channels)}); name one in the card or with --preset"
        )
        return numbers

    def _open_size(self) -> int:
        return (self.image.height if self.image and self.image.height else None) or OPEN_SIZE

    def input_size(self) -> tuple[int, int]:
        """(H, W) images are brought to.

        Raises:
            InvalidRequest: the model takes no image.
        """
        if self.image is None:
            raise InvalidRequest("inputs", f"this model takes no image ({self.no_image}); send a tensor")
        return self.image.height or OPEN_SIZE, self.image.width or OPEN_SIZE

    def _graph(self) -> tuple[ir.Model | None, str | None]:
        try:
            return graph_tools.load(self._proto, folder=self._folder), None
        except UnsupportedModel as error:
            return None, str(error)

    def _ending(self, graph: ir.Model | None, proto: onnx.ModelProto) -> tuple[Tail, str | None]:
        """The tail, and the default layer."""
        said = self.card.output
        keys = classes.keys(proto)
        if graph is None or (keys and not said.kind and not said.logits):
            outputs = [v.name for v in proto.graph.output]
            name = said.name or next((n for n in outputs if "prob" in n.lower()), outputs[-1])
            self.classes = len(keys) or None
            return Tail(name, "", said.kind or "probabilities", 1, False, keys), None
        end = whitebox.ending(graph, self.card)
        if self.card.layer and self.card.layer not in (own := whitebox.made(graph)):
            raise UnknownValue(
                "layer", self.card.layer, own, "The card's defaults.layer must be one of the model's values"
            )
        single = end.kind == whitebox.BINARY and end.head.classes == 1
        averaged = whitebox.averaged(graph, end)
        tail = Tail(end.head.output, end.head.logits, end.kind, end.head.class_axis, single, averaged=averaged)
        self.classes = end.classes
        return tail, self.card.layer or find.default_layer(graph, end.head)

    classes: int | None = None

    def _check_labels(self) -> None:
        if self.labels and self.classes and len(self.labels) != self.classes:
            raise InvalidRequest(
                "card.labels", f"there are {len(self.labels)} labels, but the model has {self.classes} classes"
            )

    def _make_whitebox(self, image: bool) -> Whitebox:
        model = graph_tools.load(self._proto, check=self._runtime.check, folder=self._folder)
        if image and self.image is not None:
            return whitebox.for_images(model, self.card, self.image, self.numbers)
        axis = 3 if self.image is not None and self.image.layout == "nhwc" else 1
        return whitebox.for_tensors(model, self.card, self.primary_input, axis)

    def _graph_copy(self, image: bool) -> Graph:
        box = self.whitebox(image)
        batch = Batch(np.zeros((1, 1, 1, 1), np.float32) if image else None, {})
        return Graph(models.load(box.model), box.scores, box.entry, image, box.channels, self.plane(batch),
                     self._runtime.form)  # fmt: skip

    def _front(self) -> ir.Model:
        """The preprocessing graph alone."""
        if self.image is None:
            raise InvalidRequest("inputs", f"this model takes no image ({self.no_image}); send a tensor")
        entry = self.image
        front = preprocess.graph(
            self.numbers, dtype=entry.dtype, layout=entry.layout, channels=entry.channels,
            size=(entry.height, entry.width),
        )  # fmt: skip
        return models.load(front)

    def _own_feeds(self, batch: Batch, run: Run | None) -> dict[str, Array]:
        """The batch as the model's own inputs."""
        if batch.image is None:
            return dict(batch.tensors)
        key = (self.digest, self.card, "preprocess", self._runtime.form, VERSION)

        def compile_() -> Compiled:
            session = self._runtime.session(ir.to_proto(self._front()).SerializeToString(), None)
            return Compiled(session, 64, fixed=False)

        program = self._runtime.programs.get(key, compile_, run)
        ready = program.run({preprocess.IMAGE: batch.image}, run)[preprocess.READY]
        assert self.image is not None
        return {self.image.name: ready}
