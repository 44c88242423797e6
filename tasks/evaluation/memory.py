"""The memory that a bundle needs: `python -m tasks.evaluation.memory BUNDLE` prints it, in 10^6 bytes."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tasks.contract.errors import BundleError

PROJECT = Path(__file__).parents[2]
LONGEST = 300  # seconds


def needed(bundle: Path) -> float:
    """Peak resident memory, in 10^6 bytes, to open a bundle and answer its example request, in a process of its own.

    It is counted above what that process holds just before, the interpreter, NumPy and ONNX Runtime; so it is the session with its
    weights, the assets, what the vertical imports to read a request, and whatever is used on the way. On Linux and macOS.

    Raises:
        BundleError: it could not be opened there, or did not answer.
    """
    command = [sys.executable, "-m", "tasks.evaluation.memory", str(bundle.resolve())]
    try:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=LONGEST)
    except subprocess.TimeoutExpired:
        raise BundleError(f"The bundle {bundle} did not answer its own example within {LONGEST} s.") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"the process ended with {done.returncode}"]
        raise BundleError(f"The memory of the bundle {bundle} could not be measured: {said[-1]}")
    return float(done.stdout.split()[-1])


def measured(bundle: Path) -> float:
    """What `needed` tells of a process of its own, of this one: right only where no other bundle was opened before."""
    from tasks.serving.bundle import open_bundle

    before = _peak(from_now=True)
    opened = open_bundle(bundle)
    opened.answer([opened.example_request()])
    return (_peak() - before) / 1e6


def _peak(from_now: bool = False) -> int:
    """Bytes, since the process began; with `from_now` what came before is forgotten, where the system can."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if from_now:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    # not ru_maxrss: on Linux a process inherits it from the one that started it
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(measured(Path(sys.argv[1])))
