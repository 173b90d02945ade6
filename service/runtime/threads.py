"""How many threads a session gets: ONNX Runtime counts the host's cores, not the container's quota."""

from __future__ import annotations

import math
import os
from pathlib import Path

MOST = 16  # every session has a pool of its own: more threads than this buy little and add up over programs


def threads(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Intra-op threads: CPUs this process may use (affinity, cgroup v2 and v1 quota), 1 to ``MOST``.

    Args:
        root: where the cgroup hierarchy is mounted.
        own: file that names this process's groups.
    """
    try:
        cpus: float = len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        cpus = os.cpu_count() or 1
    quotas = [q for folder in _folders(root, own) if (q := _quota(folder)) is not None]
    return max(1, min(math.ceil(min([cpus, *quotas])), MOST))


def _folders(root: Path, own: Path) -> list[Path]:
    """Folders that may hold this process's CPU quota: its own group and all above, v2 and the v1 cpu controller."""
    folders = [root, root / "cpu", root / "cpu,cpuacct"]
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / controllers if controllers else root
        parts = Path(path.lstrip("/")).parts
        folders += [base.joinpath(*parts[: n + 1]) for n in range(len(parts))]
    return folders


def _quota(folder: Path) -> float | None:
    """CPUs allowed by ``folder``: v2 ``cpu.max`` = "quota period", v1 ``cpu.cfs_quota_us`` / ``cpu.cfs_period_us``."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        except OSError:
            return None
    try:
        cpus = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return cpus if cpus > 0 else None
