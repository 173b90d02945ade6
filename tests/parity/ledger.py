"""How far every map is from its oracle: the limits, and the worst of each kind for the table after the run.

Distances are ‖ours − oracle‖₂ / ‖oracle‖₂ of one map.

- Hand-made and smooth nets, float32: at most ``LIMIT``.
- Real nets of ReLUs: rounding switches units whose input is near 0, so that torch's own float32 gradients are far
  from its float64 one. Ours may be at most ``TIMES`` as far from float64 as torch (see ``oracles.spread``), with
  cosine above ``COSINE``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LIMIT, TIMES, COSINE = 1e-4, 5.0, 0.999
Array = np.ndarray


@dataclass
class Line:
    """The worst of one method against one oracle on one net."""

    maps: int = 0
    distance: float = 0.0
    own: float = 0.0  # torch float32 from float64
    cosine: float = 1.0

    def joined(self, other: Line) -> Line:
        """The worst of both."""
        return Line(
            self.maps + other.maps, max(self.distance, other.distance), max(self.own, other.own),
            min(self.cosine, other.cosine),
        )  # fmt: skip

    def add(self, distance: float, own: float, cosine: float) -> None:
        self.maps += 1
        self.distance, self.own = max(self.distance, distance), max(self.own, own)
        self.cosine = min(self.cosine, cosine)


class Ledger:
    """Lines by (method, oracle, net)."""

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str, str], Line] = {}

    def near(self, key: tuple[str, str, str], ours: Array, theirs: Array, limit: float = LIMIT) -> None:
        """Assert that every map [rows, …] is near its oracle in relative norm; an oracle of zeros wants zeros."""
        assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
        assert any(np.any(t) for t in theirs), "the oracle says nothing: all its maps are zero"
        for row, (a, b) in enumerate(zip(_flat(ours), _flat(theirs), strict=True)):
            distance = _distance(a, b)
            self._line(key).add(distance, 0.0, _cosine(a, b))
            assert distance <= limit, f"{' / '.join(key)}, row {row}: distance {distance:.2e} is more than {limit:g}"

    def near_exact(self, key: tuple[str, str, str], ours: Array, exact: Array, own: float) -> None:
        """Assert that every map is at most ``TIMES`` ``own``, torch's distance, from its float64 one."""
        assert ours.shape == exact.shape, (ours.shape, exact.shape)
        assert any(np.any(t) for t in exact), "the oracle says nothing: all its maps are zero"
        for row, (a, c) in enumerate(zip(_flat(ours), _flat(exact), strict=True)):
            distance, cosine = _distance(a, c), _cosine(a, c)
            self._line(key).add(distance, own, cosine)
            where = f"{' / '.join(key)}, row {row}"
            assert distance <= TIMES * own, f"{where}: {distance:.2e} from float64, torch float32 {own:.2e}"
            assert cosine > COSINE, f"{where}: cosine {cosine:.6f}"

    def rows(self) -> list[str]:
        """The table, one line of text each: the worst of all nets within ``LIMIT``, then every real net."""
        worst: dict[tuple[str, str], tuple[str, Line]] = {}
        real = []
        for (method, oracle, net), line in sorted(self._lines.items()):
            if line.own:
                real.append(_row(method, oracle, net, line))
                continue
            before = worst.get((method, oracle), (net, Line()))
            name = net if line.distance > before[1].distance else before[0]
            worst[method, oracle] = name, before[1].joined(line)
        found = [_row(*key, name, line) for key, (name, line) in worst.items()]
        return [_HEAD, *found, *real] if found or real else []

    def _line(self, key: tuple[str, str, str]) -> Line:
        return self._lines.setdefault(key, Line())


LEDGER = Ledger()
SWITCHED: dict[str, list[str]] = {}
"""By net and form: the units that rounding put on the other side of their kink (see kinks.py)."""


_HEAD = f"{'method':<24}{'oracle':<18}{'worst on':<14}{'maps':>5}{'distance':>10}{'torch 32-64':>13}{'1 - cosine':>12}"


def _row(method: str, oracle: str, net: str, line: Line) -> str:
    own = f"{line.own:.1e}" if line.own else "-"
    away = max(0.0, 1 - line.cosine)
    return f"{method:<24}{oracle:<18}{net:<14}{line.maps:>5}{line.distance:>10.1e}{own:>13}{away:>12.0e}"


def farthest(maps: Array, exact: Array) -> float:
    """The largest distance of a row."""
    return max(_distance(a, b) for a, b in zip(_flat(maps), _flat(exact), strict=True))


def _flat(maps: Array) -> Array:
    return np.asarray(maps, np.float64).reshape(len(maps), -1)


def _distance(a: Array, b: Array) -> float:
    size = float(np.linalg.norm(b))
    return float(np.linalg.norm(a - b)) / size if size else float(np.linalg.norm(a) > 0)


def _cosine(a: Array, b: Array) -> float:
    sizes = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / sizes if sizes else 1.0
