"""The cores that are granted, by real affinity masks and by control groups of either version in a folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.contract.cores import cores
from tasks.serving.settings import Serving
from tasks.settings import Fit
from tasks.training import launch
from tasks.training.learner import Learner
from tasks.training.technique import Technique
from tests.toy import ToyUseCase

ROOT = Path(__file__).parents[1]
needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity masks are Linux's")


@pytest.fixture(autouse=True)
def eight_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def write(root: Path, group: str, files: dict[str, str]) -> Path:
    """A file system with this line in /proc/self/cgroup and these files in /sys/fs/cgroup."""
    for name, text in {"proc/self/cgroup": f"{group}\n", **{f"sys/fs/cgroup/{name}": f"{text}\n" for name, text in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("group", "files", "expected"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "300000 100000"}, 3),
        ("0::/", {"cpu.max": "20000 100000"}, 1),
        ("0::/", {"cpu.max": "1600000 100000"}, 8),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "180000 100000"}, 2),
        ("4:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": "200000", "cpu/a/cpu.cfs_period_us": "100000"}, 2),
        ("4:cpu,cpuacct:/a", {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "25000"}, 2),
        ("4:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ("4:memory:/", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 8),
    ],
)
def test_the_quota_of_the_control_group_is_kept(group: str, files: dict[str, str], expected: int, tmp_path: Path) -> None:
    assert cores(root=write(tmp_path, group, files)) == expected


def test_processes_share_and_openmp_limits_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [cores(processes, tmp_path) for processes in (1, 2, 3, 16)] == [8, 4, 2, 1]
    for wanted, expected in (("3", [3, 3, 1]), ("4,2", [4, 4, 1]), ("0", [8, 4, 1]), ("many", [8, 4, 1])):
        monkeypatch.setenv("OMP_NUM_THREADS", wanted)
        assert [cores(processes, tmp_path) for processes in (1, 2, 8)] == expected


def test_sessions_of_a_server_share_the_cores() -> None:
    assert Serving().session_threads() == 1
    assert Serving(threads=3, sessions=4).session_threads() == 3
    assert [Serving(threads=0, sessions=sessions).session_threads() for sessions in (1, 4, 9)] == [cores(), cores(4), 1]


@needs_affinity
def test_an_affinity_mask_is_kept() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from tasks.contract.cores import cores; print(cores(), cores(2))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]


class WriteThreads(Technique):
    """Writes how many threads a rank computes with."""

    folder: str

    def before(self, learner: Learner) -> None:
        import torch

        (Path(self.folder) / f"{os.environ.get('RANK', '0')}").write_text(str(torch.get_num_threads()))


@pytest.mark.parametrize(("threads", "ranks", "expected"), [(3, 1, ["3"]), (5, 2, ["2", "2"]), (1, 2, ["1", "1"])])
def test_the_ranks_of_a_fit_share_the_threads(threads: int, ranks: int, expected: list[str], toy_data: Path, tmp_path: Path) -> None:
    fit = Fit(epochs=1, batch_size=64, threads=threads, devices=ranks)
    launch.fit(ToyUseCase(), toy_data, fit, tmp_path / "work", technique=WriteThreads(folder=str(tmp_path)))
    assert [path.read_text() for path in sorted(tmp_path.glob("[0-9]"))] == expected
