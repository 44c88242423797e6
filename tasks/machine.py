"""The description of this machine."""

from __future__ import annotations

import platform
import re
from pathlib import Path

INT8_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def cpu() -> str:
    """The model of the CPU, and the flags that determine the speed of int8, and with some kernels its results."""
    try:
        facts = dict(re.findall(r"^(model name|flags|Features)\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    except OSError:
        facts = {}
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return " ".join([facts.get("model name") or platform.processor() or platform.machine(), *(f for f in INT8_FLAGS if f in flags)])
