"""A fit that is killed and run again ends as an uninterrupted one does, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tasks.store import file_digest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
SCRIPT = """
import sys
from pathlib import Path
from tasks.contract.errors import Infrastructure
from tasks.settings import Fit
from tasks.training.launch import fit
from tests.toy import ToyUseCase
fit(ToyUseCase(slow=0.08), Path(sys.argv[1]), Fit(epochs=6, batch_size=32, learning_rate=0.02, ema=0.9, devices=int(sys.argv[3])), Path(sys.argv[2]))
"""
GONE_SECONDS = 120  # after which a process counts as left behind


def start(data: Path, work: Path, ranks: int = 1) -> subprocess.Popen[bytes]:
    environment = os.environ | {"VERTICALS_CHECKPOINT_SECONDS": "0.3"}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(data), str(work), str(ranks)], cwd=ROOT, env=environment, stderr=subprocess.PIPE
    )


def result_of(work: Path) -> tuple[str, str]:
    return file_digest(work / "weights.safetensors"), (work / "history.json").read_text()


def wait_for_mid_epoch(flow: subprocess.Popen[bytes], work: Path) -> None:
    """Wait until there is a checkpoint that is not at the end of an epoch (of 8 steps)."""
    while flow.poll() is None:
        steps = [int(path.stem.removeprefix("step-")) for path in (work / ".work" / "checkpoints").glob("step-*.pt")]
        if any(8 < step < 40 and step % 8 for step in steps):
            return
        time.sleep(0.02)
    pytest.fail("it ended before there was a checkpoint in the middle of an epoch")


def family(flow: subprocess.Popen[bytes]) -> list[psutil.Process]:
    return psutil.Process(flow.pid).children(recursive=True)


def ranks_of(flow: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Forked from the fork server, they have its command line; the deepest are the ranks."""
    everyone = family(flow)
    parents = {p.ppid() for p in everyone}
    return [p for p in everyone if p.pid not in parents and "forkserver" in " ".join(p.cmdline())]


@pytest.fixture(scope="module")
def undisturbed(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    work = tmp_path_factory.mktemp("undisturbed")
    assert start(toy_data, work).wait() == 0
    return result_of(work)


@pytest.mark.parametrize("victim", ["rank", "supervisor", "flow"])
def test_killed_and_run_again(victim: str, toy_data: Path, tmp_path: Path, undisturbed: tuple[str, str]) -> None:
    flow = start(toy_data, tmp_path)
    wait_for_mid_epoch(flow, tmp_path)
    everyone = family(flow)
    {
        "rank": lambda: ranks_of(flow)[0],
        "supervisor": lambda: psutil.Process(flow.pid).children()[0],
        "flow": lambda: psutil.Process(flow.pid),
    }[victim]().send_signal(signal.SIGKILL)
    assert flow.wait() != 0
    assert flow.stderr is not None
    if victim != "flow":
        said = flow.stderr.read()
        assert b"Infrastructure" in said
        assert victim != "rank" or b"rank 0 ended with exit code -9 (SIGKILL)" in said
    _, alive = psutil.wait_procs(everyone, timeout=GONE_SECONDS)
    assert not alive, [p.cmdline() for p in alive]

    assert start(toy_data, tmp_path).wait() == 0
    assert result_of(tmp_path) == undisturbed


def test_cancelled_leaves_nothing(toy_data: Path, tmp_path: Path) -> None:
    flow = start(toy_data, tmp_path, ranks=2)
    wait_for_mid_epoch(flow, tmp_path)
    everyone = family(flow)
    flow.send_signal(signal.SIGINT)
    flow.wait()
    _, alive = psutil.wait_procs(everyone, timeout=GONE_SECONDS)
    assert not alive


def test_a_damaged_checkpoint_gives_way_to_the_one_before(toy_data: Path, tmp_path: Path, undisturbed: tuple[str, str]) -> None:
    flow = start(toy_data, tmp_path)
    wait_for_mid_epoch(flow, tmp_path)
    flow.kill()
    flow.wait()
    newest = max((tmp_path / ".work" / "checkpoints").glob("step-*.pt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert start(toy_data, tmp_path).wait() == 0
    assert result_of(tmp_path) == undisturbed
