"""The overhead of training in a separate process: seconds of the second training of a flow, and of the same training in this process.

    python -m benchmarks.launch_cost --rounds 5

Both fit the same small network to the embedded digits for one epoch. The supervisor is warm, as it is for all
trainings of a flow except the first one; imports of this process are not timed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from tasks.exporting.export import silence
from tasks.settings import Fit
from tasks.training import launch, rank
from tasks.training.job import Job
from usecases.image_classification import ImageClassification

FIT = Fit(epochs=1, accelerator="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    usecase = ImageClassification(width=8)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        (data / "card.json").write_text(json.dumps(usecase.prepare(data)))
        first = seconds_of_launched(usecase, data, Path(scratch) / "first")
        seconds_of_own(usecase, data, Path(scratch) / "warm")
        launched, inside = [], []
        for turn in range(rounds):
            launched.append(seconds_of_launched(usecase, data, Path(scratch) / f"launched-{turn}"))
            inside.append(seconds_of_own(usecase, data, Path(scratch) / f"inside-{turn}"))
    second, own = statistics.median(launched), statistics.median(inside)
    print(
        f"first training of a flow {first:.2f} s; later ones {second:.2f} s, in the process of the flow {own:.2f} s: overhead {second - own:+.2f} s"
    )


def seconds_of_launched(usecase: ImageClassification, data: Path, work: Path) -> float:
    started = time.perf_counter()
    launch.fit(usecase, data, FIT, work)
    return time.perf_counter() - started


def seconds_of_own(usecase: ImageClassification, data: Path, work: Path) -> float:
    job = Job(usecase=usecase, data=str(data), fit=FIT, work=str(work), ranks=1, accelerator="cpu", nonce="here")
    job.logs.mkdir(parents=True)
    started = time.perf_counter()
    with silence():
        rank.fit(job, 0)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
