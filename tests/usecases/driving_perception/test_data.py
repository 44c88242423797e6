"""Every layout gives the same scenes; what is wrong with one is said; frames of one recording stay together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tasks.contract.errors import DataError
from tests.usecases.changes import unnoticed_changes
from tests.usecases.driving_perception.roads import LAYOUTS, camvid_of_segnet, frames, pairs_without_anything, prepared, save
from usecases.driving_perception import DrivingPerception
from usecases.driving_perception.sample import CLASSES, draw
from usecases.driving_perception.scenes import IGNORED, StoredScenes, read_card


def kinds(card: dict[str, object]) -> set[str]:
    findings = card["findings"]
    assert isinstance(findings, list)
    return {finding["kind"] for finding in findings}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_digest_notices_every_change(layout: Callable[[Path], None], tmp_path: Path) -> None:
    layout(tmp_path / "data")
    assert not unnoticed_changes(DrivingPerception(data=str(tmp_path / "data")), tmp_path)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_is_read(layout: Callable[[Path], None], tmp_path: Path) -> None:
    layout(tmp_path / "data")
    card = prepared(tmp_path / "data", tmp_path / "out")
    given = layout.__name__ not in ("camvid_as_published", "pairs_without_anything")
    assert sum(card["sizes"].values()) == 20
    assert card["sizes"] == {"train": 12, "validation": 4, "test": 4} or not given
    scenes = StoredScenes(tmp_path / "out" / "train")
    row = next(i for i, name in enumerate(scenes.names()) if "train_00003" in name)
    expected = draw("day", 0, 3).mask
    found, classes = scenes.arrays["mask"][row], read_card(tmp_path / "out" / "assets")["classes"]
    if layout.__name__ == "cityscapes":
        assert classes[int(found[-1, 80])] == "road" and (found[expected == CLASSES.index("lane mark")] == IGNORED).all()
    else:
        assert (found == expected).all()
        assert classes == (list(CLASSES) if "without" not in layout.__name__ else [f"class {number}" for number in range(len(CLASSES))])


def test_the_sample_has_every_class_and_scenario_in_every_split(tmp_path: Path) -> None:
    card = DrivingPerception().prepare(tmp_path)
    for split in card["sizes"]:
        scenes = StoredScenes(tmp_path / split)
        assert set(scenes.slices()) == {"day", "night", "rain", "fog"}
        assert set(np.unique(scenes.arrays["mask"])) == set(range(len(CLASSES)))
    recordings = [{name.rpartition("-")[0] for name in StoredScenes(tmp_path / split).names()} for split in card["sizes"]]
    assert not recordings[0] & recordings[1] and not recordings[0] & recordings[2] and not recordings[1] & recordings[2]


def test_blocks_of_frames_stay_together_where_recordings_are_few(tmp_path: Path) -> None:
    pairs_without_anything(tmp_path / "data")
    assert "few recordings" in kinds(prepared(tmp_path / "data", tmp_path / "out"))


def test_the_dev_split_can_be_the_test(tmp_path: Path) -> None:
    camvid_of_segnet(tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "test")
    card = prepared(tmp_path / "data", tmp_path / "out", dev_is_test=True)
    assert card["sizes"] == {"train": 12, "validation": 4, "test": 4}
    assert "validation frames that are also the test" in kinds(card)


def change(folder: Path, what: str) -> None:
    """Spoil one training scene of twelve, or the whole."""
    (_, picture, mask), image, label = (
        next(frames("train")),
        folder / "train" / "train_00000.jpg",
        folder / "trainannot" / "train_00000.png",
    )
    if what == "truncated image":
        image.write_bytes(image.read_bytes()[:300])
    elif what == "empty mask":
        label.write_bytes(b"")
    elif what == "missing mask":
        label.unlink()
    elif what == "missing image":
        image.unlink()
    elif what == "mask of another shape":
        save(mask[:, :100], label)
    elif what == "smaller mask":
        save(mask[::2, ::2], label)
    elif what == "unknown value":
        save(np.where(mask == 4, 37, mask).astype(np.uint8), label)
    elif what == "only unknown values":
        save(np.full_like(mask, 77), label)
    elif what == "nothing but ignored":
        save(np.full_like(mask, IGNORED), label)
    elif what == "copy in two splits":
        save(picture, folder / "train" / "train_00000.png")
        image.unlink()
        save(picture, folder / "test" / "copy_00000.png")
        save(mask, folder / "testannot" / "copy_00000.png")


@pytest.mark.parametrize(
    ("what", "kind", "example"),
    [
        ("truncated image", "unusable frame", "train/train_00000.jpg: the image is damaged"),
        ("empty mask", "unusable frame", "the mask is not an image, or it is damaged"),
        ("missing mask", "image without a mask", "train/train_00000.jpg"),
        ("missing image", "mask without an image", "trainannot/train_00000.png"),
        ("mask of another shape", "unusable frame", "the image is 160 x 120, its mask 100 x 120"),
        ("smaller mask", "mask of another size than its image", "train/train_00000.jpg"),
        ("unknown value", "pixels with a value that is not in the list of classes", "value 37"),
        ("only unknown values", "unusable frame", "most of the mask has values that are in no list of classes: value 77"),
        ("nothing but ignored", "unusable frame", "no pixel of the mask belongs to a class"),
        ("copy in two splits", "identical image in two splits", "train/train_00000.png = test/copy_00000.png"),
    ],
)
def test_what_is_wrong_is_said(what: str, kind: str, example: str, tmp_path: Path) -> None:
    camvid_of_segnet(tmp_path / "data")
    change(tmp_path / "data", what)
    card = prepared(tmp_path / "data", tmp_path / "out", tolerance=0.1)
    found = next(finding for finding in card["findings"] if finding["kind"] == kind)
    assert example in found["examples"][0]


def empty(folder: Path) -> None:
    folder.mkdir()


def a_file(folder: Path) -> None:
    folder.write_text("no folder")


def coloured_without_a_list(folder: Path) -> None:
    LAYOUTS["camvid_as_published"](folder)
    (folder / "label_colors.txt").unlink()


def an_empty_list(folder: Path) -> None:
    camvid_of_segnet(folder)
    (folder / "classes.txt").write_text("\n")


def mostly_broken(folder: Path) -> None:
    camvid_of_segnet(folder)
    for path in (folder / "train").iterdir():
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (empty, "No images with masks, boxes, steering or signs were found"),
        (a_file, "is a file; expected a folder of images with labels"),
        (coloured_without_a_list, "is coloured, and there is no list of the colours of classes"),
        (an_empty_list, "contains no class"),
        (mostly_broken, "12 of 20 frames cannot be used (60.0%)"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_bad_data_are_refused_with_a_clear_message(spoil: Callable[[Path], None], words: str, tmp_path: Path) -> None:
    spoil(tmp_path / "data")
    with pytest.raises(DataError) as caught:
        prepared(tmp_path / "data", tmp_path / "out")
    assert words in str(caught.value)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        prepared(tmp_path / "nowhere", tmp_path / "out")
    camvid_of_segnet(tmp_path / "data")
    shutil.rmtree(tmp_path / "data" / "val")
    with pytest.raises(DataError, match="no validation split"):
        prepared(tmp_path / "data", tmp_path / "out", dev_is_test=True)
