"""What a person sees of an answer about an image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from tests.reporting.answers import drawn_everywhere
from usecases.image_classification.codec import ImageCodec


def test_an_answer_is_shown_as_bars_of_its_likeliest_labels(tmp_path: Path) -> None:
    labels = [f"class {number}" for number in range(8)]
    (tmp_path / "image.json").write_text(json.dumps({"size": 8, "channels": 3, "labels": labels}))
    codec = ImageCodec(tmp_path)
    (answer,) = codec.decode({"probabilities": np.array([[0.01, 0.02, 0.6, 0.03, 0.04, 0.25, 0.03, 0.02]])}, [b""])
    title, first, second, *rest = drawn_everywhere(codec.blocks(b"", answer)).splitlines()
    assert title == "class 2" and len(rest) == 3
    assert "60.0 %" in first and first.count("█") == 14 and "25.0 %" in second and second.endswith("class 5")
