"""Peak memory of a bundle: `python -m tasks.evaluation.memory BUNDLE` prints it in 10^6 bytes."""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tasks.contract.errors import BundleError

PROJECT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 300


def peak_megabytes(bundle: Path) -> float:
    """Peak resident memory, in 10^6 bytes, of opening a bundle and answering its example request, measured in a separate process.

    What that process held before is subtracted: the interpreter, NumPy and ONNX Runtime. The rest is the session with its weights, the
    assets, the modules that the use case imports to read a request, and temporary memory. Works on Linux and macOS.

    Raises:
        BundleError: the bundle could not be opened, or did not answer in time.
    """
    command = [sys.executable, "-m", "tasks.evaluation.memory", str(bundle.resolve())]
    try:
        done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        raise BundleError(f"The bundle {bundle} did not answer its own example within {TIMEOUT_SECONDS} s.") from None
    if done.returncode != 0:
        messages = done.stderr.strip().splitlines() or [f"the process ended with exit code {done.returncode}"]
        raise BundleError(f"The memory of the bundle {bundle} could not be measured: {messages[-1]}")
    return float(done.stdout.split()[-1])


def peak_megabytes_here(bundle: Path) -> float:
    """`peak_megabytes`, measured in this process; correct only if no other bundle has been opened in it."""
    from tasks.serving.bundle import open_bundle

    before = _peak(from_now=True)
    opened = open_bundle(bundle)
    opened.answer([opened.example_request()])
    return (_peak() - before) / 1e6


def _peak(from_now: bool = False) -> int:
    """Peak resident memory of this process in bytes; `from_now` resets the peak if the system can."""
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if from_now:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    # not ru_maxrss: on Linux a process inherits it from its parent
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    print(peak_megabytes_here(Path(sys.argv[1])))
