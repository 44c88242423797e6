"""One flow per vertical: in what order its steps run. `from flows import run, serve, predict, score` is the command `verticals` in Python."""

import os
import sys

from flows.command.api import predict, run, score, serve
from tasks.contract.cores import cores

__all__ = ["predict", "run", "score", "serve"]

# OpenMP counts the cores of the affinity mask, but not those of a control group's quota; read once, when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", str(cores()))

if sys.argv[:1] == ["-m"]:  # python -m flows.VERTICAL: Ctrl-C while it still imports ends in a sentence, too
    _hook = sys.excepthook
    sys.excepthook = lambda kind, error, trace: (
        print("\nStopped.", file=sys.stderr) if kind is KeyboardInterrupt else _hook(kind, error, trace)
    )
