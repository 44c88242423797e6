"""The pictures of the README and the documentation: `python docs/screenshots.py`, with Chromium installed.

Runs the sample of image classification (or takes the run from the store), serves what it released, and photographs the report and the server's page.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[1]
PICTURES = Path(__file__).parent / "pictures"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
COLOURS = 128  # of a picture's palette, which keeps files small
MAX_BYTES = 200_000
START_SECONDS = 120
SEVEN = 7  # place of a clear seven in scikit-learn's digits


def main() -> None:
    PICTURES.mkdir(exist_ok=True)
    seven = np.rint(load_digits().images[SEVEN] * (255 / 16)).astype(np.uint8)  # pyright: ignore[reportAttributeAccessIssue]
    Image.fromarray(seven).resize((64, 64), Image.Resampling.NEAREST).save(PICTURES / "seven.png")
    report = Path(released("image_classification")["report"])
    photograph(report.as_uri(), PICTURES / "report.png", (1100, 1240))
    with served(report.parents[1] / "models") as address:
        photograph(f"{address}/?model=image_classification&example", PICTURES / "page.png", (1100, 800))


def released(vertical: str) -> dict[str, str]:
    """The release of a sample run, from the store where nothing changed."""
    command = [sys.executable, "-m", f"flows.{vertical}", "--preset", "smoke", "--json"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


@contextmanager
def served(models: Path) -> Iterator[str]:
    """The address of a model server that runs as long as the context."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([sys.executable, "-m", "tasks.serving", str(models), "--port", str(port)], cwd=ROOT)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not answers(f"{address}/v2/health/ready"):
            if process.poll() is not None or time.monotonic() > deadline:
                sys.exit("The model server did not start.")
            time.sleep(0.5)
        yield address
    finally:
        process.terminate()
        process.wait()


def answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False


def photograph(address: str, out: Path, size: tuple[int, int]) -> None:
    """A page as a small PNG.

    Args:
        address: of the page; a file or a server.
        out: the file to write.
        size: of the window, width and height in pixels.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"No browser was found. Install one of {', '.join(BROWSERS)}.")
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={folder}/profile"]
        command += [f"--window-size={size[0]},{size[1]}", "--virtual-time-budget=15000", f"--screenshot={shot}", address]
        subprocess.run(command, check=True, capture_output=True)
        image = Image.open(shot).convert("RGB")
        image.quantize(COLOURS, dither=Image.Dither.NONE).save(out, optimize=True)
    written = out.stat().st_size
    print(f"{out.relative_to(ROOT)}: {written:,} bytes")
    if written > MAX_BYTES:
        sys.exit(f"{out.name} has {written:,} bytes; at most {MAX_BYTES:,} are allowed. Choose a smaller window.")


if __name__ == "__main__":
    main()
