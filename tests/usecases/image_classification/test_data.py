"""Layouts detected from their files, splits without leaks, the same pixels in training and in service."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.contract.errors import BundleError
from tests.usecases.changes import unnoticed_changes
from tests.usecases.image_classification.pictures import class_tree, encoded, picture
from usecases.image_classification import ImageClassification
from usecases.image_classification.codec import ImageCodec
from usecases.image_classification.prepare import StoredImages
from usecases.images import decode, to_pixels
from usecases.reading.splits import stratified

Card = dict[str, Any]


def prepared(data: Path, folder: Path, **settings: Any) -> Card:
    folder.mkdir(exist_ok=True)
    return ImageClassification(data=str(data), **settings).prepare(folder)


def idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.astype(np.uint8).tobytes()


def write_idx(folder: Path, zipped: bool) -> Path:
    folder.mkdir()
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("t10k", 10)):
        labels = np.arange(count) % 4
        for kind, array in (("images-idx3", random.integers(0, 256, (count, 28, 28))), ("labels-idx1", labels)):
            data = idx_bytes(array)
            (folder / f"{split}-{kind}-ubyte{'.gz' if zipped else ''}").write_bytes(gzip.compress(data) if zipped else data)
    return folder


def write_parquet(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder.mkdir()
    for shard in range(2):
        images = [{"bytes": encoded(picture(100 * shard + i, mode="L")), "path": None} for i in range(20)]
        features = {"img": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
        table = pa.table({"img": images, "label": [i % 2 for i in range(20)]})
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        pq.write_table(table, folder / f"train-{shard:05d}-of-00002.parquet", row_group_size=7)
    return folder


def write_list(folder: Path, header: bool, separator: str = ",") -> Path:
    class_tree(folder / "pictures", {"a": 10, "b": 10})
    rows = [f"pictures/{path.parent.name}/{path.name}{separator}{path.parent.name}" for path in sorted(folder.rglob("*.png"))]
    (folder / "list.csv").write_text("\n".join(([f"file{separator}label"] if header else []) + rows))
    return folder / "list.csv"


def write_json_lines(folder: Path) -> Path:
    class_tree(folder / "pictures", {"a": 10, "b": 10})
    lines = []
    for index, path in enumerate(sorted(folder.rglob("*.png"))):
        label = path.parent.name
        path.rename(folder / path.name)
        lines.append({"file_name": path.name, "label": label, "split": "test" if index % 5 == 0 else "train"})
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


def write_list_of_images_elsewhere(folder: Path) -> Path:
    class_tree(folder.parent / "elsewhere", {"a": 10, "b": 10})
    folder.mkdir()
    files = sorted((folder.parent / "elsewhere").rglob("*.png"))
    rows = [f"../elsewhere/{path.parent.name}/{path.name},{path.parent.name}" for path in files]
    (folder / "list.csv").write_text("\n".join(rows))
    return folder


def write_splits(folder: Path) -> Path:
    for number, split in enumerate(("Train", "VALID", "test")):
        class_tree(folder / split, {"a": 6, "b": 6}, seed=100 * number)
    return folder


LAYOUTS: list[tuple[str, Callable[[Path], Path], str, int]] = [
    ("folders", lambda p: class_tree(p, {"cat": 20, "dog": 20}), "a folder per class, without splits", 40),
    (
        "folders in a train folder",
        lambda p: class_tree(p / "train", {"cat": 20, "dog": 20}).parent,
        "a folder per class, without splits",
        40,
    ),
    ("splits", write_splits, "a folder per class, with the splits", 36),
    ("idx", lambda p: write_idx(p, False), "IDX", 50),
    ("idx.gz", lambda p: write_idx(p, True), "IDX", 50),
    ("parquet", write_parquet, "parquet with image bytes, 2 files", 40),
    ("csv", lambda p: write_list(p, True), "a list of paths and labels", 20),
    ("csv without header", lambda p: write_list(p, False), "a list of paths and labels", 20),
    ("tsv", lambda p: write_list(p, True, "\t"), "a list of paths and labels", 20),
    ("json lines", write_json_lines, "a list of paths and labels", 20),
    ("list of images elsewhere", write_list_of_images_elsewhere, "a list of paths and labels", 20),
    ("folder with a list", lambda p: write_list(p, True).parent, "a list of paths and labels", 20),
]


@pytest.mark.parametrize(("make", "words", "count"), [case[1:] for case in LAYOUTS], ids=[case[0] for case in LAYOUTS])
def test_a_layout_is_told_from_its_files(make: Callable[[Path], Path], words: str, count: int, tmp_path: Path) -> None:
    card = prepared(make(tmp_path / "data"), tmp_path / "out")
    assert words in card["layout"]
    assert sum(card["sizes"].values()) == count
    assert all(card["sizes"].values())
    for split, size in card["sizes"].items():
        examples = StoredImages(tmp_path / "out" / split)
        batch = examples.batch(np.arange(size))
        assert batch["image"].dtype == np.uint8
        assert len(batch["image"]) == len(batch["label"]) == len(examples.names(np.arange(size)))


def test_the_sample_and_a_hub_data_set(tmp_path: Path) -> None:
    import datasets

    from usecases.image_classification.tables import from_datasets

    (tmp_path / "sample").mkdir()
    assert ImageClassification().prepare(tmp_path / "sample")["sizes"] == {"train": 1439, "validation": 179, "test": 179}
    rows = {"image": [picture(i) for i in range(4)], "label": ["x", "y", "x", "y"]}
    loaded = (
        datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image()).cast_column("label", datasets.ClassLabel(names=["x", "y"]))
    )
    source = from_datasets("owner/name", {"train": loaded, "test": loaded}, ImageClassification())
    assert [(item.label, item.split) for item in source.items[:2]] == [("x", "train"), ("y", "train")]
    data = source.items[0].read()
    assert isinstance(data, bytes)
    assert decode(data).size == (12, 12)


def test_given_splits_are_kept_and_missing_ones_are_cut_from_train(tmp_path: Path) -> None:
    class_tree(tmp_path / "data" / "train", {"a": 20, "b": 20})
    class_tree(tmp_path / "data" / "test", {"a": 5, "b": 5}, seed=500)
    card = prepared(tmp_path / "data", tmp_path / "out")
    assert card["sizes"] == {"train": 36, "validation": 4, "test": 10}
    assert all(name.startswith("test/") for name in StoredImages(tmp_path / "out" / "test").names(np.arange(10)))


def test_splits_are_stratified_and_fixed_by_the_seed() -> None:
    labels = ["a"] * 100 + ["b"] * 40 + ["c"] * 3
    groups = [str(i) for i in range(len(labels))]
    shares = {"validation": 0.1, "test": 0.2}
    split = stratified(labels, groups, shares, seed=1)
    assert split == stratified(labels, groups, shares, seed=1) != stratified(labels, groups, shares, seed=2)
    counts = Counter(zip(labels, split, strict=True))
    assert (counts["a", "test"], counts["a", "validation"], counts["b", "test"], counts["b", "validation"]) == (20, 10, 8, 4)
    assert all(counts["c", name] == 1 for name in ("train", "validation", "test"))


def test_frames_of_a_track_and_copies_never_straddle(tmp_path: Path) -> None:
    for label in ("00000", "00001"):
        folder = tmp_path / "data" / label
        folder.mkdir(parents=True)
        rows = ["Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"]
        for track in range(8):
            for frame in range(4):
                picture(1000 * int(label) + 10 * track + frame, (20, 20)).save(folder / f"{track:05d}_{frame:05d}.ppm")
                rows.append(f"{track:05d}_{frame:05d}.ppm;20;20;4;4;16;16;{int(label)}")
        (folder / f"GT-{label}.csv").write_text("\n".join(rows))
    card = prepared(tmp_path / "data", tmp_path / "out", size=12)
    assert "tracks" in card["layout"]
    seen: dict[str, str] = {}
    for split, size in card["sizes"].items():
        for name in StoredImages(tmp_path / "out" / split).names(np.arange(size)):
            track = name.rpartition("_")[0]
            assert seen.setdefault(track, split) == split
    name = StoredImages(tmp_path / "out" / "test").names(np.array([0]))[0]
    region = Image.open(tmp_path / "data" / name).crop((4, 4, 16, 16))
    assert (StoredImages(tmp_path / "out" / "test").images[0] == to_pixels(region, 12, 3)).all(), "the region of the sign, as annotated"


def test_identical_images_across_given_splits_are_taken_from_training(tmp_path: Path) -> None:
    write_splits(tmp_path / "data")
    copied = sorted((tmp_path / "data" / "test" / "a").iterdir())[0]
    (tmp_path / "data" / "Train" / "a" / "copy.png").write_bytes(copied.read_bytes())
    card = prepared(tmp_path / "data", tmp_path / "out")
    assert card["sizes"] == {"train": 12, "validation": 12, "test": 12}
    leak = next(f for f in card["findings"] if f["kind"] == "identical image in two splits")
    assert leak["count"] == 1
    assert "copy.png" in leak["examples"][0]
    assert leak["action"] == "removed from train"


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "YCbCr"])
def test_every_mode_becomes_pixels(mode: str) -> None:
    kind = {"CMYK": "JPEG", "YCbCr": "JPEG"}.get(mode, "PNG")
    image = picture(1, mode=mode) if mode != "LA" else picture(1, mode="RGBA").convert("LA")
    for channels in (1, 3):
        pixels = to_pixels(decode(encoded(image, kind)), 8, channels)
        assert pixels.shape == (channels, 8, 8)
        assert 40 < pixels.mean() < 230


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM"])
def test_every_format_opens(kind: str) -> None:
    assert decode(encoded(picture(3), kind)).size == (12, 12)


def test_a_photograph_is_turned_as_its_exif_says() -> None:
    upright = Image.new("RGB", (20, 10), "black")
    upright.paste("white", (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    import io

    file = io.BytesIO()
    upright.save(file, "JPEG", exif=exif)
    turned = np.asarray(decode(file.getvalue()))
    assert turned[:, :8].mean() < 50 < 200 < turned[:, -8:].mean()


def test_what_fits_is_untouched_and_what_is_large_is_scaled_whole() -> None:
    image = picture(5, (16, 16))
    assert (to_pixels(image, 16, 3) == np.asarray(image).transpose(2, 0, 1)).all()
    light = Image.new("L", (10, 30))
    light.paste(255, (0, 0, 10, 10))
    assert to_pixels(light, 16, 1)[0, 0].min() > 200, "the lamp at the end of a traffic light is still there"


def test_training_and_service_see_the_same_pixels(tmp_path: Path) -> None:
    class_tree(tmp_path / "data", {"a": 10, "b": 10}, size=(40, 25))
    card = prepared(tmp_path / "data", tmp_path / "out")
    examples = StoredImages(tmp_path / "out" / "test")
    codec = ImageCodec(tmp_path / "out" / "assets")
    files = [str(tmp_path / "data" / name) for name in examples.names(np.arange(card["sizes"]["test"]))]
    served = codec.encode([codec.read(file) for file in files])
    assert (served["image"] == examples.batch(np.arange(len(files)))["image"]).all()


def test_a_larger_set_is_not_loaded_into_memory(tmp_path: Path) -> None:
    class_tree(tmp_path / "data", {"a": 10, "b": 10})
    prepared(tmp_path / "data", tmp_path / "out")
    assert isinstance(StoredImages(tmp_path / "out" / "train").images, np.memmap)


def test_the_codec_answers_and_refuses_in_words(tmp_path: Path) -> None:
    (tmp_path / "image.json").write_text('{"size": 8, "channels": 3, "labels": ["cat", "dog", "cow"]}')
    codec = ImageCodec(tmp_path)
    answer = codec.decode({"probabilities": np.array([[0.2, 0.7, 0.1]], dtype=np.float32)}, [b""])[0]
    assert answer["label"] == "dog"
    assert [row["label"] for row in answer["top"]] == ["dog", "cat", "cow"]
    with pytest.raises(BundleError, match=r"nowhere.png cannot be read: No such file"):
        codec.read("nowhere.png")
    with pytest.raises(BundleError, match="Image 2 of the request cannot be used: this is not an image"):
        codec.encode([encoded(picture(1)), b"not an image"])


@pytest.mark.parametrize("name", ["list.csv", "list.jsonl"])
def test_a_changed_image_that_a_list_names_outside_of_the_folder_changes_the_digest(name: str, tmp_path: Path) -> None:
    class_tree(tmp_path / "elsewhere", {"a": 2, "b": 2})
    (tmp_path / "data").mkdir()
    named = [(f"../elsewhere/{path.parent.name}/{path.name}", path.parent.name) for path in sorted(tmp_path.rglob("*.png"))]
    objects = [json.dumps({"file_name": path, "label": label}) for path, label in named]
    (tmp_path / "data" / name).write_text("\n".join(objects if name.endswith("l") else map(",".join, named)))
    usecase = ImageClassification(data=str(tmp_path / "data"))
    before = usecase.data_digest()
    picture(77, (20, 20)).save(tmp_path / named[0][0].removeprefix("../"))
    assert usecase.data_digest() != before


@pytest.mark.parametrize("make", [case[1] for case in LAYOUTS], ids=[case[0] for case in LAYOUTS])
def test_the_digest_of_the_data_notices_every_change(make: Callable[[Path], Path], tmp_path: Path) -> None:
    assert not unnoticed_changes(ImageClassification(data=str(make(tmp_path / "data"))), tmp_path)


def test_a_changed_file_changes_the_digest(tmp_path: Path) -> None:
    class_tree(tmp_path, {"a": 2, "b": 2})
    usecase = ImageClassification(data=str(tmp_path))
    before = usecase.data_digest()
    assert before == usecase.model_copy(update={"dropout": 0.5}).data_digest(), "of what the data are prepared with alone"
    picture(77).save(tmp_path / "a" / "new.png")
    assert usecase.data_digest() != before
