"""What the network saw, as pictures with an answer: everything drawn over the frame, and what the heads add. NumPy and Pillow only."""

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

MOST = 1600  # pixels of the longer side


def explain(predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
    """`{"overlay"}` and what heads add, such as `unsure`: data URIs of PNG in the size of the frame, up to 1,600 pixels."""
    known = cast(RoadCodec, codec)
    (picture,) = known.images([request])
    if max(picture.size) > MOST:
        picture.thumbnail((MOST, MOST))
        asked = unpacked(request)
        small, *before = (base64.b64encode(one).decode() for one in (as_png(picture), *asked.before))
        request = {"b64": small, "speed": asked.speed, "before": before}
    outputs = predict(known.encode([request]))
    (answer,) = known.decode(outputs, [request])
    pictures = {"overlay": overlay(picture, answer, known.card)}
    for name in known.card["heads"]:
        pictures |= HEADS[name].explanations({output: array[0] for output, array in outputs.items()}, picture.size)
    return {name: charts.picture(np.asarray(one), MOST, "PNG") for name, one in pictures.items()}
