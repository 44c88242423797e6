"""Texts per second of fine-tuning compared with the Trainer of Hugging Face with its default padding: same encoder, data, batch, precision.

    pip install accelerate            # required by the Trainer; may be in a separate environment
    python -m benchmarks.text_training --data ../reviews --encoder minilm --seconds 60 --rounds 3

The Trainer draws random batches and pads each to its longest text; ours groups texts of similar length. The two are measured in turns
in separate processes, since the speed of the machine drifts; the ratio is that of the medians. The first steps of each, in which kernels
are chosen, are not counted.
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
from typing import Any, cast

import numpy as np

from tasks.settings import Fit
from usecases.nlp import TextClassification

LEARNING_RATE = 5e-5
WARM_STEPS = 10


def main() -> None:
    options = _options()
    if options.trainer:
        print(trainer(Path(options.trainer), options))
        return
    usecase = TextClassification(data=options.data, encoder=options.encoder, length=options.length)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        (data / "card.json").write_text(json.dumps(usecase.prepare(data)))
        speeds: dict[str, list[float]] = {"ours": [], "Trainer": []}
        for turn in range(options.rounds):
            speeds["ours"].append(our_training(usecase, data, Path(scratch) / f"work-{turn}", options))
            command = [sys.executable, "-m", "benchmarks.text_training", *sys.argv[1:], "--trainer", str(data)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                sys.exit(done.stderr.splitlines()[-1])
            speeds["Trainer"].append(float(done.stdout.splitlines()[-1]))
            print(f"round {turn + 1}: " + ", ".join(f"{name} {values[-1]:,.0f} texts/s" for name, values in speeds.items()), flush=True)
    ours, theirs = (statistics.median(values) for values in speeds.values())
    print(f"ratio {ours / theirs:.2f} (ours {ours:,.0f}, Trainer {theirs:,.0f} texts/s; batch {options.batch_size})")


def our_training(usecase: TextClassification, data: Path, work: Path, options: argparse.Namespace) -> float:
    from tasks.training import launch

    fit = Fit(epochs=1000, max_minutes=options.seconds / 60, batch_size=options.batch_size, learning_rate=LEARNING_RATE)
    return launch.fit(usecase, data, fit, work).examples_per_second


def trainer(data: Path, options: argparse.Namespace) -> float:
    """Fine-tune with the Trainer as tutorials do; returns texts per second."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PreTrainedTokenizerFast, Trainer, TrainerCallback
    from transformers import TrainingArguments as Arguments

    from usecases.nlp.texts import Texts
    from usecases.nlp.windows import read_labels, true_labels

    card = read_labels(data / "assets")
    texts = Texts(data / "train")
    label = true_labels(data, "train", tuple(card["labels"])).argmax(1)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(data / "assets" / "tokenizer.json"), pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    encoded = tokenizer(texts.texts(range(len(texts))), truncation=True, max_length=options.length)
    rows = Dataset.from_dict({"input_ids": encoded["input_ids"], "attention_mask": encoded["attention_mask"], "labels": label})
    model = AutoModelForSequenceClassification.from_pretrained(data / "encoder", num_labels=len(card["labels"]))
    step_times: list[float] = []

    class Stop(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            step_times.append(time.monotonic())
            control.should_training_stop = len(step_times) > WARM_STEPS and step_times[-1] - step_times[WARM_STEPS] > options.seconds

    with tempfile.TemporaryDirectory() as work:
        settings = Arguments(
            work,
            per_device_train_batch_size=options.batch_size,
            learning_rate=LEARNING_RATE,
            bf16=options.bf16,
            max_steps=1_000_000,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
        )
        Trainer(
            model, settings, train_dataset=cast(Any, rows), data_collator=DataCollatorWithPadding(tokenizer), callbacks=[Stop()]
        ).train()
    return options.batch_size * (len(step_times) - 1 - WARM_STEPS) / float(np.subtract(step_times[-1], step_times[WARM_STEPS]))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="texts with classes, in a standard layout")
    parser.add_argument("--encoder", default="minilm")
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--bf16", action=argparse.BooleanOptionalAction, default=True, help="mixed precision for the Trainer, as in ours")
    parser.add_argument("--seconds", type=float, default=60, help="seconds of training per turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trainer", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
