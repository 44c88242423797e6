"""A bundle answers on its own, and a broken one is refused in words."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from tasks.contract.errors import BundleError
from tasks.serving.bundle import Bundle, open_bundle
from tasks.serving.sessions import open_session
from tests.toy import NumbersCodec, ToyUseCase

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(made: list[Path], tmp_path: Path) -> Path:
    """A bundle of the toy, to do with as one likes."""
    return Path(shutil.copytree(made[0], tmp_path / "bundle"))


def test_it_answers_its_own_example_as_it_did(folder: Path) -> None:
    bundle = open_bundle(folder)
    assert bundle.answer([bundle.example_request()])[0] == json.loads((folder / "example" / "answer.json").read_text())


def rewrite(name: str, text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_text(text)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "model.onnx").unlink(), "The bundle has no graph"),
        (lambda f: (f / "model.onnx").write_bytes((f / "model.onnx").read_bytes()[:200]), "cannot be opened because it is damaged"),
        (lambda f: (f / "usecase.json").unlink(), "the folder is not a bundle, or an incomplete copy"),
        (rewrite("usecase.json", "{"), "is not valid JSON"),
        (rewrite("usecase.json", '{"type": "os:system"}'), "entry point in verticals.usecases"),
        (rewrite("usecase.json", '{"type": "tasks.settings:Fit"}'), "names Fit, which is not a use case"),
        (rewrite("usecase.json", '{"type": "tests.toy:ToyUseCase", "novelty": 1}'), "has settings of another version"),
        (lambda f: (f / "usecase.json").write_bytes(b" " * 1_000_001), "at most 1,000,000 were expected"),
    ],
)
def test_a_broken_bundle_is_refused(damage: Callable[[Path], Any], words: str, folder: Path) -> None:
    damage(folder)
    with pytest.raises(BundleError, match=words):
        open_bundle(folder)


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, "The input 'point' is missing; found no inputs"),
        ({"point": np.zeros((1, 2))}, "has the type float64; expected float32"),
        ({"point": np.zeros((1, 3), np.float32)}, "has the shape"),
        ({"point": np.zeros(2, np.float32)}, "has the shape"),
    ],
)
def test_a_wrong_input_is_refused(inputs: dict[str, np.ndarray], words: str, folder: Path) -> None:
    with pytest.raises(BundleError, match=words):
        open_bundle(folder).predict(inputs)


def test_values_that_the_graph_cannot_compute_are_refused(tmp_path: Path) -> None:
    table = onnx.numpy_helper.from_array(np.ones((3, 2), np.float32), "table")
    row, out = (
        onnx.helper.make_tensor_value_info(n, t, ["N", *s]) for n, t, s in (("row", TensorProto.INT64, []), ("out", TensorProto.FLOAT, [2]))
    )
    graph = onnx.helper.make_graph([onnx.helper.make_node("Gather", ["table", "row"], ["out"])], "g", [row], [out], [table])
    onnx.save(onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 20)]), tmp_path / "model.onnx")
    bundle = Bundle(tmp_path, ToyUseCase(), NumbersCodec(), open_session(tmp_path / "model.onnx"))
    assert bundle.predict({"row": np.array([2])})["out"].tolist() == [[1, 1]]
    with pytest.raises(BundleError, match=r"cannot compute these inputs: .*out of data bounds"):
        bundle.predict({"row": np.array([7])})


def predict(*arguments: str) -> subprocess.CompletedProcess[str]:
    code = """
import runpy, sys
try:
    runpy.run_module("tasks.serving", run_name="__main__")
finally:
    print("LOADED", *(m for m in ("torch", "pytorch_lightning", "transformers", "prefect") if m in sys.modules), file=sys.stderr)
"""
    return subprocess.run([sys.executable, "-c", code, "predict", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_the_command_answers_without_torch(folder: Path) -> None:
    done = predict(str(folder), str(folder / "example" / "request.json"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((folder / "example" / "answer.json").read_text())
    assert done.stderr.splitlines()[-1] == "LOADED"


def test_the_command_shows_the_blocks_of_an_answer(folder: Path) -> None:
    example = str(folder / "example" / "request.json")
    answer = json.loads((folder / "example" / "answer.json").read_text())
    done = predict(str(folder), example)
    assert done.returncode == 0, done.stderr
    name, title, bar = done.stdout.splitlines()
    assert name == f"{example}:" and title.strip() == answer["label"] and f"{100 * answer['probability']:.1f} %" in bar
    assert done.stderr.splitlines()[-1] == "LOADED"


def test_a_codec_without_blocks_is_shown_plainly(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(NumbersCodec, "blocks")
    bundle = open_bundle(folder)
    assert bundle.blocks([0, 0], {"label": "a", "probability": 0.5}) == [{"kind": "note", "title": "label a, probability 0.5"}]


def test_the_command_refuses_in_words(tmp_path: Path) -> None:
    done = predict(str(tmp_path / "nowhere"), "x.png")
    assert done.returncode == 2
    assert "There is no bundle at" in done.stderr
    assert "Traceback" not in done.stderr
