"""Energy by the counters of the processor (RAPL), where Linux shows them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")


def counters(powercap: Path = POWERCAP) -> dict[Path, int]:
    """Microjoules that each processor package has counted so far; empty where there are none that we may read."""
    try:
        packages = [zone for zone in sorted(powercap.glob("*-rapl:*")) if (zone / "name").read_text().startswith("package")]
        return {zone: int((zone / "energy_uj").read_text()) for zone in packages}
    except (OSError, ValueError):
        return {}


def millijoules(before: Mapping[Path, int], after: Mapping[Path, int]) -> float | None:
    """Spent between two readings of `counters` by the whole of the packages, whoever else they worked for; None: not known.

    A counter begins again at zero when it is full, which takes minutes: between the readings at most once.
    """
    if not before or before.keys() != after.keys():
        return None
    try:
        full = {zone: int((zone / "max_energy_range_uj").read_text()) for zone in before}
    except (OSError, ValueError):
        return None
    return sum((after[zone] - before[zone]) % (full[zone] + 1) for zone in before) / 1e3
