"""Images per second of training compared with a plain PyTorch loop: same data, network, batch, augmentation, precision.

    python -m benchmarks.training_throughput --data ../photos --seconds 30 --rounds 3

The two are measured in turns in separate processes, since the speed of the machine drifts; the ratio is that of the medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tasks.settings import Fit
from usecases.image_classification import ImageClassification


def main() -> None:
    options = _options()
    if options.plain:
        print(plain_loop(Path(options.plain), options.width, options.batch_size, options.seconds))
        return
    usecase = ImageClassification(data=options.data, width=options.width)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        (data / "card.json").write_text(json.dumps(usecase.prepare(data)))
        speeds: dict[str, list[float]] = {"ours": [], "plain loop": []}
        for turn in range(options.rounds):
            speeds["ours"].append(our_training(usecase, data, Path(scratch) / f"work-{turn}", options.batch_size, options.seconds))
            command = [sys.executable, "-m", "benchmarks.training_throughput", *sys.argv[1:], "--plain", str(data)]
            speeds["plain loop"].append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            print(f"round {turn + 1}: " + ", ".join(f"{name} {values[-1]:,.0f} images/s" for name, values in speeds.items()))
    ours, plain = (statistics.median(values) for values in speeds.values())
    print(
        f"ratio {ours / plain:.3f} (ours {ours:,.0f}, plain loop {plain:,.0f} images/s; width {options.width}, batch {options.batch_size})"
    )


def our_training(usecase: ImageClassification, data: Path, work: Path, batch_size: int, seconds: float) -> float:
    from tasks.training import launch

    fit = Fit(epochs=10_000, max_minutes=seconds / 60, batch_size=batch_size)
    return launch.fit(usecase, data, fit, work).examples_per_second


def plain_loop(data: Path, width: int, batch_size: int, seconds: float) -> float:
    """A plain training loop for this network; returns images per second."""
    import torch

    from tasks.contract.cores import cores
    from tasks.training.device import resolve_precision
    from tasks.training.optimization import build_optimizer

    usecase = ImageClassification(width=width)
    fit = Fit()
    torch.set_num_threads(cores())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = resolve_precision(fit, "gpu" if device.type == "cuda" else "cpu")
    network = usecase.network(data / "assets").to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = build_optimizer(network, fit)
    examples = usecase.examples(data, "train")
    everything = {name: torch.from_numpy(array) for name, array in examples.batch(np.arange(len(examples))).items()}
    everything["image"] = everything["image"].contiguous(memory_format=torch.channels_last)
    batch_size = min(batch_size, len(examples))
    steps, started = 0, 0.0
    while steps < 6 or time.monotonic() - started < seconds:
        order = torch.randperm(len(examples))
        for start in range(0, len(order) - batch_size + 1, batch_size):
            batch = {name: tensor[order[start : start + batch_size]].to(device) for name, tensor in everything.items()}
            with torch.autocast(device.type, torch.bfloat16, enabled=precision != "32-true"):
                loss = usecase.loss(network, batch)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), fit.gradient_clip)
            optimizer.step()
            loss.item()
            steps += 1
            if steps == 5:  # kernels are chosen in the first steps
                started = time.monotonic()
            if steps > 5 and time.monotonic() - started > seconds:
                break
    return (steps - 5) * batch_size / (time.monotonic() - started)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="sample", help="images in a standard layout")
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=20, help="seconds of training per turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
