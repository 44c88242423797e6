"""One flow per vertical: in what order its steps run."""

import os

from tasks.contract.cores import cores

# OpenMP counts the cores of the affinity mask, but not those of a control group's quota; read once, when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", str(cores()))
