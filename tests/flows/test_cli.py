"""The command line: one grammar for every flow, and mistakes answered in words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli import parse, presets
from flows.image_classification import image_classification
from tasks.contract.errors import SettingError

ROOT = Path(__file__).parents[2]


def test_what_is_typed_wins_over_the_preset_and_the_preset_over_the_defaults() -> None:
    parameters, options = parse(image_classification, ["--preset", "smoke", "--fit.epochs", "7", "--usecase.width", "16", "--json"])
    assert options.json
    assert parameters["fit"].epochs == 7
    assert parameters["usecase"].width == 16
    assert parameters["pretraining"].epochs == presets(image_classification)["smoke"]["pretraining"]["epochs"]
    assert parameters["budget"].objective == "latency"


def test_methods_are_named_with_commas_between() -> None:
    parameters, _ = parse(image_classification, ["--compression.methods", "prune,factorise,cluster", "--compression.cluster.bits", "4,3"])
    chosen = parameters["compression"].chosen(parameters["budget"])
    assert list(chosen) == ["prune", "factorise", "cluster"]
    assert chosen["cluster"].levels == (4, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fit.epoch", "5"], "no setting --fit.epoch. Did you mean --fit.epochs?"),
        (["--usecase.labelsmoothing", "0"], "Did you mean --usecase.label_smoothing?"),
        (["--preset", "huge"], "no preset 'huge' for image-classification. There are: smoke, default, full"),
        (["--fit.epochs", "many"], "--fit.epochs: Input should be a valid integer"),
        (["--refresh", "quantise"], "--refresh quantise: there is no such step. Did you mean quantize?"),
        (["--fit.epochs", "-1"], "--fit.epochs: Input should be greater than or equal to 0"),
        (["--fit.optimizer", "adam"], "--fit.optimizer: Input should be 'adamw' or 'sgd'"),
        (["--budget.goal", "cheap"], "--budget: 'cheap' is refused. Understood: nothing; not understood: 'cheap'. Expected "),
        (["--compression.prune.share", "0.5"], "Did you mean --compression.prune.shares?"),
        (["--compression.methods", "prune,factorize"], "no compression method 'factorize'. Did you mean factorise? There are: prune, "),
        (["--compression.methods", "prune,prune"], "a method is named twice"),
        (["--compression.sparsify.pattern", "2:4"], "Set --compression.sparsify.shares 0.5"),
        (["--compression.prune.shares", "0.5,1.5"], "--compression.prune.shares.1: Input should be less than 1 (it was 1.5)."),
    ],
)
def test_a_wrong_setting_is_refused_in_words(arguments: list[str], words: str) -> None:
    with pytest.raises(SettingError) as refused:
        parse(image_classification, arguments)
    assert words in str(refused.value)


def test_help_shows_every_setting_with_its_description() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.image_classification", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    shown = " ".join(done.stdout.split())
    for parameter in ("usecase", "pretraining", "fit", "budget"):
        record = parse(image_classification, [])[0][parameter]
        for name, field in type(record).model_fields.items():
            assert f"--{parameter}.{name}" in shown
            assert field.description, name
            assert " ".join(field.description.split()[:3]) in shown
    assert "--json" in shown
