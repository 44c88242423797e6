"""A bundle for small devices: `python -m tasks.exporting.edge BUNDLE OUT`.

OUT is a bundle whose graph is `model.ort`, ONNX Runtime's own format, optimised once and for all, which also the builds of ONNX Runtime
for phones and boards read; beside it `required_operators.config` for builds that have no other operators.
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
from tasks.exporting.export import TOLERANCE, difference, settled, silence
from tasks.reporting.words import quantity
from tasks.serving.bundle import Bundle, open_bundle
from tasks.serving.graph_files import EDGE, GRAPH, read_graph, stored_graph

Platform = Literal["any", "arm", "amd64"]
PLATFORMS: tuple[Platform, ...] = ("any", "arm", "amd64")
TRAVEL = ("usecase.json", "assets", "example", "README.md")
OPENED = 5  # times; the quickest counts


class Costs(NamedTuple):
    """Of one bundle: size of the graph and peak memory (see `tasks.evaluation.memory`) in 10^6 bytes, times in milliseconds."""

    megabytes: float
    load: float
    p50: float
    memory_megabytes: float


def write_edge(bundle: Path, out: Path, platform: Platform = "any") -> None:
    """Make the folder `out` from a bundle, all of it or nothing; what it answers to the bundle's example is checked.

    Args:
        bundle: a folder with a graph, plain or packed.
        out: a folder that is not there yet.
        platform: any: runs everywhere; arm: int8 as ARM likes it; amd64: convolutions laid out for this machine's kind.

    Raises:
        BundleError: there is no bundle, it cannot be converted, or the result answers differently.
        SettingError: `out` is there already.
    """
    whole = open_bundle(bundle)
    stored = stored_graph(bundle)
    if stored.name == EDGE:
        raise BundleError(f"{bundle} holds a {EDGE}: it was made for small devices already.")
    if out.exists():
        raise SettingError(f"{out} is there already: remove it, or name a folder that is not.")
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
    """Write `model.ort` and `required_operators.config` to `folder`.

    Raises:
        BundleError: ONNX Runtime refuses the graph.
    """
    ort.set_default_logger_severity(4)  # it warns that a graph for amd64 is for amd64
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
    """Raises `BundleError` where two bundles answer the example of the first differently; kernels may add in other orders."""
    inputs = one.codec.encode([one.example_request()])
    expected, found = one.predict(inputs), other.predict(inputs)
    ranking = settled(expected)
    for name, array in expected.items():
        off = difference(array, found[name], ranking)
        if not off <= TOLERANCE:
            raise BundleError(f"Converted, the graph of {one.folder} differs by {off:.2g} in {name!r}; {TOLERANCE:g} is allowed.")


def costs(folders: Sequence[Path]) -> list[Costs]:
    """Of several bundles, which take turns on the clock with their own examples, on one core."""
    bundles = [open_bundle(folder) for folder in folders]
    latencies = time_in_turns([partial(b.predict, b.codec.encode([b.example_request()])) for b in bundles])
    return [
        Costs(
            megabytes=stored_graph(folder).stat().st_size / 1e6,
            load=1e3 * min(timeit.repeat(partial(open_bundle, folder), number=1, repeat=OPENED)),
            p50=latency.p50,
            memory_megabytes=memory.needed(folder),
        )
        for folder, latency in zip(folders, latencies, strict=True)
    ]


def _how_to_open(platform: Platform) -> str:
    where = "any CPU" if platform == "any" else platform
    return f"""
## For small devices

`model.ort` is in the format of ONNX Runtime {ort.__version__}, optimised for {where}. Open it with the memory arena off, as
`python -m tasks.serving predict` does: `options = onnxruntime.SessionOptions(); options.enable_cpu_mem_arena = False;
onnxruntime.InferenceSession("model.ort", options)`. A build with only the operators it needs: `--include_ops_by_config required_operators.config`.
"""


def _table(whole: Costs, edge: Costs) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "size MB", "load ms", "p50 ms", "memory MB"):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for name, row in (("bundle", whole), ("edge", edge)):
        table.add_row(name, *map(quantity, row))
    return table


def main(arguments: Sequence[str] = sys.argv[1:]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tasks.exporting.edge", description="Make a folder for small devices from a bundle.")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folder to make")
    parser.add_argument("--platform", choices=PLATFORMS, default="any", help="that it is optimised for (default: any)")
    given = parser.parse_args(arguments)
    try:
        write_edge(given.bundle, given.out, given.platform)
        Console().print(_table(*costs([given.bundle, given.out])))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
