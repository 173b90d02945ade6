"""Every method on a GPU: the same numbers as on the CPU, and no work that falls back to it."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.client.requests import make_call
from service.core import Engine
from service.explainers.registry import EXPLAINERS
from service.models.repository import Repository
from service.runtime import session as sessions
from service.runtime.context import Run
from service.runtime.home import Runtime
from service.runtime.providers import CPU, CUDA
from service.types import Array, ExplainResult
from tests.service import shelf
from tests.service.shelf import KINDS

pytestmark = pytest.mark.gpu

# Norm of the difference over norm of the map. TF32 is off; quantised activations may round to the next step.
LIMITS = {"half": 3e-2, "quantised": 5e-2}
LIMIT = 1e-4
SCENES = "scenes"
PAIRS = [(n, m) for m, e in EXPLAINERS.items() for n, k in KINDS.items() if k.supports(e)]
PAIRS += [(SCENES, m) for m in EXPLAINERS]


@dataclass(frozen=True)
class Engines:
    """The same models on both."""

    cpu: Engine
    gpu: Engine


@pytest.fixture(scope="module")
def engines(cuda_runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Engines:
    folder = tmp_path_factory.mktemp("home") / "models"
    folder.mkdir()
    shelf.build(folder)
    cpu, gpu = (Engine(Repository(runtime, folder)) for runtime in (Runtime("cpu"), cuda_runtime))
    return Engines(cpu, gpu)


def ask(engine: Engine, name: str, method: str, **more: Any) -> ExplainResult:
    """Three inputs; for methods with a target a class and a difference of two."""
    asked: dict[str, Any] = {"method": method, **more}
    if name == SCENES:
        asked["image"] = list(np.random.default_rng(9).integers(0, 256, (3, 128, 128, 3)).astype(np.uint8))
    else:
        asked.update(KINDS[name].feeds(3, seed=9))
    explainer = EXPLAINERS[method]
    if explainer.needs_target:
        asked["targets"] = [1, (0, 1)]
    elif explainer.needs_layer and name != SCENES and not KINDS[name].layer:
        asked["layers"] = [KINDS[name].inner]
    return engine.explain(make_call(name, **asked).request, Run())


def close(got: Array, want: Array, limit: float) -> None:
    assert got.shape == want.shape
    gap = float(np.linalg.norm(got.astype(np.float64) - want.astype(np.float64)))
    assert gap <= limit * float(np.linalg.norm(want.astype(np.float64))) + 1e-6, gap


@pytest.mark.parametrize(("name", "method"), PAIRS, ids=[f"{n}-{m}" for n, m in PAIRS])
def test_the_gpu_equals_the_cpu(engines: Engines, name: str, method: str) -> None:
    want, got = ask(engines.cpu, name, method), ask(engines.gpu, name, method)
    assert (want.provider, got.provider) == (CPU, CUDA)
    limit = LIMITS.get(name, LIMIT)
    assert len(got.items) == len(want.items) == 3
    for a, b in zip(got.items, want.items, strict=True):
        for x, y in zip(a.attributions, b.attributions, strict=True):
            assert (x.target.index, x.target.minus_index, x.layer) == (y.target.index, y.target.minus_index, y.layer)
            close(x.values, y.values, limit)
        for p, q in zip(a.activations, b.activations, strict=True):
            assert (p.layer, p.total) == (q.layer, q.total)
            if p.total == len(p.channels):  # every channel is there: put them in the layer's own order
                close(p.values[np.argsort(p.channels)], q.values[np.argsort(q.channels)], limit)
            np.testing.assert_allclose(p.energy, q.energy, rtol=3 * limit, atol=1e-6)
        scores = [{s.index: s.logit if s.logit is not None else s.probability for s in i.predictions} for i in (a, b)]
        if scores[0].keys() == scores[1].keys():  # where two classes tie at the end of the list either may be there
            assert scores[0] == pytest.approx(scores[1], rel=10 * limit, abs=0.03 if name in LIMITS else 1e-5)


def test_a_batch_and_its_targets_are_rows_of_their_own(engines: Engines) -> None:
    """K targets of N inputs share one forward pass on the GPU too."""
    images = KINDS["nchw"].feeds(4, seed=1)["image"]
    targets = [0, 3, (2, 1)]
    for method in (m for m, e in EXPLAINERS.items() if e.needs_target):
        together = engines.gpu.explain(make_call("nchw", images, method=method, targets=targets).request, Run())
        for n, image in enumerate(images):
            for k, target in enumerate(targets):
                single = engines.gpu.explain(make_call("nchw", image, method=method, targets=[target]).request, Run())
                close(together.items[n].attributions[k].values, single.items[0].attributions[0].values, LIMIT)


@pytest.fixture
def profiled(cuda_runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """A runtime whose sessions write down where every node ran."""
    settings, number = sessions._settings, itertools.count()

    def with_profile(*given: Any) -> Any:
        made = settings(*given)
        made.enable_profiling = True
        made.profile_file_prefix = str(tmp_path / f"nodes-{next(number)}")
        return made

    monkeypatch.setattr(sessions, "_settings", with_profile)
    return Runtime(cuda_runtime.provider.requested)


WHITE = [m for m, e in EXPLAINERS.items() if e.kind == "white-box"]


@pytest.mark.parametrize("name", ["nchw", "nhwc", "half", "binary", SCENES])
@pytest.mark.parametrize("method", WHITE)
def test_no_node_of_a_program_falls_back_to_the_cpu(profiled: Runtime, tmp_path: Path, name: str, method: str) -> None:
    """Arithmetic on shapes is ONNX Runtime's to place; whatever computes a tensor of floats runs on the GPU."""
    if name in KINDS and not KINDS[name].supports(EXPLAINERS[method]):
        pytest.skip(f"{method} does not apply to {name}")
    folder = tmp_path / "models"
    folder.mkdir()
    shelf.build(folder)
    ask(Engine(Repository(profiled, folder)), name, method)
    programs = list(profiled.programs._kept.values())
    assert programs
    for program in programs:
        nodes = _nodes(Path(program.session._session.end_profiling()))
        assert any(provider == profiled.provider.name for _, provider, _ in nodes)
        strays = {(op, size) for op, provider, size in nodes if provider == CPU and size > 64}
        assert not strays or profiled.provider.name == CPU


def _nodes(profile: Path) -> list[tuple[str, str, int]]:
    """(operator, provider, float elements made) of every node that ran."""
    found = []
    for event in json.loads(profile.read_text(encoding="utf-8")):
        facts = event.get("args", {})
        if event.get("cat") == "Node" and "provider" in facts:
            made = [(kind, shape) for each in facts.get("output_type_shape", []) for kind, shape in each.items()]
            size = sum(math.prod(shape) for kind, shape in made if "float" in kind)
            found.append((facts["op_name"], facts["provider"], size))
    return found
