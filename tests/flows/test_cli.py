"""The command line: one grammar for every flow, and mistakes answered with a sentence."""

from __future__ import annotations

import pytest

from flows.command.settings import Options, fill, flow_of, parse, presets
from tasks.contract.errors import SettingError

image_classification = flow_of("image-classification")


def test_what_is_typed_wins_over_the_preset_and_the_preset_over_the_defaults() -> None:
    parameters, options = parse(image_classification, ["--preset", "smoke", "--fit.epochs", "7", "--usecase.width", "16", "--json"])
    assert options.json
    assert parameters["fit"].epochs == 7
    assert parameters["usecase"].width == 16
    assert parameters["pretraining"].epochs == presets(image_classification)["smoke"]["pretraining"]["epochs"]
    assert parameters["budget"].objective == "latency"


def test_data_and_short_names_are_settings() -> None:
    parameters, _ = parse(
        image_classification, ["../photos", "--epochs", "7", "--minutes=3", "--preset", "smoke", "--usecase.label-smoothing", "0.2"]
    )
    assert parameters["usecase"].data == "../photos" and parameters["usecase"].label_smoothing == 0.2
    assert parameters["fit"].epochs == 7 and parameters["fit"].max_minutes == 3
    assert parse(image_classification, ["--epochs", "7", "../photos"])[0]["usecase"].data == "../photos"
    assert parse(image_classification, ["../photos", "--usecase.data", "../photos"])[0]["usecase"].data == "../photos"


def test_python_gives_the_same_settings() -> None:
    typed, _ = parse(image_classification, ["photos", "--preset", "smoke", "--fit.learning_rate", "0.001"])
    given, _ = fill(image_classification, "smoke", {"usecase": {"data": "photos"}, "fit": {"learning_rate": 1e-3}}, Options(False, ""))
    assert given == typed


def test_methods_are_named_with_commas_between() -> None:
    parameters, _ = parse(image_classification, ["--compression.methods", "prune,factorise,cluster", "--compression.cluster.bits", "4,3"])
    chosen = parameters["compression"].chosen(parameters["budget"])
    assert list(chosen) == ["prune", "factorise", "cluster"]
    assert chosen["cluster"].levels == (4, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["photos", "--usecase.data", "pictures"], "--usecase.data is given twice: pictures and photos"),
        (["--epochs", "5", "--fit.epochs", "6"], "--fit.epochs is given twice: 6 and 5"),
        (["--epochs", "five"], "--fit.epochs: Input should be a valid integer"),
        (["--fit.epoch", "5"], "no setting --fit.epoch. Did you mean --fit.epochs?"),
        (["--usecase.labelsmoothing", "0"], "Did you mean --usecase.label_smoothing?"),
        (["--preset", "huge"], "no preset 'huge' for image-classification. There are: smoke, default, full"),
        (["--fit.epochs", "many"], "--fit.epochs: Input should be a valid integer"),
        (["--refresh", "quantise"], "--refresh quantise: there is no such step. Did you mean quantize?"),
        (["--fit.epochs", "-1"], "--fit.epochs: Input should be greater than or equal to 1"),
        (["--fit.optimizer", "adam"], "--fit.optimizer: Input should be 'adamw' or 'sgd'"),
        (["--budget.goal", "cheap"], "--budget: 'cheap' is refused. Understood: nothing; not understood: 'cheap'. Expected "),
        (["--compression.prune.share", "0.5"], "Did you mean --compression.prune.shares?"),
        (["--compression.methods", "prune,factorize"], "no compression method 'factorize'. Did you mean factorise? There are: prune, "),
        (["--compression.methods", "prune,prune"], "a method is named twice"),
        (["--compression.sparsify.pattern", "2:4"], "Set --compression.sparsify.shares 0.5"),
        (["--compression.prune.shares", "0.5,1.5"], "--compression.prune.shares.1: Input should be less than 1 (it was 1.5)."),
    ],
)
def test_a_wrong_setting_is_refused_with_a_sentence(arguments: list[str], words: str) -> None:
    with pytest.raises(SettingError) as refused:
        parse(image_classification, arguments)
    assert words in str(refused.value)
