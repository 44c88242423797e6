"""The yaw rate of a camera, estimated from the shift of distant objects between successive images."""

from __future__ import annotations

import numpy as np
from PIL import Image

WIDE, HIGH = 160, 60  # pixels of the upper half of an image: distant objects shift as the camera turns, not as it comes nearer
MAX_SHIFT = 0.4  # share of the width: beyond it the images overlap too little
ALIKE = 0.02  # relative difference of the aspect ratios of two images of one camera, of which one may have been reduced
WHITENED = 0.5  # exponent of the whitening: 0 is plain cross-correlation, 1 is phase correlation


def strip(image: Image.Image) -> np.ndarray:
    """The upper half of an image for `yaw_between`, float32 [HIGH, WIDE]: grey, without the mean of each row, and fading out at the sides."""
    grey = np.asarray(image.convert("L").resize((WIDE, 2 * HIGH), Image.Resampling.BOX), dtype=np.float32)[:HIGH]
    return (grey - grey.mean(1, keepdims=True)) * np.hanning(WIDE).astype(np.float32)


def same_shape(one: Image.Image, other: Image.Image) -> bool:
    """Whether two images may be of one camera, by their aspect ratios."""
    return abs(one.width * other.height / (one.height * other.width) - 1) <= ALIKE


def yaw_between(before: np.ndarray, now: np.ndarray) -> float:
    """The yaw between two strips: the share of the width that the view shifted; positive where the camera turned right.

    It is the peak of the partly whitened cross-correlation (Knapp 1976), with sub-pixel precision by a parabola through its neighbours.
    """
    cross = np.fft.rfft(before, 2 * WIDE) * np.conj(np.fft.rfft(now, 2 * WIDE))
    alike = np.fft.irfft((cross / np.maximum(np.abs(cross), 1e-6) ** WHITENED).sum(0))
    most = round(MAX_SHIFT * WIDE)
    near = np.concatenate([alike[-most - 1 :], alike[: most + 2]])  # shifts of -most - 1 to most + 1
    peak = 1 + int(near[1:-1].argmax())
    left, top, right = near[peak - 1 : peak + 2]
    bend = left - 2 * top + right
    return float(peak - 1 - most + (0.5 * (left - right) / bend if bend < 0 else 0.0)) / WIDE
