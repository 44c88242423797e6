"""Knowledge distillation: a student learns the predictions of its teacher."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tasks import store
from tasks.baselines import compute
from tasks.compression.distillation import KnowledgeDistillation
from tasks.compression.intermediate import PROJECTIONS
from tasks.compression.onnx_teacher import open_teacher
from tasks.contract.artifacts import Checkpoint, Dataset
from tasks.contract.capabilities import soft_loss
from tasks.contract.errors import SettingError
from tasks.contract.records import write_typed
from tasks.distil import distil
from tasks.exporting.export import export, write_graph
from tasks.settings import Distillation, Fit
from tasks.train import fit_network
from tasks.training import launch
from tests.toy import ToyUseCase
from usecases.image_classification import ImageClassification

QUICK = Fit(epochs=8, batch_size=32, learning_rate=0.02)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    usecase = ToyUseCase(hidden=64)

    def build(folder: Path) -> dict[str, object]:
        card = usecase.prepare(folder)
        (folder / "card.json").write_text(json.dumps(card))
        return {"usecase": usecase, "sizes": card["sizes"]}

    return store.make(Dataset, {"for": "distillation"}, build)[0]


@pytest.fixture(scope="module")
def teacher(dataset: Dataset) -> Checkpoint:
    return fit_network("train", dataset.usecase, dataset, QUICK)


def test_the_soft_loss_is_that_of_hinton() -> None:
    student, wanted = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[3.0, 0.0, 1.0]])
    expected = -(torch.softmax(wanted / 2, 1) * torch.log(torch.softmax(student / 2, 1))).sum() * 4
    assert soft_loss(student, wanted, 2.0) == pytest.approx(float(expected))
    masked = torch.tensor([[1.0, float("-inf")]])
    assert soft_loss(masked, masked, 1.0) == pytest.approx(0), "a masked class does not count"


def test_a_student_is_half_the_size_and_nearly_as_good(dataset: Dataset, teacher: Checkpoint) -> None:
    assert isinstance(teacher.usecase, ToyUseCase)
    smaller = teacher.usecase.student_usecase()
    assert smaller is not None
    student = fit_network("distil", smaller, dataset, QUICK, technique=KnowledgeDistillation(teacher=teacher))
    assert student.scores["accuracy"] > teacher.scores["accuracy"] - 0.05
    sizes = [(made.folder / "weights.safetensors").stat().st_size for made in (student, teacher)]
    assert sizes[0] < 0.7 * sizes[1]
    assert teacher.digest in student.made_from


def test_a_student_with_weight_1_agrees_with_its_teacher(dataset: Dataset, teacher: Checkpoint) -> None:
    """A student of a teacher that is always wrong is wrong."""
    technique = KnowledgeDistillation(teacher=contrary_to(teacher), weight=1.0)
    student = fit_network("distil", ToyUseCase(hidden=32), dataset, QUICK, technique=technique)
    assert student.scores["accuracy"] < 0.3


def contrary_to(teacher: Checkpoint) -> Checkpoint:
    def build(work: Path) -> dict[str, object]:
        return {**upside_down(teacher, work), "usecase": ToyUseCase(hidden=64)}

    return store.make(Checkpoint, {"name": "contrary", "of": teacher.digest}, build)[0]


def test_a_bundle_can_be_the_teacher(dataset: Dataset, teacher: Checkpoint, tmp_path: Path) -> None:
    """The bundle is always wrong, unlike the trained network: the student is wrong, so the bundle is its teacher."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    export(contrary_to(teacher), dataset, bundle)
    technique = KnowledgeDistillation(teacher=teacher, bundle=str(bundle), weight=1.0)
    student = fit_network("distil", ToyUseCase(hidden=32), dataset, QUICK, technique=technique)
    assert student.scores["accuracy"] < 0.3


def test_a_bundle_that_cannot_be_the_teacher_is_refused_with_a_reason(dataset: Dataset, teacher: Checkpoint, tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    alone = teacher.model_copy(update={"usecase": ImageClassification()})
    with pytest.raises(SettingError, match="needs a student"):
        distil.fn(alone, dataset, QUICK, Distillation(bundle=str(bundle)))
    with pytest.raises(SettingError, match=r"--distillation\.bundle .*bundle cannot be the teacher: "):
        open_teacher(bundle, ToyUseCase(), dataset.folder)
    export(teacher, dataset, bundle)
    with pytest.raises(SettingError, match="no accessible hidden states or attention maps"):
        technique = KnowledgeDistillation(teacher=teacher, bundle=str(bundle), hidden=1.0)
        launch.fit(ToyUseCase(hidden=32), dataset.folder, QUICK, tmp_path / "work", technique=technique)
    teacher_model = open_teacher(bundle, ToyUseCase(), dataset.folder)
    points = torch.tensor([[3.0, 3.0], [0.0, 0.0]])
    likely = teacher_model.bundle.predict({"point": points.numpy()})["probabilities"]
    assert torch.softmax(teacher_model(points), 1).numpy() == pytest.approx(likely, abs=1e-5)
    graph = onnx.load(str(bundle / "model.onnx"))
    graph.graph.output[0].name = graph.graph.node[-1].output[0] = "boxes"
    onnx.save(graph, str(bundle / "model.onnx"))
    with pytest.raises(SettingError, match="the outputs boxes; a teacher needs one input and the output probabilities"):
        open_teacher(bundle, ToyUseCase(), dataset.folder)


def test_a_bundle_with_other_classes_or_inputs_cannot_be_the_teacher(tmp_path: Path) -> None:
    sets = {}
    for name, classes, size in (("one", "ab", 12), ("other classes", "ac", 12), ("other size", "ab", 20)):
        for kind in classes:
            (tmp_path / name / kind).mkdir(parents=True)
            for number in range(12):
                colours = np.random.default_rng([number, ord(kind)]).integers(0, 255, (size, size, 3), dtype=np.uint8)
                Image.fromarray(colours).save(tmp_path / name / kind / f"{number}.png")
        usecase = ImageClassification(data=str(tmp_path / name), width=4, student=4)
        (tmp_path / f"{name} data").mkdir()
        sets[name] = usecase, tmp_path / f"{name} data"
        usecase.prepare(tmp_path / f"{name} data")
    usecase, data = sets["one"]
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    network = usecase.network(data / "assets").eval()
    image = usecase.examples(data, "train").batch(np.arange(2))["image"]
    write_graph(usecase, network, {"image": image}, bundle / "model.onnx")
    shutil.copytree(data / "assets", bundle / "assets")
    (bundle / "usecase.json").write_text(json.dumps(write_typed(usecase)))
    student = usecase.student_usecase()
    assert student is not None and student.student_usecase() is None
    teacher_model = open_teacher(bundle, student, data)
    in_torch = network(torch.from_numpy(image).float() / 255).softmax(1).detach().numpy()
    assert teacher_model(torch.from_numpy(image).float() / 255).softmax(1).numpy() == pytest.approx(in_torch, abs=1e-3)
    for name, said in (("other classes", "has the classes a, b, but the data has a, c"), ("other size", "encodes its inputs differently")):
        with pytest.raises(SettingError, match=said):
            open_teacher(bundle, *sets[name])


def test_hidden_states_are_distilled_and_projections_are_resumed_but_not_saved(
    dataset: Dataset, teacher: Checkpoint, tmp_path: Path
) -> None:
    fit = QUICK.model_copy(update={"epochs": 3, "ema": 0.8, "patience": 3})
    student, technique = ToyUseCase(hidden=32), KnowledgeDistillation(teacher=teacher, hidden=1.0)
    digests = []
    for attempt in ("whole", "resumed", "again"):
        work = tmp_path / ("other" if attempt == "again" else "one")
        launch.fit(student, dataset.folder, fit, work, technique=technique)
        kept = work / "weights.safetensors"
        assert set(load_file(kept)) == set(student.network(dataset.assets).state_dict())
        digests.append(store.file_digest(kept))
        kept.unlink()
        if attempt == "whole":
            saved = sorted((work / ".work" / "checkpoints").glob("step-*.pt"))
            assert f"{PROJECTIONS}.0.weight" in torch.load(saved[0], weights_only=True)["network"]
            saved[-1].unlink()  # as if it had been killed in the last epoch
    assert len(set(digests)) == 1


def test_attention_of_a_network_without_attention_is_refused(dataset: Dataset, teacher: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"--distillation\.attention 0\.5: this network of toy has no such layers to compare"):
        launch.fit(ToyUseCase(hidden=32), dataset.folder, QUICK, tmp_path, technique=KnowledgeDistillation(teacher=teacher, attention=0.5))


def upside_down(teacher: Checkpoint, work: Path) -> dict[str, object]:
    weights = load_file(teacher.folder / "weights.safetensors")
    save_file({name: -value if name.startswith("head") else value for name, value in weights.items()}, work / "weights.safetensors")
    shutil.copytree(teacher.assets, work / "assets")
    return teacher.model_dump(include={"scores", "seconds", "epochs", "precision", "precision_gap", "examples_per_second"})


def test_a_baseline_is_computed_once(dataset: Dataset) -> None:
    assert isinstance(dataset.usecase, ToyUseCase)
    majority = dataset.usecase.baselines()["majority"]
    first, cached = compute("majority", majority, dataset)
    again, found = compute("majority", majority, dataset)
    assert (cached, found) == (False, True)
    assert first == again
    assert 0.4 < first.scores["accuracy"] < 0.75
    assert first.epochs == 0
