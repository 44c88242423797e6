"""Measurement of quality, speed, size, memory and energy of the graphs that would be served."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tasks.contract.artifacts import Dataset, Evaluation, Latency, OnnxModel
from tasks.contract.capabilities import HasApproximation
from tasks.contract.cores import cores
from tasks.contract.types import Arrays, Say, silently
from tasks.evaluation import energy, memory
from tasks.evaluation.folds import best, folds, gains_over
from tasks.evaluation.validation import Scored, score_split
from tasks.machine import cpu
from tasks.serving.bundle import Bundle, open_bundle

THREADS = 1  # a server runs each request on one core
WARM_RUNS = 10
ROUNDS = 20  # candidates take turns, so that other load of the machine affects all of them alike
ROUND_SECONDS = 0.05  # of one candidate per round
MAX_RUNS = 50  # of one candidate per round
BATCHES = (1, 4, 16, 64)  # batch sizes at which throughput is measured
THROUGHPUT_SECONDS = 0.25  # per batch size


def evaluate(models: Sequence[OnnxModel], dataset: Dataset, say: Say = silently) -> list[Evaluation]:
    """Score all models on the validation and the test split, and time them in turns on the same real examples.

    If the use case `HasApproximation`, the scores of compressed models include their agreement with the first model.

    Args:
        models: the candidates; the first is the full-precision model.
        dataset: the prepared data.
        say: shows a progress message.

    Returns:
        An evaluation of each model, in order.
    """
    bundles: list[Bundle] = []
    seconds: list[float] = []
    validation: list[Scored] = []
    test: list[Scored] = []
    for model in models:
        say(model.label)
        started = time.perf_counter()
        bundles.append(open_bundle(model.folder, THREADS, spinning=True))
        seconds.append(time.perf_counter() - started)
        predict = open_bundle(model.folder, cores()).predict  # scores do not depend on the threads
        validation.append(score_split(model.usecase, predict, dataset.folder, "validation"))
        test.append(score_split(model.usecase, predict, dataset.folder, "test"))
    examples = [real_inputs(model, dataset, max(BATCHES)) for model in models]
    for model, bundle, scored in zip(models, bundles, test, strict=True):
        if model.role == "compressed" and isinstance(model.usecase, HasApproximation):
            scored.scores.update(model.usecase.agreement(bundle.predict(examples[0]), bundles[0].predict(examples[0])))
    latencies = time_in_turns(
        [partial(bundle.predict, real_inputs(model, dataset, 1)) for model, bundle in zip(models, bundles, strict=True)]
    )
    plain = [model.role != "compressed" for model in models]
    reference = best(validation, plain)
    gains, test_gains = gains_over(reference, validation), gains_over(reference, test)
    held_out = folds(validation, plain)
    speeds = [throughput(bundle, inputs) for bundle, inputs in zip(bundles, examples, strict=True)]
    return [
        Evaluation(
            model=model,
            validation=validation[place].scores,
            gain=gains[place],
            folds=held_out[place],
            scores=test[place].scores,
            test_gain=test_gains[place],
            latency_ms=latencies[place],
            throughput=speeds[place][0],
            megabytes=model.megabytes,
            memory_megabytes=memory.peak_megabytes(model.folder),
            energy_millijoules=speeds[place][1],
            load_seconds=seconds[place],
            cpu=cpu(),
            threads=THREADS,
        )
        for place, model in enumerate(models)
    ]


def real_inputs(model: OnnxModel, dataset: Dataset, count: int) -> Arrays:
    """Inputs of real test examples.

    Args:
        model: provides the use case.
        dataset: the prepared data.
        count: number of examples; they repeat if the split has fewer.

    Returns:
        Arrays by input name, each with `count` rows.
    """
    examples = model.usecase.examples(dataset.folder, "test")
    batch = examples.batch(np.arange(count) % len(examples))
    return {name: batch[name] for name in model.usecase.input_names}


def time_in_turns(calls: Sequence[Callable[[], object]], rounds: int = ROUNDS) -> list[Latency]:
    """Latency of each call in milliseconds; the calls take turns."""
    for call in calls:
        for _ in range(WARM_RUNS):
            call()
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, times in zip(calls, taken, strict=True):
            times += _one_turn(call)
    return [Latency(p50=float(np.median(times)), p95=float(np.percentile(times, 95))) for times in taken]


def _one_turn(call: Callable[[], object]) -> list[float]:
    times: list[float] = []
    while len(times) < MAX_RUNS and sum(times) < 1e3 * ROUND_SECONDS:
        started = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - started))
    return times


def throughput(bundle: Bundle, examples: Arrays) -> tuple[float, float | None]:
    """Examples per second at the best batch size, and millijoules per example there; None if energy cannot be measured."""
    best: tuple[float, float | None] = 0.0, None
    for size in BATCHES:
        inputs = {name: array[:size] for name, array in examples.items()}
        bundle.predict(inputs)
        runs, counted, started = 0, energy.counters(), time.perf_counter()
        while time.perf_counter() - started < THROUGHPUT_SECONDS:
            bundle.predict(inputs)
            runs += 1
        rate = runs * size / (time.perf_counter() - started)
        spent = energy.millijoules(counted, energy.counters())
        if rate > best[0]:
            best = rate, None if spent is None else spent / (runs * size)
    return best
