"""Sessions of ONNX Runtime: with explicit threads, on the CPU or a GPU, and from graphs that were optimised before."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

import onnxruntime as ort

from tasks.contract.cores import cores
from tasks.contract.errors import BundleError, SettingError
from tasks.machine import cpu
from tasks.serving.graph_files import EDGE, LARGEST_GRAPH, PACKED, read_graph

Device = Literal["auto", "cpu", "cuda"]
KEPT_DAYS = 30  # that an optimised graph is kept after it was last opened


def open_session(
    graph: Path, threads: int = 1, spinning: bool = False, optimise: bool = True, device: Device = "cpu", optimised: Path | None = None
) -> ort.InferenceSession:
    """A session with explicit threads: ONNX Runtime would take all cores of the machine, allowed or not.

    Args:
        graph: an ONNX file, plain or packed, or one in ONNX Runtime's own format: opened as it was optimised, and with little memory.
        threads: for one request; 0: the cores that are really available.
        spinning: threads wait busily: a little faster, at the cost of whoever else uses the CPU.
        optimise: False: as it was written.
        device: auto: a GPU where this ONNX Runtime has one.
        optimised: folder in which graphs are kept as they were optimised for this machine; opening one is quicker.

    Raises:
        BundleError: no graph there, or one that ONNX Runtime refuses.
        SettingError: a device that is not there.
    """
    if not graph.is_file():
        raise BundleError(f"The bundle has no graph: {graph} is missing. Export it again.")
    if graph.stat().st_size > LARGEST_GRAPH:
        raise BundleError(f"{graph} has {graph.stat().st_size:,} bytes; at most {LARGEST_GRAPH:,} are opened.")
    providers = providers_of(device)
    if len(providers) > 1:
        ort.preload_dlls()  # CUDA's libraries, where they came as packages
    options = _options(threads, spinning, optimise)
    if graph.name == EDGE:
        options.enable_cpu_mem_arena = False
        for entry in ("session.use_memory_mapped_ort_model", "session.use_ort_model_bytes_for_initializers"):
            options.add_session_config_entry(entry, "1")  # weights are read where they lie in the file, not copied
    source = read_graph(graph) if graph.name == PACKED else str(graph)
    try:
        if optimised is None or not optimise or graph.name == EDGE:
            return ort.InferenceSession(source, options, providers=providers)
        return _from_kept(graph, source, optimised, options, providers)
    except Exception as error:  # ONNX Runtime raises classes of its own without a common base
        raise BundleError(f"{graph} cannot be opened, it is damaged or of another version: {str(error).splitlines()[0]}") from error


def providers_of(device: Device) -> list[str]:
    """ONNX Runtime's names for where to run, the preferred one first.

    Raises:
        SettingError: CUDA is asked for, and this ONNX Runtime does not have it.
    """
    has_cuda = "CUDAExecutionProvider" in ort.get_available_providers()
    if device == "cuda" and not has_cuda:
        raise SettingError("--device cuda: this ONNX Runtime has no CUDA. Install onnxruntime-gpu in the place of onnxruntime.")
    return [*(["CUDAExecutionProvider"] if has_cuda and device != "cpu" else []), "CPUExecutionProvider"]


def _options(threads: int, spinning: bool, optimise: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _from_kept(graph: Path, source: str | bytes, folder: Path, options: ort.SessionOptions, providers: list[str]) -> ort.InferenceSession:
    """Open the graph as it was optimised before on such a machine, or optimise it now and keep that."""
    made_for = "\0".join([ort.__version__, cpu(), *providers])
    with graph.open("rb") as file:
        key = hashlib.blake2b(made_for.encode() + hashlib.file_digest(file, "sha256").digest(), digest_size=20).hexdigest()
    kept = folder / f"{key}.onnx"
    if kept.is_file():
        with suppress(Exception):  # a damaged one is made anew
            threads, spinning = options.intra_op_num_threads, options.get_session_config_entry("session.intra_op.allow_spinning")
            session = ort.InferenceSession(str(kept), _options(threads, spinning == "1", optimise=False), providers=providers)
            kept.touch()
            return session
    draft = folder / f".{key}.{os.getpid()}.{threading.get_ident()}.onnx"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.touch()
    except OSError:  # nobody may write there: optimised anew each time
        return ort.InferenceSession(source, options, providers=providers)
    options.optimized_model_filepath = str(draft)
    try:
        session = ort.InferenceSession(source, options, providers=providers)
        draft.replace(kept)
    finally:
        draft.unlink(missing_ok=True)
    _forget_unused(folder)
    return session


def _forget_unused(folder: Path) -> None:
    for path in folder.glob("*.onnx"):
        with suppress(OSError):  # another server forgets it, too
            if path.stat().st_mtime < time.time() - 86_400 * KEPT_DAYS:
                path.unlink()
