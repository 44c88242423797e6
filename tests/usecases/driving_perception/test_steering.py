"""Recordings of drives: read as simulators and cars write them, split by time, learnt with a deviation that is honest."""

from __future__ import annotations

import base64
import copy
import json
import math
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from tasks.contract.errors import BundleError, DataError
from tasks.contract.findings import Findings
from tasks.exporting.export import check_parity, check_symbolic_axes, write_graph
from tasks.training.predicting import torch_predict
from tests.usecases.changes import unnoticed_changes
from usecases.driving_perception import DrivingPerception
from usecases.driving_perception.attributions import attributions
from usecases.driving_perception.augment import augmented
from usecases.driving_perception.codec import RoadCodec
from usecases.driving_perception.drives import find_drives
from usecases.driving_perception.explaining import explain
from usecases.driving_perception.figures import figures
from usecases.driving_perception.heads.steering.network import BINS, INPUT_DROPOUT, INPUT_SCALE, SteeringNetwork, histogram_loss, steps
from usecases.driving_perception.heads.steering.scores import SteeringEvaluator
from usecases.driving_perception.heads.table import HEADS
from usecases.driving_perception.network import RoadNetwork
from usecases.driving_perception.scenes import MAX_YAW_RATES, StoredScenes, inputs_of, read_card
from usecases.driving_perception.scores import evaluate, scores
from usecases.driving_perception.yaw import strip, yaw_between
from usecases.images import as_png
from usecases.reading.splits import SPLITS

MOMENTS = 200
SMALL = DrivingPerception(channels=8, dropout=0.0, colour=0.1, heads=("steering",), turn="yes")


def angle(moment: int) -> float:
    return float(np.sin(moment / 9))


def speed(moment: int) -> float:
    return 10 + 5 * float(np.cos(moment / 5))


def view(moment: int, side: float = 0.0) -> np.ndarray:
    """A bright bar where the road goes, under a sky that is of no other moment."""
    picture = np.full((48, 64, 3), 60, dtype=np.uint8)
    picture[:8] = moment
    middle = round(32 + 20 * angle(moment) + 6 * side)
    picture[16:, max(0, middle - 4) : middle + 4] = 220
    return picture


def simulator(folder: Path, header: bool = False) -> None:
    (folder / "IMG").mkdir(parents=True)
    rows = ["center,left,right,steering,throttle,brake,speed"] if header else []
    for moment in range(MOMENTS):
        names = [f"{camera}_{moment:04d}.jpg" for camera in ("center", "left", "right")]
        for name, side in zip(names, (0.0, 1.0, -1.0), strict=True):
            Image.fromarray(view(moment, side)).save(folder / "IMG" / name)
        rows.append(",".join([*(rf"C:\Users\me\IMG\{name}" for name in names), f"{angle(moment):.4f}", "0.5", "0", f"{speed(moment):.4f}"]))
    (folder / "driving_log.csv").write_text("\n".join(rows))


def simulator_with_header(folder: Path) -> None:
    simulator(folder, header=True)


def tub(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    for number in range(2):
        records = []
        for moment in range(number * 100, number * 100 + 100):
            Image.fromarray(view(moment)).save(folder / "images" / f"{moment}_cam_image_array_.jpg")
            record = {"_index": moment, "_session_id": "a", "cam/image_array": f"{moment}_cam_image_array_.jpg"}
            records.append(json.dumps({**record, "user/angle": angle(moment), "user/throttle": 0.3 + 0.2 * abs(angle(moment))}))
        (folder / f"catalog_{number}.catalog").write_text("\n".join(records) + "\n")
    lines = ['["cam/image_array", "user/angle", "user/throttle"]', '["image_array", "float", "float"]', "{}", '{"created_at": 1.0}']
    last = {"paths": ["catalog_0.catalog", "catalog_1.catalog"], "current_index": 200, "max_len": 1000, "deleted_indexes": [3, 4]}
    (folder / "manifest.json").write_text("\n".join([*lines, json.dumps(last)]))


LAYOUTS = (simulator, simulator_with_header, tub)


def prepared(folder: Path, out: Path, **settings: Any) -> dict[str, Any]:
    return DrivingPerception(data=str(folder), **settings).prepare(out)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_links_are_followed_and_the_digest_notices_every_change(layout: Callable[[Path], None], tmp_path: Path) -> None:
    layout(tmp_path / "elsewhere")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "drive").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    source = find_drives(tmp_path / "data", Findings())
    assert source is not None and len(source.frames) >= MOMENTS - 2
    (tmp_path / "few").mkdir()
    for path in (p for p in (tmp_path / "elsewhere").iterdir() if p.is_file()):
        shutil.copy(path, tmp_path / "few")
    shutil.copy(next((tmp_path / "elsewhere").rglob("*.jpg")), tmp_path / "few")
    assert not unnoticed_changes(DrivingPerception(data=str(tmp_path / "few")), tmp_path / "few")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_drives_are_read(layout: Callable[[Path], None], tmp_path: Path) -> None:
    layout(tmp_path / "data")
    card = prepared(tmp_path / "data", tmp_path / "out")
    speed = "no" if layout is tub else "yes"
    assert card["heads"] == ["steering"]
    assert DrivingPerception().resolve(card) == DrivingPerception(heads=("steering",), speed=speed, turn="yes")
    test = StoredScenes(tmp_path / "out" / "test")
    moments = [int("".join(c for c in Path(name).stem.partition("_")[0 if layout is tub else 2] if c.isdigit())) for name in test.names()]
    assert test.arrays["values"][:, 0] == pytest.approx([angle(moment) for moment in moments], abs=1e-3)
    assert card["sizes"]["train"] + card["sizes"]["validation"] + card["sizes"]["test"] == (
        198 if layout is tub else MOMENTS + 2 * card["sizes"]["train"] // 3
    )


def test_stretches_of_time_stay_together_and_side_cameras_train_only(tmp_path: Path) -> None:
    simulator(tmp_path / "data")
    prepared(tmp_path / "data", tmp_path / "out", side_steering=0.25, steadiness=0)
    train, test = (StoredScenes(tmp_path / "out" / split) for split in ("train", "test"))
    assert all("center" in name for name in test.names())
    moments = sorted(int(name[-8:-4]) for name in test.names())
    jumps = [later - earlier for earlier, later in pairwise(moments) if later - earlier > 1]
    assert len(jumps) < 4, "a few stretches, not single moments"
    left = next(row for row, name in enumerate(train.names()) if "left" in name)
    assert train.arrays["values"][left, 0] == pytest.approx(angle(int(train.names()[left][-8:-4])) + 0.25, abs=1e-3)


def test_jerks_are_smoothed_for_training_alone(tmp_path: Path) -> None:
    """A driver who taps the keys: what training aims at is nearly steady, what is tested is what was driven; side cameras follow their moment."""
    simulator(tmp_path / "data")
    log = tmp_path / "data" / "driving_log.csv"
    rows = [line.split(",") for line in log.read_text().splitlines()]
    log.write_text("\n".join(",".join([*row[:3], str(number // 2 % 2), *row[4:]]) for number, row in enumerate(rows)))
    prepared(tmp_path / "data", tmp_path / "out", side_steering=0.25, steadiness=3.0)
    train, test = (StoredScenes(tmp_path / "out" / split) for split in ("train", "test"))
    assert set(test.arrays["values"][:, 0].tolist()) == {0.0, 1.0}
    middle = np.array(["center" in name for name in train.names()])
    assert np.abs(train.arrays["values"][middle, 0] - 0.5).mean() < 0.25, "0.5 as it was driven; stretches of ten moments are short"
    at = {name[-8:-4]: value for name, value in zip(train.names(), train.arrays["values"][:, 0], strict=True) if "center" in name}
    left = [(name[-8:-4], value) for name, value in zip(train.names(), train.arrays["values"][:, 0], strict=True) if "left" in name]
    assert len(left) > 100 and all(value == pytest.approx(at[moment] + 0.25, abs=1e-6) for moment, value in left)


def spoil(folder: Path, what: str) -> None:
    catalog = folder / "catalog_0.catalog"
    lines = catalog.read_text().splitlines()
    if what == "missing image":
        (folder / "images" / "7_cam_image_array_.jpg").unlink()
    elif what == "damaged image":
        (folder / "images" / "7_cam_image_array_.jpg").write_bytes(b"no picture")
    elif what == "damaged record":
        catalog.write_text("\n".join(["{", *lines[1:]]))
    elif what == "no angle":
        catalog.write_text("\n".join([lines[0].replace('"user/angle"', '"angle"'), *lines[1:]]))
    elif what == "missing catalog":
        (folder / "catalog_1.catalog").unlink()


@pytest.mark.parametrize(
    ("what", "kind", "example"),
    [
        ("missing image", "record that names a missing image", "catalog_0.catalog line 8: 7_cam_image_array_.jpg"),
        ("damaged image", "unusable frame", "images/7_cam_image_array_.jpg: this is not an image"),
        ("damaged record", "record that is not JSON", "catalog_0.catalog line 1"),
        ("no angle", "moment without a steering angle", "catalog_0.catalog line 1"),
        ("missing catalog", "catalog that the manifest names and that is missing", "catalog_1.catalog"),
        ("nothing", "record that was deleted in the tub", "catalog_0.catalog line 4"),
    ],
)
def test_what_is_wrong_is_said(what: str, kind: str, example: str, tmp_path: Path) -> None:
    tub(tmp_path / "data")
    spoil(tmp_path / "data", what)
    found = next(finding for finding in prepared(tmp_path / "data", tmp_path / "out")["findings"] if finding["kind"] == kind)
    assert example in found["examples"][0]


def test_too_much_that_is_missing_is_refused(tmp_path: Path) -> None:
    tub(tmp_path / "data")
    for moment in range(60):
        (tmp_path / "data" / "images" / f"{moment}_cam_image_array_.jpg").unlink()
    with pytest.raises(DataError, match=r"of 198 frames cannot be used"):
        prepared(tmp_path / "data", tmp_path / "out")


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> tuple[RoadNetwork, Path]:
    folder = tmp_path_factory.mktemp("tub")
    tub(folder / "data")
    prepared(folder / "data", folder / "out")
    torch.manual_seed(0)
    network = cast(RoadNetwork, SMALL.network(folder / "out" / "assets")).train()
    examples = SMALL.examples(folder / "out", "train")
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.004)
    for step in range(120):
        rows = np.random.default_rng(step).choice(len(examples), 32, replace=False)
        loss = SMALL.loss(network, {name: torch.from_numpy(array) for name, array in examples.batch(rows).items()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval(), folder / "out"


def test_steering_is_learnt_and_its_deviation_is_honest(learnt: tuple[RoadNetwork, Path]) -> None:
    network, folder = learnt
    predict = torch_predict(SMALL, network)
    SMALL.calibrate(network, predict, folder)
    found = scores(predict, folder, "test")
    assert found["steering_rmse"] < 0.5 * found["steering_rmse_mean"]
    assert found["steering_r2"] == pytest.approx(1 - (found["steering_rmse"] / found["steering_rmse_mean"]) ** 2, abs=1e-6)
    evaluator = evaluate(predict, folder, "validation").whole["steering"]
    assert isinstance(evaluator, SteeringEvaluator)
    value, deviation, wanted = (np.stack(rows) for rows in (evaluator.values, evaluator.deviations, evaluator.wanted))
    assert np.sqrt(np.square((value - wanted) / deviation).mean(0)) == pytest.approx([1, 1], abs=0.01)


def test_the_picture_is_trusted_as_far_as_validation_bears_it_out(learnt: tuple[RoadNetwork, Path]) -> None:
    network, folder = copy.deepcopy(learnt[0]), learnt[1]
    head, moments = cast(SteeringNetwork, network.heads["steering"]), SMALL.examples(folder, "validation")
    driven = moments.batch(np.arange(len(moments)))
    shown = {name: torch.from_numpy(array) for name, array in inputs_of(driven).items()}
    trusts = []
    for pictures in (shown["image"], shown["image"].flip(3)):  # mirrored they speak for the other side
        with torch.no_grad():
            HEADS["steering"].calibrate(head, [(driven, network(**{**shown, "image": pictures})["steering"])])
        trusts.append(float(head.trust))
    assert trusts[0] >= 0.7 and trusts[1] <= 0.1
    head.trust.zero_()
    assert "Trust in the image, fitted on validation: 0%" in attributions(network, folder)[0]["caption"]
    from_conditioning = [network(**{**shown, "image": pictures})["steering"][0] for pictures in (shown["image"], shown["image"].flip(3))]
    assert torch.equal(*from_conditioning)


def test_the_graph_is_the_twin_of_the_network(learnt: tuple[RoadNetwork, Path], tmp_path: Path) -> None:
    network, folder = learnt
    inputs = inputs_of(SMALL.examples(folder, "test").batch(np.arange(7)))
    write_graph(SMALL, network, {name: array[:2] for name, array in inputs.items()}, tmp_path / "model.onnx")
    check_symbolic_axes(tmp_path / "model.onnx")
    check_parity(SMALL, network, inputs, tmp_path / "model.onnx")


def test_answers_say_how_sure_they_are(learnt: tuple[RoadNetwork, Path]) -> None:
    codec = RoadCodec(learnt[1] / "assets")
    frame = as_png(Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)))
    sure, unsure = (np.array([[deviation, 0.1]], dtype=np.float32) for deviation in (0.1, 5.0))
    values = np.array([[-0.25, 0.5]], dtype=np.float32)
    answer = codec.decode({"values": values, "deviations": sure}, [frame])[0]
    assert answer == {
        "trusted": True,
        "doubts": [],
        "advice": {"action": "keep", "reasons": [], "drivable": None, "nearest": None},
        "width": 64,
        "height": 48,
        "steering": -0.25,
        "steering_deviation": 0.1,
        "throttle": 0.5,
        "throttle_deviation": 0.1,
    }
    assert "deviation of the steering is large" in codec.decode({"values": values, "deviations": unsure}, [frame])[0]["doubts"][0]


def test_the_speed_is_an_input_where_it_was_recorded_and_may_be_left_out(tmp_path: Path) -> None:
    simulator(tmp_path / "data")
    asked = DrivingPerception(data=str(tmp_path / "data"), channels=8, dropout=0.0, colour=0.0, steadiness=0.0, turn="no")
    usecase = asked.resolve(asked.prepare(tmp_path / "out"))
    assert usecase.input_names == ("image", "speed")
    train, folder = StoredScenes(tmp_path / "out" / "train"), tmp_path / "out"
    at = zip(train.names(), train.arrays["speed"].tolist(), strict=True)
    assert all(given == pytest.approx([speed(int(name[-8:-4])), 1], abs=1e-3) for name, given in at), "of side cameras, too"
    torch.manual_seed(0)
    network = cast(RoadNetwork, usecase.network(folder / "assets"))
    batch = {name: torch.from_numpy(array) for name, array in train.batch(np.arange(8)).items()}
    usecase.loss(network, batch).backward()
    gradient = network.heads["steering"].hidden[0].weight.grad[:, -2:]  # pyright: ignore[reportIndexIssue, reportOptionalSubscript, reportAttributeAccessIssue]
    assert bool((gradient != 0).any()), "it learns from the speed"
    network.eval()
    predict, codec = torch_predict(usecase, network), RoadCodec(folder / "assets")
    frame = as_png(Image.fromarray(view(3)))
    with_speed, without, as_json = (
        predict(codec.encode([request]))["values"]
        for request in ({"b64": base64.b64encode(frame).decode(), "speed": 14.0}, frame, {"b64": base64.b64encode(frame).decode()})
    )
    assert not np.allclose(with_speed, without) and np.array_equal(without, as_json)
    inputs = inputs_of(train.batch(np.arange(7)))
    write_graph(usecase, network, {name: array[:2] for name, array in inputs.items()}, tmp_path / "model.onnx")
    check_symbolic_axes(tmp_path / "model.onnx")
    check_parity(usecase, network, inputs, tmp_path / "model.onnx")
    for request, words in (
        ({"b64": "?"}, "is not base64"),
        ({"b64": "", "speed": "fast"}, "The speed 'fast' is not a number"),
        ({"speed": 3}, "should be an image, or"),
    ):
        with pytest.raises(BundleError, match=words):
            codec.encode([request])


def landscape(turned: float) -> Image.Image:
    """Far hills at `turned` widths to the right, over a road that comes nearer."""
    hills = np.random.default_rng(0).uniform(0, 255, (48, 400)).repeat(2, 0).repeat(4, 1)
    left = round(600 + 320 * turned)
    return Image.fromarray(hills[:, left : left + 320].astype(np.uint8)).resize((320, 160)).convert("RGB")


@pytest.mark.parametrize("turned", [-0.3, -0.05, -0.006, 0.0, 0.01, 0.2])
def test_how_far_the_view_turned_is_seen(turned: float) -> None:
    assert yaw_between(strip(landscape(0.3)), strip(landscape(0.3 + turned))) == pytest.approx(turned, abs=0.004)


def test_yaw_rates_are_inputs_where_moments_follow_on_one_another(tmp_path: Path) -> None:
    tub(tmp_path / "data")
    for moment in range(MOMENTS):
        picture = landscape(0.02 * (moment % 10))
        picture.paste((moment, moment, moment), (0, 100, 320, 160))  # a road that is of no other moment
        picture.save(tmp_path / "data" / "images" / f"{moment}_cam_image_array_.jpg")
    asked = SMALL.model_copy(update={"data": str(tmp_path / "data"), "turn": "auto"})
    usecase = asked.resolve(asked.prepare(tmp_path / "out"))
    assert usecase.input_names == ("image", "turn")
    given = {}
    for split in SPLITS:
        scenes = StoredScenes(tmp_path / "out" / split)
        given |= {
            int(Path(name).stem.split("_")[0]): turn for name, turn in zip(scenes.names(), scenes.arrays["turn"].tolist(), strict=True)
        }
    unknown = [0.0, 0.0]
    assert given[0] == given[5] == unknown * MAX_YAW_RATES, "the first moment, and the one after those that were deleted"
    assert given[1] == pytest.approx([0.02, 1, *unknown * (MAX_YAW_RATES - 1)], abs=0.004)
    assert given[22] == pytest.approx([0.02, 1, 0.02, 1, -0.18, 1, *[0.02, 1] * (MAX_YAW_RATES - 3)], abs=0.004), "the latest first"
    mirrored = augmented(
        asked, {"image": torch.zeros(32, 3, 16, 16), "values": torch.ones(32, 2), "turn": torch.ones(32, 2 * MAX_YAW_RATES)}
    )
    assert (
        torch.equal(mirrored["turn"][:, ::2], mirrored["values"][:, :1].expand(-1, MAX_YAW_RATES))
        and (mirrored["turn"][:, 1::2] == 1).all()
    )


def test_training_keeps_back_earlier_turns_and_not_later_ones() -> None:
    head = SteeringNetwork(4, 0.0, {"height": 16, "width": 16, "ranges": [[-1.0, 1.0]], "turn": [0.0, 0.5], "turns": MAX_YAW_RATES})
    turns = torch.tensor([[0.5, 1.0] * MAX_YAW_RATES]).repeat(2000, 1)
    known = head._standardised("turn", turns)[:, 1::2]
    assert (known.diff(dim=1) <= 0).all()
    assert float((known.sum(1) < MAX_YAW_RATES).float().mean()) == pytest.approx(INPUT_DROPOUT, abs=0.04)
    assert set(known.sum(1).tolist()) == set(range(MAX_YAW_RATES + 1))
    heard = head.eval()._standardised("turn", turns)
    assert (heard[:, ::2] == INPUT_SCALE).all() and (heard[:, 1::2] == 1).all(), "as it is asked, all that is known is heard"


def test_a_request_with_the_moments_before_is_answered_by_all(learnt: tuple[RoadNetwork, Path]) -> None:
    network, folder = learnt
    codec = RoadCodec(folder / "assets")
    now, before, reduced, other = (
        as_png(picture) for picture in (landscape(0.3), landscape(0.25), landscape(0.35).resize((160, 80)), landscape(0.3).resize((64, 48)))
    )
    image, *earlier = (base64.b64encode(one).decode() for one in (now, reduced, before))
    many, one, alone = {"b64": image, "before": earlier * MAX_YAW_RATES}, {"b64": image, "before": earlier[1]}, now
    turns = codec.encode([many, one, alone])["turn"]
    assert turns[0] == pytest.approx([0.05, 1, -0.1, 1, 0.1, 1, -0.1, 1, 0.1, 1, -0.1, 1], abs=0.006), "the latest first, and no more"
    assert turns[1] == pytest.approx([0.05, 1, *[0] * 2 * (MAX_YAW_RATES - 1)], abs=0.004) and not turns[2].any()
    assert codec.decode(torch_predict(SMALL, network)(codec.encode([many, now])), [many, now])[0]["width"] == 320
    large = {"b64": base64.b64encode(as_png(landscape(0.3).resize((2000, 1000)))).decode(), "before": earlier}
    assert explain(torch_predict(SMALL, network), codec, large)["overlay"].startswith("data:image/png")
    for request, words in (
        ({**many, "before": [base64.b64encode(other).decode()]}, "A preceding image is 64 x 48, the image 320 x 160"),
        ({**many, "before": "?"}, "'before' is not base64"),
        ({**many, "before": [base64.b64encode(b"?").decode()]}, "not an image"),
        ({**many, "before": [7]}, "should be an image, or"),
        ({**many, "after": "?"}, "should be an image, or"),
    ):
        with pytest.raises(BundleError, match=words):
            codec.encode([request])


def test_the_report_says_what_the_pictures_before_are_worth(learnt: tuple[RoadNetwork, Path]) -> None:
    network, folder = learnt
    predict = torch_predict(SMALL, network)
    (found,) = (b for b in figures(predict, folder)["blocks"] if b["kind"] == "bars")
    worth = {item["label"]: item["value"] for item in found["items"]}
    assert list(worth) == ["image alone", "1 preceding", f"{MAX_YAW_RATES} preceding"]
    assert worth[f"{MAX_YAW_RATES} preceding"] == pytest.approx(scores(predict, folder, "test")["steering_rmse"], abs=1e-4)
    assert len(set(worth.values())) == 3
    batch = StoredScenes(folder / "test").batch(np.arange(len(StoredScenes(folder / "test"))))
    off = predict({"image": batch["image"], "turn": np.zeros_like(batch["turn"])})["values"][:, 0] - batch["values"][:, 0]
    assert worth["image alone"] == pytest.approx(np.sqrt(np.square(off).mean()), abs=1e-4)


def test_what_was_not_recorded_is_no_input(tmp_path: Path) -> None:
    tub(tmp_path / "data")
    with pytest.raises(DataError, match=r"--usecase\.speed yes: the speed was not recorded at every moment"):
        prepared(tmp_path / "data", tmp_path / "out", speed="yes")
    simulator(tmp_path / "simulated")
    prepared(tmp_path / "simulated", tmp_path / "without", speed="no", turn="no")
    assert not {"speed", "turn"} & StoredScenes(tmp_path / "without" / "train").arrays.keys()
    catalog = tmp_path / "data" / "catalog_0.catalog"
    catalog.write_text("\n".join(line.replace('"_index"', '"index"') for line in catalog.read_text().splitlines()))
    with pytest.raises(DataError, match=r"--usecase\.turn yes: most moments of the drives are not consecutive"):
        prepared(tmp_path / "data", tmp_path / "out", turn="yes")


def test_a_histogram_learns_the_mean_of_what_was_driven() -> None:
    """Of moments that look the same the driver steered hard in a quarter: the mean and the deviation of that are said, whatever the unit."""
    for low, high in ((0.0, 1.0), (-30.0, 50.0)):
        wanted = torch.tensor([[high], [low], [low], [low]])
        head = SteeringNetwork(4, 0.0, {"height": 16, "width": 16, "ranges": [[low, high]]})
        logits = torch.zeros(1, *head.steps.shape, requires_grad=True)
        optimizer = torch.optim.Adam([logits], lr=0.1)
        for _ in range(400):
            optimizer.zero_grad()
            histogram_loss(logits.expand(4, -1, -1), head.steps, wanted).backward()
            optimizer.step()
        value, deviation = head.answers(logits.detach())
        assert float(value) == pytest.approx(float(wanted.mean()), abs=0.01 * (high - low))
        assert float(deviation) == pytest.approx(float(wanted.std(correction=0)), rel=0.05)


def test_values_far_out_do_not_widen_the_steps(tmp_path: Path) -> None:
    simulator(tmp_path / "data")
    log = tmp_path / "data" / "driving_log.csv"
    rows = [line.split(",") for line in log.read_text().splitlines()]
    calm = [",".join([*row[:3], "9" if number in (3, 50, 90) else f"{angle(number) / 50}", *row[4:]]) for number, row in enumerate(rows)]
    log.write_text("\n".join(calm))
    prepared(tmp_path / "data", tmp_path / "out", side_steering=0.0, steadiness=0.0)
    card = read_card(tmp_path / "out" / "assets")
    (low, high), throttle = card["ranges"]
    assert low == -high and 3 < high < 9, "six deviations; left and right alike"
    assert throttle == [0.499, 0.501], "always .5"


def test_what_is_not_known_counts_for_nothing() -> None:
    logits, marks = torch.zeros(2, 2, BINS, requires_grad=True), steps(-1.0, 1.0).repeat(2, 1)
    loss = histogram_loss(logits, marks, torch.tensor([[0.5, torch.nan], [torch.nan, torch.nan]]))
    loss.backward()
    assert float(loss) == pytest.approx(math.log(BINS)) and logits.grad is not None
    assert (logits.grad != 0).any(2).tolist() == [[True, False], [False, False]]
    assert float(histogram_loss(logits, marks, torch.full((2, 2), torch.nan))) == 0
