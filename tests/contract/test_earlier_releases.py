"""Files of earlier releases can be read: bundles have the same answers, and a store opens. The data was written by the code of that release."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tasks import store
from tasks.contract.records import FORMAT
from tasks.contract.usecase import UseCase
from tasks.serving.bundle import open_bundle

RELEASE_0 = Path(__file__).parents[1] / "data" / "release_0"
BUNDLES = sorted(RELEASE_0.glob("onnxmodel/*"))


def numbers(answer: object) -> list[float]:
    if isinstance(answer, dict | list):
        return [number for each in (answer.values() if isinstance(answer, dict) else answer) for number in numbers(each)]
    return [float(answer)] if isinstance(answer, int | float) else []


@pytest.mark.parametrize("folder", BUNDLES, ids=lambda folder: json.loads((folder / "usecase.json").read_text())["type"].partition(":")[0])
def test_a_bundle_answers_its_example_as_it_did(folder: Path) -> None:
    bundle = open_bundle(folder)
    answer = json.loads(json.dumps(bundle.answer([bundle.example_request()])[0]))
    kept = json.loads((folder / "example" / "answer.json").read_text(encoding="utf-8"))
    assert isinstance(bundle.usecase, UseCase) and answer.keys() == kept.keys()
    assert np.allclose(numbers(answer), numbers(kept), atol=0.05), "int8 differs a little by processor"


def test_all_four_verticals_are_kept() -> None:
    assert len(BUNDLES) == 4


def test_a_store_of_an_earlier_release_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERTICALS_HOME", str(RELEASE_0))
    for folder in BUNDLES:
        manifest = store.manifest(folder.name)
        assert manifest["format"] == 0 < FORMAT
        assert manifest["step"] and manifest["settings"] and "location" not in manifest["record"]
