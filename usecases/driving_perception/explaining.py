"""Images that explain an answer: the predictions drawn over the image, and those of each head. Uses NumPy and Pillow only."""

from __future__ import annotations

import base64
from typing import Any, cast

import numpy as np

from tasks.contract.codec import Codec
from tasks.contract.types import Predict
from usecases import charts
from usecases.driving_perception.codec import RoadCodec, unpacked
from usecases.driving_perception.drawing import overlay
from usecases.driving_perception.heads.table import HEADS
from usecases.images import as_png

MAX_SIDE = 1600  # pixels of the longer side


def explain(predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
    """Explain the answer to a request by images.

    Args:
        predict: a predictor.
        codec: a `RoadCodec`.
        request: an image, or an object with one.

    Returns:
        `{"overlay"}` and the images of the heads, such as `unsure`: PNG as data URIs in the size of the image, at most 1,600 pixels a side.
    """
    known = cast(RoadCodec, codec)
    (picture,) = known.images([request])
    if max(picture.size) > MAX_SIDE:
        picture.thumbnail((MAX_SIDE, MAX_SIDE))
        asked = unpacked(request)
        small, *before = (base64.b64encode(one).decode() for one in (as_png(picture), *asked.before))
        request = {"b64": small, "speed": asked.speed, "before": before}
    outputs = predict(known.encode([request]))
    (answer,) = known.decode(outputs, [request])
    pictures = {"overlay": overlay(picture, answer, known.card)}
    for name in known.card["heads"]:
        pictures |= HEADS[name].explanations({output: array[0] for output, array in outputs.items()}, picture.size)
    return {name: charts.picture(np.asarray(one), MAX_SIDE, "PNG") for name, one in pictures.items()}
