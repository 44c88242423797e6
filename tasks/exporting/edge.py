"""Bundles for small devices: `python -m tasks.exporting.edge BUNDLE OUT`.

OUT is a bundle with the graph in ONNX Runtime's own format, `model.ort`. It is optimised already, and the builds of ONNX Runtime for phones
and boards can read it. `required_operators.config` lists its operators, for a build of ONNX Runtime with no others.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import timeit
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import onnxruntime as ort
from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort
from rich.console import Console
from rich.table import Table

from tasks.contract.errors import BundleError, SettingError, UserError
from tasks.evaluation import memory
from tasks.evaluation.measure import time_in_turns
from tasks.exporting.export import TOLERANCE, difference, silence, untied
from tasks.reporting.formatting import quantity
from tasks.serving.bundle import Bundle, open_bundle
from tasks.serving.graph_files import EDGE, GRAPH, read_graph, stored_graph
from tasks.serving.released import find_bundle

Platform = Literal["any", "arm", "amd64"]
PLATFORMS: tuple[Platform, ...] = ("any", "arm", "amd64")
TRAVEL = ("usecase.json", "assets", "example", "README.md")
OPENED = 5  # times that a bundle is opened; the shortest time counts


class Costs(NamedTuple):
    """Costs of one bundle: size of the graph and peak memory (see `tasks.evaluation.memory`) in 10^6 bytes, times in milliseconds."""

    megabytes: float
    load: float
    p50: float
    memory_megabytes: float


def write_edge(bundle: Path, out: Path, platform: Platform = "any") -> None:
    """Convert a bundle for small devices. The result is checked with the example of the bundle, and written completely or not at all.

    Args:
        bundle: folder of a bundle with a plain or a compressed graph.
        out: the folder to write; it must not exist.
        platform: any: runs on every CPU; arm: int8 operators in the form that is fast on ARM; amd64: convolutions in the memory layout of this
            machine's CPU.

    Raises:
        BundleError: the bundle cannot be opened or converted, or the result has other outputs.
        SettingError: `out` exists already.
    """
    whole = open_bundle(bundle)
    stored = stored_graph(bundle)
    if stored.name == EDGE:
        raise BundleError(f"{bundle} has a {EDGE}: it has been converted for small devices already.")
    if out.exists():
        raise SettingError(f"{out} exists already. Remove it, or name a folder that does not exist.")
    draft = out.with_name(f".{out.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        for name in TRAVEL:
            (shutil.copytree if (bundle / name).is_dir() else shutil.copyfile)(bundle / name, draft / name)
        (draft / GRAPH).write_bytes(read_graph(stored))
        convert(draft / GRAPH, draft, platform)
        (draft / GRAPH).unlink()
        with (draft / "README.md").open("a", encoding="utf-8") as card:
            card.write(_how_to_open(platform))
        check_same(whole, open_bundle(draft))
        draft.rename(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def convert(graph: Path, folder: Path, platform: Platform) -> None:
    """Write `model.ort` and `required_operators.config`.

    Args:
        graph: the ONNX file.
        folder: the folder to write to.
        platform: the platform to optimise for, see `write_edge`.

    Raises:
        BundleError: ONNX Runtime refuses the graph.
    """
    ort.set_default_logger_severity(4)  # it would warn that a graph for amd64 is for amd64 only
    try:
        with silence():
            convert_onnx_models_to_ort(graph, folder, [OptimizationStyle.Fixed], target_platform=None if platform == "any" else platform)
    except Exception as error:  # ONNX Runtime raises classes of its own without a common base
        raise BundleError(f"{graph} cannot be converted: {str(error).splitlines()[0]}") from error
    finally:
        ort.set_default_logger_severity(2)
    listed = (folder / "model.required_operators.config").rename(folder / "required_operators.config")
    lines = listed.read_text(encoding="utf-8").splitlines(keepends=True)
    listed.write_text("".join(line for line in lines if not line.startswith("#")), encoding="utf-8")  # comments name our folders


def check_same(one: Bundle, other: Bundle) -> None:
    """Check that two bundles have the same outputs for the example of the first, up to rounding.

    Raises:
        BundleError: they differ.
    """
    inputs = one.codec.encode([one.example_request()])
    expected, found = one.predict(inputs), other.predict(inputs)
    ranking = untied(expected)
    for name, array in expected.items():
        off = difference(array, found[name], ranking)
        if not off <= TOLERANCE:
            raise BundleError(f"The converted graph of {one.folder} differs by {off:.2g} in {name!r}; {TOLERANCE:g} is allowed.")


def costs(folders: Sequence[Path]) -> list[Costs]:
    """The costs of several bundles, which are timed in turns with their own examples, on one core."""
    bundles = [open_bundle(folder) for folder in folders]
    latencies = time_in_turns([partial(b.predict, b.codec.encode([b.example_request()])) for b in bundles])
    return [
        Costs(
            megabytes=stored_graph(folder).stat().st_size / 1e6,
            load=1e3 * min(timeit.repeat(partial(open_bundle, folder), number=1, repeat=OPENED)),
            p50=latency.p50,
            memory_megabytes=memory.peak_megabytes(folder),
        )
        for folder, latency in zip(folders, latencies, strict=True)
    ]


def _how_to_open(platform: Platform) -> str:
    where = "any CPU" if platform == "any" else platform
    return f"""
## For small devices

`model.ort` is in the format of ONNX Runtime {ort.__version__}, optimised for {where}. Open it with the memory arena off, as
`python -m tasks.serving predict` does: `options = onnxruntime.SessionOptions(); options.enable_cpu_mem_arena = False;
onnxruntime.InferenceSession("model.ort", options)`. To build ONNX Runtime with only the operators that the graph needs, pass
`--include_ops_by_config required_operators.config`.
"""


def _table(whole: Costs, edge: Costs) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "size MB", "load ms", "p50 ms", "memory MB"):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for name, row in (("bundle", whole), ("edge", edge)):
        table.add_row(name, *map(quantity, row))
    return table


def main(arguments: Sequence[str] = sys.argv[1:], prog: str = "python -m tasks.exporting.edge") -> int:
    parser = argparse.ArgumentParser(prog=prog, description="Convert a bundle for small devices.")
    parser.add_argument("bundle", metavar="MODEL", help="a released model, the id of a run, or a folder of a bundle")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    parser.add_argument("--platform", choices=PLATFORMS, default="any", help="platform to optimise for (default: any)")
    given = parser.parse_args(arguments)
    try:
        bundle = find_bundle(given.bundle)
        write_edge(bundle, given.out, given.platform)
        Console().print(_table(*costs([bundle, given.out])))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
