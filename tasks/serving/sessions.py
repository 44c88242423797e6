"""Sessions of ONNX Runtime: explicit numbers of threads, CPU or GPU, and a cache of optimised graphs."""

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
from tasks.serving.graph_files import EDGE, MAX_GRAPH_BYTES, PACKED, read_graph

Device = Literal["auto", "cpu", "cuda"]
KEPT_DAYS = 30  # for which an optimised graph is cached after its last use


def open_session(
    graph: Path, threads: int = 1, spinning: bool = False, optimise: bool = True, device: Device = "cpu", optimised: Path | None = None
) -> ort.InferenceSession:
    """Open a graph with an explicit number of threads; ONNX Runtime alone would use all cores of the machine, even those it may not use.

    Args:
        graph: an ONNX file, plain or compressed, or one in the format of ONNX Runtime, which is optimised already and needs little memory.
        threads: CPU threads per request; 0: all cores that are available to this process.
        spinning: whether waiting threads spin: a little faster, but at the cost of other processes.
        optimise: whether ONNX Runtime optimises the graph.
        device: auto: a GPU if this ONNX Runtime supports one.
        optimised: folder in which graphs optimised for this machine are cached, so that opening is faster; None: no cache.

    Returns:
        The session.

    Raises:
        BundleError: the graph is missing, or ONNX Runtime cannot open it.
        SettingError: the device is not available.
    """
    if not graph.is_file():
        raise BundleError(f"The bundle has no graph: {graph} is missing. Export it again.")
    if graph.stat().st_size > MAX_GRAPH_BYTES:
        raise BundleError(f"{graph} has {graph.stat().st_size:,} bytes; graphs of at most {MAX_GRAPH_BYTES:,} bytes are opened.")
    providers = providers_of(device)
    if len(providers) > 1:
        ort.preload_dlls()  # the CUDA libraries, if they were installed as Python packages
    options = _options(threads, spinning, optimise)
    if graph.name == EDGE:
        options.enable_cpu_mem_arena = False
        for entry in ("session.use_memory_mapped_ort_model", "session.use_ort_model_bytes_for_initializers"):
            options.add_session_config_entry(entry, "1")  # weights are memory-mapped, not copied
    source = read_graph(graph) if graph.name == PACKED else str(graph)
    try:
        if optimised is None or not optimise or graph.name == EDGE:
            return ort.InferenceSession(source, options, providers=providers)
        return _from_cache(graph, source, optimised, options, providers)
    except Exception as error:  # ONNX Runtime raises classes of its own without a common base
        raise BundleError(f"{graph} cannot be opened because it is damaged or of another version: {str(error).splitlines()[0]}") from error


def providers_of(device: Device) -> list[str]:
    """Execution providers of ONNX Runtime for a device, the preferred one first.

    Raises:
        SettingError: the device is cuda, which this ONNX Runtime does not support.
    """
    has_cuda = "CUDAExecutionProvider" in ort.get_available_providers()
    if device == "cuda" and not has_cuda:
        raise SettingError("--device cuda: this ONNX Runtime does not support CUDA. Install onnxruntime-gpu in place of onnxruntime.")
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


def _from_cache(graph: Path, source: str | bytes, folder: Path, options: ort.SessionOptions, providers: list[str]) -> ort.InferenceSession:
    """Open the optimised graph from the cache, or optimise it now and cache the result."""
    made_for = "\0".join([ort.__version__, cpu(), *providers])
    with graph.open("rb") as file:
        key = hashlib.blake2b(made_for.encode() + hashlib.file_digest(file, "sha256").digest(), digest_size=20).hexdigest()
    kept = folder / f"{key}.onnx"
    if kept.is_file():
        with suppress(Exception):  # a damaged file is written again
            threads, spinning = options.intra_op_num_threads, options.get_session_config_entry("session.intra_op.allow_spinning")
            session = ort.InferenceSession(str(kept), _options(threads, spinning == "1", optimise=False), providers=providers)
            kept.touch()
            return session
    draft = folder / f".{key}.{os.getpid()}.{threading.get_ident()}.onnx"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft.touch()
    except OSError:  # the folder is not writable: optimise each time
        return ort.InferenceSession(source, options, providers=providers)
    options.optimized_model_filepath = str(draft)
    try:
        session = ort.InferenceSession(source, options, providers=providers)
        draft.replace(kept)
    finally:
        draft.unlink(missing_ok=True)
    _remove_unused(folder)
    return session


def _remove_unused(folder: Path) -> None:
    """Remove graphs that were not opened for `KEPT_DAYS`."""
    for path in folder.glob("*.onnx"):
        with suppress(OSError):  # another server removes it, too
            if path.stat().st_mtime < time.time() - 86_400 * KEPT_DAYS:
                path.unlink()
