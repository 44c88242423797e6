"""What this machine is."""

from __future__ import annotations

import platform
import re
from pathlib import Path

INT8_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm")


def cpu() -> str:
    """The model of this CPU and the flags that decide the speed, and with some the result, of int8."""
    try:
        facts = dict(re.findall(r"^(model name|flags|Features)\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE))
    except OSError:
        facts = {}
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return " ".join([facts.get("model name") or platform.processor() or platform.machine(), *(f for f in INT8_FLAGS if f in flags)])
