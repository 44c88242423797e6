"""The number of CPU cores that a process may use: containers and schedulers often grant fewer than the machine has."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def cores(processes: int = 1, root: Path = Path("/")) -> int:
    """The number of threads for each of `processes` equal processes, at least 1.

    The cores are those of the scheduler's affinity mask and of the CPU quota of the control group (version 2 or 1, the
    smallest on the way to the root, rounded), divided among the processes. `OMP_NUM_THREADS` limits each process
    further, as it does in OpenMP. More threads than cores wait for each other at every parallel loop.

    Args:
        processes: number of processes that compute at the same time, such as the ranks of a fit.
        root: root of the file system in which `/proc` and `/sys` are read.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    granted = min([allowed, *(max(1, round(quota)) for quota in _quotas(root))])
    share = max(1, granted // processes)
    wanted = re.match(r"\s*(\d+)", os.environ.get("OMP_NUM_THREADS", ""))  # "4" or, for nested loops, "4,2"
    return min(share, int(wanted[1])) if wanted and int(wanted[1]) else share


def _quotas(root: Path) -> Iterator[float]:
    """The CPU quotas of this process's control groups and of all groups above them, in cores."""
    try:
        groups = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # not Linux
        return
    for line in groups:  # hierarchy:controllers:path
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        group = PurePosixPath(path).relative_to("/")
        mounts = {root / "sys/fs/cgroup" / name for name in (("cpu", controllers) if controllers else ("",))}
        quotas = (_quota(mount / folder) for mount in mounts for folder in (group, *group.parents))
        yield from (quota for quota in quotas if quota is not None)


def _quota(folder: Path) -> float | None:
    for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
        try:
            quota, period = " ".join((folder / name).read_text() for name in names).split()
            if quota not in ("max", "-1"):
                return int(quota) / int(period)
        except (OSError, ValueError, ZeroDivisionError):  # no such file here: another version, or no controller
            continue
    return None
