"""Choice of the accelerator and the numeric precision of training."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import torch

from tasks.contract.errors import SettingError
from tasks.settings import Fit

Lightning = Literal["32-true", "bf16-mixed", "16-mixed"]
MIXED_CPU_FLAGS = {"avx512_bf16", "amx_bf16"}  # without one of them bf16 is emulated, and slower than fp32


def cpu_flags() -> set[str]:
    """The instruction sets of this CPU; empty if the system does not report them."""
    try:
        found = re.search(r"^(?:flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return set()
    return set(found[1].split()) if found else set()


def resolve_device(fit: Fit) -> tuple[Literal["cpu", "gpu"], int]:
    """The accelerator and the number of ranks.

    Raises:
        SettingError: the settings ask for more GPUs than this machine has.
    """
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if fit.accelerator == "gpu" and not gpus:
        raise SettingError("--fit.accelerator gpu: torch sees no GPU on this machine. Use auto or cpu.")
    if fit.accelerator == "cpu" or not gpus:
        return "cpu", fit.devices or 1
    if fit.devices > gpus:
        raise SettingError(f"--fit.devices {fit.devices}: this machine has {gpus} GPUs.")
    return "gpu", fit.devices or gpus


def resolve_precision(fit: Fit, accelerator: str) -> Lightning:
    """The precision of the settings; auto is mixed precision if the device computes it natively, otherwise fp32.

    Raises:
        SettingError: fp16 on a CPU.
    """
    if fit.precision == "fp32":
        return "32-true"
    if fit.precision == "bf16":
        return "bf16-mixed"
    if fit.precision == "fp16":
        if accelerator == "cpu":
            raise SettingError("--fit.precision fp16 needs a GPU; on a CPU use bf16 or auto.")
        return "16-mixed"
    if accelerator == "cpu":
        return "bf16-mixed" if cpu_flags() & MIXED_CPU_FLAGS else "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
