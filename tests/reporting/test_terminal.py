"""In processes of their own, since what is printed depends on what standard error is."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = """
from tasks.contract.artifacts import Latency, Release
from tasks.reporting import terminal
from tests.reporting.conftest import facts_with

with terminal.step("prepare") as seen:
    seen.uses.give(Latency(p50=1, p95=1))
    seen.cached, seen.detail = True, "100 train"
with terminal.training_progress("fine_tune") as seen:
    seen.uses.take(Latency(p50=1, p95=1))
    seen.update(dict(phase="starting"))
    for epoch in (1, 2):
        for step in (1, 2, 3):
            seen.update(dict(phase="train", epoch=epoch, epochs=2, step=step, steps=3, loss=1 / epoch / step, monitor="accuracy",
                             score=0.9 if epoch == 2 else None, examples_per_second=12345.0, seconds_left=75.0, learning_rate=1e-3))
        seen.update(dict(phase="validating", epoch=epoch, epochs=2, step=3, steps=3, monitor="accuracy", score=None))
try:
    with terminal.step("export"):
        raise KeyError
except KeyError:
    pass
facts = facts_with(["cat"])
terminal.summary(Release(chosen=facts.chosen, reason=facts.reason, rejected=facts.rejected, report="/store/" + 90 * "r",
                         answer={}, seconds=61), ["serve /store/b"])
with terminal.step("report"):
    print(*((s.name, s.cached, s.needs) for s in terminal.take_steps()))
print(terminal.take_steps())
"""


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE")}
    return {**kept, "TERM": "xterm-256color", "COLUMNS": "80", "PYTHONPATH": str(ROOT), **more}


def on_a_terminal(**more: str) -> str:
    outer, inner = pty.openpty()
    process = subprocess.Popen([sys.executable, "-c", RUN], cwd=ROOT, stderr=inner, stdout=subprocess.DEVNULL, env=environment(**more))
    os.close(inner)
    shown = b""
    try:
        while piece := os.read(outer, 65536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    assert process.wait() == 0
    os.close(outer)
    return shown.decode()


def test_a_log_file_gets_a_line_per_epoch_without_colour_and_within_80_columns() -> None:
    done = subprocess.run([sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, text=True, env=environment(), check=True)
    lines = done.stderr.splitlines()
    assert "\x1b" not in done.stderr
    assert "✓ prepare            from cache  100 train" in lines
    assert [line for line in lines if "epoch" in line] == [
        "  fine_tune  epoch 1/2  loss 0.333  12,345/s  1:15 left",
        "  fine_tune  epoch 2/2  loss 0.167  accuracy 0.900  12,345/s  1:15 left",
    ]
    assert any(line.startswith("✗ export") for line in lines)
    assert max(len(line) for line in lines if "rrr" not in line) <= 80
    assert "/store/" + 90 * "r" in done.stderr, "a path can be copied whole"
    assert any(line.split()[-2:] == ["memory", "MB"] for line in lines)
    for expected in (
        "int8 dynamic: Loses 0.052",
        "fp32: Twice as slow.",
        "Chosen: int8 static.",
        "Test    accuracy 0.9500",
        "serve /store/b",
    ):
        assert expected in done.stderr
    assert done.stdout == "('prepare', True, ()) ('fine_tune', False, ('prepare',))\n()\n"


def test_a_narrow_terminal_gets_the_table_without_memory() -> None:
    done = subprocess.run([sys.executable, "-c", RUN], cwd=ROOT, capture_output=True, text=True, env=environment(COLUMNS="60"), check=True)
    assert "p50 / p95 ms" in done.stderr and "memory MB" not in done.stderr and "…" not in done.stderr


def test_a_terminal_gets_a_bar_and_colour_unless_refused() -> None:
    coloured, plain = on_a_terminal(), on_a_terminal(NO_COLOR="1")
    for shown in (coloured, plain):
        assert "━" in shown
        assert "2/2 loss 0.167" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    colour = r"\x1b\[[0-9;]*(3[0-9]|38;5;\d+)m"
    assert re.search(colour, coloured)
    assert not re.search(colour, plain)
