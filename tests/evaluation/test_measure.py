"""Costs of a bundle: memory in a separate process, energy by counters that restart when they are full."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.contract.errors import BundleError
from tasks.evaluation.energy import counters, millijoules
from tasks.evaluation.memory import peak_megabytes


def test_memory_of_the_measuring_process_does_not_count(made: list[Path]) -> None:
    held = bytearray(400_000_000)
    held[::4096] = b"x" * len(held[::4096])  # resident in this process, so it does not count for the bundle
    assert 0.1 < peak_megabytes(made[0]) < 200


def test_a_bundle_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"could not be measured: .*There is no bundle at"):
        peak_megabytes(tmp_path / "nothing")


def zone(powercap: Path, number: int, name: str, microjoules: int) -> None:
    folder = powercap / f"intel-rapl:{number}"
    folder.mkdir(exist_ok=True)
    for file, value in {"name": name, "energy_uj": microjoules, "max_energy_range_uj": 999_999}.items():
        (folder / file).write_text(f"{value}\n")


def test_energy_is_of_all_packages_and_outlives_a_full_counter(tmp_path: Path) -> None:
    for number, name in enumerate(("package-0", "package-1", "psys")):
        zone(tmp_path, number, name, 990_000)
    before = counters(tmp_path)
    for number, (name, now) in enumerate({"package-0": 995_000, "package-1": 2_000, "psys": 999_000}.items()):
        zone(tmp_path, number, name, now)
    assert millijoules(before, counters(tmp_path)) == pytest.approx(5 + 12)


def test_without_counters_energy_is_unknown(tmp_path: Path) -> None:
    assert counters(tmp_path / "nowhere") == {}
    zone(tmp_path, 0, "package-0", 1)
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("not a number")
    assert counters(tmp_path) == {}
    assert millijoules({}, {}) is None
