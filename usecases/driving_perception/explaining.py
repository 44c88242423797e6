"""What the network saw, as pictures beside an answer: everything drawn over the frame, and where it is unsure. NumPy and Pillow only."""

from __future__ import annotations

import base64
from typing import Any, cast

import numpy as np
from PIL import Image

from tasks.contract.codec import Codec
from tasks.contract.types import Predict
from usecases import charts
from usecases.driving_perception.codec import RoadCodec, unpacked
from usecases.driving_perception.drawing import overlay
from usecases.images import as_png

MOST = 1600  # pixels of the longer side


def explain(predict: Predict, codec: Codec, request: Any) -> dict[str, Any]:
    """`{"overlay", "unsure"}`, data URIs of PNG in the size of the frame, up to 1,600 pixels; the second, of masks alone, the brighter the less sure."""
    known = cast(RoadCodec, codec)
    (picture,) = known.images([request])
    if max(picture.size) > MOST:
        picture.thumbnail((MOST, MOST))
        asked = unpacked(request)
        small, *before = (base64.b64encode(one).decode() for one in (as_png(picture), *asked.before))
        request = {"b64": small, "speed": asked.speed, "before": before}
    outputs = predict(known.encode([request]))
    (answer,) = known.decode(outputs, [request])
    shown = {"overlay": charts.picture(np.asarray(overlay(picture, answer, known.card)), MOST, "PNG")}
    if "sure" in outputs:
        doubt = Image.fromarray(np.rint(255 * (1 - outputs["sure"][0])).clip(0, 255).astype(np.uint8))
        shown["unsure"] = charts.picture(np.asarray(doubt.resize(picture.size, Image.Resampling.BILINEAR)), MOST, "PNG")
    return shown
