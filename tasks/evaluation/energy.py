"""Energy consumption from the counters of the processor (RAPL), on Linux."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def counters(powercap: Path = POWERCAP) -> dict[Path, int]:
    """The energy counter of each processor package, in microjoules; empty if there are no readable counters."""
    try:
        packages = [zone for zone in sorted(powercap.glob("*-rapl:*")) if (zone / "name").read_text().startswith("package")]
        return {zone: int((zone / "energy_uj").read_text()) for zone in packages}
    except (OSError, ValueError):
        return {}


def millijoules(before: Mapping[Path, int], after: Mapping[Path, int]) -> float | None:
    """The energy between two readings of `counters`, of whole processor packages with all their processes; None if it is unknown.

    A counter restarts at zero when it is full, which takes minutes: at most once between the readings.
    """
    if not before or before.keys() != after.keys():
        return None
    try:
        full = {zone: int((zone / "max_energy_range_uj").read_text()) for zone in before}
    except (OSError, ValueError):
        return None
    return sum((after[zone] - before[zone]) % (full[zone] + 1) for zone in before) / 1e3
