"""Accuracy of the linear baseline compared with fastText on the same splits.

    pip install fasttext-wheel        # or fasttext, built from source
    python -m benchmarks.text_baselines ../reviews ../questions --usecase '{"label_part": "coarse"}'

The settings of fastText are found for each data set by its autotuning on the validation split, within the given seconds.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from tasks.training.predicting import torch_predict
from usecases.nlp import LinearText, TextClassification
from usecases.nlp.texts import Texts
from usecases.nlp.words import words


def main() -> None:
    options = _options()
    for data in options.data:
        usecase = TextClassification(data=data, vocabulary=1000, **json.loads(options.usecase))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            usecase.prepare(folder)
            started = time.monotonic()
            ours = linear(usecase, folder)
            fitted = time.monotonic() - started
            theirs = fasttext(folder, options.seconds)
        print(f"{data}: ours {ours:.4f} in {fitted:.0f} s, fastText {theirs:.4f} tuned for {options.seconds} s", flush=True)


def linear(usecase: TextClassification, folder: Path) -> float:
    baseline = usecase.baselines()["linear"]
    assert isinstance(baseline, LinearText)
    network = baseline.network(folder / "assets").eval()
    with torch.no_grad():
        baseline.fit(network, folder)
    return baseline.score(torch_predict(baseline, network), folder, "test")["accuracy"]


def fasttext(folder: Path, seconds: int) -> float:
    from fasttext import train_supervised  # pyright: ignore[reportMissingImports]

    labels = json.loads((folder / "assets" / "labels.json").read_text(encoding="utf-8"))["labels"]
    number = {label: str(index) for index, label in enumerate(labels)}

    def rows(split: str) -> list[tuple[str, str]]:
        texts = Texts(folder / split)
        every = range(len(texts))
        return [(number[given[0]], split_into_words(text)) for text, given in zip(texts.texts(every), texts.labels(every), strict=True)]

    for split in ("train", "validation"):
        lines = "".join(f"__label__{label} {text}\n" for label, text in rows(split))
        (folder / f"{split}.fasttext").write_text(lines, encoding="utf-8")
    model = train_supervised(
        str(folder / "train.fasttext"),
        autotuneValidationFile=str(folder / "validation.fasttext"),
        autotuneDuration=seconds,
        verbose=0,
        thread=2,
    )
    right = [model.f.predict(f"{text}\n", 1, 0.0, "strict")[0][1] == f"__label__{label}" for label, text in rows("test")]
    return float(np.mean(right))


def split_into_words(text: str) -> str:
    """The words of a text separated by spaces, since fastText splits only at spaces."""
    return " ".join(text[start:end] for start, end in words(text.lower()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+", help="texts with classes, in a standard layout")
    parser.add_argument("--usecase", default="{}", help="more settings, as JSON")
    parser.add_argument("--seconds", type=int, default=60, help="seconds of autotuning of fastText")
    return parser.parse_args()


if __name__ == "__main__":
    main()
