"""A frame in, of any size; a mask of the same size out, and whether to trust it."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.contract.errors import BundleError
from tests.reporting.answers import drawn_everywhere
from usecases.driving_perception import DrivingPerception
from usecases.driving_perception.answer_blocks import answer_blocks
from usecases.driving_perception.codec import RoadCodec
from usecases.driving_perception.sample import CLASSES, draw
from usecases.images import as_png


@pytest.fixture(scope="module")
def codec(tmp_path_factory: pytest.TempPathFactory) -> RoadCodec:
    folder = tmp_path_factory.mktemp("sample")
    DrivingPerception(heads=("mask",)).prepare(folder)
    return RoadCodec(folder / "assets")


def outputs(mask: np.ndarray, sure: float = 0.9) -> dict[str, np.ndarray]:
    return {"mask": mask[None].astype(np.int64), "sure": np.full((1, *mask.shape), sure, dtype=np.float32)}


def test_the_mask_has_the_size_of_the_picture(codec: RoadCodec) -> None:
    drawn = draw("day", 0, 0)
    picture, mask = drawn.picture, drawn.mask
    large = as_png(Image.fromarray(picture).resize((320, 240)))
    assert codec.encode([large])["image"].shape == (1, 3, 120, 160)
    answer = codec.decode(outputs(mask), [large])[0]
    with Image.open(io.BytesIO(base64.b64decode(answer["mask"]))) as png:
        assert png.size == (answer["width"], answer["height"]) == (320, 240)
        assert (np.asarray(png)[::2, ::2] == mask).all()
    assert answer["shares"]["road"] == pytest.approx((mask == CLASSES.index("road")).mean(), abs=1e-4)
    assert answer["trusted"] and not answer["doubts"]


def test_an_answer_is_shown_over_the_picture(codec: RoadCodec) -> None:
    drawn = draw("day", 0, 0)
    large = as_png(Image.fromarray(drawn.picture).resize((320, 240)))
    sure = np.full((1, 120, 160), 0.9, dtype=np.float32)
    sure[:, :60] = 0.2
    shown = DrivingPerception().explain(lambda inputs: {"mask": drawn.mask[None].astype(np.int64), "sure": sure}, codec, large)
    overlay, unsure = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(shown[name].partition(",")[2])))).astype(int) for name in ("overlay", "unsure")
    )
    assert overlay.shape == (240, 320, 3) and unsure.shape == (240, 320)
    assert unsure[:100].mean() > unsure[140:].mean() + 100, "the brighter, the lower the confidence"
    road = np.asarray(Image.fromarray(drawn.mask).resize((320, 240), Image.Resampling.NEAREST)) == CLASSES.index("road")
    road[:60] = False  # under the caption
    colour = np.array(codec.card["colours"][CLASSES.index("road")])
    plain = np.asarray(Image.fromarray(drawn.picture).resize((320, 240))).astype(int)
    assert np.abs(overlay[road] - colour).mean() < np.abs(plain[road] - colour).mean()


@pytest.mark.parametrize(
    ("frame", "sure", "doubt"),
    [
        (np.full((120, 160, 3), 90, dtype=np.uint8), 0.9, "blank"),
        ((draw("day", 0, 0).picture * 0.04).astype(np.uint8), 0.9, "dark|blank"),
        (
            np.asarray(Image.fromarray(draw("day", 0, 0).picture).resize((6, 5)).resize((160, 120), Image.Resampling.BICUBIC)),
            0.9,
            "blurred",
        ),
        (draw("day", 0, 0).picture[:40], 0.9, "160 x 40, an aspect ratio that the training images do not have"),
        (draw("day", 0, 0).picture, 0.3, "low: 30%"),
    ],
)
def test_a_frame_to_be_doubted_is_flagged(codec: RoadCodec, frame: np.ndarray, sure: float, doubt: str) -> None:
    import re

    answer = codec.decode(outputs(np.zeros((120, 160), dtype=np.uint8), sure), [as_png(Image.fromarray(frame))])[0]
    assert not answer["trusted"] and re.search(doubt, " ".join(answer["doubts"]))


@pytest.mark.parametrize("scenario", ["day", "night", "rain", "fog"])
def test_ordinary_frames_are_trusted(codec: RoadCodec, scenario: str) -> None:
    drawn = draw(scenario, 1, 2)
    assert codec.decode(outputs(drawn.mask), [as_png(Image.fromarray(drawn.picture))])[0]["trusted"]


def test_what_is_no_picture_is_refused(codec: RoadCodec, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"Image 1 of the request cannot be used: this is not an image"):
        codec.encode([b"no picture"])
    with pytest.raises(BundleError, match="cannot be read"):
        codec.read(str(tmp_path / "nowhere.png"))


def test_each_head_has_its_blocks(codec: RoadCodec) -> None:
    drawn = draw("day", 0, 0)
    image = Image.fromarray(drawn.picture)
    (answer,) = codec.decode(outputs(drawn.mask), [as_png(image)])
    blocks = codec.blocks(as_png(image), answer)
    assert [block["title"] for block in blocks] == [f"Advice: {answer['advice']['action']}", "Predictions", "Classes"]
    text = drawn_everywhere(blocks)
    assert "Mean confidence: 90%" in text and all(f"{share:.1%}".replace("%", " %") in text for share in answer["shares"].values())

    card = {**codec.card, "heads": ["mask", "boxes", "steering", "signal"], "targets": ["steering"]}
    card |= {"objects": ["car"], "object_colours": [[200, 40, 40]]}
    several = {
        **answer,
        "trusted": False,
        "doubts": ["the image is too dark", "the image is small"],
        "boxes": [{"label": "car", "score": 0.75, "box": [10.0, 20.0, 60.0, 80.5]}],
        "steering": -0.25,
        "steering_deviation": 0.1,
        "signal": "stop",
        "signals": {"stop": 0.9, "yield": 0.1},
        "explanation": {"overlay": "data:image/png;base64,AAAA", "unsure": "data:image/png;base64,BBBB"},
    }
    blocks = answer_blocks(image, several | {"signal_probability": 0.9}, card)
    text = drawn_everywhere(blocks)
    assert text.startswith("This answer is not reliable\n  The image is too dark; the image is small.")
    for expected in ("75.0 %", "car", "10, 20, 60, 80.5", "-0.250 ± 0.100  left", "90.0 %", "yield", "Uncertainty"):
        assert expected in text
    assert [block["image"][-4:] for block in blocks if "image" in block] == ["AAAA", "BBBB"], "what was explained is not drawn again"
    alone = drawn_everywhere(answer_blocks(image, several, {**card, "heads": ["signal"]}))
    assert "Predictions" not in alone and "yield" in alone
