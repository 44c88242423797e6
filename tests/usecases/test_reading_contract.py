"""The contract of reading data: every vertical declares the settings that it reads, and its digest changes with the data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tasks.checks import prepare_for_checks
from tasks.contract.errors import DataError
from tasks.contract.usecase import UseCase
from usecases.driving_perception import DrivingPerception
from usecases.image_classification import ImageClassification
from usecases.nlp import TextClassification
from usecases.reading import digests
from usecases.reading.arrow import hub_splits
from usecases.reading.digests import digest_of_files, hub_revision, weights_digest
from usecases.recommendation import Recommendation

SAMPLES = [
    ImageClassification(),
    TextClassification(),
    TextClassification(task="entities"),
    Recommendation(),
    Recommendation(split="time", ties="item", focus_action="buy", focus_category="Boot", focus_days=100),
    DrivingPerception(),
    DrivingPerception(heads=("steering",)),
]


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing is asked from the hub, and its cache is empty."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    hub_revision.cache_clear()
    yield
    hub_revision.cache_clear()


@pytest.mark.parametrize("usecase", SAMPLES, ids=lambda u: type(u).__name__)
def test_prepare_reads_no_setting_that_is_not_declared(usecase: UseCase, tmp_path: Path) -> None:
    prepare_for_checks(usecase, tmp_path)


@pytest.mark.parametrize("kind", dict.fromkeys(type(usecase) for usecase in SAMPLES))
def test_the_digest_sees_what_is_behind_links(kind: type[UseCase], tmp_path: Path) -> None:
    elsewhere, data = tmp_path / "elsewhere", tmp_path / "data"
    (elsewhere / "deep").mkdir(parents=True)
    (data / "class").mkdir(parents=True)
    for name in ("linked.txt", "deep/file.txt"):
        (elsewhere / name).write_text("one")
    (data / "class" / "file").symlink_to(elsewhere / "linked.txt")
    (data / "class" / "folder").symlink_to(elsewhere / "deep", target_is_directory=True)
    (data / "class" / "back").symlink_to(data, target_is_directory=True)  # a circle
    (data / "gone").symlink_to(tmp_path / "nowhere")
    usecase = kind.model_validate({"data": str(data)})
    digests = [usecase.data_digest()]
    assert usecase.data_digest() == digests[0]
    for name in ("linked.txt", "deep/file.txt"):
        (elsewhere / name).write_text("another")
        digests.append(usecase.data_digest())
    (tmp_path / "nowhere").write_text("there")
    digests.append(usecase.data_digest())
    assert len(set(digests)) == 4


def test_a_changed_time_is_a_change_and_a_moved_folder_is_none(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    file = tmp_path / "one" / "a.txt"
    file.write_text("a")
    before = digest_of_files([tmp_path / "one"])
    (tmp_path / "one").rename(tmp_path / "two")
    assert digest_of_files([tmp_path / "two"]) == before
    os.utime(tmp_path / "two" / "a.txt", ns=(1, 1))
    assert digest_of_files([tmp_path / "two"]) != before != digest_of_files([tmp_path / "one"])


def test_equal_names_sizes_and_times_with_another_content_are_a_change(tmp_path: Path) -> None:
    for version in ("v1", "v2"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.txt").write_text(version)
        os.utime(tmp_path / version / "a.txt", ns=(1, 1))
    shutil.copytree(tmp_path / "v1", tmp_path / "copy")
    assert digest_of_files([tmp_path / "copy"]) == digest_of_files([tmp_path / "v1"])
    found = set()
    for version in ("v1", "v2"):
        (tmp_path / "now").unlink(missing_ok=True)
        (tmp_path / "now").symlink_to(tmp_path / version, target_is_directory=True)
        found.add((ImageClassification(data=str(tmp_path / "now")).data_digest(), weights_digest(str(tmp_path / "now"))))
    assert len({data for data, _ in found}) == len({weights for _, weights in found}) == 2


@pytest.mark.parametrize("place", [0, 3_000, 9_999])
def test_of_much_data_samples_are_read(place: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MAX_READ", 3 * 8192)
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(bytes(10_000))
        os.utime(tmp_path / name, ns=(1, 1))
    before = digest_of_files([tmp_path])
    content = bytearray(10_000)
    content[place] = 1
    (tmp_path / "b").write_bytes(content)
    os.utime(tmp_path / "b", ns=(1, 1))
    assert digest_of_files([tmp_path]) != before


@pytest.mark.parametrize("kind", dict.fromkeys(type(usecase) for usecase in SAMPLES))
@pytest.mark.parametrize("data", ["", " ", " , ", "hf://", "hf:// /name"])
def test_data_that_names_nothing_is_refused(kind: type[UseCase], data: str) -> None:
    with pytest.raises(ValueError, match=r"names no data.*Give"):
        kind.model_validate({"data": data})


@pytest.mark.parametrize("kind", dict.fromkeys(type(usecase) for usecase in SAMPLES))
@pytest.mark.parametrize("value", ["inf", "-inf", "nan"])
def test_settings_are_finite(kind: type[UseCase], value: str) -> None:
    names = [name for name, field in kind.model_fields.items() if field.annotation is float]
    assert names
    for name in names:
        with pytest.raises(ValueError, match=name):
            kind.model_validate({name: value})


@pytest.mark.parametrize("name", ["name", "owner/", "/name"])
def test_a_data_set_of_the_hub_has_an_owner(name: str) -> None:
    with pytest.raises(DataError, match="Give hf://owner/name"):
        hub_splits(name)


@pytest.mark.parametrize(
    ("kind", "log", "other", "text"),
    [
        (Recommendation, "log.csv", "items.csv", "item,title\n"),
        (TextClassification, "train_text.txt", "train_labels.txt", "0\n"),
        (TextClassification, "all.csv", "classes.txt", "good\nbad\n"),
        (ImageClassification, "all.csv", "a.png", "another picture"),
    ],
)
def test_files_next_to_a_single_file_count(kind: type[UseCase], log: str, other: str, text: str, tmp_path: Path) -> None:
    (tmp_path / log).write_text("path,label\na.png,0\na.png,1\n")
    (tmp_path / other).write_text(text)
    usecase = kind.model_validate({"data": str(tmp_path / log)})
    before = usecase.data_digest()
    (tmp_path / other).write_text(text * 2)
    assert usecase.data_digest() != before


def test_a_data_set_of_the_hub_has_a_revision(tmp_path: Path) -> None:
    usecase = ImageClassification(data="hf://owner/name")
    unknown = usecase.data_digest()
    refs = tmp_path / "hub" / "datasets--owner--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("0123abcd")
    hub_revision.cache_clear()
    assert hub_revision("dataset", "owner/name/configuration") == "0123abcd"
    assert hub_revision("dataset", "owner/other") == hub_revision("model", "owner/name") == "unknown"
    assert usecase.data_digest() != unknown


@pytest.mark.parametrize("kind", ["local", "hub"])
def test_the_digest_of_weights_changes_with_them(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "model" / "model.safetensors" if kind == "local" else tmp_path / "hub" / "models--owner--name" / "refs" / "main"
    name = str(tmp_path / "model") if kind == "local" else "owner/name"
    file.parent.mkdir(parents=True)
    found = []
    for weights in ("0123", "45678"):
        file.write_text(weights)
        hub_revision.cache_clear()
        text = TextClassification(encoder=name)
        found.append((weights_digest(name), ImageClassification(backbone=name).weights_digest(), text.weights_digest(), text.data_digest()))
    assert all(before != after for before, after in zip(*found, strict=True))
    assert ImageClassification().weights_digest() == TextClassification().weights_digest() == weights_digest("config:resnet") == ""
