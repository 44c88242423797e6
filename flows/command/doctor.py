"""What of this machine works, and what to do where something does not."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from typing import NamedTuple

import psutil

from tasks.contract.artifacts import home
from tasks.contract.cores import cores
from tasks.contract.errors import UserError

MIN_FREE_GIGABYTES, MIN_MEMORY_GIGABYTES = 5, 4
PACKAGES = ("prefect", "torch", "pytorch-lightning", "transformers", "torchmetrics", "onnxruntime")
PORTS = {8000: "verticals serve", 4200: "verticals up"}


class Check(NamedTuple):
    """One finding; `remedy` says what to do, and is empty where all is well."""

    name: str
    found: str
    remedy: str = ""


def report() -> int:
    """Print every check; return 0 where nothing has to be done, else 1."""
    failed = 0
    for check in (check for examine in EXAMINATIONS for check in examine()):
        failed += bool(check.remedy)
        print(f"{'✗' if check.remedy else '✓'} {check.name:<19}{check.found}" + (f"\n  {'':<19}{check.remedy}" if check.remedy else ""))
    print("Everything works." if not failed else f"{failed} of these want your attention.")
    return min(failed, 1)


def versions() -> Iterator[Check]:
    """Python and the packages that decide results."""
    fits = sys.version_info >= (3, 11)
    yield Check("Python", f"{platform.python_version()} at {sys.prefix}", "" if fits else "Python 3.11 or newer is needed.")
    for name in PACKAGES:
        try:
            yield Check(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Check(name, "not installed", "Install the project again: make install, or pip install verticals.")


def processors() -> Iterator[Check]:
    """Cores that are really available, memory, and GPUs of torch and of ONNX Runtime."""
    yield Check("cores", f"{cores()} of {os.cpu_count()} may be used")
    gigabytes = psutil.virtual_memory().available / 1e9
    few = f"At least {MIN_MEMORY_GIGABYTES} GB are needed: end other programs." if gigabytes < MIN_MEMORY_GIGABYTES else ""
    yield Check("memory", f"{gigabytes:.1f} GB free", few)
    import onnxruntime
    import torch

    gpus = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    serving = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    remedy = "" if serving or not gpus else "Models are served on the CPU: install onnxruntime-gpu in place of onnxruntime for the GPU."
    yield Check("GPU", ", ".join(gpus) or "none: training and serving use the CPU", remedy)


def storage() -> Iterator[Check]:
    """Whether the store can be written, and the space for it."""
    folder = home()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        yield Check("store", f"{folder}: {error.strerror}", "Choose a folder that can be written: VERTICALS_HOME=...")
        return
    free = shutil.disk_usage(folder).free / 1e9
    few = f"Under {MIN_FREE_GIGABYTES} GB: free some, or choose another disk with VERTICALS_HOME." if free < MIN_FREE_GIGABYTES else ""
    yield Check("store", f"{folder}, {free:.0f} GB free", few)


def server() -> Iterator[Check]:
    """The Prefect server that runs would use."""
    from flows.command import local
    from flows.command.running import check_server

    address = os.environ.get("PREFECT_API_URL", "")
    if not address:
        yield Check("Prefect", f"`verticals up` runs at {local.api()}" if local.is_up() else "each run starts a temporary server")
        return
    try:
        check_server(address)
        yield Check("Prefect", f"PREFECT_API_URL={address} answers")
    except UserError as error:
        yield Check("Prefect", f"PREFECT_API_URL={address}", str(error))


def ports() -> Iterator[Check]:
    """Whether the usual ports are free, or ours."""
    from flows.command import local

    for port, command in PORTS.items():
        with socket.socket() as probe:
            taken = probe.connect_ex(("127.0.0.1", port)) == 0
        ours = port == local.port() and local.is_up()
        remedy = f"{command} needs another one: " + ("PREFECT_PORT=4201 verticals up" if port == 4200 else "verticals serve --port 8001")
        yield Check(f"port {port}", "in use" if taken else "free", remedy if taken and not ours else "")


EXAMINATIONS: tuple[Callable[[], Iterator[Check]], ...] = (versions, processors, storage, server, ports)
